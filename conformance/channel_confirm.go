package conformance

import (
	"fmt"
	"slices"
	"sync"

	"github.com/dashi-mq/dashi/channel"
)

// confirmRows are the rows CF: publisher confirms.
var confirmRows = []Row{
	{ID: "CF-01", Run: cf01},
	{ID: "CF-02", Run: cf02},
	{ID: "CF-03", Run: cf03},
	{ID: "CF-04", Needs: []Need{Plus, Faults}, Run: cf04},
}

func cf01(e *Env) {
	a, b := e.open(0), e.open(0)
	durable, transient := a.queue(channel.QueueOptions{Durable: true}), a.queue()
	// What was published before is not numbered.
	e.must(a.Publish(e.ctx, "", transient, text("before")), "publish")
	e.check(a.GetNextPublishSeqNo() == 0, "a number without confirm mode: %d", a.GetNextPublishSeqNo())
	_, err := a.PublishDeferred(e.ctx, "", transient, text("too early"))
	a.harmless(err, "confirm")
	for _, l := range []*line{a, b} {
		e.must(l.Confirm(e.ctx), "confirm.select")
		l.confirms = true
	}
	// Each channel counts from 1; routable, unroutable, persistent and transient mixed.
	keys := []string{durable, e.name("nowhere"), transient}
	var all []*channel.Confirmation
	const n = 120
	for i := range n {
		for _, l := range []*line{a, b} {
			if l == b && i%2 == 1 {
				continue
			}
			want := uint64(i + 1)
			if l == b {
				want = uint64(i/2 + 1)
			}
			e.check(l.GetNextPublishSeqNo() == want, "the next number is %d, want %d", l.GetNextPublishSeqNo(), want)
			m := text(fmt.Sprint(i))
			if i%4 > 1 {
				m.DeliveryMode = channel.Persistent
			}
			c, err := l.PublishDeferred(e.ctx, "", keys[i%3], m)
			e.must(err, "publish")
			if c.DeliveryTag != want {
				e.Fatalf("message %d of its channel has number %d", want, c.DeliveryTag)
			}
			all = append(all, c)
		}
	}
	for _, c := range all {
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm of %d", c.DeliveryTag)
		if !acked || !c.Acked() {
			e.Fatalf("message %d was nacked", c.DeliveryTag)
		}
	}
	// A message refused before it is sent uses no number.
	_, err = a.PublishDeferred(e.ctx, "", string(make([]byte, 300)), text("x"))
	a.harmless(err)
	a.post("", transient, "last")
	e.check(a.GetNextPublishSeqNo() == n+2, "the next number is %d, want %d", a.GetNextPublishSeqNo(), n+2)
	sub := e.open(1)
	sub.ready(durable, n/3+n/6, "all were stored")
	sub.ready(transient, n/3+n/6+2, "all were stored")

	// Many goroutines on one channel: every number once.
	q := a.queue()
	c := e.confirming(0)
	var mu sync.Mutex
	numbers := map[uint64]bool{}
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 50 {
				f, err := c.PublishDeferred(e.ctx, "", q, text(fmt.Sprint(g, i)))
				if err != nil {
					e.Errorf("publish: %v", err)
					return
				}
				if acked, err := f.Wait(e.ctx); err != nil || !acked {
					e.Errorf("confirm of %d: %v, %v", f.DeliveryTag, acked, err)
				}
				mu.Lock()
				if numbers[f.DeliveryTag] {
					e.Errorf("number %d was used twice", f.DeliveryTag)
				}
				numbers[f.DeliveryTag] = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	e.check(len(numbers) == 200 && numbers[1] && numbers[200], "%d numbers for 200 messages", len(numbers))
	sub.ready(q, 200, "all were stored")

	// Or the channel ends: then every future ends with its error.
	d := e.confirming(0)
	unknown := e.name("unknown")
	f, err := d.PublishDeferred(e.ctx, unknown, "", text("lost"))
	e.must(err, "publish")
	acked, err := f.Wait(e.ctx)
	e.check(!acked, "a message to an unknown exchange was acked")
	e.fails(err, channel.NotFound, unknown)
	d.dies(channel.NotFound, unknown)
}

func cf02(e *Env) {
	// Every store keeps what it acked when the process that published is killed.
	pub := e.confirming(0)
	x := pub.exchange(channel.Fanout, channel.ExchangeOptions{Durable: true})
	var queues []string
	for range 3 {
		q := pub.queue(channel.QueueOptions{Durable: true})
		pub.bind(q, "", x)
		queues = append(queues, q)
	}
	var limited string
	e.with(Lengths, "dropped by the queue's own rule is acked too", func() {
		limited = pub.queue(channel.QueueOptions{Durable: true, Args: table{"x-max-length": int32(2)}})
		pub.bind(limited, "", x)
	})
	const n = 20
	want := numbered("", n)
	for i, b := range want {
		f, err := pub.PublishDeferred(e.ctx, x, "", lasting(b))
		e.must(err, "publish")
		if i < n-1 {
			continue // the ack of the last tells of itself alone: all are waited for
		}
		acked, err := f.Wait(e.ctx)
		e.must(err, "confirm")
		e.check(acked, "nacked")
	}
	pub.put(x, "", lasting("last"))
	e.crash(0)
	sub := e.open(1)
	for _, q := range queues {
		sub.holds(q, append(numbered("", n), "last")...)
	}
	if limited != "" {
		got := bodies(sub.drain(limited))
		if e.has(Order) {
			e.same("the queue with a limit of 2", got, []string{fmt.Sprint(n), "last"})
		}
		e.check(len(got) == 2, "the queue with a limit of 2 has %s", show(got))
	}
	// And the other way round: whoever waits for every ack on its own can count on every one of them.
	pub = e.confirming(0)
	for i := range 5 {
		pub.put(x, "", lasting(fmt.Sprint("alone", i)))
		e.crash(0)
		sub = e.open(1)
		for _, q := range queues {
			sub.holds(q, fmt.Sprint("alone", i))
		}
		pub = e.confirming(0)
	}
}

func cf03(e *Env) {
	l := e.open(0)
	e.must(l.Confirm(e.ctx), "confirm.select")
	e.must(l.Confirm(e.ctx), "confirm.select again")
	l.confirms = true
	q := l.queue()
	l.post("", q, "1") // numbers go on
	e.must(l.Confirm(e.ctx), "confirm.select again")
	l.post("", q, "2")
	e.check(l.GetNextPublishSeqNo() == 3, "selecting again changed the numbers: the next is %d", l.GetNextPublishSeqNo())
	l.refuses(l.Tx(e.ctx), channel.PreconditionFailed)

	l = e.open(0)
	e.must(l.Tx(e.ctx), "tx.select")
	e.must(l.Tx(e.ctx), "tx.select again")
	l.refuses(l.Confirm(e.ctx), channel.PreconditionFailed)
	e.open(1).holds(q, "1", "2")
}

func cf04(e *Env) {
	rig := e.rig.(Breaker)
	pub, sub := e.pair()
	q := pub.queue(channel.QueueOptions{Durable: true})
	pub.put("", q, lasting("before"))
	e.must(rig.Break(0), "break")
	var lost []*channel.Confirmation
	for _, b := range numbered("lost", 5) {
		c, err := pub.PublishDeferred(e.ctx, "", q, lasting(b))
		e.must(err, "publish")
		lost = append(lost, c)
	}
	for _, c := range lost {
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm of %d while the store fails", c.DeliveryTag)
		e.check(!acked, "message %d was acked by a store that failed", c.DeliveryTag)
	}
	e.must(rig.Mend(0), "mend")
	// The channel lives, numbers go on without a gap, and what is published now is acked.
	next := pub.GetNextPublishSeqNo()
	e.check(next == 7, "the next number is %d, want 7", next)
	e.eventually("the store answers again", func() (bool, string) {
		ok := pub.outcome("", q, lasting("after"))[0]
		return ok, "nacked"
	})
	// What was nacked may be there, or not.
	got := bodies(sub.takes(q, 2))
	if e.has(Order) {
		e.check(len(got) > 1 && got[0] == "before" && got[len(got)-1] == "after", "the queue has %s", show(got))
	}
	for _, b := range []string{"before", "after"} {
		e.check(slices.Contains(got, b), "the queue has %s, without %q", show(got), b)
	}
}
