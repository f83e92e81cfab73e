package broker_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// lines is a log that can be read while it is written.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(b)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *lines) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// consume returns the deliveries of a queue.
func consume(t *testing.T, ch *channel.Channel, queue string, o channel.ConsumeOptions) <-chan channel.Delivery {
	t.Helper()
	ds, err := ch.Consume(t.Context(), queue, o)
	if err != nil {
		t.Fatal(err)
	}
	return ds
}

// confirmed publishes, and wants it confirmed.
func confirmed(t *testing.T, ch *channel.Channel, exchange, key, body string) {
	t.Helper()
	c, err := ch.PublishDeferred(t.Context(), exchange, key, channel.Publishing{Body: []byte(body)})
	if err != nil {
		t.Fatalf("publish of %s: %v", body, err)
	}
	if acked, err := c.Wait(t.Context()); err != nil || !acked {
		t.Fatalf("%s is not confirmed: %v", body, err)
	}
}

// comes wants a message next.
func comes(t *testing.T, ds <-chan channel.Delivery, body string) *channel.Delivery {
	t.Helper()
	select {
	case d, ok := <-ds:
		if !ok || string(d.Body) != body {
			t.Fatalf("got %q (%v), want %q", d.Body, ok, body)
		}
		return &d
	case <-time.After(time.Minute):
		t.Fatalf("%s does not come", body)
	}
	panic("unreachable")
}

// loss is two processes with a topology of all kinds, on a place that is flushed.
type loss struct {
	place            *memory.Place
	log              lines
	a, b             *channel.Channel
	aConn, bConn     *channel.Connection
	orders, own, all <-chan channel.Delivery // orders in a; an exclusive queue and an auto-delete one in b
}

func newLoss(t *testing.T) *loss {
	l := &loss{place: memory.New()}
	ctx := t.Context()
	_, l.aConn = process(t, l.place.Open(), broker.Options{Vhost: "shop", Logger: l.log.logger()})
	_, l.bConn = process(t, l.place.Open(), broker.Options{Vhost: "shop", Logger: l.log.logger()})
	ended, dead := process(t, l.place.Open(), broker.Options{})
	l.a, l.b = open(t, l.aConn), open(t, l.bConn)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(l.a.ExchangeDeclare(ctx, "lost", channel.Fanout, channel.ExchangeOptions{Durable: true}))
	must(l.a.ExchangeDeclare(ctx, "logs", channel.Topic, channel.ExchangeOptions{Durable: true, Args: channel.Table{"alternate-exchange": "lost"}}))
	must(l.a.ExchangeDeclare(ctx, "dead", channel.Direct, channel.ExchangeOptions{}))
	declare(t, l.a, "orders", channel.Table{"x-dead-letter-exchange": "dead", "x-single-active-consumer": true})
	declare(t, l.a, "graves", nil)
	declare(t, l.a, "unrouted", nil)
	must(l.a.QueueBind(ctx, "orders", "orders.#", "logs", nil))
	must(l.a.QueueBind(ctx, "graves", "orders.new", "dead", nil))
	must(l.a.QueueBind(ctx, "unrouted", "", "lost", nil))
	l.orders = consume(t, l.a, "orders", channel.ConsumeOptions{})

	// b has not declared the exchange that it binds to.
	q, err := l.b.QueueDeclare(ctx, "", channel.QueueOptions{Exclusive: true})
	must(err)
	must(l.b.QueueBind(ctx, q.Name, "#", "logs", nil))
	l.own = consume(t, l.b, q.Name, channel.ConsumeOptions{AutoAck: true})
	_, err = l.b.QueueDeclare(ctx, "all", channel.QueueOptions{AutoDelete: true})
	must(err)
	must(l.b.QueueBind(ctx, "all", "#", "logs", nil))
	l.all = consume(t, l.b, "all", channel.ConsumeOptions{AutoAck: true})
	must(l.b.Confirm(ctx))
	must(l.a.Confirm(ctx))

	// What is deleted, and what nobody uses.
	declare(t, l.a, "deleted", nil)
	_, err = l.b.QueueDelete(ctx, "deleted", channel.DeleteOptions{})
	must(err)
	declare(t, open(t, dead), "unused", nil)
	must(ended.Close(ctx))
	return l
}

// whole checks that everything is as it was, and is used by both processes.
func (l *loss) whole(t *testing.T, n int) {
	t.Helper()
	for i, ch := range []*channel.Channel{l.a, l.b} {
		body := fmt.Sprintf("m%d%d", n, i)
		confirmed(t, ch, "logs", "orders.new", body)
		if err := comes(t, l.orders, body).Ack(false); err != nil {
			t.Fatal(err)
		}
		comes(t, l.own, body)
		comes(t, l.all, body)
	}
	ch := open(t, l.aConn)
	for queue, consumers := range map[string]int{"orders": 1, "graves": 0, "unrouted": 0, "all": 1} {
		if q, err := ch.QueueDeclarePassive(t.Context(), queue); err != nil || q.Consumers != consumers {
			t.Errorf("%s has %d consumers, want %d; %v", queue, q.Consumers, consumers, err)
		}
	}
	for _, queue := range []string{"deleted", "unused"} {
		if n == 0 && queue == "unused" {
			continue
		}
		if _, err := open(t, l.bConn).QueueDeclarePassive(t.Context(), queue); !errors.Is(err, channel.ErrNotFound) {
			t.Errorf("%s is there: %v", queue, err)
		}
	}
}

func TestWhatAStoreHasLostIsDeclaredAgainByWhoUsesIt(t *testing.T) {
	for name, between := range map[string]func(*testing.T, *loss){
		// Nobody has heard of it when somebody publishes.
		"at the next publish": func(*testing.T, *loss) {},
		// Nobody does anything: the next heartbeat finds out.
		"by a heartbeat": func(*testing.T, *loss) { time.Sleep(11 * time.Second) },
		// A process that comes anew finds nothing, and declares some of it.
		"after somebody else has come": func(t *testing.T, l *loss) {
			_, c := process(t, l.place.Open(), broker.Options{})
			if err := open(t, c).ExchangeDeclare(t.Context(), "logs", channel.Topic, channel.ExchangeOptions{Durable: true, Args: channel.Table{"alternate-exchange": "lost"}}); err != nil {
				t.Error(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newLoss(t)
				t.Cleanup(func() {
					if t.Failed() {
						t.Log(&l.log)
					}
				})
				l.whole(t, 0)
				confirmed(t, l.a, "logs", "orders.new", "held")
				held := comes(t, l.orders, "held")
				comes(t, l.own, "held")
				comes(t, l.all, "held")
				for n := 1; n <= 3; n++ {
					l.place.Flush()
					between(t, l)
					first := fmt.Sprint("first", n)
					confirmed(t, l.a, "logs", "orders.new", first)
					comes(t, l.orders, first)
					comes(t, l.all, first)
					synctest.Wait() // the other process has declared its own again
					for len(l.own) > 0 {
						comes(t, l.own, first) // before or after the publish
					}
					l.whole(t, n)
				}
				if err := held.AckWait(t.Context()); err != nil && !errors.Is(err, channel.ErrLeaseLost) {
					t.Errorf("AckWait of a message that the store has lost: %v", err)
				}
				confirmed(t, l.b, "logs", "other", "lost")
				comes(t, l.own, "lost")
				confirmed(t, l.b, "logs", "orders.new", "rejected")
				if err := comes(t, l.orders, "rejected").Nack(false, false); err != nil {
					t.Error(err)
				}
				if d := comes(t, consume(t, l.b, "graves", channel.ConsumeOptions{}), "rejected"); d.Exchange != "dead" {
					t.Errorf("a dead letter came from %q", d.Exchange)
				}
				if n := strings.Count(l.log.String(), "level=WARN msg=\"the store has lost what it held"); n < 3 || !strings.Contains(l.log.String(), "vhost=shop") {
					t.Errorf("it is told %d times of three losses:\n%s", n, &l.log)
				}
				if strings.Contains(l.log.String(), "held\"\n") || strings.Contains(l.log.String(), "rejected") {
					t.Errorf("the log shows bodies:\n%s", &l.log)
				}
			})
		})
	}
}

// Exclusive queues end with their connection, and so they stay ended.
func TestAnExclusiveQueueWhoseConnectionHasEndedIsNotDeclaredAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoss(t)
		l.place.Flush()
		if err := l.bConn.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		confirmed(t, l.a, "logs", "orders.new", "m")
		comes(t, l.orders, "m")
		refs, err := l.place.Open().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range refs {
			if strings.HasPrefix(r.Name, "amq.gen") {
				t.Errorf("%s is there", r.Name)
			}
		}
	})
}

// A process that was away for longer than its session lasts is not one whose store has lost everything: what others have deleted
// meanwhile stays so.
func TestWhatOthersDeletedWhileAProcessStoodStillStaysDeleted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place, ctx := memory.New(), t.Context()
		store := place.Open()
		_, conn := process(t, store, broker.Options{})
		_, other := process(t, place.Open(), broker.Options{})
		ch := open(t, conn)
		declare(t, ch, "q", nil)
		sessions, err := store.Sessions(ctx)
		if err != nil {
			t.Fatal(err)
		}
		theirs := open(t, other)
		for _, s := range sessions { // both are taken for dead
			if err := store.EndSession(ctx, s); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := theirs.QueueDelete(ctx, "q", channel.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Minute)
		declare(t, ch, "another", nil)
		if _, err := open(t, conn).QueueDeclarePassive(ctx, "q"); !errors.Is(err, channel.ErrNotFound) {
			t.Errorf("what was deleted is there: %v", err)
		}
	})
}

// A queue that somebody has removed from the store before its processes declared it again cannot be had: they are told, and what is
// declared next is another one.
func TestAQueueThatIsRemovedBeforeItIsDeclaredAgainEndsItsConsumers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLoss(t)
		refs, err := l.place.Open().List(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		l.place.Flush()
		for _, r := range refs {
			if r.Name == "orders" {
				if _, err := l.place.Open().Delete(t.Context(), r); err != nil {
					t.Fatal(err)
				}
			}
		}
		if d, ok := <-l.orders; ok {
			t.Fatalf("a consumer of a queue that is no more got %q", d.Body)
		}
		declare(t, l.a, "orders", nil)
		ds := consume(t, l.b, "orders", channel.ConsumeOptions{})
		confirmed(t, l.a, "", "orders", "m")
		comes(t, ds, "m")
		confirmed(t, l.a, "logs", "orders.new", "n")
		comes(t, l.all, "n")
		if !strings.Contains(l.log.String(), "cannot be declared again\" queue=orders") {
			t.Errorf("nobody is told:\n%s", &l.log)
		}
	})
}

// A registry that was behind and has caught up cannot tell that it has lost something. A publisher finds out: its guard does not hold,
// though nothing has changed.
func TestAGuardThatNeverHoldsShowsThatTheStoreHasGoneBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := memory.New()
		_, conn := process(t, virtual.Intercept(place.Open(), func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			err := next(ctx)
			if c.Method == "Registry.Changes" && errors.Is(err, virtual.ErrLost) {
				time.Sleep(time.Second) // who waits is not to ask all the time
				return nil
			}
			return err
		}), broker.Options{})
		ch := open(t, conn)
		if err := ch.Confirm(t.Context()); err != nil {
			t.Fatal(err)
		}
		declare(t, ch, "q", nil)
		ds := consume(t, ch, "q", channel.ConsumeOptions{})
		for _, body := range []string{"a", "b"} {
			confirmed(t, ch, "", "q", body)
			comes(t, ds, body)
			place.Flush()
		}
		tx := open(t, conn)
		if err := errors.Join(tx.Tx(t.Context()), tx.Publish(t.Context(), "", "q", channel.Publishing{Body: []byte("c")}), tx.TxCommit(t.Context())); err != nil {
			t.Fatal(err)
		}
		comes(t, ds, "c")
	})
}
