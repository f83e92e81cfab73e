package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// consumeRows are the rows CN: consumers.
var consumeRows = []Row{
	{ID: "CN-01", Run: cn01},
	{ID: "CN-02", Run: cn02},
	{ID: "CN-03", Run: cn03},
	{ID: "CN-04", Run: cn04},
	{ID: "CN-05", Run: cn05},
	{ID: "CN-06", Run: cn06},
	{ID: "CN-07", Run: cn07},
	{ID: "CN-08", Run: cn08},
	{ID: "CN-09", Run: cn09},
	{ID: "CN-10", Needs: []Need{Plus}, Run: cn10},
}

func cn01(e *Env) {
	pub, sub := e.pair()

	// Round-robin: three idle consumers, one message at a time; any three messages in a row go to three consumers.
	q := pub.queue()
	streams := []*stream{sub.window(10, q), e.open(1).window(10, q), e.open(1).window(10, q)}
	for i := range 9 {
		pub.post("", q, fmt.Sprint(i))
	}
	got := e.share(9, streams...)
	for i, ds := range got {
		if len(ds) != 3 {
			e.Fatalf("consumer %d of 3 got %d of 9 messages, want 3 each: %s", i, len(ds), sharesText(got))
		}
		for j := 1; j < len(ds) && e.has(Order); j++ {
			var a, b int
			fmt.Sscan(string(ds[j-1].Body), &a)
			fmt.Sscan(string(ds[j].Body), &b)
			e.check(b-a == 3, "not round-robin: %s", sharesText(got))
		}
	}
	all := slices.Concat(got...)
	e.sameSet("messages given to all", bodies(all), []string{"0", "1", "2", "3", "4", "5", "6", "7", "8"})

	// By free window, over two processes: the full ones get nothing, whoever answers gets the next.
	q = pub.queue()
	a, b := e.open(0).window(1, q), e.open(1).window(1, q)
	pub.post("", q, "1", "2", "3", "4")
	got = e.share(2, a, b)
	if len(got[0]) != 1 || len(got[1]) != 1 {
		e.Fatalf("with windows of 1, two consumers got:%s want one each", sharesText(got))
	}
	first := slices.Concat(got...)
	slices.SortFunc(first, func(x, y channel.Delivery) int { return strings.Compare(string(x.Body), string(y.Body)) })
	e.came("first messages", q, first, "1", "2")
	e.ack(got[1][0])
	third := e.first(b.gets("3"))
	a.silent("its window is full")
	e.ack(got[0][0], third)
	last := slices.Concat(e.share(1, a, b)...)
	e.came("the last message", q, last, "4")
	e.ack(last...)

	// A requeued message goes to the next of the round, not back to who refused it.
	q = pub.queue()
	a, b = sub.window(1, q), e.open(1).window(1, q)
	pub.post("", q, "ball")
	holder := -1
	for i := range 6 {
		got = e.share(1, a, b)
		now := 0
		if len(got[1]) == 1 {
			now = 1
		}
		d := got[now][0]
		e.redelivered(i > 0, d)
		if now == holder {
			e.Fatalf("requeue %d: the message went back to the consumer that refused it", i)
		}
		holder = now
		if i < 5 {
			e.must(d.Nack(false, true), "nack")
		} else {
			e.ack(d)
		}
	}
}

func cn02(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()

	// The same tag on another channel, of the same connection and of another process, is fine.
	a := sub.consume(q, channel.ConsumeOptions{Tag: "same"})
	b := e.open(1).consume(q, channel.ConsumeOptions{Tag: "same"})
	c := e.open(0).consume(q, channel.ConsumeOptions{Tag: "same"})
	pub.post("", q, "1", "2", "3")
	e.sameSet("messages", bodies(slices.Concat(e.share(3, a, b, c)...)), []string{"1", "2", "3"})

	// Used twice on one channel it ends the connection.
	l := e.openOn(e.connect(1, ConnectOptions{}))
	l.consume(pub.queue(), channel.ConsumeOptions{Tag: "twice"})
	_, err := l.Consume(e.ctx, pub.queue(), channel.ConsumeOptions{Tag: "twice"})
	l.kills(err, channel.NotAllowed, "twice")

	// Free again after cancel, also for another queue.
	l = e.open(1)
	l.consume(q, channel.ConsumeOptions{Tag: "again"}).cancel()
	q2 := pub.queue()
	s := l.consume(q2, channel.ConsumeOptions{Tag: "again"})
	pub.post("", q2, "x")
	s.gets("x")

	// An empty tag is generated, another one each time.
	seen := map[string]bool{}
	for range 2 {
		q := pub.queue()
		out, err := l.Consume(e.ctx, q, channel.ConsumeOptions{})
		e.must(err, "consume without a tag")
		pub.post("", q, "x")
		d := receive(e, "delivery to the consumer without a tag", out)
		e.check(strings.HasPrefix(d.ConsumerTag, "amq.ctag-"), "generated tag %q does not begin with amq.ctag-", d.ConsumerTag)
		e.check(!seen[d.ConsumerTag], "tag %q was generated twice", d.ConsumerTag)
		seen[d.ConsumerTag] = true
	}
}

func cn03(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	pub.post("", q, "1", "2", "3", "4", "5")
	s := sub.window(3, q)
	ds := s.gets("1", "2", "3")
	e.ack(ds[0])
	ds = append(ds, s.gets("4")...)
	if rest := s.cancel(); len(rest) > 0 {
		e.Fatalf("beyond its window, a cancelled consumer got %s", show(bodies(rest)))
	}
	// After the answer nothing comes, though there is window, and it is no consumer any more.
	e.ack(ds[1])
	pub.post("", q, "6")
	sub.alive("cancel")
	pub.consumers(q, 0, "after cancel")
	pub.ready(q, 2, "after cancel")
	// What was delivered is unacked still and can be answered, by tag as well.
	e.must(sub.Ack(ds[2].DeliveryTag, false), "ack by tag")
	sub.alive("answers after cancel")
	pub.ready(q, 2, "after the acks")
	e.must(sub.Close(e.ctx), "close")
	pub.ready(q, 3, "after the close, with the one unanswered")
	got := pub.holds(q, "4", "5", "6")
	e.redelivered(true, got[0])

	// An unknown tag is no error, with and without an answer.
	l := e.open(1)
	e.must(l.Cancel(e.ctx, "no-such-tag"), "cancel of an unknown tag")
	e.must(l.Cancel(e.ctx, "no-such-tag", channel.NoWait), "cancel of an unknown tag")
	l.alive("cancel of an unknown tag")

	// Breaking out of the iterator is a cancel that gives back what was not seen.
	pub.post("", q, "a", "b", "c", "d")
	var first channel.Delivery
	for d, err := range l.Deliveries(e.ctx, q, channel.ConsumeOptions{}) {
		e.must(err, "iterate")
		first = l.seen(d)
		break
	}
	e.came("the one that was seen", q, []channel.Delivery{first}, "a")
	pub.consumers(q, 0, "after the loop")
	pub.ready(q, 3, "after the loop")
	e.ack(first)
	l.alive("ack after the loop")
	pub.holds(q, "b", "c", "d")
}

func cn04(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	// An exclusive consumer refuses any other, in any process.
	s := sub.consume(q, channel.ConsumeOptions{Exclusive: true})
	for p := range 2 {
		for _, exclusive := range []bool{false, true} {
			l := e.open(p)
			_, err := l.Consume(e.ctx, q, channel.ConsumeOptions{Exclusive: exclusive})
			l.refuses(err, channel.AccessRefused, q)
		}
	}
	// It goes on, and a get beside it works.
	pub.post("", q, "1")
	e.ack(s.gets("1")...)
	sub.qos(1, false)
	e.ack(s.cancel()...)
	s = sub.consume(q, channel.ConsumeOptions{Exclusive: true})
	pub.post("", q, "2", "3")
	two := s.gets("2")
	get := e.open(0)
	e.ack(get.gets(q, "3")...)
	get.alive("ack of the get")
	e.ack(two...)
	// After its end anybody may; and it is refused beside others.
	s.cancel()
	other := e.open(0).consume(q, channel.ConsumeOptions{})
	l := e.open(1)
	_, err := l.Consume(e.ctx, q, channel.ConsumeOptions{Exclusive: true})
	l.refuses(err, channel.AccessRefused, q)
	pub.post("", q, "4")
	other.gets("4")
}

func cn05(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	// No window.
	s := sub.window(1, q, channel.ConsumeOptions{AutoAck: true})
	want := numbered("m", 20)
	pub.post("", q, want...)
	ds := s.gets(want...)
	pub.ready(q, 0, "all was taken")
	// Nothing comes back.
	e.must(sub.Close(e.ctx), "close")
	pub.empty(q, "no-ack messages do not come back")

	// Acking one is an unknown tag.
	for name, answer := range inOrder(map[string]func(d *channel.Delivery) error{
		"ack":    func(d *channel.Delivery) error { return d.Ack(false) },
		"nack":   func(d *channel.Delivery) error { return d.Nack(false, true) },
		"reject": func(d *channel.Delivery) error { return d.Reject(false) },
	}) {
		l := e.open(1)
		s := l.consume(q, channel.ConsumeOptions{AutoAck: true})
		pub.post("", q, name)
		d := e.first(s.gets(name))
		e.must(answer(&d), "%s", name)
		l.dies(channel.PreconditionFailed, fmt.Sprintf("unknown delivery tag %d", d.DeliveryTag))
	}
	l := e.open(1)
	pub.post("", q, "get")
	d := l.mustGet(q, true)
	e.must(d.Ack(false), "ack")
	l.dies(channel.PreconditionFailed, "unknown delivery tag 1")
	pub.empty(q, "all was taken for good")
	e.check(len(ds) == 20, "lost some")

	e.plus("a reader that stops does not grow memory without bound", func() {
		const credit, all = 20, 2000
		l, q := e.open(1), pub.queue()
		s := l.consume(q, channel.ConsumeOptions{AutoAck: true, Credit: credit})
		pub.post("", q, numbered("m", all)...)
		s.next()
		e.pause(e.unit(2))
		// What waits in this process: the credit on its way, what was granted when the reader's goroutine took
		// its batch, and its chan.
		n := all - 1 - pub.passive(q).Messages
		e.with(Counts, "counted in the queue", func() {
			e.check(n <= 4*credit, "%d messages wait in the process of a reader that stopped, its credit is %d", n, credit)
		})
		rest := s.take(all - 1)
		e.check(len(rest) == all-1, "lost some")
	})
}

func cn06(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	tags := sub.NotifyCancel(make(chan string, 1))
	s := sub.window(1, q)
	other := e.open(0).window(1, q)
	pub.post("", q, "1", "2", "3")
	got := e.share(2, s, other)
	pub.delete(q)
	// Both consumers end, each with that cause; the channels stay.
	for i, s := range []*stream{s, other} {
		cause := s.ends()
		e.check(errors.Is(cause, channel.ErrCancelled), "consumer %d ended with %v, want ErrCancelled", i, cause)
	}
	if tag := receive(e, "NotifyCancel", tags); tag != s.tag {
		e.Errorf("NotifyCancel named %q, want %q", tag, s.tag)
	}
	e.ack(slices.Concat(got...)...) // harmless: the queue has gone
	sub.alive("the end of its consumer")
	// The tag is free again.
	pub.declare(q, channel.QueueOptions{})
	s = sub.consume(q, channel.ConsumeOptions{Tag: s.tag})
	pub.post("", q, "new")
	e.ack(s.gets("new")...)

	// An iterator ends with that cause too.
	q2 := pub.queue()
	pub.post("", q2, "x")
	var causes []error
	for d, err := range e.open(1).Deliveries(e.ctx, q2, channel.ConsumeOptions{}) {
		if err != nil {
			causes = append(causes, err)
			continue
		}
		e.ack(d)
		pub.delete(q2)
	}
	e.check(len(causes) == 1 && errors.Is(causes[0], channel.ErrCancelled), "the iterator ended with %v, want ErrCancelled once", causes)
}

func cn07(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	process := 1
	e.with(Ranks, "across processes", func() { process = 0 })
	low := e.open(process).window(2, q) // none is 0
	high := sub.window(2, q, channel.ConsumeOptions{Args: table{"x-priority": int32(10)}})
	lowest := e.open(1).window(2, q, channel.ConsumeOptions{Args: table{"x-priority": int64(-5)}})
	pub.consumers(q, 3, "before publishing")
	for i := range 5 {
		pub.post("", q, fmt.Sprint(i))
	}
	got := e.share(5, high, low, lowest)
	e.came("the highest gets until its window is full", q, got[0], "0", "1")
	e.came("then the next", q, got[1], "2", "3")
	e.came("then the lowest", q, got[2], "4")
	e.ack(got[0][0], got[1][0])
	sub.flush()
	e.share(0, high, low, lowest) // nothing is left
	pub.post("", q, "5")
	high.gets("5")
	low.silent("a higher one has taken the message")

	for _, bad := range []any{"high", 1.5, true} {
		l := e.open(1)
		_, err := l.Consume(e.ctx, q, channel.ConsumeOptions{Args: table{"x-priority": bad}})
		l.refuses(err, channel.PreconditionFailed, "x-priority")
	}
}

func cn08(e *Env) {
	pub, sub := e.pair()
	// Started before and after publishing: the same messages.
	x := pub.exchange(channel.Fanout)
	before, after := pub.bound(x, ""), pub.bound(x, "")
	want := numbered("m", 50)
	s := sub.consume(before, channel.ConsumeOptions{})
	pub.post(x, "", want...)
	e.ack(s.gets(want...)...)
	late := e.open(1)
	s = late.consume(after, channel.ConsumeOptions{})
	e.ack(s.gets(want...)...)
	s.silent("all has come")

	// An idle one is woken soon.
	bound := 10 * time.Millisecond
	if reason, polls := e.rig.Lacks(Notice); polls {
		bound = e.unit(1)
		e.Logf("bound is that of polling: %s", reason)
	}
	var worst time.Duration
	for i := range 5 {
		e.pause(e.unit(0.5)) // until it idles
		c, err := pub.PublishDeferred(e.ctx, "", after, text(fmt.Sprint("idle", i)))
		e.must(err, "publish")
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm")
		e.check(acked, "nacked")
		stored := time.Now()
		d := s.next()
		worst = max(worst, time.Since(stored))
		e.ack(d)
	}
	e.took("an idle consumer got a new message after its confirm", worst, bound)
}

func cn09(e *Env) {
	l := e.confirming(0)
	q := l.queue()
	same := l.consume(q, channel.ConsumeOptions{NoLocal: true})
	l.post("", q, "from the same channel")
	e.ack(same.gets("from the same channel")...)
	other := e.confirming(1)
	other.post("", q, "from another process")
	e.ack(same.gets("from another process")...)
}

func cn10(e *Env) {
	pub := e.confirming(0)
	q := pub.queue()
	pub.post("", q, "slow")
	limit := e.unit(5)
	conn := e.connect(1, ConnectOptions{ConsumerTimeout: limit})
	l, other := e.openOn(conn), e.openOn(conn)
	s := l.consume(q, channel.ConsumeOptions{})
	began := time.Now()
	s.gets("slow")
	l.dies(channel.PreconditionFailed, "timeout")
	took := time.Since(began)
	e.check(took >= limit-e.unit(0.1), "closed after %v, before the timeout of %v", took, limit)
	e.took("the channel was closed", took, 2*limit)
	other.alive("the timeout of another channel")
	d := e.first(pub.gets(q, "slow"))
	e.redelivered(true, d)
	// The usual connection's timeout is far longer.
	e.pause(limit * 3)
	e.ack(d)
	pub.alive("an ack in time")
	pub.empty(q, "acked")
}
