package conformance

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// engineCalls counts what an engine asks of its store. Gets that wait for a message, and waits for notices and changes, are
// kept apart: they are how an idle process costs nothing.
type engineCalls struct {
	mu             sync.Mutex
	calls, waiting int
}

func (c *engineCalls) pass(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
	waits := call.Method == "Notifier.Notify" || call.Method == "Registry.Changes" || call.Method == "Expirer.Expire"
	if r, ok := call.Request.(*virtual.GetRequest); ok {
		waits = r.Wait > 0 && (!strings.HasPrefix(r.Queue.Name, "!") || r.Queue.Name == "!delayed")
	}
	c.mu.Lock()
	if waits {
		c.waiting++
	} else {
		c.calls++
	}
	c.mu.Unlock()
	return next(ctx)
}

func (c *engineCalls) now() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.calls
}

// callFigures counts the calls of one process.
func (c *Config) callFigures(t *testing.T) []CallFigure {
	k := &caseT{name: "calls", ctx: t.Context()}
	defer k.finish()
	open, err := c.place(k)
	if err != nil {
		t.Fatalf("place: %v", err)
	}
	store, err := open()
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	defer virtual.Close(store)
	unit := c.Unit
	if unit == 0 {
		unit = 200 * time.Millisecond
	}
	count := &engineCalls{}
	lease := max(rigLease*unit, virtual.TraitsOf(store).LeaseMin)
	// The session is not renewed in the meantime: a heartbeat is a figure of its own.
	b, err := broker.Open(t.Context(), virtual.Intercept(store, count.pass), broker.Options{Lease: lease, SessionTTL: 3 * time.Hour})
	if err != nil {
		t.Fatalf("open broker: %v", err)
	}
	defer b.Close(context.WithoutCancel(t.Context()))
	m := &callMeter{t: t, count: count, lease: lease}
	if m.conn, err = channel.Connect(t.Context(), b.Connect); err != nil {
		t.Fatalf("connect: %v", err)
	}
	figures := []CallFigure{m.alone(), m.batched(), m.renewal(), m.idle()}
	for _, f := range figures {
		fmt.Printf("conformance: calls of the store, %s: %.3g\n", f.What, f.Calls)
	}
	return figures
}

type callMeter struct {
	t     *testing.T
	conn  *channel.Connection
	count *engineCalls
	lease time.Duration
}

// open opens a channel in confirm mode with a queue of its own.
func (m *callMeter) open(prefetch int) (*channel.Channel, string) {
	ctx := m.t.Context()
	ch, err := m.conn.Channel(ctx)
	if err == nil {
		err = ch.Confirm(ctx)
	}
	if err == nil {
		err = ch.Qos(ctx, prefetch, 0, false)
	}
	if err != nil {
		m.t.Fatal(err)
	}
	q, err := ch.QueueDeclare(ctx, "", channel.QueueOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	return ch, q.Name
}

func (m *callMeter) consume(ch *channel.Channel, queue string) <-chan channel.Delivery {
	out, err := ch.Consume(m.t.Context(), queue, channel.ConsumeOptions{})
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

func (m *callMeter) publish(ch *channel.Channel, queue string) *channel.Confirmation {
	c, err := ch.PublishDeferred(m.t.Context(), "", queue, channel.Publishing{Body: []byte("message")})
	if err != nil {
		m.t.Fatal(err)
	}
	return c
}

func (m *callMeter) next(out <-chan channel.Delivery) channel.Delivery {
	select {
	case d := <-out:
		return d
	case <-m.t.Context().Done():
		m.t.Fatal("no delivery")
		return channel.Delivery{}
	}
}

// alone: a message is published, confirmed, delivered and acked before the next comes.
func (m *callMeter) alone() CallFigure {
	ch, q := m.open(1)
	out := m.consume(ch, q)
	const n = 30
	before := 0
	for i := range n + 5 {
		if i == 5 { // what is done once has been done
			before = m.count.now()
		}
		if _, err := m.publish(ch, q).Wait(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
		d := m.next(out)
		if err := d.AckWait(m.t.Context()); err != nil {
			m.t.Fatal(err)
		}
	}
	return CallFigure{"a message alone", float64(m.count.now()-before) / n}
}

// batched: a thousand are published, then consumed.
func (m *callMeter) batched() CallFigure {
	ch, q := m.open(500)
	const n = 1000
	before := m.count.now()
	var last *channel.Confirmation
	for range n {
		last = m.publish(ch, q)
	}
	if _, err := last.Wait(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	out := m.consume(ch, q)
	for range n {
		d := m.next(out)
		if err := d.Ack(false); err != nil {
			m.t.Fatal(err)
		}
	}
	if err := ch.Flush(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	return CallFigure{"a message of a thousand", float64(m.count.now()-before) / n}
}

// renewal: a hundred unacked messages are held for three leases, each of which is renewed three times.
func (m *callMeter) renewal() CallFigure {
	ch, q := m.open(100)
	for range 100 {
		m.publish(ch, q)
	}
	if err := ch.Flush(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	out := m.consume(ch, q)
	for range 100 {
		m.next(out)
	}
	before := m.count.now()
	sleepFor(m.t.Context(), 3*m.lease+m.lease/6)
	n := m.count.now() - before
	if err := ch.Ack(0, true); err != nil {
		m.t.Fatal(err)
	}
	if err := ch.Flush(m.t.Context()); err != nil {
		m.t.Fatal(err)
	}
	return CallFigure{"a renewal of a hundred unacked messages", float64(n) / 9}
}

// idle: ten consumed queues are empty.
func (m *callMeter) idle() CallFigure {
	for range 10 {
		ch, q := m.open(10)
		m.consume(ch, q)
	}
	sleepFor(m.t.Context(), m.lease)
	before := m.count.now()
	lasts := 5 * time.Second
	sleepFor(m.t.Context(), lasts)
	return CallFigure{"an idle second with ten consumed queues", float64(m.count.now()-before) / lasts.Seconds()}
}
