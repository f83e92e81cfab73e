package conformance

import (
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/channel"
)

// qosRows are the rows QO, GT and RC: windows, get and recover.
var qosRows = []Row{
	{ID: "QO-01", Run: qo01},
	{ID: "QO-02", Run: qo02},
	{ID: "QO-03", Run: qo03},
	{ID: "QO-04", Needs: []Need{Plus}, Run: qo04},
	{ID: "QO-05", Needs: []Need{Plus, Attempts}, Run: qo05},
	{ID: "QO-06", Needs: []Need{Plus}, Run: qo06},
	{ID: "GT-01", Run: gt01},
	{ID: "RC-01", Run: rc01},
}

func qo01(e *Env) {
	pub, sub := e.pair()
	qa, qb, qc := pub.queue(), pub.queue(), pub.queue()
	want := numbered("", 10)
	for _, q := range []string{qa, qb, qc} {
		pub.post("", q, want...)
	}
	// Each consumer has the window that was set when it started.
	a := sub.window(2, qa)
	b := sub.window(3, qb)
	c := sub.window(0, qc)
	as, bs := a.gets("1", "2"), b.gets("1", "2", "3")
	c.gets(want...) // 0 is no limit
	a.silent("its window of 2 is full")
	b.silent("its window of 3 is full")
	// A later change does not touch those that run, in either direction.
	sub.qos(1, false)
	e.ack(as...)
	a.gets("3", "4")
	a.silent("its window of 2 is full again")
	sub.qos(9, false)
	e.ack(bs[1])
	b.gets("4")
	b.silent("its window of 3 is full again")
	// Multiple frees what it answers.
	e.must(sub.Ack(0, true), "ack of all")
	a.gets("5", "6")
	b.gets("5", "6", "7")
	// It is the channel's own: another channel has none.
	other := e.open(1)
	q := pub.queue()
	pub.post("", q, want...)
	other.consume(q, channel.ConsumeOptions{}).gets(want...)

	// Numbers that cannot be are a local error.
	other.harmless(other.Qos(e.ctx, -1, 0, false), "-1")
	other.harmless(other.Qos(e.ctx, 65536, 0, false), "65536")
}

func qo02(e *Env) {
	pub, sub := e.pair()
	qa, qb, qg := pub.queue(), pub.queue(), pub.queue()
	pub.post("", qg, "g1", "g2", "g3")
	pub.post("", qa, numbered("a", 6)...)
	pub.post("", qb, numbered("b", 6)...)
	// Both limits together: no consumer has more than 3, the channel no more than 4.
	sub.qos(3, false)
	sub.qos(4, true)
	a := sub.consume(qa, channel.ConsumeOptions{})
	as := a.gets("a1", "a2", "a3")
	a.silent("its own window of 3 is full")
	// What a get holds is not counted.
	g := sub.get(qg)
	b := sub.consume(qb, channel.ConsumeOptions{})
	bs := b.gets("b1")
	b.silent("the channel's window of 4 is full")
	// A get is not limited.
	g2 := sub.get(qg)
	e.ack(g)
	b.silent("the ack of a get frees nothing")
	// One acked of either makes room for one of either.
	e.ack(as[0])
	got := e.share(1, a, b)
	e.ack(bs[0])
	got2 := e.share(1, a, b)
	total := len(slices.Concat(got...)) + len(slices.Concat(got2...))
	e.check(total == 2, "two acks let %d messages through", total)
	e.ack(g2)
	// All comes in the end, each queue in its order.
	e.must(sub.Ack(0, true), "ack of all")
	left := 12 - 4 - 2
	for left > 0 {
		for _, s := range []*stream{a, b} {
			select {
			case d, ok := <-s.out:
				if !ok {
					e.Fatalf("a consumer has ended")
				}
				e.ack(s.note(d))
				left--
			default:
			}
		}
		e.pause(e.unit(0.01))
	}
	// global=false lifts the channel's window, as on RabbitMQ; those of the consumers stay.
	pub.post("", qa, numbered("c", 4)...)
	a.gets("c1", "c2", "c3")
	pub.post("", qb, numbered("d", 4)...)
	b.gets("d1")
	b.silent("the channel's window of 4 is full")
	sub.qos(9, false)
	b.gets("d2", "d3")
	b.silent("its own window of 3 is full")
	a.silent("its own window of 3 is full")
	// It is of this channel alone.
	other := e.open(1)
	q := pub.queue()
	pub.post("", q, numbered("", 10)...)
	other.consume(q, channel.ConsumeOptions{}).gets(numbered("", 10)...)
}

func qo03(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	pub.post("", q, numbered("", 20)...)
	sub.qos(2, true)
	s := sub.consume(q, channel.ConsumeOptions{})
	s.gets("1", "2")
	s.silent("the channel's window of 2 is full")
	// Higher: at once, without an ack.
	sub.qos(5, true)
	s.gets("3", "4", "5")
	s.silent("the channel's window of 5 is full")
	// Lower: nothing until fewer than that are unanswered.
	sub.qos(3, true)
	for tag := uint64(1); tag <= 2; tag++ {
		e.must(sub.Ack(tag, false), "ack")
	}
	s.silent("3 are unanswered, the channel's window is 3")
	e.must(sub.Ack(3, false), "ack")
	s.gets("6")
	s.silent("3 are unanswered again")
	// 0 is no limit.
	sub.qos(0, true)
	s.gets(numbered("", 20)[6:]...)
}

func qo04(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	body := func(c byte, n int) string { return string(slices.Repeat([]byte{c}, n)) }
	e.must(sub.Qos(e.ctx, 0, 100, false), "qos of 100 bytes")
	post := func(bodies ...string) { pub.post("", q, bodies...) }
	then := post // where the store keeps no order, what is to come later is put later
	all := []string{body('a', 40), body('b', 40), body('c', 40), body('d', 500), body('e', 10)}
	if e.has(Order) {
		post(all...)
		then = func(...string) {}
	} else {
		post(all[:3]...)
	}
	s := sub.consume(q, channel.ConsumeOptions{})
	ds := s.gets(all[0], all[1])
	s.silent("80 of 100 bytes are unanswered, the next has 40")
	e.ack(ds[0])
	c := s.gets(all[2])
	then(all[3])
	s.silent("80 of 100 bytes are unanswered")
	e.ack(ds[1])
	s.silent("the next is larger than the window and comes alone")
	e.ack(c...)
	d := s.gets(all[3])
	then(all[4])
	s.silent("500 bytes are unanswered")
	e.ack(d...)
	e.ack(s.gets(all[4])...)
	// 0 is no limit, and it holds together with the count.
	l := e.open(1)
	e.must(l.Qos(e.ctx, 3, 0, false), "qos")
	pub.post("", q, body('f', 4000), body('g', 4000), body('h', 4000), body('i', 1))
	s.cancel()
	e.must(sub.Close(e.ctx), "close")
	s = l.consume(q, channel.ConsumeOptions{})
	s.gets(body('f', 4000), body('g', 4000), body('h', 4000))
	s.silent("the count is full")
	l.harmless(l.Qos(e.ctx, 0, -1, false), "-1")
}

func qo05(e *Env) {
	pub, sub := e.pair()
	q := pub.queue(channel.QueueOptions{Args: e.quorum(table{"x-delivery-limit": int32(1)})})
	pub.post("", q, numbered("", 5)...)
	// Five times more than the delivery limit allows: those never handed over do not count.
	var seen []string
	for i := range 5 {
		l := e.open(1)
		if i == 4 {
			l = sub
		}
		l.qos(5, false)
		for d, err := range l.Deliveries(e.ctx, q, channel.ConsumeOptions{}) {
			e.must(err, "iterate")
			seen = append(seen, string(d.Body))
			e.redelivered(false, l.seen(d))
			e.ack(d)
			break
		}
		l.flush()
		pub.ready(q, 4-i, "given back")
	}
	e.same("those that are seen", seen, numbered("", 5))
	pub.empty(q, "all were seen once")
}

func qo06(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	s := sub.window(3, q)
	pub.post("", q, "1")
	e.ack(s.gets("1")...)
	e.must(sub.Flow(e.ctx, false), "flow off")
	other := e.open(1)
	q2 := pub.queue()
	o := other.consume(q2, channel.ConsumeOptions{})
	pub.post("", q, numbered("m", 10)...)
	pub.post("", q2, "elsewhere")
	o.gets("elsewhere") // it is of that channel alone
	s.silent("flow is off")
	e.must(sub.Flow(e.ctx, true), "flow on")
	for _, want := range numbered("m", 10) {
		e.ack(s.gets(want)...)
	}
	s.silent("all has come")
	e.must(sub.Flow(e.ctx, true), "flow on twice")
	sub.alive("flow")
}

func gt01(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	sub.empty(q, "it is new")
	pub.post("", q, "1", "2", "3", "4")
	left := func(d channel.Delivery, want int) {
		e.Helper()
		e.with(Counts, "the count left", func() {
			e.check(d.MessageCount == want, "get of %q: %d left, want %d", d.Body, d.MessageCount, want)
		})
		e.check(d.ConsumerTag == "", "get of %q: consumer tag %q, want none", d.Body, d.ConsumerTag)
		e.check(d.RoutingKey == q && d.Exchange == "", "get of %q: came from %q by %q", d.Body, d.Exchange, d.RoutingKey)
	}
	// Several unacked at once.
	got := sub.gets(q, "1", "2")
	one, two := got[0], got[1]
	left(one, 3)
	left(two, 2)
	three := sub.mustGet(q, true)
	left(three, 1)
	e.came("a no-ack get", q, []channel.Delivery{three}, "3")
	// Answered in any order; the no-ack one does not come back.
	e.must(two.Nack(false, true), "nack")
	sub.flush()
	d := sub.get(q)
	e.with(Order, "the requeued one first", func() {
		e.same("the requeued one", []string{string(d.Body)}, []string{"2"})
		e.redelivered(true, d)
		left(d, 1)
	})
	e.must(sub.Close(e.ctx), "close")
	pub.ready(q, 3, "after the close")
	// Beside an exclusive consumer (of another process) a get works too, and is none of its deliveries.
	s := e.open(1).window(1, q, channel.ConsumeOptions{Exclusive: true})
	held := s.next()
	e.check(string(held.Body) == "1" || !e.has(Order), "the consumer got %q", held.Body)
	x := pub.get(q)
	e.ack(x)
	last := pub.mustGet(q, true)
	e.came("what came", q, []channel.Delivery{held, x, last}, "1", "2", "4")
	pub.empty(q, "one is held, the others taken")
	e.ack(held)
	pub.alive("gets")
	// An unknown queue.
	l := e.open(1)
	_, _, err := l.Get(e.ctx, e.name("unknown"), false)
	l.refuses(err, channel.NotFound)
}

func rc01(e *Env) {
	pub, sub := e.pair()
	q, qg := pub.queue(), pub.queue()
	pub.post("", q, "1", "2", "3", "4")
	pub.post("", qg, "got")
	s := sub.window(3, q)
	ds := s.gets("1", "2", "3")
	e.ack(ds[0])
	ds = append(ds, s.gets("4")...)
	sub.get(qg)
	// All unanswered of the channel, the get's too; recover-ok comes before they do, with window for them.
	e.must(sub.Recover(e.ctx, true), "recover")
	again := s.gets("2", "3", "4")
	e.redelivered(true, again...)
	sub.flush() // each queue gets back its own when it does
	d := pub.get(qg)
	e.redelivered(true, d)
	e.ack(d)
	for i, d := range again {
		e.check(d.DeliveryTag > 5, "redelivery %d has tag %d, which was given before", i, d.DeliveryTag)
	}
	e.ack(again...)
	sub.alive("acks after recover")
	pub.empty(q, "all was acked")
	// With nothing unanswered it is harmless.
	e.must(sub.Recover(e.ctx, true), "recover of nothing")
	sub.alive("recover of nothing")
	// The old tags are void.
	e.must(ds[1].Ack(false), "ack")
	sub.dies(channel.PreconditionFailed, fmt.Sprintf("unknown delivery tag %d", ds[1].DeliveryTag))

	l := e.openOn(e.connect(1, ConnectOptions{}))
	l.kills(l.Recover(e.ctx, false), channel.NotImplemented)
}
