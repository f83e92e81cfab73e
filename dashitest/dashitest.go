// Package dashitest is a broker inside a program's own tests, in one line:
//
//	func TestSignup(t *testing.T) {
//		conn := dashitest.Open(t)
//		app := NewApp(conn)
//		…
//	}
//
// The broker is in memory and the test's alone, so tests may run in parallel under any names. It behaves as RabbitMQ does:
// one suite proves both. When the test ends it is closed, with every goroutine it started, and with NoLeftovers it
// fails a test whose program did not finish its messages.
//
// # Time
//
// Inside testing/synctest everything that takes time does so at once: TTLs, retry queues, timeouts of consumers.
//
//	synctest.Test(t, func(t *testing.T) {
//		conn := dashitest.Open(t)
//		… publish with a TTL of an hour
//		time.Sleep(time.Hour)
//		… find it dead-lettered
//	})
//
// Open inside the bubble, with the bubble's t.
package dashitest

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// closing bounds what happens at the end of a test. In memory nothing waits, unless something hangs.
const closing = 30 * time.Second

// Option is something Open does beyond its default.
type Option func(*settings)

type settings struct {
	broker      broker.Options
	noLeftovers bool
	except      []string
}

// NoLeftovers fails the test at its end when a queue still has messages, ready ones or unacked ones: the program lost
// sight of them. Queues named in except may. Where the test closed the connection itself, what was unacked counts as
// ready, and exclusive queues are gone with what they had.
func NoLeftovers(except ...string) Option {
	return func(s *settings) {
		s.noLeftovers = true
		s.except = append(s.except, except...)
	}
}

// Broker sets the broker's options, such as ChannelMax or ConsumerTimeout.
func Broker(o broker.Options) Option {
	return func(s *settings) { s.broker = o }
}

// Open opens a connection to a broker in memory that is this test's alone, and closes it when the test ends. Functions that
// the test registers with t.Cleanup after Open run before that. It fails the test at once where it cannot.
//
// The test may close the connection itself, at any time.
func Open(t testing.TB, opts ...Option) *dashi.Connection {
	t.Helper()
	var s settings
	for _, o := range opts {
		o(&s)
	}
	if s.broker.URL == "" {
		s.broker.URL = "memory://"
	}
	store := memory.New().Open()
	// The test's own context ends before its cleanups run.
	conn, err := dashi.Open(context.Background(), store, s.broker)
	if err != nil {
		t.Fatalf("dashitest: %v", err)
		return nil
	}
	t.Cleanup(func() {
		t.Helper()
		ctx, stop := context.WithTimeout(context.Background(), closing)
		defer stop()
		if s.noLeftovers {
			check(ctx, t, conn, store, s.except)
		}
		if err := conn.Close(ctx); err != nil {
			t.Errorf("dashitest: close: %v", err)
		}
		if err := store.Close(); err != nil {
			t.Errorf("dashitest: close the store: %v", err)
		}
	})
	return conn
}

// check fails the test for every queue that has messages.
func check(ctx context.Context, t testing.TB, conn *dashi.Connection, store *memory.Store, except []string) {
	t.Helper()
	leftovers := func(queue string, ready, unacked int) {
		t.Helper()
		if ready+unacked > 0 && !slices.Contains(except, queue) {
			t.Errorf("dashitest: %s", describe(queue, ready, unacked))
		}
	}
	if conn.IsClosed() {
		refs, err := store.List(ctx)
		if err != nil {
			t.Errorf("dashitest: look for leftovers: %v", err)
			return
		}
		for _, ref := range refs {
			n, err := store.Size(ctx, ref)
			if err != nil {
				t.Errorf("dashitest: look for leftovers in %q: %v", ref.Name, err)
				continue
			}
			leftovers(ref.Name, n, 0)
		}
		return
	}
	top, err := topology(ctx, conn)
	if err != nil {
		t.Errorf("dashitest: look for leftovers: %v", err)
		return
	}
	for _, q := range top.Queues {
		leftovers(q.Name, q.Ready, q.Unacked)
	}
}

// topology lists what is in the broker once all that was published and acked has arrived there.
func topology(ctx context.Context, conn *dashi.Connection) (*channel.Topology, error) {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return nil, err
	}
	if err := ch.Flush(ctx); err != nil {
		return nil, err
	}
	if err := ch.Close(ctx); err != nil {
		return nil, err
	}
	inspector, ok := conn.Transport().(channel.Inspector)
	if !ok {
		return nil, fmt.Errorf("%T does not tell its topology", conn.Transport())
	}
	return inspector.Topology(ctx)
}

func describe(queue string, ready, unacked int) string {
	switch {
	case unacked == 0:
		return fmt.Sprintf("queue %q is left with %d ready", queue, ready)
	case ready == 0:
		return fmt.Sprintf("queue %q is left with %d unacked", queue, unacked)
	}
	return fmt.Sprintf("queue %q is left with %d ready and %d unacked", queue, ready, unacked)
}
