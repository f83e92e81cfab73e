package conformance

import (
	"fmt"
	"slices"
	"sync"

	"github.com/dashi-mq/dashi/channel"
)

// ackRows are the rows AK: acknowledging. Those about losing a channel or a process are in channel_ack_loss.go.
var ackRows = []Row{
	{ID: "AK-01", Run: ak01},
	{ID: "AK-02", Run: ak02},
	{ID: "AK-03", Run: ak03},
	{ID: "AK-04", Run: ak04},
	{ID: "AK-05", Run: ak05},
	{ID: "AK-06", Run: ak06},
	{ID: "AK-07", Run: ak07},
	{ID: "AK-08", Needs: []Need{Plus}, Run: ak08},
	{ID: "AK-09", Run: ak09},
	{ID: "AK-10", Needs: []Need{Plus, Freezes}, Run: ak10},
}

// deadLettered declares a queue whose dead letters go to another one, which it returns too.
func (l *line) deadLettered(extra table) (queue, dead string) {
	dead = l.queue()
	t := table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
	for k, v := range extra {
		t[k] = v
	}
	queue = l.args(t)
	l.e.tour(queue, dead)
	return queue, dead
}

func ak01(e *Env) {
	pub, sub := e.pair()
	qa, qb := pub.queue(), pub.queue()
	tag := func(what string, d channel.Delivery, want uint64) {
		e.Helper()
		if d.DeliveryTag != want {
			e.Fatalf("%s has delivery tag %d, want %d", what, d.DeliveryTag, want)
		}
	}
	a := sub.consume(qa, channel.ConsumeOptions{})
	pub.post("", qa, "1")
	tag("the first delivery", a.next(), 1)
	pub.post("", qb, "2", "3")
	tag("a get", sub.mustGet(qb, false), 2)
	tag("a no-ack get", sub.mustGet(qb, true), 3)
	sub.empty(qb, "all was taken")
	b := sub.consume(qb, channel.ConsumeOptions{AutoAck: true})
	pub.post("", qb, "4")
	tag("a no-ack delivery, after an empty get", b.next(), 4)
	pub.post("", qa, "5")
	tag("the first consumer's next", a.next(), 5)
	// Settling and requeueing change nothing about the numbers.
	e.must(sub.Nack(5, false, true), "nack")
	d := a.next()
	tag("the requeued one", d, 6)
	e.redelivered(true, d)
	// Another channel counts for itself.
	other := e.open(1)
	pub.post("", qb, "x") // qb has a no-ack consumer: it takes this one
	tag("the no-ack consumer's next", b.next(), 7)
	b.cancel()
	pub.post("", qb, "y", "z")
	tag("the first of another channel", other.get(qb), 1)
	tag("the second of another channel", other.get(qb), 2)
}

func ak02(e *Env) {
	pub, sub := e.pair()
	// left says what is unanswered: it comes back when the channel closes.
	left := func(l *line, q string, want ...string) {
		e.Helper()
		e.must(l.Close(e.ctx), "close")
		pub.ready(q, len(want), "after the close")
		e.redelivered(true, pub.holds(q, want...)...)
	}
	fill := func(n int) (*line, *stream, string) {
		l, q := e.open(1), pub.queue()
		s := l.consume(q, channel.ConsumeOptions{})
		want := numbered("", n)
		pub.post("", q, want...)
		s.gets(want...)
		return l, s, q
	}

	l, _, q := fill(6)
	e.must(l.Ack(2, false), "ack of one")
	left(l, q, "1", "3", "4", "5", "6")

	l, _, q = fill(6)
	e.must(l.Ack(2, false), "ack of one")
	e.must(l.Ack(4, true), "ack up to one")
	left(l, q, "5", "6")

	l, s, q := fill(6)
	e.must(l.Ack(3, false), "ack of one")
	e.must(l.Ack(0, true), "ack of all")
	e.must(l.Ack(0, true), "ack of all where there are none")
	l.alive("ack of all")
	pub.post("", q, "7", "8")
	s.gets("7", "8")
	e.must(l.Ack(8, true), "ack up to one")
	left(l, q)

	// Multiple holds for all consumers and gets of the channel, and for no other channel.
	qa, qb := pub.queue(), pub.queue()
	other := e.open(1)
	pub.post("", qa, "a1", "a2")
	pub.post("", qb, "b1", "b2")
	foreign := e.first(other.gets(qa, "a1"))
	sa := sub.consume(qa, channel.ConsumeOptions{})
	sa.gets("a2")
	sub.get(qb)
	d := sub.get(qb)
	e.must(d.Ack(true), "ack up to one")
	sub.flush()
	e.must(sub.Close(e.ctx), "close")
	pub.empty(qb, "all was acked")
	pub.empty(qa, "all was acked, or is held by another channel")
	e.must(foreign.Nack(true, true), "nack")
	other.flush()
	pub.holds(qa, "a1")
}

func ak03(e *Env) {
	pub := e.confirming(0)
	q := pub.queue()
	pub.post("", q, "1", "2", "3", "4")
	for _, c := range []struct {
		what   string
		answer func(l *line) error // of tags 1 to 4 the channel has acked 1 and 2
		tag    int
	}{
		{"ack of a tag not yet given", func(l *line) error { return l.Ack(5, false) }, 5},
		{"ack up to a tag not yet given", func(l *line) error { return l.Ack(5, true) }, 5},
		{"ack of a settled tag", func(l *line) error { return l.Ack(2, false) }, 2},
		{"ack up to a settled tag", func(l *line) error { return l.Ack(2, true) }, 2},
		{"ack of 0 alone", func(l *line) error { return l.Ack(0, false) }, 0},
		{"nack of a settled tag", func(l *line) error { return l.Nack(1, false, true) }, 1},
		{"nack up to a tag not yet given", func(l *line) error { return l.Nack(9, true, false) }, 9},
		{"nack of 0 alone", func(l *line) error { return l.Nack(0, false, true) }, 0},
		{"reject of a settled tag", func(l *line) error { return l.Reject(2, true) }, 2},
		{"reject of a tag not yet given", func(l *line) error { return l.Reject(6, false) }, 6},
	} {
		e.doing("%s", c.what)
		l := e.open(1)
		s := l.window(3, q)
		ds := s.gets("1", "2", "3")
		e.ack(ds[:2]...)
		s.gets("4")
		e.must(c.answer(l), "%s", c.what)
		l.dies(channel.PreconditionFailed, fmt.Sprintf("unknown delivery tag %d", c.tag))
		// What the channel held is requeued, none of it lost or answered by the wrong call.
		pub.ready(q, 2, c.what)
		rest := pub.holds(q, "3", "4")
		e.redelivered(true, rest...)
		pub.post("", q, "1", "2", "3", "4")
	}
	e.doing("")

	// A settled tag is unknown also when another channel holds its message by now.
	l, other := e.open(1), e.open(1)
	q = pub.queue()
	pub.post("", q, "1")
	d := e.first(l.gets(q, "1"))
	e.must(d.Nack(false, true), "nack")
	l.flush()
	held := e.first(other.gets(q, "1"))
	pub.post("", q, "2", "3", "4")
	e.must(d.Ack(false), "ack")
	l.dies(channel.PreconditionFailed, "unknown delivery tag 1")
	e.ack(held)
	other.alive("the ack of the right holder")
	pub.holds(q, "2", "3", "4")
}

func ak04(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	pub.post("", q, "a", "b", "c", "d")
	ds := sub.gets(q, "a", "b", "c")
	e.redelivered(false, ds...)

	// One in the middle of those still unacked: ahead of what was never delivered, for another process too.
	requeue := func(bodies ...string) {
		e.Helper()
		for _, b := range bodies {
			d := ds[slices.Index([]string{"a", "b", "c"}, b)]
			e.must(d.Nack(false, true), "nack of %q", b)
		}
		sub.flush()
	}
	if !e.has(Order) {
		requeue("c", "a")
		back := pub.holds(q, "a", "c", "d")
		e.redelivered(true, back[:2]...)
		requeue("b")
		e.redelivered(true, pub.holds(q, "b")...)
		return
	}
	requeue("b")
	other := e.open(0)
	b := other.get(q)
	e.same("after the requeue of b", []string{string(b.Body)}, []string{"b"})
	e.redelivered(true, b)

	// Requeued in the wrong order, they stand in the right one.
	requeue("c", "a")
	e.must(b.Nack(false, true), "nack")
	other.flush()
	got := pub.holds(q, "a", "b", "c", "d")
	e.redelivered(true, got[:3]...)
	e.redelivered(false, got[3])

	// The same through consumers: with window, the requeued one comes before the rest.
	pub.post("", q, numbered("m", 8)...)
	s := e.open(1).window(4, q)
	held := s.gets("m1", "m2", "m3", "m4")
	e.must(held[1].Reject(true), "reject")
	again := e.first(s.gets("m2"))
	e.redelivered(true, again)
	e.ack(held[0])
	e.ack(s.gets("m5")...)
	e.ack(again, held[2], held[3])
	e.redelivered(false, s.gets("m6", "m7", "m8")...)
	// The flag stays for whoever gets it after the next requeue.
	e.must(s.l.Nack(0, true, true), "nack of all")
	e.redelivered(true, s.gets("m6", "m7", "m8")...)
}

func ak05(e *Env) {
	pub, sub := e.pair()
	q, dead := pub.deadLettered(nil)
	pub.post("", q, numbered("", 8)...)
	s := sub.window(8, q)
	ds := s.gets(numbered("", 8)...)
	e.ack(ds[1])
	// Without requeue: dead letters in the order of tags, what was acked before not among them.
	e.must(ds[3].Nack(true, false), "nack up to 4, no requeue")
	pub.ready(dead, 3, "after nack up to 4")
	pub.holds(dead, "1", "3", "4")
	// With requeue: back in order, to the same consumer, with window again.
	e.must(ds[6].Nack(true, true), "nack up to 7, requeue")
	back := s.gets("5", "6", "7")
	e.redelivered(true, back...)
	// 0 is all there are.
	e.must(sub.Nack(0, true, false), "nack of all, no requeue")
	pub.ready(dead, 4, "after nack of all")
	pub.holds(dead, "8", "5", "6", "7") // by tag, and 8 has a lower one than those that came back
	e.must(sub.Nack(0, true, true), "nack of all where there are none")
	sub.alive("nack of none")
	pub.empty(q, "all was dead-lettered")
}

func ak06(e *Env) {
	pub, sub := e.pair()
	plain := pub.queue()
	q, dead := pub.deadLettered(nil)
	for _, queue := range []string{plain, q} {
		pub.post("", queue, "a", "b")
		d := e.first(sub.gets(queue, "a"))
		e.must(d.Reject(false), "reject")
		sub.flush()
		pub.holds(queue, "b")
	}
	d := e.first(pub.holds(dead, "a"))
	e.redelivered(false, d)
	// With requeue it comes back, and is no dead letter.
	pub.post("", q, "c")
	d = sub.get(q)
	e.must(d.Reject(true), "reject")
	sub.flush()
	e.redelivered(true, pub.holds(q, "c")...)
	pub.empty(dead, "a requeued message is no dead letter")
}

func ak09(e *Env) {
	pub, sub := e.pair()
	n := 400
	if raceEnabled {
		n = 200
	}
	q, dead := pub.deadLettered(nil)
	pub.post("", q, numbered("", n)...)
	s := sub.consume(q, channel.ConsumeOptions{Credit: n})
	ds := s.take(n)
	// Each is answered once, by one of many goroutines: every fifth is refused.
	work := make(chan channel.Delivery)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for d := range work {
				var err error
				switch d.DeliveryTag % 10 {
				case 0:
					err = d.Nack(false, false)
				case 5:
					err = d.Reject(false)
				default:
					err = d.Ack(false)
				}
				if err != nil {
					e.Errorf("settling %d: %v", d.DeliveryTag, err)
				}
			}
		})
	}
	for _, d := range ds {
		work <- d
	}
	close(work)
	wg.Wait()
	sub.alive("settling from many goroutines")
	e.must(sub.Close(e.ctx), "close")
	pub.empty(q, "all was answered")
	pub.ready(dead, n/5, "those refused")
	e.check(len(pub.takes(dead, n/5)) == n/5, "dead letters: want %d", n/5)
}
