package postgres

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/internal/storecalls"
	"github.com/dashi-mq/dashi/virtual"
)

// link is a connection that breaks at the next write after it was told to: before what is written is sent, or after that, so that
// only the answer is lost.
type link struct {
	net.Conn
	fault *atomic.Int32
}

const (
	whole int32 = iota
	breaksBefore
	breaksAfter
)

func (l *link) Write(b []byte) (int, error) {
	switch l.fault.Swap(whole) {
	case breaksBefore:
		_ = l.Conn.Close()
	case breaksAfter:
		n, err := l.Conn.Write(b)
		_ = l.Conn.(*net.TCPConn).CloseRead() // what was sent arrives
		return n, err
	}
	return l.Conn.Write(b)
}

// another is one more database of the same vhost.
func (d *database) another(self string) *database {
	return &database{
		config: d.config, schema: d.schema, vhost: d.vhost, channel: d.channel, self: self, lock: d.lock, maker: d.maker,
		tokens: make(chan struct{}, readers), made: true,
	}
}

// TestATransactionWhoseConnectionBreaks tells what was not done from what may have been.
func TestATransactionWhoseConnectionBreaks(t *testing.T) {
	_, d := opened(t)
	var fault atomic.Int32
	dial := d.config.DialFunc
	config := d.config.Copy()
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &link{c, &fault}, err
	}
	own := d.another("own")
	own.config = config
	defer own.Close()
	names := func() (all []string) {
		check(t, own.View(t.Context(), func(x sql.Tx) error {
			return x.Query("SELECT name FROM dashi_vhost WHERE name <> '/'", func(r sql.Row) bool {
				all = append(all, r.Text(0))
				return true
			})
		}))
		return all
	}
	for _, c := range []struct {
		name          string
		inF           int32 // fault of the first statement
		atCommit      int32
		tell, unknown bool
		done          bool
	}{
		{name: "whole", done: true},
		{name: "in-f", inF: breaksBefore},
		{name: "answer-in-f", inF: breaksAfter},
		{name: "commit-not-sent", atCommit: breaksBefore, unknown: true},
		{name: "answer-of-commit", atCommit: breaksAfter, unknown: true, done: true},
		{name: "answer-of-notify-and-commit", atCommit: breaksAfter, tell: true, unknown: true, done: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := own.Update(t.Context(), func(x sql.Tx, _ bool) (bool, error) { // it prepares the statements
				_, err := x.Exec("INSERT INTO dashi_vhost (name) VALUES (?)", "before-"+c.name)
				return c.tell, err
			})
			check(t, err)
			err = own.Update(t.Context(), func(x sql.Tx, alone bool) (bool, error) {
				if !alone {
					t.Error("not alone, where nobody else has written")
				}
				fault.Store(c.inF)
				_, err := x.Exec("INSERT INTO dashi_vhost (name) VALUES (?)", c.name)
				fault.Store(c.atCommit)
				return c.tell, err
			})
			fault.Store(whole)
			if (err != nil) != (c.inF+c.atCommit > 0) || errors.Is(err, sql.ErrUnknown) != c.unknown {
				t.Errorf("Update: %v, want that it is unknown whether it was done: %v", err, c.unknown)
			}
			for end := time.Now().Add(10 * time.Second); slices.Contains(names(), c.name) != c.done; { // the server may not be through
				if time.Now().After(end) {
					t.Fatalf("it was done: %v, want %v", !c.done, c.done)
				}
			}
			if all := names(); !slices.Contains(all, "before-"+c.name) {
				t.Errorf("what was committed before is gone: there is %s", strings.Join(all, ", "))
			}
		})
	}
}

// TestAloneSaysWhetherOthersHaveWritten has two handles take turns.
func TestAloneSaysWhetherOthersHaveWritten(t *testing.T) {
	_, d := opened(t)
	var two [2]*database
	for i := range two {
		two[i] = d.another(string(rune('a' + i)))
		defer two[i].Close()
	}
	fails := errors.New("fails")
	for step, c := range []struct {
		who   int
		alone bool
		err   error
	}{
		{0, false, nil}, {0, true, nil}, {1, false, nil}, {0, false, fails}, {0, false, nil}, {0, true, fails}, {0, true, nil}, {1, false, fails}, {0, true, nil}, {1, false, nil},
	} {
		err := two[c.who].Update(t.Context(), func(_ sql.Tx, alone bool) (bool, error) {
			if alone != c.alone {
				t.Errorf("step %d: alone is %v, want %v", step, alone, c.alone)
			}
			return false, c.err
		})
		if !errors.Is(err, c.err) {
			t.Errorf("step %d: %v, want %v", step, err, c.err)
		}
	}
}

// TestWhoStandsStillInATransactionIsPassedOver has a writer stop in the middle while another one waits.
func TestWhoStandsStillInATransactionIsPassedOver(t *testing.T) {
	_, d := opened(t)
	frozen, other := d.another("frozen"), d.another("other")
	defer frozen.Close()
	defer other.Close()
	frozen.config = d.config.Copy()
	frozen.config.RuntimeParams["idle_in_transaction_session_timeout"] = "200ms"
	done := make(chan error, 1)
	const insert = "INSERT INTO dashi_vhost (name) VALUES (?)"
	err := frozen.Update(t.Context(), func(x sql.Tx, _ bool) (bool, error) {
		if _, err := x.Exec(insert, "frozen"); err != nil {
			return false, err
		}
		go func() {
			done <- other.Update(t.Context(), func(x sql.Tx, _ bool) (bool, error) {
				_, err := x.Exec(insert, "other")
				return false, err
			})
		}()
		check(t, <-done)
		_, err := x.Exec(insert, "late")
		return false, err
	})
	if err == nil || errors.Is(err, sql.ErrUnknown) {
		t.Errorf("Update of the one that stood still: %v, want that nothing was done", err)
	}
	check(t, other.View(t.Context(), func(x sql.Tx) error {
		return x.Query("SELECT name FROM dashi_vhost WHERE name IN ('frozen', 'late')", func(r sql.Row) bool {
			t.Errorf("%q is there", r.Text(0))
			return true
		})
	}))
	check(t, frozen.Update(t.Context(), func(x sql.Tx, alone bool) (bool, error) {
		if alone {
			t.Error("alone, where another one has written")
		}
		_, err := x.Exec(insert, "frozen")
		return false, err
	}))
}

// TestAContextEndsTheWaitForTheTurn has a writer wait for one that does not come to an end.
func TestAContextEndsTheWaitForTheTurn(t *testing.T) {
	_, d := opened(t)
	slow, other := d.another("slow"), d.another("other")
	defer slow.Close()
	defer other.Close()
	check(t, slow.Update(t.Context(), func(sql.Tx, bool) (bool, error) {
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer stop()
		err := other.Update(ctx, func(sql.Tx, bool) (bool, error) {
			t.Error("two have their turn at the same time")
			return false, nil
		})
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Update: %v, want that its context ended", err)
		}
		return false, nil
	}))
	check(t, other.Update(t.Context(), func(sql.Tx, bool) (bool, error) { return false, nil }))
}

// silent is a connection that hears nothing while it is told so.
type silent struct {
	net.Conn
	deaf *atomic.Bool
}

func (s *silent) Read(b []byte) (int, error) {
	for {
		n, err := s.Conn.Read(b)
		if err != nil || !s.deaf.Load() {
			return n, err
		}
	}
}

// TestCallsReturnWithTheirContext has the server say nothing any more, without breaking connections.
func TestCallsReturnWithTheirContext(t *testing.T) {
	_, d := opened(t)
	var deaf atomic.Bool
	own := d.another("own")
	own.config = d.config.Copy()
	dial := d.config.DialFunc
	own.config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		return &silent{c, &deaf}, err
	}
	s, err := sql.New(t.Context(), own, sql.Options{})
	check(t, err)
	put := func(ctx context.Context) error {
		return s.Put(ctx, virtual.PutRequest{Messages: storecalls.Messages(1, nil)})
	}
	check(t, put(t.Context()))
	_, err = s.Size(t.Context(), storecalls.Queue)
	check(t, err)
	deaf.Store(true)
	var calls sync.WaitGroup
	for range 5 {
		calls.Go(func() {
			ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
			defer stop()
			if err := put(ctx); err == nil {
				t.Error("a Put that nobody has answered: no error")
			}
			if _, err := s.Size(ctx, storecalls.Queue); err == nil {
				t.Error("a Size that nobody has answered: no error")
			}
		})
	}
	calls.Wait()
	deaf.Store(false)
	check(t, put(t.Context()))
	check(t, s.Close())
}
