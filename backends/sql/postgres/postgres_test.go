package postgres_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dashi-mq/dashi/backends/sql/postgres"
	"github.com/dashi-mq/dashi/virtual"
)

// session is a connection as any program has it, in the tests' schema.
func session(t testing.TB) *pgconn.PgConn {
	t.Helper()
	config, err := pgconn.ParseConfig(strings.Split(serverURL(t), "schema=")[0])
	must(t, err, "ParseConfig")
	config.RuntimeParams["search_path"] = schema
	c, err := pgconn.ConnectConfig(t.Context(), config)
	must(t, err, "Connect")
	t.Cleanup(func() { _ = c.Close(t.Context()) })
	return c
}

// ask returns the first column of the rows of a statement.
func ask(t testing.TB, c *pgconn.PgConn, statement string) (out []string) {
	t.Helper()
	rs, err := c.Exec(t.Context(), statement).ReadAll()
	must(t, err, statement)
	for _, row := range rs[len(rs)-1].Rows {
		out = append(out, string(row[0]))
	}
	return out
}

func TestURLsThatCannotBeOpened(t *testing.T) {
	serverURL(t)
	for _, c := range []struct{ url, want string }{
		{"postgres://u:hush@127.0.0.1:1/%zz", "malformed"},
		{"postgres://u:hush@127.0.0.1:x1/d", "malformed"},
		{"postgres://u:hush@127.0.0.1:1/d?sslmode=odd", "sslmode"},
		{"postgres://u:hush@127.0.0.1:1/d?a=%zz", "malformed"},
		{"postgres://u:hush@127.0.0.1:1/d?schema=" + strings.Repeat("s", 64), "63"},
		{"postgres://u:hush@127.0.0.1:1/d", "refused"},
		{with(serverURL(t), "colour", "red"), "colour"},
		{with(serverURL(t), "plan_cache_mode", "odd"), "plan_cache_mode"},
	} {
		s, err := virtual.Open(t.Context(), c.url)
		if err == nil {
			_ = virtual.Close(s)
			t.Errorf("%s can be opened", c.url)
		} else if !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "hush") {
			t.Errorf("%s: %v, want an error about %q without the password", c.url, err, c.want)
		}
	}
}

func TestBothSchemesOpenTheSamePlace(t *testing.T) {
	place := newPlace(t)
	must(t, put(t.Context(), open(t, place), "m"), "Put")
	s, err := virtual.Open(t.Context(), "postgresql"+strings.TrimPrefix(strings.TrimPrefix(place, "postgresql"), "postgres"))
	must(t, err, "Open")
	defer virtual.Close(s)
	if n, err := s.Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("there are %d messages, %v; want 1", n, err)
	}
}

func TestVhostsAndSchemasAreApart(t *testing.T) {
	place := newPlace(t)
	s := open(t, place)
	must(t, put(t.Context(), s, "m"), "Put")
	other := dropped(t, schema+`_O"ther`)
	for what, url := range map[string]string{
		"another vhost":  newPlace(t),
		"another schema": strings.Replace(place, "schema="+schema, "schema="+strings.ReplaceAll(other, `"`, "%22"), 1),
	} {
		o := open(t, url)
		if n, err := o.Size(t.Context(), orders); n != 0 || err != nil {
			t.Errorf("%s sees %d messages, %v; want none", what, n, err)
		}
		must(t, o.KeepAlive(t.Context(), "session", time.Minute), "KeepAlive")
		must(t, o.Close(), "Close")
	}
	if all, err := s.Sessions(t.Context()); len(all) != 0 || err != nil {
		t.Errorf("the vhost has sessions %q, %v; want none", all, err)
	}
	if n, err := open(t, place).Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("another handle sees %d messages, %v; want 1", n, err)
	}
}

// TestNamesOfAnyBytes has names that no text of PostgreSQL can have.
func TestNamesOfAnyBytes(t *testing.T) {
	s := open(t, newPlace(t))
	var refs []virtual.QueueRef
	for _, name := range []string{"\x00", "a\x00b", "\xff\xfe", "é\xc3", "\U0010FFFD", "\U0010FFFD00", "plain", "日本", strings.Repeat("\x00", 255)} {
		ref := virtual.QueueRef{Name: name, Incarnation: name}
		must(t, s.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{{Queue: ref, Payload: virtual.Bytes(name)}}}), "Put")
		refs = append(refs, ref)
	}
	all, err := s.List(t.Context())
	must(t, err, "List")
	for _, ref := range refs {
		ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: ref, Max: 5}, nil)
		must(t, err, "Get")
		if !slices.Equal(bodies(ts), []string{ref.Name}) || !slices.Contains(all, ref) {
			t.Errorf("queue %q has %q, and is listed: %v", ref.Name, bodies(ts), slices.Contains(all, ref))
		}
	}
	if len(all) != len(refs) {
		t.Errorf("%d queues are listed, want %d", len(all), len(refs))
	}
}

func TestTablesOfANewerVersionAreRefused(t *testing.T) {
	other := dropped(t, schema+"_newer")
	place := with(strings.Replace(serverURL(t), "schema="+schema, "schema="+other, 1), "vhost", "v")
	c := session(t)
	s := open(t, place)
	must(t, put(t.Context(), s, "m"), "Put")
	must(t, s.Close(), "Close")
	ask(t, c, "UPDATE "+other+".dashi_schema SET version = version + 1")
	if _, err := postgres.Open(t.Context(), place); err == nil || !strings.Contains(err.Error(), "too old") {
		t.Errorf("newer tables: %v, want them refused", err)
	}
	ask(t, c, "UPDATE "+other+".dashi_schema SET version = version - 1")
	if n, err := open(t, place).Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("afterwards there are %d messages, %v; want 1", n, err)
	}
}

// TestLostConnectionsAreMadeAnew has the server end all connections of a handle while it waits.
func TestLostConnectionsAreMadeAnew(t *testing.T) {
	name := "dashi-" + rand.Text()
	place := newPlace(t)
	s, other, c := open(t, with(place, "application_name", name)), open(t, place), session(t)
	got := make(chan error, 1)
	waitFor := func(body string) {
		ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: orders, Max: 1, Wait: limit}, nil)
		if err == nil && !slices.Equal(bodies(ts), []string{body}) {
			err = errors.New("wrong messages")
		}
		got <- err
	}
	waits := func() bool {
		// And nothing is under way, which may fail.
		return len(ask(t, c, "SELECT 1 FROM dashi_queue q JOIN dashi_vhost v ON v.id = q.vhost WHERE waiting <> '[]' AND v.name = '"+vhostOf(place)+
			"' AND NOT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = '"+name+"' AND state <> 'idle')")) == 1
	}
	for _, body := range []string{"one", "two"} {
		go waitFor(body)
		eventually(t, "a Get that waits", waits)
		if n := len(ask(t, c, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '"+name+"'")); n < 2 {
			t.Fatalf("%d connections were ended, want those that write and listen", n)
		}
		must(t, put(t.Context(), other, body), "Put by another")
		must(t, <-got, "Get")
		must(t, put(t.Context(), s, "own"), "Put")
		if n, err := s.Size(t.Context(), orders); n != 1 || err != nil {
			t.Errorf("Size is %d, %v; want 1", n, err)
		}
		_, err := s.Purge(t.Context(), orders)
		must(t, err, "Purge")
	}
}
