package conformance

import (
	"fmt"
	"math"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

func ex19(e *Env) {
	pub, sub := e.pair()
	n := 10_000
	if raceEnabled {
		n = 5000
	}
	x := pub.exchange(channel.ConsistentHash)
	weights := []int{10, 20, 30, 40}
	var queues []string
	for _, w := range weights {
		queues = append(queues, sub.bound(x, fmt.Sprint(w)))
	}
	got := e.spread(pub, sub, n, x, queues, func(i int) (string, channel.Publishing) { return fmt.Sprint("key", i), text("x") })
	for i, w := range weights {
		share := float64(w) / 100
		want := float64(n) * share
		// The keys are as good as drawn at random: ten per cent, or what chance alone may do.
		most := max(want/10, 5*math.Sqrt(want*(1-share)))
		e.check(math.Abs(float64(got[i])-want) <= most, "weight %d: %d of %d messages, want %.0f within 10 %%: %v", w, got[i], n, want, got)
	}
	// The same key always the same queue, whatever the message, by every process.
	where := map[string]int{}
	other := e.confirming(1)
	for round := range 4 {
		for k := range 20 {
			key := fmt.Sprint("same", k)
			l := pub
			if round%2 == 1 {
				l = other
			}
			l.post(x, key, fmt.Sprint("round", round))
			for i, q := range queues {
				if d, ok := sub.tryGet(q, true); ok {
					if was, known := where[key]; known && was != i {
						e.Fatalf("key %q went to queue %d, then to queue %d (%q)", key, was, i, d.Body)
					}
					where[key] = i
				}
			}
			if len(where) != k+1 && round == 0 {
				e.Fatalf("key %q went nowhere", key)
			}
		}
	}
	// The weight is a whole number from 1 on.
	for _, bad := range []string{"", "0", "-1", "1.5", "x", "1x"} {
		l := e.open(1)
		l.refuses(l.QueueBind(e.ctx, queues[0], bad, x, nil), channel.PreconditionFailed)
	}

	// By a header, or a property, instead of the key.
	byHeader := pub.exchange(channel.ConsistentHash, channel.ExchangeOptions{Args: table{"hash-header": "h"}})
	byProperty := pub.exchange(channel.ConsistentHash, channel.ExchangeOptions{Args: table{"hash-property": "message_id"}})
	for _, c := range []struct {
		exchange string
		value    func(v string) channel.Publishing
	}{
		{byHeader, func(v string) channel.Publishing { return channel.Publishing{Headers: table{"h": v}} }},
		{byProperty, func(v string) channel.Publishing { return channel.Publishing{MessageId: v} }},
	} {
		qs := []string{sub.bound(c.exchange, "1"), sub.bound(c.exchange, "1")}
		one := e.spread(pub, sub, 50, c.exchange, qs, func(i int) (string, channel.Publishing) { return fmt.Sprint("key", i), c.value("same") })
		e.check(one[0] == 0 || one[1] == 0, "one value went to two queues: %v", one)
		many := e.spread(pub, sub, 400, c.exchange, qs, func(i int) (string, channel.Publishing) { return "key", c.value(fmt.Sprint("v", i)) })
		e.check(many[0] > 100 && many[1] > 100, "400 values went to two queues as %v", many)
		// Without it a message still goes to one queue.
		e.spread(pub, sub, 20, c.exchange, qs, func(i int) (string, channel.Publishing) { return fmt.Sprint("key", i), text("none") })
		if !e.native() && c.exchange == byHeader { // 3.10 crashes there
			for _, v := range []any{int32(5), true, nil, []any{"x"}, table{"x": "y"}} {
				same := e.spread(pub, sub, 10, c.exchange, qs, func(i int) (string, channel.Publishing) {
					return fmt.Sprint("key", i), channel.Publishing{Headers: table{"h": v}}
				})
				e.check(same[0] == 0 || same[1] == 0, "one value, %v, went to two queues: %v", v, same)
			}
		}
	}
	for _, p := range []string{"correlation_id", "timestamp"} {
		x := pub.exchange(channel.ConsistentHash, channel.ExchangeOptions{Args: table{"hash-property": p}})
		q := sub.bound(x, "1")
		pub.put(x, "k", channel.Publishing{CorrelationId: "c", Timestamp: time.Unix(1000, 0), Body: []byte("x")})
		sub.holds(q, "x")
	}
	for _, bad := range []table{{"hash-header": "h", "hash-property": "message_id"}, {"hash-property": "no_such_property"}} {
		l := e.open(1)
		l.refuses(l.ExchangeDeclare(e.ctx, e.name("x"), channel.ConsistentHash, channel.ExchangeOptions{Args: bad}), channel.PreconditionFailed)
	}
}

func ex20(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Delayed, channel.ExchangeOptions{Durable: true, Args: table{"x-delayed-type": channel.Topic}})
	q := pub.queue(channel.QueueOptions{Durable: true})
	pub.bind(q, "k.#", x)
	delayed := func(body string, d any) channel.Publishing {
		return channel.Publishing{Headers: table{"x-delay": d, "other": "x"}, Body: []byte(body), DeliveryMode: channel.Persistent}
	}
	began := time.Now()
	pub.put(x, "k.1", delayed("late", ms(e.unit(6))), delayed("soon", int32(ms(e.unit(3)))), delayed("at once", int32(0)), delayed("negative", int32(-5)), text("none"))
	sub.ready(q, 3, "without a delay at once")
	sub.holds(q, "at once", "negative", "none")
	s := sub.consume(q, channel.ConsumeOptions{})
	d := e.first(s.gets("soon"))
	took := time.Since(began)
	e.check(took >= e.unit(3), "came after %v, before its delay of %v", took, e.unit(3))
	e.took("the message came after its delay", took-e.unit(3), e.unit(2))
	e.check(d.Exchange == x && d.RoutingKey == "k.1" && d.Headers["other"] == "x", "came from %q by %q with %v", d.Exchange, d.RoutingKey, d.Headers)
	e.redelivered(false, d)
	late := e.first(s.gets("late"))
	e.check(time.Since(began) >= e.unit(6), "came before its delay")
	e.ack(d, late)
	// Routed with the bindings of then.
	pub.put(x, "other", delayed("bound later", ms(e.unit(3))))
	pub.put(x, "k.1", delayed("unbound later", ms(e.unit(3))))
	sub.bind(q, "other", x)
	sub.unbind(q, "k.#", x)
	e.ack(s.gets("bound later")...)
	s.silent("the other one was unbound meanwhile")
	// A crash of every client changes nothing.
	sub.bind(q, "k.#", x)
	pub.put(x, "k.1", delayed("kept", ms(e.unit(4))))
	e.crash(0)
	e.crash(1)
	sub = e.open(1)
	s = sub.consume(q, channel.ConsumeOptions{})
	e.ack(s.gets("kept")...)
	e.with(Restarts, "a restart of the store", func() {
		e.confirming(0).put(x, "k.1", delayed("kept", ms(e.unit(4))))
		e.crash(0)
		e.crash(1)
		e.must(e.rig.Restart(e.ctx), "restart")
		e.ack(e.open(1).consume(q, channel.ConsumeOptions{}).gets("kept")...)
	})
	// The type it routes by is needed, and known.
	for _, bad := range []table{nil, {"x-delayed-type": int32(1)}, {"x-delayed-type": "no-such-type"}, {"x-delayed-type": channel.Delayed}} {
		l := e.open(1)
		err := l.ExchangeDeclare(e.ctx, e.name("x"), channel.Delayed, channel.ExchangeOptions{Args: bad})
		l.refuses(err, channel.PreconditionFailed, "x-delayed-type")
	}
}

func ex21(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Random)
	var queues []string
	for i := range 4 {
		queues = append(queues, sub.bound(x, fmt.Sprint("ignored", i)))
	}
	got := e.spread(pub, sub, 2000, x, queues, func(i int) (string, channel.Publishing) { return "same", text("x") })
	for _, n := range got {
		// 500 each, with a deviation of 19: eight of them.
		e.check(n > 350 && n < 650, "2000 messages went to 4 queues as %v, want evenly", got)
	}
	e.plus("x-local-random: one with a consumer in this process", func() {
		x := pub.exchange(channel.LocalRandom)
		far, near, near2, none := sub.bound(x, ""), sub.bound(x, ""), sub.bound(x, ""), sub.bound(x, "")
		l := e.open(0)
		e.open(1).consume(far, channel.ConsumeOptions{AutoAck: true, Credit: 1000})
		a, b := l.consume(near, channel.ConsumeOptions{Credit: 1000}), l.consume(near2, channel.ConsumeOptions{Credit: 1000})
		pub.consumers(far, 1, "started")
		pub.consumers(near2, 1, "started")
		const n = 200
		pub.post(x, "k", numbered("", n)...)
		if e.rig.Name() == "one" {
			return // there both processes are one
		}
		got := e.share(n, a, b)
		e.check(len(got[0]) > n/4 && len(got[1]) > n/4, "%d messages went to two local consumers as %d and %d", n, len(got[0]), len(got[1]))
		sub.empty(none, "it has no consumer")
	})
}

func ex22(e *Env) {
	pub, sub := e.pair()
	kinds := []string{channel.ConsistentHash, channel.Random}
	if !e.native() {
		kinds = append(kinds, channel.LocalRandom)
	}
	for _, kind := range kinds {
		x := pub.exchange(kind)
		pub.unroutable(x, "k", kind+" without a binding")
		pub.post(x, "k", "dropped")
		if kind == channel.LocalRandom {
			continue
		}
		q := sub.bound(x, "1")
		pub.post(x, "k", "bound")
		sub.holds(q, "bound")
		sub.unbind(q, "1", x)
		pub.unroutable(x, "k", kind+" without a binding any more")
	}
}

func ex24(e *Env) {
	// Whether a store can honour an argument is its own affair: it either does, or says no with a reason. What it
	// accepted is checked by the rows about it.
	l := e.open(0)
	refused := func(what string, err error) {
		if err == nil {
			e.Logf("%s: accepted", what)
			return
		}
		ce := e.fails(err, channel.NotImplemented)
		e.Logf("%s: refused: %s", what, ce.Text)
		e.check(len(ce.Text) > 10, "%s is refused without a reason: %v", what, ce)
		l.dies(channel.NotImplemented)
		l = e.open(0)
	}
	for _, args := range []table{
		{"x-max-priority": int32(10)}, {"x-message-ttl": int32(60000)}, {"x-expires": int32(60000)}, {"x-max-length": int32(10)},
		{"x-max-length-bytes": int32(10)}, {"x-overflow": "reject-publish"}, {"x-overflow": "reject-publish-dlx"}, {"x-dead-letter-exchange": "x"},
		{"x-single-active-consumer": true}, {"x-delivery-limit": int32(3)}, {"x-queue-type": "stream"}, {"x-queue-type": "quorum"},
	} {
		name := e.name("q")
		_, err := l.QueueDeclare(e.ctx, name, channel.QueueOptions{Durable: true, Args: args})
		refused(fmt.Sprint("queue with ", args), err)
		e.check(e.exists(1, name) == (err == nil), "a queue with %v: refused is %v, exists is %v", args, err != nil, err == nil)
	}
	for kind, args := range inOrder(map[string]table{
		channel.ConsistentHash: nil, channel.Random: nil, channel.LocalRandom: nil, channel.Delayed: {"x-delayed-type": "direct"},
		channel.Direct: {"alternate-exchange": "x"},
	}) {
		name := e.name("x")
		err := l.ExchangeDeclare(e.ctx, name, kind, channel.ExchangeOptions{Args: args})
		refused(fmt.Sprint(kind, " exchange with ", args), err)
		e.check(e.exchangeExists(1, name) == (err == nil), "a %s exchange: refused is %v", kind, err != nil)
	}
}
