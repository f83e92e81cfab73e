package sqlite_test

import (
	"context"
	stdsql "database/sql"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// onDisk is a place in a file of the directory for temporary files, which is to be on the disk that is measured.
func onDisk(t conformance.T) (func() (virtual.Store, error), error) {
	dir, err := os.MkdirTemp("", "dashi-sqlite-")
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return func() (virtual.Store, error) { return virtual.Open(context.Background(), "sqlite://"+dir+"/dashi.db") }, nil
}

func BenchmarkStore(b *testing.B) {
	conformance.BenchmarkStore(b, conformance.StoreConfig{Name: "sqlite", Open: onDisk})
}

// BenchmarkHolder moves messages of 256 bytes through a queue as the engine does, under a holder; one op is one message.
func BenchmarkHolder(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { throughHolder(b, batch) })
	}
}

func throughHolder(b *testing.B, batch int) {
	s := open(b, newFile(b))
	body := virtual.Bytes(make([]byte, 256))
	ms := make([]*virtual.Message, batch)
	for k := range ms {
		ms[k] = &virtual.Message{Queue: orders, Payload: body}
	}
	g := virtual.GetRequest{Queue: orders, Max: batch, Lease: time.Minute, Holder: "holder"}
	var ts []virtual.Taken
	var d laps
	b.ReportAllocs()
	for i, n := 0, uint64(1); i < b.N; i, n = i+batch, n+1 {
		d.begin()
		must(b, s.Put(b.Context(), virtual.PutRequest{Messages: ms, Producer: "p", Sequence: n}), "Put")
		d.lap(0)
		g.Take = n
		var err error
		ts, _, err = s.Get(b.Context(), g, ts[:0])
		if must(b, err, "Get"); len(ts) != batch {
			b.Fatalf("%d were taken, want %d", len(ts), batch)
		}
		d.lap(1)
		must(b, s.Settle(b.Context(), settled(virtual.Ack, 0, ts...)), "Settle")
		d.lap(2)
	}
	d.report(b, batch)
}

// laps measures the parts of a way.
type laps struct {
	last time.Time
	sums [3]time.Duration
}

func (l *laps) begin() { l.last = time.Now() }
func (l *laps) lap(i int) {
	now := time.Now()
	l.sums[i] += now.Sub(l.last)
	l.last = now
}

func (l *laps) report(b *testing.B, batch int) {
	for i, what := range []string{"µs/Put", "µs/Get", "µs/Settle"} {
		b.ReportMetric(float64(l.sums[i].Microseconds())*float64(batch)/float64(b.N), what)
	}
}

// BenchmarkFloor does with database/sql what cannot be done without: it inserts messages, reads them and notes where it has got to,
// and deletes them, each in a transaction of its own. It keeps no marks, no holders, no counts and no order of priorities.
func BenchmarkFloor(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { floor(b, batch) })
	}
}

func floor(b *testing.B, batch int) {
	db, err := stdsql.Open("sqlite", "file:"+newFile(b)+"?_txlock=immediate&_pragma=journal_mode(WAL)&_pragma=synchronous(FULL)")
	must(b, err, "Open")
	defer db.Close()
	db.SetMaxOpenConns(1)
	for _, statement := range []string{
		"CREATE TABLE message (queue INTEGER, place INTEGER, id BLOB, put INTEGER, payload BLOB, PRIMARY KEY (queue, place)) WITHOUT ROWID",
		"CREATE TABLE queue (id INTEGER PRIMARY KEY, head INTEGER, tail INTEGER)",
		"CREATE TABLE take (queue INTEGER, take INTEGER, first INTEGER, last INTEGER, PRIMARY KEY (queue, take)) WITHOUT ROWID",
		"INSERT INTO queue VALUES (1, 0, 0)",
	} {
		_, err := db.Exec(statement)
		must(b, err, statement)
	}
	prepare := func(text string) *stdsql.Stmt {
		s, err := db.Prepare(text)
		must(b, err, text)
		return s
	}
	insert, tail := prepare("INSERT INTO message VALUES (1, ?, ?, ?, ?)"), prepare("UPDATE queue SET tail = ? WHERE id = 1")
	read := prepare("SELECT place, id, put, payload FROM message WHERE queue = 1 AND place > ? ORDER BY place LIMIT ?")
	take, head := prepare("INSERT INTO take VALUES (1, ?, ?, ?)"), prepare("UPDATE queue SET head = ? WHERE id = 1")
	remove, untake := prepare("DELETE FROM message WHERE queue = 1 AND place BETWEEN ? AND ?"), prepare("DELETE FROM take WHERE queue = 1 AND take = ?")
	in := func(f func(exec func(s *stdsql.Stmt, args ...any))) {
		tx, err := db.Begin()
		must(b, err, "Begin")
		f(func(s *stdsql.Stmt, args ...any) {
			_, err := tx.Stmt(s).Exec(args...)
			must(b, err, "Exec")
		})
		must(b, tx.Commit(), "Commit")
	}
	id, body := make([]byte, 16), make([]byte, 256)
	var d laps
	b.ReportAllocs()
	for i := 0; i < b.N; i += batch {
		d.begin()
		in(func(exec func(*stdsql.Stmt, ...any)) {
			for k := range batch {
				exec(insert, i+k+1, id, time.Now().UnixMicro(), body)
			}
			exec(tail, i+batch)
		})
		d.lap(0)
		tx, err := db.Begin()
		must(b, err, "Begin")
		rows, err := tx.Stmt(read).Query(i, batch)
		must(b, err, "Query")
		for rows.Next() {
			var place, put int64
			var id, body []byte
			must(b, rows.Scan(&place, &id, &put, &body), "Scan")
		}
		must(b, rows.Close(), "Close")
		_, err = tx.Stmt(take).Exec(i, i+1, i+batch)
		must(b, err, "Exec")
		_, err = tx.Stmt(head).Exec(i + batch)
		must(b, err, "Exec")
		must(b, tx.Commit(), "Commit")
		d.lap(1)
		in(func(exec func(*stdsql.Stmt, ...any)) {
			exec(remove, i+1, i+batch)
			exec(untake, i)
		})
		d.lap(2)
	}
	d.report(b, batch)
}

// BenchmarkWake has one handle wait and another put: one op is from before the Put until the Get has returned.
func BenchmarkWake(b *testing.B) {
	file := newFile(b)
	s, other := open(b, file), open(b, file)
	var wg sync.WaitGroup
	defer wg.Wait()
	got := make(chan time.Time)
	wg.Go(func() {
		for range b.N {
			ts, _, err := s.Get(b.Context(), virtual.GetRequest{Queue: orders, Max: 1, Wait: limit}, nil)
			if err != nil || len(ts) != 1 {
				b.Errorf("Get: %d messages, %v", len(ts), err)
			}
			got <- time.Now()
		}
	})
	db := database(b, file)
	var longest, sum time.Duration
	for range b.N {
		b.StopTimer()
		tick := time.NewTicker(time.Millisecond)
		for waits := ""; waits == "" || waits == "[]"; <-tick.C {
			_ = db.QueryRow("SELECT waiting FROM dashi_queue").Scan(&waits)
		}
		tick.Stop()
		b.StartTimer()
		begin := time.Now()
		must(b, put(b.Context(), other, "m"), "Put")
		d := (<-got).Sub(begin)
		longest, sum = max(longest, d), sum+d
	}
	b.ReportMetric(float64(longest.Microseconds()), "µs/longest")
}
