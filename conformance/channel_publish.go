package conformance

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// publishRows are the rows PB: publishing.
var publishRows = []Row{
	{ID: "PB-01", Run: pb01},
	{ID: "PB-02", Run: pb02},
	{ID: "PB-03", Run: pb03},
	{ID: "PB-04", Run: pb04},
	{ID: "PB-05", Needs: []Need{Plus, BodyLimit}, Run: pb05},
	{ID: "PB-06", Run: pb06},
	{ID: "PB-07", Run: pb07},
	{ID: "PB-08", Run: pb08},
	{ID: "PB-09", Run: pb09},
	{ID: "PB-10", Run: pb10},
	{ID: "PB-11", Needs: []Need{Plus}, Run: pb11},
	{ID: "PB-12", Needs: []Need{Plus, Foreign}, Run: pb12},
}

// fullTable has a value of every field type of AMQP, at the edges of its range, nested in tables and arrays, and a text
// of some length.
func fullTable(long int) table {
	inner := table{"a": int32(1), "empty": table{}, "list": []any{int8(-1), "two", nil, table{"deep": []any{}}}}
	return table{
		"t true": true, "t false": false, "b": int8(-128), "B": uint8(255), "s": int16(-32768), "u": uint16(65535),
		"I": int32(-2147483648), "i": uint32(4294967295), "l": int64(-9223372036854775808), "f": float32(1.5), "d": 0.1,
		"D": channel.Decimal{Scale: 2, Value: -31415}, "S": "text with é and \x00 and \n", "S empty": "", "S long": strings.Repeat("x", long),
		"S binary": "\xff\xfe not UTF-8", "A": []any{true, int64(7), "x", []any{}, []byte{1}}, "T": time.Unix(1700000000, 0), "F": inner,
		"V": nil, "x": []byte{0, 1, 2, 255}, "x empty": []byte{}, "key with spaces and é": int32(3), "": "an empty key",
	}
}

// fullMessage has all 14 properties, and headers as long as the store takes.
func (e *Env) fullMessage(user string) channel.Publishing {
	return channel.Publishing{
		Headers: fullTable(min(70000, e.maxBody()/2)), ContentType: "text/plain; charset=é", ContentEncoding: "gzip", DeliveryMode: channel.Persistent, Priority: 200,
		CorrelationId: "correlation", ReplyTo: "reply", Expiration: "60000000", MessageId: "message", Timestamp: time.Unix(1234567890, 0),
		Type: "type", UserId: user, UserIdSet: user != "", AppId: "app", Body: []byte("body"),
	}
}

// maxBody is how long a body may be for certain, and what else is kept with it.
func (e *Env) maxBody() int {
	if rig, ok := e.rig.(BodyLimiter); ok && e.has(BodyLimit) {
		return rig.MaxBody() - 1 - 512
	}
	return 16 << 20
}

func pb01(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	m := e.fullMessage(pub.Connection().Info().User)
	pub.put("", q, m)
	d := sub.mustGet(q, true)
	e.sameProperties("all properties", d, m)
	e.check(string(d.Body) == "body" && d.RoutingKey == q && d.Exchange == "", "got %q from %q by %q", d.Body, d.Exchange, d.RoutingKey)

	// None of them: nothing is invented. An empty header table stays one, none stays none.
	pub.put("", q, channel.Publishing{})
	d = sub.mustGet(q, true)
	e.sameProperties("no properties", d, channel.Publishing{})
	e.check(d.Headers == nil && d.Timestamp.IsZero() && len(d.Body) == 0, "an empty message came back with headers %#v, time %v, body %q", d.Headers, d.Timestamp, d.Body)
	if e.native() {
		e.Logf("clause not checked: an empty header table stays one (the native client sends none)")
	} else {
		pub.put("", q, channel.Publishing{Headers: table{}, Body: []byte("x")})
		d = sub.mustGet(q, true)
		e.check(d.Headers != nil && len(d.Headers) == 0, "an empty header table came back as %#v", d.Headers)
	}

	// The same through a consumer, and after a requeue.
	s := sub.consume(q, channel.ConsumeOptions{})
	pub.put("", q, m)
	d = s.next()
	e.sameProperties("to a consumer", d, m)
	e.must(d.Nack(false, true), "nack")
	d = s.next()
	e.sameProperties("redelivered", d, m)
	e.redelivered(true, d)
	e.ack(d)

	// Bodies byte for byte. Every size of a frame's edge, and larger ones.
	sizes := []int{0, 1, 7, 255, 256, 4088, 4096, 65535, 65536, 131063, 131064, 131065, 131072, 262128, 1 << 20}
	rnd := rand.New(rand.NewPCG(1, 2))
	for _, n := range sizes {
		body := make([]byte, n)
		for i := range body {
			body[i] = byte(rnd.Uint32())
		}
		c, err := pub.PublishDeferred(e.ctx, "", q, channel.Publishing{Body: body})
		e.must(err, "publish %d bytes", n)
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm of %d bytes", n)
		if !acked && n > e.maxBody() {
			continue // where the store allows
		}
		e.check(acked, "%d bytes were nacked", n)
		d := s.next()
		if !bytes.Equal(d.Body, body) {
			e.Errorf("a body of %d bytes came back with %d, or others", n, len(d.Body))
		}
		e.ack(d)
	}
	// Values of Go's own int, uint and uint64 come back as signed integers that have room for them.
	pub.put("", q, channel.Publishing{Headers: table{"int": -5, "uint": uint(5), "uint64": uint64(6), "large": 1 << 40}})
	h := s.next().Headers
	for k, want := range inOrder(map[string]string{"int": "-5", "uint": "5", "uint64": "6", "large": "1099511627776"}) {
		switch h[k].(type) {
		case int32, int64:
			e.check(fmt.Sprint(h[k]) == want, "%s: got %v, want %s", k, h[k], want)
		default:
			e.Errorf("%s: came back as %T", k, h[k])
		}
	}
	// What AMQP has no type for is a local error that names the key.
	for _, bad := range []any{struct{}{}, uint64(1 << 63), map[string]string{}, []string{"x"}, time.Second, complex(1, 1)} {
		err := pub.Publish(e.ctx, "", q, channel.Publishing{Headers: table{"good": "x", "bad": table{"inner": []any{bad}}}})
		pub.harmless(err, "bad", "inner")
	}
	s.silent("refused messages are not sent")
}

func pb02(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Topic)
	q := sub.bound(x, "known.#")
	returns := pub.NotifyReturn(make(chan channel.Return, 16))
	m := e.fullMessage("")
	m.Mandatory = true
	m.Headers["CC"] = []any{"also.nowhere"}
	m.Headers["BCC"] = []any{"nowhere.secret"}
	for i := range 3 {
		m.Body = fmt.Appendf(nil, "back %d", i)
		c, err := pub.PublishDeferred(e.ctx, x, "nowhere", m)
		e.must(err, "publish")
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm")
		e.check(acked, "an unroutable message is acked, this was nacked")
		// The return came before the ack.
		var r channel.Return
		select {
		case r = <-returns:
		default:
			e.Fatalf("the ack came before the return")
		}
		e.check(r.ReplyCode == channel.NoRoute && r.ReplyText == "NO_ROUTE", "returned with %d %q", r.ReplyCode, r.ReplyText)
		e.check(r.Exchange == x && r.RoutingKey == "nowhere", "returned from %q by %q, want %q by nowhere", r.Exchange, r.RoutingKey, x)
		e.check(bytes.Equal(r.Body, m.Body), "returned body %q, want %q", r.Body, m.Body)
		want := m
		want.Headers = channel.CloneTable(m.Headers)
		delete(want.Headers, "BCC")
		e.sameProperties("returned", channel.Delivery{
			Headers: r.Headers, ContentType: r.ContentType, ContentEncoding: r.ContentEncoding, DeliveryMode: r.DeliveryMode, Priority: r.Priority,
			CorrelationId: r.CorrelationId, ReplyTo: r.ReplyTo, Expiration: r.Expiration, MessageId: r.MessageId, Timestamp: r.Timestamp,
			Type: r.Type, UserId: r.UserId, AppId: r.AppId,
		}, want)
	}
	// Routed ones are not returned; and after the last binding has gone, from another process, they are.
	m = text("routed")
	m.Mandatory = true
	pub.put(x, "known.key", m)
	sub.holds(q, "routed")
	sub.unbind(q, "known.#", x)
	pub.put(x, "known.key", m)
	r := receive(e, "the return after an unbind", returns)
	e.check(string(r.Body) == "routed", "returned %q", r.Body)
	sub.bind(q, "known.#", x)
	pub.put(x, "known.key", m)
	sub.holds(q, "routed")
	nothing(e, "a return of a routed message", returns)

	// Without confirms too; by the default exchange as well.
	plain := e.open(0)
	returns = plain.NotifyReturn(make(chan channel.Return, 1))
	e.must(plain.Publish(e.ctx, "", e.name("nowhere"), m), "publish")
	r = receive(e, "the return", returns)
	e.check(r.Exchange == "" && string(r.Body) == "routed", "returned %q from %q", r.Body, r.Exchange)
}

func pb03(e *Env) {
	pub, sub := e.pair()
	returns := pub.NotifyReturn(make(chan channel.Return, 16))
	for _, kind := range []string{channel.Direct, channel.Fanout, channel.Topic, channel.Headers} {
		x := pub.exchange(kind)
		pub.post(x, "nowhere", "dropped") // acked, or put fails
		q := sub.bound(x, "k", table{"x-match": "all", "h": "v"})
		m := text("kept")
		m.Headers = table{"h": "v"}
		pub.put(x, "k", m)
		sub.holds(q, "kept")
	}
	pub.post("", e.name("nowhere"), "dropped")
	nothing(e, "a return of what is not mandatory", returns)
	plain := e.open(0)
	plain.post("", e.name("nowhere"), "dropped")
	plain.alive("an unroutable message")
}

func pb04(e *Env) {
	pub := e.confirming(0)
	q := pub.queue()
	m := text("never")
	m.Immediate = true
	for _, exchange := range []string{"", e.name("unknown")} {
		l := e.openOn(e.connect(1, ConnectOptions{}))
		err := l.Publish(e.ctx, exchange, q, m)
		l.kills(err, channel.NotImplemented)
	}
	pub.empty(q, "immediate is refused")
}

func pb05(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	big := channel.Publishing{Body: make([]byte, e.rig.(BodyLimiter).MaxBody())}
	got := pub.outcome("", q, text("before"), big, text("after"))
	e.check(got[0] && !got[1] && got[2], "acked: %v, want only the second nacked", got)
	sub.holds(q, "before", "after")
	// Without confirms the refusal names the limit.
	plain := e.open(0)
	err := plain.Publish(e.ctx, "", q, big)
	if err == nil {
		err = plain.Flush(e.ctx)
	}
	if err == nil {
		e.Fatalf("a message larger than the store takes was taken")
	}
	e.check(strings.ContainsAny(err.Error(), "0123456789"), "the refusal does not name the limit: %v", err)
	sub.empty(q, "nothing of it was stored")
}
