package conformance

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

func qu10(e *Env) {
	pub := e.confirming(0)
	x := pub.exchange(channel.Topic, channel.ExchangeOptions{Durable: true})
	up := pub.exchange(channel.Fanout, channel.ExchangeOptions{Durable: true})
	e.must(pub.ExchangeBind(e.ctx, x, "", up, nil), "exchange.bind")
	q := pub.queue(channel.QueueOptions{Durable: true, Args: e.someArgument()})
	pub.bind(q, "key.#", x)
	tx, tq := pub.exchange(channel.Direct), pub.queue()
	pub.bind(tq, "key.a", x)
	pub.bind(q, "", tx)
	again := func(what string) {
		pub = e.confirming(0)
		pub.declare(q, channel.QueueOptions{Durable: true, Args: e.someArgument()})
		e.must(pub.ExchangeDeclare(e.ctx, x, channel.Topic, channel.ExchangeOptions{Durable: true}), "%s: equal declare", what)
		pub.put(up, "key.a", lasting("new"))
		pub.ready(q, 3, what)
		e.open(1).holds(q, "1", "2", "new")
	}
	// Every client ends: first politely, then by a kill.
	pub.put(x, "key.a", lasting("1"), lasting("2"))
	e.must(e.conn(0).Close(e.ctx), "close")
	again("every client closed")
	pub.put(x, "key.a", lasting("1"), lasting("2"))
	e.crash(0)
	e.crash(1)
	transientGo := e.has(Plus) && !e.has(Restarts)
	if transientGo {
		// Until both sessions have ended: whoever came before would keep what they had.
		e.pause(5 * e.lease())
	}
	again("every client was killed")
	e.plus("transient ones go with the last client session where the store knows no restart", func() {
		if !transientGo {
			return
		}
		e.with(Sessions, "known though nobody was there", func() {
			e.gone(0, tq, "the last client session ended")
			e.exchangeGone(0, tx, "the last client session ended")
			pub.declare(tq, channel.QueueOptions{})
			pub.put(x, "key.a", lasting("1"))
			pub.empty(tq, "a new one, and not bound")
			pub.holds(q, "1")
		})
	})

	e.with(Restarts, "a restart of the store", func() {
		pub.put(x, "key.a", lasting("1"), lasting("2"))
		e.crash(0)
		e.crash(1)
		if err := e.rig.Restart(e.ctx); err != nil {
			e.Fatalf("restart: %v", err)
		}
		again("the store was restarted")
		e.check(!e.exists(1, tq), "a transient queue survived a restart of the store")
		e.check(!e.exchangeExists(1, tx), "a transient exchange survived a restart of the store")
	})
}

// volume is how many messages a row moves: all of them where it is fast, fewer where time is real.
func (e *Env) volume(all int) int {
	n := all
	switch {
	case raceEnabled:
		n = all / 20
	case !e.rig.Virtual():
		// Measured: about five seconds' worth.
		l := e.confirming(0)
		q := l.queue()
		const probe = 500
		began := time.Now()
		l.post("", q, numbered("probe", probe)...)
		n = min(all, max(probe, int(probe*(5*time.Second)/max(time.Since(began), time.Millisecond))))
	}
	if n < all {
		e.Logf("%d instead of %d messages here", n, all)
	}
	return n
}

func qu11(e *Env) {
	n := e.volume(100_000)
	pub, sub := e.confirming(0), e.open(1)
	q := pub.queue()
	// What is published in one go and one by one, while a consumer takes and answers in various ways.
	s := sub.window(500, q, channel.ConsumeOptions{Credit: 500})
	done := make(chan error, 1)
	go func() {
		var last *channel.Confirmation
		for i := range n {
			c, err := pub.PublishDeferred(e.ctx, "", q, text(fmt.Sprint(i)))
			if err != nil {
				done <- err
				return
			}
			last = c
			if i%1009 == 0 {
				if _, err := c.Wait(e.ctx); err != nil {
					done <- err
					return
				}
			}
		}
		_, err := last.Wait(e.ctx)
		done <- err
	}()
	for i := range n {
		d := s.next()
		if string(d.Body) != fmt.Sprint(i) {
			e.Fatalf("message %d of %d is %q", i, n, d.Body)
		}
		if d.Redelivered || d.DeliveryTag != uint64(i+1) {
			e.Fatalf("message %d has tag %d, redelivered %v", i, d.DeliveryTag, d.Redelivered)
		}
		switch {
		case i%100 == 99:
			e.must(d.Ack(true), "ack up to one")
		case i%100 < 10:
			e.ack(d)
		}
	}
	e.must(receive(e, "the publisher", done), "publish")
	e.must(sub.Ack(0, true), "ack of all")
	sub.alive("all acks")
	s.silent("all has come")
	e.must(sub.Close(e.ctx), "close")
	pub.empty(q, "all was acked")
}

func qu17(e *Env) {
	pub := e.confirming(0)
	q := pub.queue(channel.QueueOptions{Durable: true, Args: table{"x-single-active-consumer": true}})
	a := e.openOn(e.connect(1, ConnectOptions{})).window(2, q)
	b := e.open(0).window(2, q)
	c := e.openOn(e.connect(1, ConnectOptions{})).window(2, q)
	d := e.open(0).window(2, q)
	pub.consumers(q, 4, "all count")
	// One at a time, however small its window.
	for _, m := range numbered("", 4) {
		pub.put("", q, lasting(m))
	}
	as := a.gets("1", "2")
	for _, s := range []*stream{b, c, d} {
		s.silent("another consumer is the active one")
	}
	e.ack(as...)
	e.ack(a.gets("3", "4")...)
	a.l.alive("acks")
	// An exclusive consumer has no place here.
	l := e.open(0)
	_, err := l.Consume(e.ctx, q, channel.ConsumeOptions{Exclusive: true})
	l.refuses(err, channel.AccessRefused, q)
	// Cancel: the next in order of registration. (RabbitMQ 3.10 loses its way when messages are ready at that
	// moment, so there are none.)
	a.cancel()
	for _, m := range numbered("b", 5) {
		pub.put("", q, lasting(m))
	}
	b.gets("b1", "b2")
	c.silent("the first to wait has taken over")
	d.silent("the first to wait has taken over")
	// The end of its channel: the next one, with what that one had unanswered first.
	e.must(b.l.Close(e.ctx), "close")
	// Where the store keeps no order, what that one had is among the others.
	first := func(s *stream, want ...string) []channel.Delivery {
		e.Helper()
		if e.has(Order) {
			back := s.gets(want...)
			e.redelivered(true, back...)
			return back
		}
		return s.take(len(want))
	}
	back := first(c, "b1", "b2")
	e.ack(back[0])
	all := append([]channel.Delivery{back[0]}, c.take(1)...)
	e.with(Order, "one after the other", func() { e.same("the next", bodies(all), []string{"b1", "b3"}) })
	d.silent("another consumer is the active one")
	c.l.alive("an ack")
	// The end of its process. In a rig of one process that ends the other consumer too.
	e.crash(1)
	if d.l.IsClosed() {
		d = e.open(0).window(2, q)
	}
	back = first(d, "b2", "b3")
	e.ack(back...)
	rest := d.take(2)
	e.ack(rest...)
	e.same("all of them, by one after the other", bodies(slices.Concat(all[:1], back, rest)), numbered("b", 5))
	d.l.alive("acks")
	// A newcomer waits.
	n := e.open(1).window(2, q)
	pub = e.confirming(0)
	pub.post("", q, "last")
	e.ack(d.gets("last")...)
	n.silent("another consumer is the active one")
}

func qu19(e *Env) {
	for _, bad := range []table{
		{"x-message-ttl": int32(-1)}, {"x-message-ttl": "60000"}, {"x-message-ttl": true}, {"x-message-ttl": int64(315360000001)},
		{"x-expires": int32(0)}, {"x-expires": int32(-1)}, {"x-expires": "60000"}, {"x-expires": int64(315360000001)},
		{"x-max-length": int32(-1)}, {"x-max-length": "5"}, {"x-max-length": false},
		{"x-max-length-bytes": int32(-1)}, {"x-max-length-bytes": "5"},
		{"x-max-priority": int32(256)}, {"x-max-priority": int32(-1)}, {"x-max-priority": "5"},
		{"x-overflow": "drop-tail"}, {"x-overflow": int32(1)},
		{"x-dead-letter-routing-key": "k"}, {"x-dead-letter-exchange": int32(1)}, {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": int32(1)},
		{"x-single-active-consumer": "yes"}, {"x-single-active-consumer": int32(1)},
	} {
		l := e.open(0)
		name := e.name("q")
		_, err := l.QueueDeclare(e.ctx, name, channel.QueueOptions{Args: bad})
		if err == nil {
			l.delete(name)
			e.Errorf("a queue with %v was declared, want 406", bad)
			continue
		}
		l.refuses(err, channel.PreconditionFailed)
		e.check(!e.exists(1, name), "refused with %v, the queue was created", bad)
	}
	// Unknown ones are accepted, of every type.
	l := e.open(0)
	for _, good := range []table{
		{"x-unknown": int32(-1)}, {"x-unknown": fullTable(70000)}, {"unknown": "too"}, {"x-message-ttl": int64(315360000000)},
		{"x-expires": int64(315360000000)}, {"x-max-length": int32(0)}, {"x-max-priority": uint8(255)}, {"x-message-ttl": int8(100)},
	} {
		if good["x-max-priority"] != nil && !e.has(Priority) {
			continue // refused with 540, as EX-24 checks
		}
		if good["x-max-length"] != nil && !e.has(Lengths) {
			continue
		}
		q := l.args(good)
		e.check(e.exists(1, q), "with %v no queue was made", good)
	}
}

// oddNames are names that some store or other could trip over; newline and NUL stand for themselves.
func (e *Env) oddNames() []string {
	u := e.name("u") // unique part
	names := []string{
		u + "a/b c*é.fifo}", u + " leading and trailing ", u + "%41%2f", u + "{tag}:x", u + "'; DROP TABLE x; --\"", u + "\\..\\../.",
		u + "#*.$>", u + "日本語", u + "🐇", u + "é", u + "e\u0301", strings.ToUpper(u) + "case", u + "CASE", u + "case",
		u + strings.Repeat("n", 255-len(u)), u + strings.Repeat("n", 254-len(u)), u + strings.Repeat("é", (255-len(u))/2), u + "\x00nul", u + "\ttab", u + "!delayed",
	}
	return names
}

func qu20(e *Env) {
	pub, sub := e.pair()
	names := append(e.oddNames(), "!"+e.name("b"), "."+e.name("c"))
	if !e.native() {
		// RabbitMQ takes line ends out of names.
		names = append(names, e.name("n")+"new\nline", e.name("n")+"\r\nx", "\n"+e.name("n"))
	}
	x := pub.exchange(channel.Direct)
	for _, n := range names {
		pub.declare(n, channel.QueueOptions{})
		pub.bind(n, n, x)
	}
	// No two share anything.
	for i, n := range names {
		pub.post("", n, fmt.Sprint("default", i))
		pub.post(x, n, fmt.Sprint("bound", i))
	}
	for i, n := range names {
		ds := sub.holds(n, fmt.Sprint("default", i), fmt.Sprint("bound", i))
		e.check(ds[0].RoutingKey == n, "the routing key %q came back as %q", n, ds[0].RoutingKey)
	}
	for _, n := range names[:3] {
		s := sub.consume(n, channel.ConsumeOptions{})
		pub.post("", n, "consumed")
		e.ack(s.gets("consumed")...)
		s.cancel()
	}
	for _, n := range names {
		pub.delete(n)
		e.check(!e.exists(1, n), "%q exists after its delete", n)
	}
	// Longer ones are refused here, and the channel is unharmed.
	for _, long := range []string{strings.Repeat("n", 256), strings.Repeat("é", 128), "bad \xff"} {
		_, err := pub.QueueDeclare(e.ctx, long, channel.QueueOptions{})
		pub.harmless(err)
		_, err = pub.QueueDeclarePassive(e.ctx, long)
		pub.harmless(err)
		pub.harmless(pub.QueueBind(e.ctx, long, "k", x, nil))
		_, err = pub.Consume(e.ctx, long, channel.ConsumeOptions{})
		pub.harmless(err)
	}
}

func qu25(e *Env) {
	pub := e.confirming(0)
	for _, again := range []bool{false, true} {
		q := pub.queue(channel.QueueOptions{Durable: true})
		for _, b := range numbered("old", 6) {
			pub.put("", q, lasting(b))
		}
		l := e.openOn(e.connect(1, ConnectOptions{}))
		ds := l.window(4, q).gets("old1", "old2", "old3", "old4")
		pub.delete(q)
		if again {
			pub.declare(q, channel.QueueOptions{Durable: true})
			pub.empty(q, "it is a new one")
			pub.put("", q, lasting("new"))
		}
		// Each way to answer is fine and does nothing; an answered tag is unknown as ever.
		e.ack(ds[0])
		e.must(ds[1].Nack(false, true), "nack")
		e.must(ds[2].Reject(false), "reject")
		l.alive("answers to messages of a deleted queue")
		if again {
			e.pause(e.unit(1))
			pub.holds(q, "new")
			e.must(l.Close(e.ctx), "close")
			e.pause(e.unit(1))
			pub.empty(q, "unanswered messages of the old one do not come back")
			continue
		}
		e.must(ds[1].Ack(false), "ack")
		l.dies(channel.PreconditionFailed, "unknown delivery tag 2")
		pub.declare(q, channel.QueueOptions{Durable: true})
		pub.empty(q, "it is a new one")
	}
	// It stays empty when the leases of a killed holder end.
	q := pub.queue(channel.QueueOptions{Durable: true})
	pub.put("", q, lasting("old"), lasting("old, too"))
	e.open(1).window(1, q).next()
	pub.delete(q)
	pub.declare(q, channel.QueueOptions{Durable: true})
	e.crash(1)
	e.pause(2*e.lease() + e.unit(1))
	e.open(0).empty(q, "the lease of an old message ended")
	pub = e.confirming(0)
	pub.put("", q, lasting("new"))
	e.open(1).holds(q, "new")
}
