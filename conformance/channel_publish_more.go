package conformance

import (
	"fmt"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

func pb06(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	user := pub.Connection().Info().User
	m := text("mine")
	m.UserId = user
	pub.put("", q, m)
	d := e.first(sub.holds(q, "mine"))
	e.check(d.UserId == user, "user-id is %q, want %q", d.UserId, user)
	m = text("empty and not set")
	pub.put("", q, m)
	sub.holds(q, "empty and not set")
	others := []string{"somebody", ""}
	if e.native() {
		e.Logf("clause not checked: an empty user-id (the native client cannot send one)")
		others = others[:1]
	}
	for _, bad := range others {
		l := e.confirming(0)
		m := text("never")
		m.UserId, m.UserIdSet = bad, true
		e.must(l.Publish(e.ctx, "", q, m), "publish")
		l.dies(channel.PreconditionFailed, "user")
	}
	sub.empty(q, "all were refused")
}

func pb07(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Direct)
	a, b, c := sub.bound(x, "a"), sub.bound(x, "b"), sub.bound(x, "c")
	sub.bind(a, "b", x) // a is bound under two of the keys
	with := func(body string, h table) channel.Publishing {
		return channel.Publishing{Headers: h, Body: []byte(body)}
	}
	// Main key, CC and BCC together, each queue once.
	pub.put(x, "a", with("1", table{"CC": []any{"b", "b"}, "BCC": []any{"c", "a"}, "other": int32(1)}))
	for _, q := range []string{a, b, c} {
		d := e.first(sub.holds(q, "1"))
		e.check(d.RoutingKey == "a", "the routing key in the delivery is %q, want the published one", d.RoutingKey)
		e.sameTable("headers of a delivery", d.Headers, table{"CC": []any{"b", "b"}, "other": int32(1)})
	}
	// A main key that routes nowhere.
	pub.put(x, "nowhere", with("2", table{"BCC": []any{"b"}}))
	sub.holds(a, "2")
	sub.holds(b, "2")
	sub.empty(c, "not named")
	// Names are case-sensitive; what is no string is ignored.
	pub.put(x, "nowhere", with("3", table{"cc": []any{"c"}, "Bcc": []any{"c"}, "CC": []any{int32(5), []any{"c"}, nil, table{"c": "c"}, "b"}}))
	sub.holds(a, "3")
	d := e.first(sub.holds(b, "3"))
	e.check(d.Headers["Bcc"] != nil, "a header that is not BCC was removed")
	sub.empty(c, "not named")
	// The default exchange too.
	pub.put("", a, with("4", table{"CC": []any{b}, "BCC": []any{c}}))
	for _, q := range []string{a, b, c} {
		sub.holds(q, "4")
	}
	// Mandatory looks at all of them.
	returns := pub.NotifyReturn(make(chan channel.Return, 2))
	m := with("5", table{"BCC": []any{"c"}})
	m.Mandatory = true
	pub.put(x, "nowhere", m)
	sub.holds(c, "5")
	nothing(e, "a return of what BCC routed", returns)
	// Not an array.
	for _, h := range []table{{"CC": "b"}, {"BCC": "b"}, {"CC": int32(1)}, {"BCC": table{}}} {
		l := e.confirming(0)
		e.must(l.Publish(e.ctx, x, "a", with("never", h)), "publish")
		l.dies(channel.PreconditionFailed)
	}
	sub.empty(a, "all were refused")
}

func pb08(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Fanout)
	var queues []string
	for range 8 {
		queues = append(queues, sub.bound(x, ""))
	}
	// An ack means stored in all: another process finds it everywhere at once.
	for i := range 10 {
		b := fmt.Sprint(i)
		pub.post(x, "", b)
		for _, q := range queues {
			d := sub.mustGet(q, true)
			e.same("after the ack, in "+q, []string{string(d.Body)}, []string{b})
		}
	}
	// Copies are settled each by itself.
	pub.post(x, "", "copies")
	for i, q := range queues {
		d := sub.get(q)
		switch i % 3 {
		case 0:
			e.ack(d)
		case 1:
			e.must(d.Nack(false, true), "nack")
		case 2:
			e.must(d.Reject(false), "reject")
		}
	}
	sub.alive("answers")
	for i, q := range queues {
		if i%3 == 1 {
			e.redelivered(true, pub.holds(q, "copies")...)
		} else {
			pub.empty(q, "answered")
		}
	}
	// A refusal is said once, though others keep it; a retry can duplicate, never lose.
	e.with(Limits, "one of several queues refuses", func() {
		full := pub.args(table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		pub.bind(full, "", x)
		pub.post("", full, "full")
		got := pub.outcome(x, "", text("retried"))
		e.check(!got[0], "acked, though one queue refused it")
		sub.holds(full, "full")
		pub.post(x, "", "retried")
		sub.holds(full, "retried")
		for _, q := range queues {
			got := bodies(sub.drain(q))
			e.check(len(got) >= 1 && len(got) <= 2 && strings.Join(got, "") == strings.Repeat("retried", len(got)),
				"after a retry %q has %s, want one or two", q, show(got))
		}
	})
}

func pb09(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	for _, bad := range []channel.Publishing{
		{DeliveryMode: 3}, {DeliveryMode: 255}, {Expiration: "soon"}, {Expiration: "-1"}, {Expiration: "1.5"}, {Expiration: "1 "},
		{Expiration: " 1"}, {Expiration: "0x10"}, {Expiration: "315360000001"}, {Expiration: "99999999999999999999999"},
	} {
		for _, key := range []string{q, e.name("nowhere")} { // for an unroutable message too
			l := e.confirming(0)
			bad.Body = []byte("never")
			c, err := l.PublishDeferred(e.ctx, "", key, bad)
			e.must(err, "publish: ranges are the broker's to judge")
			acked, err := c.Wait(e.ctx)
			e.check(!acked, "mode %d, expiration %q: acked", bad.DeliveryMode, bad.Expiration)
			e.fails(err, channel.PreconditionFailed)
			l.dies(channel.PreconditionFailed)
		}
	}
	sub.empty(q, "all were refused")
	// A fault of the exchange is told before one of the message.
	for name, code := range inOrder(map[string]int{
		e.name("unknown"): channel.NotFound, pub.exchange(channel.Fanout, channel.ExchangeOptions{Internal: true}): channel.AccessRefused,
	}) {
		l := e.open(0)
		e.must(l.Publish(e.ctx, name, "", channel.Publishing{Expiration: "soon"}), "publish")
		l.dies(code, name)
	}
	// Good ones. A priority is never refused, whether or not the queue has any.
	var want []string
	for i, good := range []channel.Publishing{
		{DeliveryMode: 0}, {DeliveryMode: 1}, {DeliveryMode: 2}, {Expiration: "315360000000"}, {Expiration: "0060000000"},
		{Expiration: "+60000000"}, {Priority: 1}, {Priority: 255},
	} {
		good.Body = fmt.Append(nil, i)
		want = append(want, fmt.Sprint(i))
		pub.put("", q, good)
	}
	ds := sub.holds(q, want...)
	if e.has(Order) {
		e.check(ds[0].DeliveryMode == 0 && ds[1].DeliveryMode == 1 && ds[2].DeliveryMode == 2, "delivery modes came back as %d, %d, %d",
			ds[0].DeliveryMode, ds[1].DeliveryMode, ds[2].DeliveryMode)
		e.check(ds[4].Expiration == "0060000000" && ds[5].Expiration == "+60000000", "expirations came back as %q, %q", ds[4].Expiration, ds[5].Expiration)
		e.check(ds[6].Priority == 1 && ds[7].Priority == 255, "priorities came back as %d, %d", ds[6].Priority, ds[7].Priority)
	}
}

func pb10(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Fanout)
	a, b := sub.bound(x, ""), sub.bound(x, "")
	// The caller writes over body and headers as soon as Publish has returned.
	const n = 300
	body, list, inner := make([]byte, 64), []any{int32(0), []byte{0}}, table{"n": int32(0)}
	headers := table{"n": int32(0), "list": list, "inner": inner}
	fill := func(i int) {
		for j := range body {
			body[j] = byte(i)
		}
		list[0], inner["n"], headers["n"] = int32(i), int32(i), int32(i)
		list[1].([]byte)[0] = byte(i)
	}
	var cs []*channel.Confirmation
	for i := range n {
		fill(i)
		c, err := pub.PublishDeferred(e.ctx, x, "", channel.Publishing{Headers: headers, Body: body})
		e.must(err, "publish")
		cs = append(cs, c)
	}
	fill(99)
	for _, c := range cs {
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm")
		e.check(acked, "nacked")
	}
	type copyOf struct {
		who string
		i   int
	}
	came := map[copyOf]bool{}
	check := func(who string, i int, d channel.Delivery) {
		e.Helper()
		if !e.has(Order) { // then which it is does not matter, but each is another
			n, _ := d.Headers["n"].(int32)
			i = int(n)
			if came[copyOf{who, i}] {
				e.Fatalf("%s: message %d came twice", who, i)
			}
			came[copyOf{who, i}] = true
		}
		e.sameTable(who, d.Headers, table{"n": int32(i), "list": []any{int32(i), []byte{byte(i)}}, "inner": table{"n": int32(i)}})
		for _, c := range d.Body {
			if c != byte(i) {
				e.Fatalf("%s: the body of message %d has a byte %d", who, i, c)
			}
		}
	}
	// Two consumers of one fan-out, in one process, and each spoils what it gets.
	sa, sb := sub.consume(a, channel.ConsumeOptions{}), e.open(1).consume(b, channel.ConsumeOptions{})
	spoil := func(d channel.Delivery) {
		clear(d.Body)
		d.Headers["n"] = "spoiled"
		d.Headers["list"].([]any)[1].([]byte)[0] = 77
		d.Headers["list"].([]any)[0] = "spoiled"
		d.Headers["inner"].(table)["n"] = "spoiled"
		d.Headers["new"] = true
	}
	for i := range n {
		d := sa.next()
		check("first consumer", i, d)
		spoil(d)
		o := sb.next()
		check("second consumer", i, o)
		spoil(o)
		// Requeued, it is what was published, not what its reader made of it.
		if i == n-1 {
			e.must(d.Nack(false, true), "nack")
			again := sa.next()
			check("redelivered", i, again)
			e.ack(again)
			continue
		}
		e.ack(d)
	}
	e.must(sb.l.Ack(0, true), "ack of all")
	sub.alive("acks")
	sb.l.alive("acks")
}

func pb11(e *Env) {
	l := e.confirming(0)
	q := l.queue()
	long, bad := strings.Repeat("é", 128), "not \xff UTF-8"
	fit := strings.Repeat("k", 255)
	for _, s := range []string{long, bad} {
		word := "255"
		if s == bad {
			word = "UTF-8"
		}
		l.harmless(l.Publish(e.ctx, "", s, text("x")), "routing key", word)
		l.harmless(l.Publish(e.ctx, s, q, text("x")), "exchange", word)
		l.harmless(l.Publish(e.ctx, "", q, channel.Publishing{MessageId: s}), "message id", word)
		l.harmless(l.Publish(e.ctx, "", q, channel.Publishing{Headers: table{s: 1}}), word)
		_, err := l.QueueDeclare(e.ctx, s, channel.QueueOptions{})
		l.harmless(err, "queue", word)
		_, err = l.QueueDelete(e.ctx, s, channel.DeleteOptions{})
		l.harmless(err, "queue", word)
		_, err = l.QueuePurge(e.ctx, s)
		l.harmless(err, "queue", word)
		l.harmless(l.ExchangeDeclare(e.ctx, s, channel.Direct, channel.ExchangeOptions{}), "exchange", word)
		l.harmless(l.ExchangeDelete(e.ctx, s, channel.DeleteOptions{}), "exchange", word)
		l.harmless(l.QueueBind(e.ctx, q, s, "amq.direct", nil), "routing key", word)
		l.harmless(l.QueueUnbind(e.ctx, q, s, "amq.direct", nil), "routing key", word)
		l.harmless(l.ExchangeBind(e.ctx, "amq.fanout", s, "amq.direct", nil), "routing key", word)
		_, err = l.Consume(e.ctx, q, channel.ConsumeOptions{Tag: s})
		l.harmless(err, "consumer tag", word)
		_, _, err = l.Get(e.ctx, s, true)
		l.harmless(err, "queue", word)
		l.harmless(l.Cancel(e.ctx, s), "consumer tag", word)
	}
	// The longest that fits, and no number was used by what was refused.
	e.check(l.GetNextPublishSeqNo() == 1, "refused messages used numbers: the next is %d", l.GetNextPublishSeqNo())
	x := l.exchange(channel.Direct)
	l.bind(q, fit, x)
	l.post(x, fit, "fits")
	e.open(1).holds(q, "fits")
}

func pb12(e *Env) {
	pub, sub := e.pair()
	q := pub.queue(channel.QueueOptions{Durable: true})
	rig := e.rig.(Planter)
	planted := []string{"", "just text", "\x00\x01\x02", "\x01", "\x01damaged after a version byte that looks right", strings.Repeat("\xff", 1000)}
	pub.post("", q, "ours before")
	for _, p := range planted {
		e.must(rig.Plant(e.ctx, q, []byte(p)), "plant")
	}
	pub.post("", q, "ours after")
	s := sub.consume(q, channel.ConsumeOptions{})
	ds := s.take(len(planted) + 2)
	e.sameSet("all that is in the store", bodies(ds), append([]string{"ours before", "ours after"}, planted...))
	for _, d := range ds {
		_, raw := d.Headers["x-dashi-raw"]
		ours := strings.HasPrefix(string(d.Body), "ours")
		e.check(raw != ours, "%q: header x-dashi-raw is set: %v", clipped(string(d.Body)), raw)
		if raw {
			e.check(d.ContentType == "application/octet-stream", "%q came with content type %q", clipped(string(d.Body)), d.ContentType)
		}
	}
	// They are messages like others: dropped when acked, back when not.
	e.must(ds[1].Nack(false, true), "nack")
	again := s.next()
	e.check(string(again.Body) == string(ds[1].Body), "the requeued one came back as %q", clipped(string(again.Body)))
	e.must(sub.Ack(0, true), "ack of all")
	sub.alive("acks")
	pub.empty(q, "all was acked")
}
