package sqlite_test

import (
	"context"
	stdsql "database/sql"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/sql/sqlite"
	"github.com/dashi-mq/dashi/virtual"
)

// database opens a file as any program does.
func database(t testing.TB, file string) *stdsql.DB {
	t.Helper()
	db, err := stdsql.Open("sqlite", "file:"+file+"?_pragma=busy_timeout(10000)")
	must(t, err, "sql.Open")
	t.Cleanup(func() { _ = db.Close() })
	return db
}

// inFile checks a file and returns which messages are in it, leased or not.
func inFile(t testing.TB, file string) map[string]bool {
	t.Helper()
	db := database(t, file)
	defer db.Close()
	var ok string
	must(t, db.QueryRow("PRAGMA integrity_check").Scan(&ok), "integrity_check")
	if ok != "ok" {
		t.Errorf("a copy is damaged: %s", ok)
	}
	rows, err := db.Query("SELECT payload FROM dashi_message")
	must(t, err, "SELECT")
	defer rows.Close()
	there := map[string]bool{}
	for rows.Next() {
		var body string
		must(t, rows.Scan(&body), "Scan")
		there[body] = true
	}
	must(t, rows.Err(), "SELECT")
	return there
}

func TestURLsThatCannotBeOpened(t *testing.T) {
	dir := t.TempDir()
	notOne := dir + "/text.db"
	must(t, os.WriteFile(notOne, []byte(strings.Repeat("no database\n", 1000)), 0o600), "WriteFile")
	for _, c := range []struct{ url, want string }{
		{"sqlite://", "malformed"},
		{"sqlite://" + dir + "/%zz", "malformed"},
		{"sqlite://" + dir + "/a.db?colour=red", "unknown option"},
		{"sqlite://" + dir + "/a.db?synchronous=off", "full or normal"},
		{"sqlite://" + dir + "/a.db?busy_timeout=soon", "duration"},
		{"sqlite://" + dir + "/missing/a.db", "no such file or directory"},
		{"sqlite://" + notOne, "not a database"},
	} {
		s, err := virtual.Open(t.Context(), c.url)
		if err == nil {
			_ = virtual.Close(s)
			t.Errorf("%s can be opened", c.url)
		} else if !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error about %q", c.url, err, c.want)
		}
	}
}

func TestAnOddNameOfAFile(t *testing.T) {
	file := t.TempDir() + "/a b?c#d%e.db"
	s := open(t, strings.NewReplacer("%", "%25", "?", "%3f").Replace(file))
	must(t, put(t.Context(), s, "m"), "Put")
	if _, err := os.Stat(file); err != nil {
		t.Error(err)
	}
}

func TestVhostsAreApart(t *testing.T) {
	file := newFile(t)
	s := open(t, file)
	must(t, put(t.Context(), s, "m"), "Put")
	if n, err := open(t, file).Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("another handle sees %d messages, %v; want 1", n, err)
	}
	other := open(t, file+"?vhost=other")
	if n, err := other.Size(t.Context(), orders); n != 0 || err != nil {
		t.Errorf("another vhost sees %d messages, %v; want none", n, err)
	}
	must(t, other.KeepAlive(t.Context(), "session", time.Minute), "KeepAlive")
	if all, err := s.Sessions(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("the first vhost has sessions %q, %v; want none", all, err)
	}
}

func TestTablesOfANewerVersionAreRefused(t *testing.T) {
	file := newFile(t)
	s := open(t, file)
	must(t, put(t.Context(), s, "m"), "Put")
	must(t, s.Close(), "Close")
	db := database(t, file)
	_, err := db.Exec("UPDATE dashi_schema SET version = version + 1")
	must(t, err, "UPDATE")
	if _, err := sqlite.Open(t.Context(), "sqlite://"+file); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("newer tables: %v, want them refused", err)
	}
	_, err = db.Exec("UPDATE dashi_schema SET version = version - 1")
	must(t, err, "UPDATE")
	if n, err := open(t, file).Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("afterwards there are %d messages, %v; want 1", n, err)
	}
}

// TestTheFileOfAProgramIsShared has a program's own tables beside those of the store, and its transactions hold it up, for a while.
func TestTheFileOfAProgramIsShared(t *testing.T) {
	file := newFile(t)
	s, db := open(t, file), database(t, file)
	_, err := db.Exec("CREATE TABLE invoice (n INTEGER)")
	must(t, err, "CREATE TABLE")
	c, err := db.Conn(t.Context())
	must(t, err, "Conn")
	defer c.Close()
	_, err = c.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	must(t, err, "BEGIN")

	ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer stop()
	if err := put(ctx, s, "late"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a Put while another has the file: %v, want that its context ended", err)
	}
	done := make(chan error, 1)
	go func() { done <- put(t.Context(), s, "m") }()
	_, err = c.ExecContext(t.Context(), "INSERT INTO invoice VALUES (1)")
	must(t, err, "INSERT")
	_, err = c.ExecContext(t.Context(), "COMMIT")
	must(t, err, "COMMIT")
	must(t, <-done, "a Put after it")
	ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: orders, Max: 5}, nil)
	if must(t, err, "Get"); !slices.Equal(bodies(ts), []string{"m"}) {
		t.Errorf("there is %q, want m alone: the other Put was given up before it began", bodies(ts))
	}
}

func TestBusyTimeoutBoundsTheWaitForTheFile(t *testing.T) {
	file := newFile(t)
	s, db := open(t, file+"?busy_timeout=20ms"), database(t, file)
	c, err := db.Conn(t.Context())
	must(t, err, "Conn")
	defer c.Close()
	_, err = c.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	must(t, err, "BEGIN")
	if err := put(t.Context(), s, "m"); err == nil || !strings.Contains(err.Error(), "others have had the file") {
		t.Errorf("a Put while another has the file: %v, want it refused after the busy_timeout", err)
	}
	_, err = c.ExecContext(t.Context(), "ROLLBACK")
	must(t, err, "ROLLBACK")
	must(t, put(t.Context(), s, "m"), "a Put after it")
}
