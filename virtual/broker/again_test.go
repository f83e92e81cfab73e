package broker_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// putsOf notes the ids of what is put into a queue, and loses the first replies.
type putsOf struct {
	queue string
	lose  int

	mu  sync.Mutex
	ids []virtual.ID
}

func (p *putsOf) pass(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
	err := next(ctx)
	var messages []*virtual.Message
	switch r := c.Request.(type) {
	case *virtual.PutRequest:
		messages = r.Messages
	case *virtual.ApplyRequest:
		messages = r.Messages
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, m := range messages {
		if m.Queue.Name == p.queue {
			p.ids = append(p.ids, m.ID)
			if p.lose > 0 {
				p.lose--
				err = errors.New("the reply is lost")
			}
		}
	}
	return err
}

// same says that there were n puts, all with one id.
func (p *putsOf) same(t *testing.T, n int) {
	t.Helper()
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.ids) != n || len(slices.Compact(slices.Clone(p.ids))) != 1 {
		t.Errorf("puts into %s: %x, want %d with the same id", p.queue, p.ids, n)
	}
}

// A commit whose reply was lost is said again with the same messages, so that a store can tell.
func TestACommitIsSaidAgainWithTheSameMessages(t *testing.T) {
	for name, dress := range map[string]func(virtual.Store) virtual.Store{
		"memory": func(s virtual.Store) virtual.Store { return s }, "five methods": virtual.Only,
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := &putsOf{queue: "q", lose: 1}
				_, conn := process(t, virtual.Intercept(dress(memory.New().Open()), p.pass), broker.Options{})
				ch := open(t, conn)
				declare(t, ch, "q", nil)
				if err := ch.Tx(t.Context()); err != nil {
					t.Fatal(err)
				}
				if err := ch.Publish(t.Context(), "", "q", channel.Publishing{}); err != nil {
					t.Fatal(err)
				}
				if err := ch.TxCommit(t.Context()); err != nil {
					t.Fatal(err)
				}
				p.same(t, 2)
			})
		})
	}
}

// A dead letter has the same id when another process buries the message again.
func TestADeathHasOneIDWhoeverBuriesIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := memory.New()
		p := &putsOf{queue: "dead"}
		died := errors.New("it has died")
		dying := func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if s, ok := c.Request.(*[]virtual.Settlement); ok && (*s)[0].Queue.Name == "q" && (*s)[0].Kind == virtual.Ack {
				return died // it never gets to the Ack
			}
			return next(ctx)
		}
		o := broker.Options{Lease: time.Second, SessionTTL: time.Second}
		b, conn := process(t, virtual.Intercept(virtual.Intercept(virtual.Only(place.Open()), p.pass), dying), o)
		ch := open(t, conn)
		declare(t, ch, "q", channel.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
		declare(t, ch, "dead", nil)
		reject := func(ch *channel.Channel) {
			for d, err := range ch.Deliveries(t.Context(), "q", channel.ConsumeOptions{}) {
				if err != nil {
					t.Fatal(err)
				}
				if err := d.Nack(false, false); err != nil {
					t.Fatal(err)
				}
				break
			}
		}
		if err := ch.Publish(t.Context(), "", "q", channel.Publishing{DeliveryMode: channel.Persistent}); err != nil {
			t.Fatal(err)
		}
		reject(ch)
		synctest.Wait()
		ended, end := context.WithCancel(t.Context())
		end()
		_ = b.Close(ended)
		_, conn = process(t, virtual.Intercept(virtual.Only(place.Open()), p.pass), o)
		next := open(t, conn)
		reject(next)
		if err := next.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.same(t, 2)
	})
}

// An ack that is waited for is sent again when its reply was lost. What is stale then is told apart: the first try has done it, or the
// message went to another process.
func TestAnAckWaitWhoseReplyWasLostTellsWhoHasTheMessage(t *testing.T) {
	for name, c := range map[string]struct {
		lost bool // the lease
		want error
	}{
		"done by the first try": {false, nil},
		"taken by another":      {true, channel.ErrLeaseLost},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				place := memory.New()
				var acks atomic.Int32
				_, ours := process(t, virtual.Intercept(place.Open(), func(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
					if call.Method == "Holders.Renew" && c.lost && acks.Load() == 0 {
						return errors.New("not renewed")
					}
					if s, ok := call.Request.(*[]virtual.Settlement); !ok || (*s)[0].Kind != virtual.Ack {
						return next(ctx)
					}
					if acks.Add(1) > 1 {
						return next(ctx)
					}
					if !c.lost {
						_ = next(ctx)
					}
					return errors.New("the reply is lost")
				}), broker.Options{})
				_, theirs := process(t, place.Open(), broker.Options{})
				ch := open(t, ours)
				declare(t, ch, "q", nil)
				if err := ch.Publish(t.Context(), "", "q", channel.Publishing{Body: []byte("m")}); err != nil {
					t.Fatal(err)
				}
				d, ok, err := ch.Get(t.Context(), "q", false)
				if err != nil || !ok {
					t.Fatal(ok, err)
				}
				if c.lost { // the lease ends, and the other one takes it
					time.Sleep(11 * time.Second)
					if d, ok, err := open(t, theirs).Get(t.Context(), "q", false); err != nil || !ok || !d.Redelivered {
						t.Fatal("it does not come to the other one", ok, err)
					}
				}
				if err := d.AckWait(t.Context()); !errors.Is(err, c.want) {
					t.Errorf("AckWait: %v, want %v", err, c.want)
				}
				if n := acks.Load(); n != 2 {
					t.Errorf("%d acks were sent, want 2", n)
				}
			})
		})
	}
}
