package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

func qu15(e *Env) {
	qu15reasons(e)
	qu15keys(e)
	qu15cycles(e)
	qu15clients(e)
}

// qu15reasons: each way to die, with no consumer of the dead-letter queue anywhere.
func qu15reasons(e *Env) {
	pub, sub := e.pair()
	x, dlx := pub.exchange(channel.Topic), pub.exchange(channel.Fanout)
	dead := pub.bound(dlx, "")
	dying := func(extra table) string {
		t := table{"x-dead-letter-exchange": dlx}
		for k, v := range extra {
			t[k] = v
		}
		q := pub.args(t)
		pub.bind(q, "key.#", x)
		return q
	}
	check := func(q, body, reason string, or ...string) channel.Delivery {
		e.Helper()
		pub.ready(dead, 1, reason)
		d := e.first(sub.takes(dead, 1))
		if or = append(or, body); !slices.Contains(or, string(d.Body)) {
			e.Fatalf("the dead letter is %q, want %s", d.Body, show(or))
		}
		e.check(len(e.deaths(d)) == 1, "%d entries of x-death, want 1", len(e.deaths(d)))
		e.died(d, 0, reason, q, x, 1, "key.a")
		e.check(d.Exchange == dlx && d.RoutingKey == "key.a", "delivered from %q by %q, want %q by key.a", d.Exchange, d.RoutingKey, dlx)
		e.check(!d.Redelivered, "a dead letter is redelivered")
		for k, want := range inOrder(map[string]string{"x-first-death-reason": reason, "x-first-death-queue": q, "x-first-death-exchange": x}) {
			e.check(d.Headers[k] == want, "%s is %#v, want %q", k, d.Headers[k], want)
		}
		sub.unbind(q, "key.#", x)
		return d
	}
	for what, refuse := range inOrder(map[string]func(d *channel.Delivery) error{
		"reject": func(d *channel.Delivery) error { return d.Reject(false) },
		"nack":   func(d *channel.Delivery) error { return d.Nack(false, false) },
	}) {
		q := dying(nil)
		m := e.fullMessage("")
		m.Body = []byte(what)
		m.Expiration = ""
		pub.put(x, "key.a", m)
		d := sub.get(q)
		e.must(refuse(&d), "%s", what)
		sub.flush()
		d = check(q, what, "rejected")
		// The other properties stay, and the headers.
		for k := range m.Headers {
			e.sameValue("header "+k, d.Headers[k], m.Headers[k])
		}
		_, has := e.death(d, 0)["original-expiration"]
		e.check(!has, "original-expiration is set, though there was none")
		d.Headers, m.Headers = nil, nil
		e.sameProperties("a dead letter", d, m)
	}
	// Expired by its own time: that is kept aside and removed, or it would expire again.
	q := dying(nil)
	pub.put(x, "key.a", expiring("own time", e.unit(1)))
	d := check(q, "own time", "expired")
	e.check(d.Expiration == "", "the expiration stays: %q", d.Expiration)
	e.check(e.death(d, 0)["original-expiration"] == fmt.Sprint(ms(e.unit(1))), "original-expiration is %#v", e.death(d, 0)["original-expiration"])
	// By the queue's.
	q = dying(table{"x-message-ttl": ms(e.unit(1))})
	pub.post(x, "key.a", "queue's time")
	d = check(q, "queue's time", "expired")
	_, has := e.death(d, 0)["original-expiration"]
	e.check(!has, "original-expiration is set, though there was none")
	// Refused with an expiration that had not come yet.
	q = dying(nil)
	pub.put(x, "key.a", expiring("not yet", e.unit(10000)))
	d = sub.get(q)
	e.must(d.Reject(false), "reject")
	d = check(q, "not yet", "rejected")
	e.check(d.Expiration == "" && e.death(d, 0)["original-expiration"] == fmt.Sprint(ms(e.unit(10000))), "expiration %q, death %v", d.Expiration, e.death(d, 0))
	// Over the limit.
	e.with(Lengths, "by max-length", func() {
		q = dying(table{"x-max-length": int32(1)})
		pub.post(x, "key.a", "1", "2")
		var other []string
		if !e.has(Order) {
			other = []string{"2"}
		}
		check(q, "1", "maxlen", other...)
	})
	e.with(Attempts, "by the delivery limit", func() {
		q = e.name("q")
		pub.declare(q, channel.QueueOptions{Durable: true, Args: e.quorum(table{"x-dead-letter-exchange": dlx, "x-delivery-limit": int32(1)})})
		pub.bind(q, "key.#", x)
		pub.post(x, "key.a", "limit")
		s := sub.window(1, q)
		for range 2 {
			d := e.first(s.gets("limit"))
			e.must(d.Nack(false, true), "nack")
		}
		s.silent("the limit is reached")
		s.cancel()
		check(q, "limit", "delivery_limit")
	})
}

// qu15keys: where a dead letter goes.
func qu15keys(e *Env) {
	pub, sub := e.pair()
	dlx := pub.exchange(channel.Direct)
	a, b, c := pub.bound(dlx, "a"), pub.bound(dlx, "b"), pub.bound(dlx, "c")
	kill := func(q string, m channel.Publishing, key string) {
		e.Helper()
		x := pub.exchange(channel.Fanout)
		pub.bind(q, "", x)
		pub.put(x, key, m)
		d := sub.get(q)
		e.must(d.Reject(false), "reject")
		sub.flush()
	}
	m := channel.Publishing{Body: []byte("m"), Headers: table{"CC": []any{"b"}, "BCC": []any{"c"}}}
	// Without a key of its own: the old ones. CC stays and is routed by; BCC is routed by too, though its header has
	// gone, as on RabbitMQ.
	kill(pub.args(table{"x-dead-letter-exchange": dlx}), m, "a")
	pub.ready(a, 1, "by the old key")
	pub.ready(b, 1, "by CC")
	pub.ready(c, 1, "by BCC")
	for _, q := range []string{a, b, c} {
		d := e.first(sub.holds(q, "m"))
		e.check(d.RoutingKey == "a", "routing key %q, want the old one", d.RoutingKey)
		e.sameValue("CC", d.Headers["CC"], []any{"b"})
		_, has := d.Headers["BCC"]
		e.check(!has, "the header BCC is there")
		e.sameValue("routing-keys", e.death(d, 0)["routing-keys"], []any{"a", "b"}) // key and CC, not BCC
	}
	// With one: that alone, and CC is removed.
	kill(pub.args(table{"x-dead-letter-exchange": dlx, "x-dead-letter-routing-key": "c"}), m, "a")
	pub.ready(c, 1, "by the queue's key")
	d := e.first(sub.holds(c, "m"))
	e.check(d.RoutingKey == "c", "routing key %q, want the queue's", d.RoutingKey)
	_, has := d.Headers["CC"]
	e.check(!has, "CC stays though the key was replaced")
	e.sameValue("routing-keys", e.death(d, 0)["routing-keys"], []any{"a", "b"})
	sub.empty(a, "the old key is not used")
	sub.empty(b, "CC is not used")
	// A dead-letter exchange that is missing, or routes nowhere, drops; the channel lives.
	kill(pub.args(table{"x-dead-letter-exchange": e.name("missing")}), text("dropped"), "a")
	kill(pub.args(table{"x-dead-letter-exchange": dlx}), text("dropped"), "nowhere")
	sub.alive("dead letters that go nowhere")
	// It may be declared later.
	late := e.name("late")
	q := pub.args(table{"x-dead-letter-exchange": late})
	e.keepExchange(late)
	e.must(pub.ExchangeDeclare(e.ctx, late, channel.Fanout, channel.ExchangeOptions{}), "exchange.declare")
	pub.bind(a, "", late)
	kill(q, text("late"), "a")
	pub.ready(a, 1, "declared after the queue")
	sub.holds(a, "late")
	// Without the argument it is dropped.
	kill(pub.queue(), text("dropped"), "a")
	sub.empty(a, "no dead-letter exchange")
}

// qu15cycles: the history of a message that dies again and again.
func qu15cycles(e *Env) {
	pub, sub := e.pair()
	one, two := e.name("one"), e.name("two")
	pub.declare(one, channel.QueueOptions{Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": two}})
	pub.declare(two, channel.QueueOptions{Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": one}})
	pub.post("", one, "m")
	kill := func(q string) channel.Delivery {
		e.Helper()
		pub.ready(q, 1, "it went round")
		d := sub.get(q)
		e.must(d.Reject(false), "reject")
		sub.flush()
		return d
	}
	kill(one)
	kill(two)
	d := kill(one)
	// Newest first, one for each queue and reason.
	e.check(len(e.deaths(d)) == 2, "%d entries, want 2", len(e.deaths(d)))
	e.died(d, 0, "rejected", two, "", 1, two)
	e.died(d, 1, "rejected", one, "", 1, one)
	// A repeat counts and moves to the front.
	d = kill(two)
	e.check(len(e.deaths(d)) == 2, "%d entries, want 2", len(e.deaths(d)))
	e.died(d, 0, "rejected", one, "", 2, one)
	e.died(d, 1, "rejected", two, "", 1, two)
	// Another reason is another entry; the first death stays the first.
	pub.ready(one, 1, "it went round")
	sub.delete(two)
	pub.declare(two, channel.QueueOptions{Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": one, "x-message-ttl": ms(e.unit(1))}})
	kill(one)
	pub.ready(one, 1, "it expired")
	d = sub.mustGet(one, true)
	e.check(len(e.deaths(d)) == 3, "%d entries, want 3", len(e.deaths(d)))
	e.died(d, 0, "expired", two, "", 1, two)
	// The order of the older ones is not looked at: RabbitMQ 3.10 turns it round at each death.
	i, j := 1, 2
	if e.death(d, 1)["queue"] != one {
		i, j = 2, 1
	}
	e.died(d, i, "rejected", one, "", 3, one)
	e.died(d, j, "rejected", two, "", 2, two)
	for k, want := range inOrder(map[string]string{"x-first-death-reason": "rejected", "x-first-death-queue": one, "x-first-death-exchange": ""}) {
		e.check(d.Headers[k] == want, "%s is %#v, want %q", k, d.Headers[k], want)
	}
	// A cycle without a rejection would not end: the message is dropped when it is about to enter a queue it died in.
	q := e.name("q")
	pub.declare(q, channel.QueueOptions{Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": q, "x-message-ttl": ms(e.unit(1))}})
	pub.post("", q, "m")
	e.pause(e.unit(2))
	pub.ready(q, 0, "dropped: it would go round for ever")
	sub.empty(q, "dropped: it would go round for ever")
	// With one it may.
	pub.post("", q, "m")
	d = sub.get(q)
	e.must(d.Reject(false), "reject")
	sub.flush()
	d = sub.get(q)
	e.died(d, 0, "rejected", q, "", 1, q)
	e.ack(d)
}

// qu15clients: what a client had written into the headers itself.
func qu15clients(e *Env) {
	pub, sub := e.pair()
	q, dead := pub.deadLettered(nil)
	die := func(h table) channel.Delivery {
		e.Helper()
		pub.put("", q, channel.Publishing{Body: []byte("m"), Headers: h})
		d := sub.get(q)
		e.must(d.Reject(false), "reject")
		sub.flush()
		pub.ready(dead, 1, "rejected")
		return e.first(sub.holds(dead, "m"))
	}
	// Anything that is no array is replaced.
	for _, own := range []any{"text", int32(5), table{"queue": "x"}} {
		d := die(table{"x-death": own})
		e.check(len(e.deaths(d)) == 1, "x-death %v was kept", own)
		e.died(d, 0, "rejected", q, "", 1, q)
	}
	// An array is extended.
	own := table{
		"queue": "elsewhere", "reason": "expired", "count": int64(7), "exchange": "x", "routing-keys": []any{"k"},
		"time": time.Unix(1000000000, 0), "more": "of mine",
	}
	d := die(table{"x-death": []any{own}, "mine": true})
	e.check(len(e.deaths(d)) == 2 && d.Headers["mine"] == true, "headers are %v", d.Headers)
	e.died(d, 0, "rejected", q, "", 1, q)
	e.sameTable("the client's own entry", e.death(d, 1), own)
	// The first death is set only where there was no x-death.
	_, has := d.Headers["x-first-death-queue"]
	e.check(!has, "x-first-death-queue is set, though there was an x-death")
	// One for this queue and reason counts on.
	d = die(table{"x-death": []any{own, table{"queue": q, "reason": "rejected", "count": int64(41), "exchange": "", "routing-keys": []any{q}, "time": time.Unix(1000000000, 0)}}})
	e.check(len(e.deaths(d)) == 2, "%d entries, want 2", len(e.deaths(d)))
	e.check(e.death(d, 0)["queue"] == q && e.death(d, 0)["count"] == int64(42), "the first entry is %v, want %q 42 times", e.death(d, 0), q)
	e.check(e.death(d, 1)["queue"] == "elsewhere", "the second entry is %v", e.death(d, 1))
}

func qu18(e *Env) {
	pub := e.confirming(0)
	dead := pub.queue()
	for _, c := range []struct {
		what   string
		refuse func(s *stream, d channel.Delivery) (ended bool)
	}{
		{"nack", func(s *stream, d channel.Delivery) bool { e.must(d.Nack(false, true), "nack"); return false }},
		{"reject", func(s *stream, d channel.Delivery) bool { e.must(d.Reject(true), "reject"); return false }},
		{"the end of the channel", func(s *stream, d channel.Delivery) bool { e.must(s.l.Close(e.ctx), "close"); return true }},
		{"the end of the connection", func(s *stream, d channel.Delivery) bool {
			e.must(s.l.Connection().Close(e.ctx), "close")
			return true
		}},
	} {
		q := e.name("q")
		pub.declare(q, channel.QueueOptions{Durable: true, Args: e.quorum(table{
			"x-delivery-limit": int32(2), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead,
		})})
		pub.put("", q, lasting(c.what))
		var s *stream
		for i := range 3 { // the limit and one more
			if s == nil {
				s = e.openOn(e.connect(1, ConnectOptions{})).window(1, q)
			}
			d := e.first(s.gets(c.what))
			n, has := d.Headers["x-delivery-count"]
			if i == 0 {
				e.check(!has, "the first delivery has x-delivery-count %v", n)
			} else {
				e.check(n == int64(i), "delivery %d: x-delivery-count is %#v, want int64(%d)", i+1, n, i)
			}
			e.redelivered(i > 0, d)
			if c.refuse(s, d) {
				s = nil
			}
		}
		if s != nil {
			s.silent("the limit is reached: " + c.what)
		}
		pub.ready(dead, 1, "the limit is reached: "+c.what)
		d := e.first(pub.holds(dead, c.what))
		e.died(d, 0, "delivery_limit", q, "", 1, q)
		pub.ready(q, 0, "dead-lettered")
	}
	// Without a dead-letter exchange it is dropped.
	q := e.name("q")
	pub.declare(q, channel.QueueOptions{Durable: true, Args: e.quorum(table{"x-delivery-limit": int32(1)})})
	pub.put("", q, lasting("m"))
	s := e.open(1).window(1, q)
	for range 2 {
		d := e.first(s.gets("m"))
		e.must(d.Nack(false, true), "nack")
	}
	s.silent("dropped at its limit")
	pub.ready(q, 0, "dropped at its limit")

	e.plus("a message never handed over does not count", func() { qo05(e) })
}

func qu24(e *Env) {
	pub, sub := e.pair()
	q, dead := pub.deadLettered(nil)
	pub.post("", q, "1", "2", "3")
	sub.get(q)
	_, err := pub.QueuePurge(e.ctx, q)
	e.must(err, "purge")
	pub.post("", q, "4")
	pub.delete(q)
	auto := e.name("auto")
	pub.declare(auto, channel.QueueOptions{AutoDelete: true, Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}})
	pub.post("", auto, "1", "2", "3")
	s := e.open(1).window(1, auto)
	s.next()
	s.cancel()
	e.gone(0, auto, "its last consumer was cancelled")
	returns := pub.NotifyReturn(make(chan channel.Return, 64))
	brief := pub.args(table{"x-expires": ms(e.unit(1)), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead})
	pub.post("", brief, "1", "2")
	e.pause(e.unit(2))
	e.eventually("the queue expires", func() (bool, string) { return !e.routes(pub, returns, brief), "it is there" })
	e.pause(e.unit(1))
	sub.empty(dead, "none of these ways is dead-lettering")
}
