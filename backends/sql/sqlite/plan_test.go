package sqlite

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/internal/storecalls"
	"github.com/dashi-mq/dashi/virtual"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// opened returns a store and its file.
func opened(t testing.TB) (*sql.Store, *database) {
	t.Helper()
	d, o, err := openFile(t.Context(), "sqlite://"+t.TempDir()+"/dashi.db")
	check(t, err)
	s, err := sql.New(t.Context(), d, o)
	check(t, err)
	t.Cleanup(func() { _ = s.Close() })
	return s, d
}

// short are the tables of which one statement or other reads a vhost's, or all, rows: they have few, and are asked seldom.
var short = []string{"dashi_schema", "dashi_vhost", "dashi_mark", "dashi_queue USING COVERING INDEX sqlite_autoindex_dashi_queue_1"}

// TestNoStatementScansATable asks the database how it does every statement that all kinds of calls have made.
func TestNoStatementScansATable(t *testing.T) {
	s, d := opened(t)
	other, err := Open(t.Context(), "sqlite://"+d.path)
	check(t, err)
	defer other.Close()
	ready := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Notify(ctx, "w", ready, func(virtual.QueueRef) {}) }()
	<-ready
	storecalls.All(t, s)
	stop()
	<-ended
	check(t, s.Ping(t.Context()))
	statements := map[string]bool{}
	for text := range d.writer.prepared {
		statements[text] = true
	}
	d.mu.Lock()
	for _, c := range d.idle {
		for text := range c.prepared {
			statements[text] = true
		}
	}
	d.mu.Unlock()
	asked := 0
	for text := range statements {
		switch word, _, _ := strings.Cut(text, " "); word {
		case "SELECT", "INSERT", "UPDATE", "DELETE":
		default:
			continue
		}
		asked++
		for _, step := range plan(t, d, text) {
			bad := strings.HasPrefix(step, "SCAN dashi") || strings.HasPrefix(step, "SCAN m") || strings.HasPrefix(step, "SCAN e") ||
				strings.HasPrefix(step, "SCAN t") || strings.HasPrefix(step, "SCAN h") || strings.Contains(step, "TEMP B-TREE") ||
				strings.HasPrefix(step, "SEARCH") && strings.HasSuffix(step, "INTEGER PRIMARY KEY (rowid>?)") && !strings.Contains(step, "dashi_wake")
			for _, table := range short {
				bad = bad && !strings.Contains(step, table)
			}
			if bad {
				t.Errorf("%s\n    does: %s", text, step)
			}
		}
	}
	if asked < 60 {
		t.Errorf("only %d statements were asked about: what made the others?", asked)
	}
}

func plan(t testing.TB, d *database, text string) (steps []string) {
	t.Helper()
	c, err := d.connect(t.Context(), "")
	check(t, err)
	defer c.close()
	args := make([]any, strings.Count(text, "?"))
	for i := range args {
		args[i] = int64(1)
	}
	check(t, c.Query("EXPLAIN QUERY PLAN "+text, func(r sql.Row) bool {
		steps = append(steps, r.Text(3))
		return true
	}, args...))
	return steps
}

// TestAFullFileRefusesPutsAndLetsConsumersDrain bounds the file instead of filling a disk.
func TestAFullFileRefusesPutsAndLetsConsumersDrain(t *testing.T) {
	s, d := opened(t)
	ctx := t.Context()
	body := virtual.Bytes(strings.Repeat("x", 4000))
	_, err := d.writer.int("PRAGMA max_page_count = 400")
	check(t, err)
	stored := 0
	for ; stored < 10000; stored++ {
		if err = s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{{Queue: storecalls.Queue, Payload: body}}}); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "full") || strings.Contains(err.Error(), "xxx") {
		t.Fatalf("after %d messages: %v, want that the file is full", stored, err)
	}
	for n := 0; n < stored; {
		ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: storecalls.Queue, Max: 10, Lease: time.Minute, Holder: "h", Take: uint64(n/10 + 1)}, nil)
		check(t, err)
		if len(ts) == 0 {
			t.Fatalf("%d messages of %d came", n, stored)
		}
		n += len(ts)
		var acks []virtual.Settlement
		for _, x := range ts {
			acks = append(acks, virtual.Settlement{Queue: storecalls.Queue, ID: x.ID, Receipt: x.Receipt})
		}
		check(t, s.Settle(ctx, acks))
	}
	check(t, s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{{Queue: storecalls.Queue, Payload: body}}}))
}

// TestMessagesThatPassLeaveNothingBehind passes many through a queue that keeps a few.
func TestMessagesThatPassLeaveNothingBehind(t *testing.T) {
	s, d := opened(t)
	ctx := t.Context()
	pages := func() int64 {
		n, err := d.writer.int("PRAGMA page_count")
		check(t, err)
		return n
	}
	take := uint64(0)
	pass := func(rounds int) {
		for range rounds {
			check(t, s.Put(ctx, virtual.PutRequest{Messages: storecalls.Messages(100, nil), Producer: "p", Sequence: take + 1}))
			take++
			ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: storecalls.Queue, Max: 120, Lease: time.Minute, Holder: "h", Take: take}, nil)
			check(t, err)
			var all []virtual.Settlement
			for i, x := range ts {
				st := virtual.Settlement{Queue: storecalls.Queue, ID: x.ID, Receipt: x.Receipt}
				if i%10 == 0 {
					st.Kind = virtual.Requeue
				}
				all = append(all, st)
			}
			check(t, s.Settle(ctx, all))
		}
	}
	check(t, s.Put(ctx, virtual.PutRequest{Messages: storecalls.Messages(1000, nil)}))
	pass(100)
	before := pages()
	pass(200)
	if after := pages(); after > before+before/4 {
		t.Errorf("20,000 messages have passed, and the file has %d pages, of %d before", after, before)
	}
}

// TestAFullFileFailsThoseAloneThatNeedRoom has publishers fail beside a consumer whose calls share their transactions.
func TestAFullFileFailsThoseAloneThatNeedRoom(t *testing.T) {
	s, d := opened(t)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	_, err := d.writer.int("PRAGMA max_page_count = 200")
	check(t, err)
	put := func() error {
		body := virtual.Bytes(strings.Repeat("x", 100_000))
		return s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{{Queue: virtual.QueueRef{Name: "large"}, Payload: body}}})
	}
	check(t, s.Put(ctx, virtual.PutRequest{Messages: storecalls.Messages(200, nil)}))
	for put() == nil {
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for ctx.Err() == nil {
				if err := put(); err == nil {
					t.Error("a Put for which there is no room returned nil")
					return
				}
			}
		})
	}
	for take := uint64(1); take <= 200; take++ {
		ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: storecalls.Queue, Max: 1, Lease: time.Minute, Holder: "h", Take: take}, nil)
		if err != nil || len(ts) != 1 {
			t.Fatalf("Get %d: %d messages, %v", take, len(ts), err)
		}
		check(t, s.Settle(ctx, []virtual.Settlement{{Queue: storecalls.Queue, ID: ts[0].ID, Receipt: ts[0].Receipt}}))
	}
	stop()
	wg.Wait()
}
