package conformance

import (
	"fmt"
	"sync"

	"github.com/dashi-mq/dashi/channel"
)

func qu08(e *Env) {
	pub, sub := e.pair()
	x, q := pub.exchange(channel.Direct), pub.queue()
	ux, uq := e.name("unknown-x"), e.name("unknown-q")
	for _, c := range []struct{ queue, exchange, named string }{
		{uq, x, uq}, {q, ux, ux}, {uq, ux, ux}, // both unknown: the exchange is named
	} {
		l := e.open(1)
		l.refuses(l.QueueBind(e.ctx, c.queue, "k", c.exchange, nil), channel.NotFound, c.named)
	}
	// The same binding twice is one: one unbind removes it.
	for _, args := range []table{nil, {"a": int32(1)}} {
		pub.bind(q, "k", x, args)
		sub.bind(q, "k", x, args)
		pub.post(x, "k", "1")
		pub.holds(q, "1")
		sub.unbind(q, "k", x, args)
		pub.post(x, "k", "2")
		pub.empty(q, "unbound")
	}
	// With other arguments it is another one.
	pub.bind(q, "k", x)
	pub.bind(q, "k", x, table{"a": int32(1)})
	pub.unbind(q, "k", x)
	pub.post(x, "k", "3")
	sub.holds(q, "3")
	// Unbind of anything unknown is fine.
	sub.unbind(uq, "k", x)
	sub.unbind(q, "k", ux)
	sub.unbind(uq, "k", ux)
	sub.unbind(q, "other", x)
	sub.unbind(q, "k", x, table{"b": int32(1)})
	sub.alive("unbind of what is unknown")
	pub.post(x, "k", "4")
	sub.holds(q, "4")
}

func qu09(e *Env) {
	pub, sub := e.pair()
	for _, kind := range []string{channel.Direct, channel.Fanout, channel.Topic} {
		x := pub.exchange(kind)
		for i := range 5 {
			q := sub.bound(x, "k")
			pub.post(x, "k", fmt.Sprint("before", i))
			sub.unbind(q, "k", x)
			// From any process, at once, and what was routed stays.
			pub.post(x, "k", fmt.Sprint("after", i))
			other := e.confirming(1)
			other.post(x, "k", "after, too")
			sub.holds(q, fmt.Sprint("before", i))
			e.must(other.Close(e.ctx), "close")
		}
	}
}

func qu21(e *Env) {
	l := e.open(0)
	for _, o := range []channel.QueueOptions{{}, {Durable: true}, {Exclusive: true}} {
		name := "amq." + e.name("q")
		l := e.open(1)
		_, err := l.QueueDeclare(e.ctx, name, o)
		l.refuses(err, channel.AccessRefused, name)
		e.check(!e.exists(0, name), "a refused declare created the queue") // passively: 404
	}
	// One that exists is no exception, not even for who got its name from the server.
	q := l.declare("", channel.QueueOptions{}).Name
	_, err := l.QueueDeclare(e.ctx, q, channel.QueueOptions{})
	l.refuses(err, channel.AccessRefused, q)
	e.check(e.exists(1, q), "a refused declare removed the queue")
	// "amq" without the dot is free.
	l = e.open(0)
	l.declare("amq-"+e.name("q"), channel.QueueOptions{})
}

func qu22(e *Env) {
	l := e.confirming(0)
	sub := e.open(1)
	x := l.exchange(channel.Direct)
	q := l.queue()
	// The queue's name is the key.
	l.bind("", "", x)
	l.post(x, q, "1")
	l.post(x, "", "lost")
	sub.holds(q, "1")
	l.unbind("", "", x)
	l.post(x, q, "lost")
	sub.empty(q, "unbound")
	// With a name, an empty key is an empty key; with a key and no name, it is that key.
	l.bind(q, "", x)
	l.post(x, q, "lost")
	l.post(x, "", "2")
	sub.holds(q, "2")
	l.bind("", "k", x)
	l.post(x, "k", "3")
	sub.holds(q, "3")
	// unbind of "" and "" removes the binding by name, not that by the empty key.
	l.unbind("", "", x)
	l.post(x, "", "4")
	sub.holds(q, "4")
	l.unbind(q, "", x)
	l.post(x, "", "lost")
	sub.empty(q, "unbound")
}

func qu23(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Headers)
	q := pub.queue()
	args := table{"x-match": "any", "n": int32(5), "s": "text"}
	pub.bind(q, "k", x, args)
	m := channel.Publishing{Headers: table{"s": "text"}, Body: []byte("routed")}
	for _, c := range []struct {
		key  string
		args table
	}{
		{"other", args}, {"", args}, {"k", nil}, {"k", table{}},
		{"k", table{"x-match": "any", "n": int32(6), "s": "text"}},
		{"k", table{"x-match": "any", "n": int32(5)}},
		{"k", table{"x-match": "any", "n": int32(5), "s": "text", "more": true}},
		{"k", table{"x-match": "any", "n": int64(5), "s": "text"}}, // another type
		{"k", table{"x-match": "any", "n": int32(5), "s": []byte("text")}},
	} {
		sub.unbind(q, c.key, x, c.args)
		pub.put(x, "whatever", m)
		if d, ok := sub.tryGet(q, true); !ok || string(d.Body) != "routed" {
			e.Fatalf("an unbind by %q with %v removed the binding by \"k\" with %v", c.key, c.args, args)
		}
	}
	sub.unbind(q, "k", x, table{"s": "text", "n": int32(5), "x-match": "any"})
	pub.put(x, "whatever", m)
	sub.empty(q, "unbound by equal key and arguments")
}

func qu31(e *Env) {
	n := 1000
	if raceEnabled {
		n = 240
		e.Logf("%d instead of 1,000 queues under the race detector", n)
	}
	const makers = 8
	x := e.name("x")
	e.keepExchange(x)
	// Connections stand for processes: half of them are of the other broker.
	lines := make([]*line, makers)
	for i := range lines {
		lines[i] = e.openOn(e.connect(i%2, ConnectOptions{}))
	}
	var wg sync.WaitGroup
	for i, l := range lines {
		wg.Go(func() {
			if err := l.ExchangeDeclare(e.ctx, x, channel.Direct, channel.ExchangeOptions{}); err != nil {
				e.Errorf("exchange.declare: %v", err)
				return
			}
			for j := i; j < n; j += makers {
				q := fmt.Sprintf("%s-q%d", x, j)
				e.keepQueue(q)
				if _, err := l.QueueDeclare(e.ctx, q, channel.QueueOptions{}); err != nil {
					e.Errorf("queue.declare: %v", err)
					return
				}
				if err := l.QueueBind(e.ctx, q, fmt.Sprint("k", j), x, nil); err != nil {
					e.Errorf("queue.bind: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	if e.Failed() {
		return
	}
	// Each is there and bound, for both processes.
	subs := []*line{e.open(0), e.open(1)}
	pub := e.confirming(0)
	ms := map[string]*channel.Confirmation{}
	for j := range n {
		m := text(fmt.Sprint(j))
		m.Mandatory = true
		c, err := pub.PublishDeferred(e.ctx, x, fmt.Sprint("k", j), m)
		e.must(err, "publish")
		ms[fmt.Sprint(j)] = c
	}
	for _, c := range inOrder(ms) {
		_, err := c.Wait(e.ctx)
		e.must(err, "confirm")
	}
	for j := range n {
		d, ok := subs[j%2].tryGet(fmt.Sprintf("%s-q%d", x, j), true)
		if !ok && !e.has(Counts) {
			d, ok = subs[j%2].mustGet(fmt.Sprintf("%s-q%d", x, j), true), true
		}
		if !ok || string(d.Body) != fmt.Sprint(j) {
			e.Fatalf("queue %d of %d: its binding was lost, a get found %q", j, n, d.Body)
		}
	}
}
