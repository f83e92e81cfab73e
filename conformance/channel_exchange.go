package conformance

import (
	"fmt"

	"github.com/dashi-mq/dashi/channel"
)

// exchangeRows are the rows EX: exchanges. Routing is in channel_exchange_route.go, the headers exchange in
// channel_exchange_headers.go, paths over several exchanges in channel_exchange_path.go, further types in
// channel_exchange_types.go.
var exchangeRows = []Row{
	{ID: "EX-01", Run: ex01},
	{ID: "EX-02", Run: ex02},
	{ID: "EX-03", Run: ex03},
	{ID: "EX-04", Run: ex04},
	{ID: "EX-05", Run: ex05},
	{ID: "EX-06", Run: ex06},
	{ID: "EX-07", Run: ex07},
	{ID: "EX-08", Run: ex08},
	{ID: "EX-09", Run: ex09},
	{ID: "EX-10", Run: ex10},
	{ID: "EX-11", Run: ex11},
	{ID: "EX-12", Run: ex12},
	{ID: "EX-13", Run: ex13},
	{ID: "EX-14", Run: ex14},
	{ID: "EX-15", Run: ex15},
	{ID: "EX-16", Run: ex16},
	{ID: "EX-17", Run: ex17},
	{ID: "EX-18", Run: ex18},
	{ID: "EX-19", Needs: []Need{HashExchange}, Run: ex19},
	{ID: "EX-20", Needs: []Need{Plus}, Run: ex20},
	{ID: "EX-21", Needs: []Need{RandomExchange}, Run: ex21},
	{ID: "EX-22", Needs: []Need{HashExchange, RandomExchange}, Run: ex22},
	{ID: "EX-23", Run: ex23},
	{ID: "EX-24", Needs: []Need{Plus}, Run: ex24},
}

func ex01(e *Env) {
	pub, sub := e.pair()
	for range 5 {
		q := sub.queue()
		pub.post("", q, "1") // from its declaration on, by any process
		pub.holds(q, "1")
		pub.unroutable("", q+"x", "no queue has this name")
		pub.unroutable("", q+".#", "it is direct")
		sub.delete(q)
		pub.unroutable("", q, "the queue was deleted")
	}
	q := sub.declare("", channel.QueueOptions{Exclusive: true}).Name
	pub.post("", q, "to a generated name")
	sub.holds(q, "to a generated name")
	pub.unroutable("", "", "no queue is called \"\"")
}

func ex02(e *Env) {
	l := e.open(0)
	q, x := l.queue(), l.exchange(channel.Fanout)
	unknown := e.name("unknown")
	for what, call := range inOrder(map[string]func(l *line) error{
		"declare": func(l *line) error {
			return l.ExchangeDeclare(e.ctx, "", channel.Direct, channel.ExchangeOptions{Durable: true})
		},
		"passive declare":                func(l *line) error { return l.ExchangeDeclarePassive(e.ctx, "") },
		"delete":                         func(l *line) error { return l.ExchangeDelete(e.ctx, "", channel.DeleteOptions{}) },
		"delete if unused":               func(l *line) error { return l.ExchangeDelete(e.ctx, "", channel.DeleteOptions{IfUnused: true}) },
		"bind":                           func(l *line) error { return l.QueueBind(e.ctx, q, "k", "", nil) },
		"unbind":                         func(l *line) error { return l.QueueUnbind(e.ctx, q, q, "", nil) },
		"bind of an unknown queue":       func(l *line) error { return l.QueueBind(e.ctx, unknown, "k", "", nil) },
		"unbind of an unknown queue":     func(l *line) error { return l.QueueUnbind(e.ctx, unknown, "k", "", nil) },
		"bind as a source":               func(l *line) error { return l.ExchangeBind(e.ctx, x, "k", "", nil) },
		"bind as a destination":          func(l *line) error { return l.ExchangeBind(e.ctx, "", "k", x, nil) },
		"unbind as a source":             func(l *line) error { return l.ExchangeUnbind(e.ctx, x, "k", "", nil) },
		"unbind as a destination":        func(l *line) error { return l.ExchangeUnbind(e.ctx, "", "k", x, nil) },
		"bind of an unknown destination": func(l *line) error { return l.ExchangeBind(e.ctx, unknown, "k", "", nil) },
		"bind of an unknown source":      func(l *line) error { return l.ExchangeBind(e.ctx, "", "k", unknown, nil) },
	}) {
		e.doing("%s of the default exchange", what)
		l := e.open(1)
		l.refuses(call(l), channel.AccessRefused, "default exchange")
	}
	e.doing("")
	pub := e.confirming(0)
	pub.post("", q, "it works")
	e.open(1).holds(q, "it works")
}

func ex03(e *Env) {
	for name, kind := range inOrder(map[string]string{
		"amq.direct": channel.Direct, "amq.fanout": channel.Fanout, "amq.topic": channel.Topic, "amq.headers": channel.Headers, "amq.match": channel.Headers,
		"amq.rabbitmq.trace": channel.Topic,
	}) {
		o := channel.ExchangeOptions{Durable: true, Internal: name == "amq.rabbitmq.trace"}
		e.check(e.exchangeExists(1, name), "%s does not exist", name)
		l := e.open(0)
		if err := l.ExchangeDeclare(e.ctx, name, kind, o); err != nil {
			e.Errorf("an equal declare of %s: %v", name, err)
			continue
		}
		other := channel.Fanout
		if kind == other {
			other = channel.Direct
		}
		l.refuses(l.ExchangeDeclare(e.ctx, name, other, o), channel.PreconditionFailed, "type")
		l = e.open(0)
		l.refuses(l.ExchangeDeclare(e.ctx, name, kind, channel.ExchangeOptions{Internal: o.Internal}), channel.PreconditionFailed, "durable")
		l = e.open(0)
		l.refuses(l.ExchangeDelete(e.ctx, name, channel.DeleteOptions{}), channel.AccessRefused, name)
		e.check(e.exchangeExists(1, name), "%s is gone after a refused delete", name)
	}
	missing := "amq." + e.name("x")
	l := e.open(1)
	l.refuses(l.ExchangeDeclare(e.ctx, missing, channel.Direct, channel.ExchangeOptions{}), channel.AccessRefused, missing)
	e.check(!e.exchangeExists(0, missing), "a refused declare created the exchange") // passively: 404
	l = e.open(1)
	l.refuses(l.ExchangeDelete(e.ctx, missing, channel.DeleteOptions{}), channel.AccessRefused)
	l = e.open(1)
	l.refuses(l.ExchangeDelete(e.ctx, "amq.", channel.DeleteOptions{}), channel.AccessRefused)
	// "amq" and "amqx" are free.
	l = e.open(0)
	for _, free := range []string{"amq", "amqx" + e.name("x"), "amq-" + e.name("x")} {
		e.keepExchange(free)
		e.must(l.ExchangeDeclare(e.ctx, free, channel.Direct, channel.ExchangeOptions{}), "declare %q", free)
		e.check(e.exchangeExists(1, free), "%q does not exist", free)
		e.must(l.ExchangeDelete(e.ctx, free, channel.DeleteOptions{}), "delete %q", free)
	}
	// They route.
	pub, sub := e.pair()
	key := e.name("key")
	for _, x := range []string{"amq.direct", "amq.topic"} {
		q := sub.bound(x, key)
		pub.post(x, key, "1")
		sub.holds(q, "1")
	}
}

func ex04(e *Env) {
	pub, sub := e.pair()
	ae := e.name("ae")
	o := channel.ExchangeOptions{Durable: true, AutoDelete: true, Args: table{"alternate-exchange": ae, "x-other": int32(1)}}
	x := pub.exchange(channel.Topic, o)
	q := pub.bound(x, "k")
	for _, args := range []table{
		o.Args, {"alternate-exchange": ae}, {"alternate-exchange": ae, "x-other": "another"}, {"alternate-exchange": ae, "more": true},
	} {
		o.Args = args
		e.must(sub.ExchangeDeclare(e.ctx, x, channel.Topic, o), "equal declare with arguments %v", args)
	}
	pub.post(x, "k", "its bindings stand")
	sub.holds(q, "its bindings stand")
}

func ex05(e *Env) {
	pub, _ := e.pair()
	x := pub.exchange(channel.Direct)
	ae := pub.exchange(channel.Direct, channel.ExchangeOptions{Durable: true, Args: table{"alternate-exchange": "one"}})
	q := pub.bound(x, "k")
	all := channel.ExchangeOptions{Durable: true, AutoDelete: true, Internal: true, Args: table{"alternate-exchange": "other"}}
	for _, c := range []struct {
		name, kind string
		o          channel.ExchangeOptions
		word       string
	}{
		// Named is the first difference: type, durable, auto-delete, internal, alternate-exchange.
		{x, channel.Fanout, channel.ExchangeOptions{}, "'type'"},
		{x, channel.Topic, all, "'type'"},
		{x, channel.Direct, channel.ExchangeOptions{Durable: true}, "'durable'"},
		{x, channel.Direct, all, "'durable'"},
		{x, channel.Direct, channel.ExchangeOptions{AutoDelete: true}, "'auto_delete'"},
		{x, channel.Direct, channel.ExchangeOptions{AutoDelete: true, Internal: true, Args: all.Args}, "'auto_delete'"},
		{x, channel.Direct, channel.ExchangeOptions{Internal: true}, "'internal'"},
		{x, channel.Direct, channel.ExchangeOptions{Internal: true, Args: all.Args}, "'internal'"},
		{x, channel.Direct, channel.ExchangeOptions{Args: all.Args}, "'alternate-exchange'"},
		{ae, channel.Direct, channel.ExchangeOptions{Durable: true, Args: table{"alternate-exchange": "two"}}, "'alternate-exchange'"},
		{ae, channel.Direct, channel.ExchangeOptions{Durable: true}, "'alternate-exchange'"},
	} {
		l := e.open(1)
		l.refuses(l.ExchangeDeclare(e.ctx, c.name, c.kind, c.o), channel.PreconditionFailed, c.word, c.name)
	}
	// The old one stands.
	pub.post(x, "k", "still direct")
	pub.holds(q, "still direct")
	pub.unroutable(x, "other", "it is direct")
	// Passively nothing is compared, not even the type.
	for _, kind := range []string{channel.Fanout, channel.Topic, channel.Headers} {
		x := pub.exchange(kind, channel.ExchangeOptions{Durable: true, AutoDelete: true, Internal: true})
		e.check(e.exchangeExists(1, x), "a passive declare of a %s exchange", kind)
	}
}

func ex06(e *Env) {
	unknown := e.name("unknown")
	for p := range 2 {
		l := e.open(p)
		l.refuses(l.ExchangeDeclarePassive(e.ctx, unknown), channel.NotFound, unknown)
	}
	l := e.open(0)
	e.must(l.ExchangeDeclare(e.ctx, unknown, channel.Fanout, channel.ExchangeOptions{}), "declare what a passive one did not create")
	e.keepExchange(unknown)
}

func ex07(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Direct)
	q := pub.bound(x, "k")
	for _, kind := range []string{"no-such-type", "x-no-such-type", "", "Direct"} {
		for _, name := range []string{e.name("new"), x} {
			l := e.openOn(e.connect(1, ConnectOptions{}))
			l.kills(l.ExchangeDeclare(e.ctx, name, kind, channel.ExchangeOptions{}), channel.CommandInvalid)
			if name != x {
				e.check(!e.exchangeExists(0, name), "type %q: the exchange was created", kind)
			}
		}
	}
	pub.post(x, "k", "as before")
	sub.holds(q, "as before")
}

func ex08(e *Env) {
	pub := e.confirming(0)
	q, unknown := pub.queue(), e.name("unknown")
	sub := e.open(1)
	pub.post("", q, "confirmed before")
	send := func(exchange, key, body string) *channel.Confirmation {
		c, err := pub.PublishDeferred(e.ctx, exchange, key, text(body))
		if err != nil {
			return nil // the channel has ended by now
		}
		return c
	}
	before := send("", q, "before")
	lost := send(unknown, q, "lost")
	after := send("", q, "after")
	pub.dies(channel.NotFound, unknown)
	for what, c := range inOrder(map[string]*channel.Confirmation{"the message itself": lost, "the message after it": after}) {
		if c == nil {
			e.check(what != "the message itself", "its publish failed, instead of the channel some time later")
			continue
		}
		acked, err := c.Wait(e.ctx)
		e.check(!acked, "%s was acked", what)
		e.fails(err, channel.NotFound, unknown)
	}
	if acked, err := before.Wait(e.ctx); err != nil { // its ack may have been under way
		e.fails(err, channel.NotFound, unknown)
	} else {
		e.check(acked, "the message before was nacked")
	}
	sub.ready(q, 2, "what was published before is kept")
	sub.holds(q, "confirmed before", "before")

	// Without confirms too.
	plain := e.open(0)
	plain.say("", q, numbered("b", 20)...)
	e.must(plain.Publish(e.ctx, unknown, q, text("lost")), "publish")
	for range 20 {
		if plain.Publish(e.ctx, "", q, text("after")) != nil {
			break
		}
	}
	plain.dies(channel.NotFound, unknown)
	sub.ready(q, 20, "what was published before is kept")
	sub.holds(q, numbered("b", 20)...)
	// An exchange that was deleted by another process is unknown at once.
	pub = e.confirming(0)
	x := pub.exchange(channel.Fanout)
	pub.bind(q, "", x)
	pub.post(x, "", "1")
	e.must(sub.ExchangeDelete(e.ctx, x, channel.DeleteOptions{}), "delete")
	c, err := pub.PublishDeferred(e.ctx, x, "", text("2"))
	e.must(err, "publish")
	_, err = c.Wait(e.ctx)
	e.fails(err, channel.NotFound, x)
	sub.holds(q, "1")
}

func ex09(e *Env) {
	pub, sub := e.pair()
	up, x, down := pub.exchange(channel.Fanout), pub.exchange(channel.Fanout), pub.exchange(channel.Fanout)
	q, far := pub.bound(x, ""), pub.bound(down, "")
	e.must(pub.ExchangeBind(e.ctx, x, "", up, nil), "bind")
	e.must(pub.ExchangeBind(e.ctx, down, "", x, nil), "bind")
	pub.post(up, "", "before")
	// Refused while it is a source.
	l := e.open(1)
	l.refuses(l.ExchangeDelete(e.ctx, x, channel.DeleteOptions{IfUnused: true}), channel.PreconditionFailed, x, "use")
	e.must(sub.ExchangeDelete(e.ctx, x, channel.DeleteOptions{}), "delete")
	e.check(!e.exchangeExists(0, x), "it exists after its delete")
	// Its bindings have gone on both sides, also when one of that name exists again; queues and messages stay.
	pub.unroutable(up, "", "the binding to the deleted exchange")
	e.must(pub.ExchangeDeclare(e.ctx, x, channel.Fanout, channel.ExchangeOptions{}), "declare again")
	pub.unroutable(x, "", "a new one has no bindings")
	pub.unroutable(up, "", "a new one is not bound")
	sub.holds(q, "before")
	sub.holds(far, "before")
	// As a destination only, it is unused.
	e.must(pub.ExchangeBind(e.ctx, x, "", up, nil), "bind")
	e.must(sub.ExchangeDelete(e.ctx, x, channel.DeleteOptions{IfUnused: true}), "delete of an exchange that is only a destination")
	// Unknown is fine.
	for _, o := range []channel.DeleteOptions{{}, {IfUnused: true}} {
		e.must(sub.ExchangeDelete(e.ctx, x, o), "delete of an unknown exchange")
	}
	sub.alive("deletes")
}

func ex10(e *Env) {
	pub, sub := e.pair()
	auto := channel.ExchangeOptions{AutoDelete: true}
	for what, end := range inOrder(map[string]func(q, x string){
		"unbind":                    func(q, x string) { sub.unbind(q, "k", x) },
		"the delete of the queue":   func(q, x string) { sub.delete(q) },
		"the end of its connection": nil,
	}) {
		x := pub.exchange(channel.Topic, auto)
		e.check(e.exchangeExists(1, x), "%s: gone before it had a binding", what)
		first := pub.bound(x, "a")
		q := ""
		if end == nil {
			owner := e.openOn(e.connect(1, ConnectOptions{}))
			q = owner.declare(e.name("q"), channel.QueueOptions{Exclusive: true}).Name
			owner.bind(q, "k", x)
			end = func(string, string) { e.must(owner.Connection().Close(e.ctx), "close") }
		} else {
			q = pub.bound(x, "k")
		}
		sub.unbind(first, "a", x)
		e.check(e.exchangeExists(1, x), "%s: gone while it had a binding", what)
		end(q, x)
		e.exchangeGone(0, x, what+" took its last binding")
	}
	// An unbind that removes nothing is not the end of one that never had a binding.
	x := pub.exchange(channel.Direct, auto)
	sub.unbind(pub.queue(), "k", x)
	e.check(e.exchangeExists(1, x), "gone by an unbind of nothing")
	// Over exchange-to-exchange bindings, end to end.
	var chain []string
	for range 4 {
		chain = append(chain, pub.exchange(channel.Fanout, auto))
	}
	for i := range 3 {
		e.must(pub.ExchangeBind(e.ctx, chain[i+1], "", chain[i], nil), "bind")
	}
	q := pub.bound(chain[3], "")
	pub.post(chain[0], "", "through all")
	sub.holds(q, "through all")
	sub.delete(q)
	for i, x := range chain {
		e.exchangeGone(0, x, fmt.Sprintf("exchange %d of a chain whose last binding went", i))
	}
	// As a destination it does not go.
	up, x := pub.exchange(channel.Fanout), pub.exchange(channel.Fanout, auto)
	e.must(pub.ExchangeBind(e.ctx, x, "", up, nil), "bind")
	e.must(sub.ExchangeUnbind(e.ctx, x, "", up, nil), "unbind")
	e.check(e.exchangeExists(1, x), "gone when it was a destination no more")
}

func ex11(e *Env) {
	pub, sub := e.pair()
	in := pub.exchange(channel.Fanout, channel.ExchangeOptions{Internal: true})
	q := pub.bound(in, "")
	l := e.confirming(1)
	c, err := l.PublishDeferred(e.ctx, in, "", text("refused"))
	e.must(err, "publish")
	_, err = c.Wait(e.ctx)
	e.fails(err, channel.AccessRefused, in)
	l.dies(channel.AccessRefused, in)
	sub.empty(q, "refused")
	// Through a binding, and as an alternate.
	out := pub.exchange(channel.Direct)
	e.must(pub.ExchangeBind(e.ctx, in, "k", out, nil), "bind")
	pub.post(out, "k", "through a binding")
	sub.holds(q, "through a binding")
	alt := pub.exchange(channel.Direct, channel.ExchangeOptions{Args: table{"alternate-exchange": in}})
	pub.post(alt, "k", "as an alternate")
	sub.holds(q, "as an alternate")
	// As a dead-letter exchange too.
	dying := pub.args(table{"x-dead-letter-exchange": in})
	pub.post("", dying, "dead")
	d := sub.get(dying)
	e.must(d.Reject(false), "reject")
	sub.flush()
	pub.ready(q, 1, "as a dead-letter exchange")
	sub.holds(q, "dead")
}
