package conformance

import (
	"github.com/dashi-mq/dashi/channel"
)

func ex17(e *Env) {
	pub, sub := e.pair()
	// Several hops, of every type; each queue once, however many ways lead to it.
	a, b, c, d := pub.exchange(channel.Topic), pub.exchange(channel.Direct), pub.exchange(channel.Fanout), pub.exchange(channel.Headers)
	pub.join(b, "k.#", a)
	pub.join(c, "k.1", b)
	pub.join(d, "", c)
	pub.join(c, "*.1", a) // a shorter way
	q := sub.bound(d, "", table{"h": "v"})
	sub.bind(q, "", c)
	sub.bind(q, "k.1", b)
	sub.bind(q, "#", a)
	m := channel.Publishing{Headers: table{"h": "v"}, Body: []byte("once")}
	pub.put(a, "k.1", m)
	got := e.first(sub.holds(q, "once"))
	e.check(got.Exchange == a && got.RoutingKey == "k.1", "came from %q by %q, want the exchange it was published to", got.Exchange, got.RoutingKey)
	// Each hop looks for itself.
	only := sub.bound(d, "", table{"h": "v", "x-match": "all"})
	pub.put(a, "k.2", m)
	sub.empty(only, "the direct exchange on its way knows k.1 only")
	sub.holds(q, "once") // by the binding of the first exchange
	// Cycles and self-bindings end.
	pub.join(a, "#", d)
	pub.join(a, "#", a)
	pub.join(b, "k.1", b)
	pub.put(a, "k.1", m)
	sub.holds(q, "once")
	sub.holds(only, "once")
	// An unknown side.
	unknown := e.name("unknown")
	for _, p := range [][2]string{{unknown, a}, {a, unknown}, {unknown, e.name("also-unknown")}} {
		l := e.open(1)
		l.refuses(l.ExchangeBind(e.ctx, p[0], "k", p[1], nil), channel.NotFound)
	}
	// Unbinding anything unknown is fine and changes nothing.
	for _, u := range [][3]string{{unknown, "k", a}, {a, "k", unknown}, {b, "other", a}, {d, "k.#", a}} {
		e.must(sub.ExchangeUnbind(e.ctx, u[0], u[1], u[2], nil), "unbind")
	}
	e.must(sub.ExchangeUnbind(e.ctx, b, "k.#", a, table{"x": true}), "unbind with other arguments")
	sub.alive("unbinding what is unknown")
	pub.put(a, "k.1", m)
	sub.holds(only, "once")
	sub.holds(q, "once")
	// The same binding twice is one, and once unbound nothing goes this way, from any process.
	e1, e2 := pub.exchange(channel.Fanout), pub.exchange(channel.Fanout)
	pub.join(e2, "k", e1)
	sub.join(e2, "k", e1)
	q2 := sub.bound(e2, "")
	pub.post(e1, "", "1")
	sub.holds(q2, "1")
	e.must(sub.ExchangeUnbind(e.ctx, e2, "k", e1, nil), "unbind")
	pub.unroutable(e1, "", "unbound")
	sub.empty(q2, "unbound")
	// After the bind returned nothing is missed, by any process.
	for range 5 {
		sub.join(e2, "", e1)
		pub.post(e1, "", "bound")
		sub.holds(q2, "bound")
		e.must(sub.ExchangeUnbind(e.ctx, e2, "", e1, nil), "unbind")
	}
}

func ex18(e *Env) {
	pub, sub := e.pair()
	with := func(kind, alternate string) string {
		return pub.exchange(kind, channel.ExchangeOptions{Args: table{"alternate-exchange": alternate}})
	}
	// Used where the exchange's own bindings select nothing.
	alt := pub.exchange(channel.Fanout)
	spare := sub.bound(alt, "")
	x := with(channel.Direct, alt)
	q := sub.bound(x, "k")
	pub.post(x, "k", "known")
	pub.post(x, "other", "other")
	sub.holds(q, "known")
	d := e.first(sub.holds(spare, "other"))
	e.check(d.Exchange == x && d.RoutingKey == "other", "came from %q by %q, want as published", d.Exchange, d.RoutingKey)
	// It changes with the bindings.
	sub.bind(q, "other", x)
	pub.post(x, "other", "other")
	sub.holds(q, "other")
	sub.empty(spare, "the exchange has a binding for it")
	sub.unbind(q, "other", x)
	// A selected exchange that then routes nowhere does not count as none.
	nowhere := pub.exchange(channel.Direct)
	pub.join(nowhere, "via", x)
	pub.unroutable(x, "via", "an exchange was selected, so the alternate is not used")
	sub.empty(spare, "an exchange was selected")
	// But that one applies its own.
	own := with(channel.Direct, alt)
	pub.join(own, "via2", x)
	pub.post(x, "via2", "by the alternate of the second")
	sub.holds(spare, "by the alternate of the second")
	// A chain of alternates, each with its own; mandatory looks at what reached a queue in the end.
	third := pub.exchange(channel.Topic)
	end := sub.bound(third, "a.*")
	second := with(channel.Direct, third)
	first := with(channel.Direct, second)
	m := text("by two alternates")
	m.Mandatory = true
	returns := pub.NotifyReturn(make(chan channel.Return, 4))
	pub.put(first, "a.b", m)
	sub.holds(end, "by two alternates")
	nothing(e, "a return of what an alternate routed", returns)
	pub.unroutable(first, "nowhere", "no alternate knows it")
	// Cycles end.
	one, two := e.name("one"), e.name("two")
	e.keepExchange(one)
	e.keepExchange(two)
	e.must(pub.ExchangeDeclare(e.ctx, one, channel.Direct, channel.ExchangeOptions{Args: table{"alternate-exchange": two}}), "declare")
	e.must(pub.ExchangeDeclare(e.ctx, two, channel.Direct, channel.ExchangeOptions{Args: table{"alternate-exchange": one}}), "declare")
	pub.unroutable(one, "k", "both alternates know nothing")
	q2 := sub.bound(two, "k")
	pub.post(one, "k", "in a cycle")
	sub.holds(q2, "in a cycle")
	self := e.name("self")
	e.keepExchange(self)
	e.must(pub.ExchangeDeclare(e.ctx, self, channel.Direct, channel.ExchangeOptions{Args: table{"alternate-exchange": self}}), "declare")
	pub.unroutable(self, "k", "its own alternate")
	// CC counts as the exchange's own bindings do.
	cc := text("by CC")
	cc.Headers = table{"CC": []any{"k"}}
	pub.put(x, "unknown", cc)
	sub.holds(q, "by CC")
	sub.empty(spare, "CC selected a queue")
}

func ex23(e *Env) {
	pub, sub := e.pair()
	missing := e.name("missing")
	for _, alternate := range []string{missing, ""} {
		x := pub.exchange(channel.Direct, channel.ExchangeOptions{Args: table{"alternate-exchange": alternate}})
		q := sub.bound(x, "k")
		pub.post(x, "k", "1")
		sub.holds(q, "1")
		if alternate == missing {
			pub.unroutable(x, "other", "its alternate does not exist")
			// Declared later it is used.
			e.keepExchange(missing)
			e.must(pub.ExchangeDeclare(e.ctx, missing, channel.Fanout, channel.ExchangeOptions{}), "declare")
			late := sub.bound(missing, "")
			pub.post(x, "other", "late")
			sub.holds(late, "late")
		}
	}
	for _, bad := range []any{int32(1), true, nil, []any{"x"}, table{}} {
		l := e.open(1)
		name := e.name("x")
		err := l.ExchangeDeclare(e.ctx, name, channel.Direct, channel.ExchangeOptions{Args: table{"alternate-exchange": bad}})
		l.refuses(err, channel.PreconditionFailed)
		e.check(!e.exchangeExists(0, name), "refused with %v, the exchange was created", bad)
	}
}
