package dashitest_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/dashitest"
	"github.com/dashi-mq/dashi/virtual/broker"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// fakeTB is a test that may fail without failing ours.
type fakeTB struct {
	testing.TB // for the method that only package testing can have; nothing else of it is called
	cleanups   []func()
	errors     []string
}

func (t *fakeTB) Helper()          {}
func (t *fakeTB) Cleanup(f func()) { t.cleanups = append(t.cleanups, f) }
func (t *fakeTB) Errorf(format string, a ...any) {
	t.errors = append(t.errors, fmt.Sprintf(format, a...))
}

func (t *fakeTB) Fatalf(format string, a ...any) {
	t.Errorf(format, a...)
	runtime.Goexit()
}

// run runs a test to its end, its cleanups included.
func (t *fakeTB) run(f func(t testing.TB)) *fakeTB {
	done := make(chan struct{})
	go func() { // Fatalf ends the goroutine
		defer close(done)
		f(t)
	}()
	<-done
	for _, c := range slices.Backward(t.cleanups) {
		c()
	}
	return t
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatalf("%v", err)
	}
}

// jobs declares a queue with n messages and returns a channel.
func jobs(t testing.TB, conn *dashi.Connection, n int) *channel.Channel {
	t.Helper()
	ctx := context.Background()
	ch, err := conn.Channel(ctx)
	must(t, err)
	_, err = ch.QueueDeclare(ctx, "jobs", channel.QueueOptions{})
	must(t, err)
	for i := range n {
		must(t, ch.Publish(ctx, "", "jobs", channel.Publishing{Body: []byte{byte(i)}}))
	}
	return ch
}

func take(t testing.TB, ch *channel.Channel) channel.Delivery {
	t.Helper()
	d, ok, err := ch.Get(context.Background(), "jobs", false)
	must(t, err)
	if !ok {
		t.Fatalf("the queue is empty")
	}
	return d
}

func TestConnectionIsClosedWhenTheTestEnds(t *testing.T) {
	var conn *dashi.Connection
	tb := new(fakeTB).run(func(t testing.TB) {
		conn = dashitest.Open(t)
		jobs(t, conn, 3)
		if conn.IsClosed() {
			t.Errorf("closed already")
		}
	})
	if len(tb.errors) > 0 {
		t.Errorf("failed: %q", tb.errors)
	}
	if !errors.Is(conn.Err(), channel.ErrClosed) {
		t.Errorf("after the test the connection says %v", conn.Err())
	}
}

func TestEachTestHasABrokerOfItsOwn(t *testing.T) {
	a, b := dashitest.Open(t), dashitest.Open(t)
	jobs(t, a, 1)
	ch, err := b.Channel(t.Context())
	must(t, err)
	if _, err := ch.QueueDeclarePassive(t.Context(), "jobs"); !errors.Is(err, channel.ErrNotFound) {
		t.Errorf("the other test's queue: %v", err)
	}
}

func TestLeftoversFailTheTest(t *testing.T) {
	for _, c := range []struct {
		name string
		test func(t testing.TB)
		want string // "" is a test that passes
	}{
		{"everything acked", func(t testing.TB) {
			ch := jobs(t, dashitest.Open(t, dashitest.NoLeftovers()), 2)
			for range 2 {
				d := take(t, ch)
				must(t, d.Ack(false))
			}
		}, ""},
		{"ready", func(t testing.TB) {
			jobs(t, dashitest.Open(t, dashitest.NoLeftovers()), 2)
		}, `dashitest: queue "jobs" is left with 2 ready`},
		{"unacked", func(t testing.TB) {
			take(t, jobs(t, dashitest.Open(t, dashitest.NoLeftovers()), 1))
		}, `dashitest: queue "jobs" is left with 1 unacked`},
		{"both", func(t testing.TB) {
			take(t, jobs(t, dashitest.Open(t, dashitest.NoLeftovers()), 3))
		}, `dashitest: queue "jobs" is left with 2 ready and 1 unacked`},
		{"not asked", func(t testing.TB) {
			take(t, jobs(t, dashitest.Open(t), 3))
		}, ""},
		{"allowed", func(t testing.TB) {
			jobs(t, dashitest.Open(t, dashitest.NoLeftovers("parking", "jobs")), 3)
		}, ""},
		{"closed by the test", func(t testing.TB) {
			conn := dashitest.Open(t, dashitest.NoLeftovers())
			take(t, jobs(t, conn, 3))
			must(t, conn.Close(context.Background()))
		}, `dashitest: queue "jobs" is left with 3 ready`},
		{"closed by the test, nothing left", func(t testing.TB) {
			conn := dashitest.Open(t, dashitest.NoLeftovers())
			jobs(t, conn, 0)
			must(t, conn.Close(context.Background()))
		}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			tb := new(fakeTB).run(c.test)
			if got := strings.Join(tb.errors, "\n"); got != c.want {
				t.Errorf("said %q, want %q", got, c.want)
			}
		})
	}
}

func TestBrokerOptionsHold(t *testing.T) {
	conn := dashitest.Open(t, dashitest.Broker(broker.Options{ChannelMax: 1, User: "alice"}))
	_, err := conn.Channel(t.Context())
	must(t, err)
	if _, err := conn.Channel(t.Context()); !errors.Is(err, channel.ErrNotAllowed) {
		t.Errorf("a second channel: %v", err)
	}
	if conn.Info().User != "alice" {
		t.Errorf("user %q", conn.Info().User)
	}
}

func TestAnHourPassesAtOnceInABubble(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn := dashitest.Open(t, dashitest.NoLeftovers())
		ctx := t.Context()
		ch := jobs(t, conn, 0)
		_, err := ch.QueueDeclare(ctx, "later", channel.QueueOptions{Args: channel.Table{
			"x-message-ttl": 3_600_000, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "jobs",
		}})
		must(t, err)
		must(t, ch.Publish(ctx, "", "later", channel.Publishing{Body: []byte("x")}))
		time.Sleep(time.Hour)
		for d, err := range ch.Deliveries(ctx, "jobs", channel.ConsumeOptions{}) {
			must(t, err)
			must(t, d.Ack(false))
			break
		}
	})
}
