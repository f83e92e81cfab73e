package conformance

import (
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

func ex16(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Headers)
	five, six := int8(5), int32(6)
	type msg struct {
		h    table
		want bool
	}
	for i, c := range []struct {
		args table
		msgs []msg
	}{
		// all, the default: every one of the binding's is there.
		{table{"a": five, "b": "x"}, []msg{
			{table{"a": five, "b": "x"}, true}, {table{"a": five, "b": "x", "c": true}, true}, {table{"a": five}, false}, {table{"a": six, "b": "x"}, false}, {nil, false},
		}},
		{table{"x-match": "all", "a": five}, []msg{{table{"a": five}, true}, {table{}, false}, {table{"A": five}, false}}},
		{table{"x-match": "any", "a": five, "b": "x"}, []msg{
			{table{"a": five}, true}, {table{"b": "x"}, true}, {table{"a": six, "b": "x"}, true}, {table{"a": six, "b": "y"}, false}, {table{"c": five}, false}, {nil, false},
		}},
		// Keys beginning "x-" are ignored, but by the -with-x forms.
		{table{"a": five, "x-b": "x"}, []msg{{table{"a": five}, true}, {table{"a": five, "x-b": "y"}, true}, {table{"x-b": "x"}, false}}},
		{table{"x-match": "any", "a": five, "x-b": "x"}, []msg{{table{"x-b": "x"}, false}, {table{"a": five}, true}}},
		{table{"x-match": "all-with-x", "a": five, "x-b": "x"}, []msg{
			{table{"a": five}, false}, {table{"a": five, "x-b": "x"}, true}, {table{"a": five, "x-b": "y"}, false},
		}},
		{table{"x-match": "any-with-x", "a": five, "x-b": "x"}, []msg{{table{"x-b": "x"}, true}, {table{"a": five}, true}, {table{"x-b": "y"}, false}}},
		// With nothing to compare all matches everything, any nothing.
		{nil, []msg{{nil, true}, {table{"a": five}, true}}},
		{table{"x-match": "all"}, []msg{{nil, true}, {table{"a": five}, true}}},
		{table{"x-match": "any"}, []msg{{nil, false}, {table{"a": five}, false}}},
		{table{"x-only": int32(1)}, []msg{{nil, true}}},
		{table{"x-match": "any", "x-only": int32(1)}, []msg{{table{"x-only": int32(1)}, false}}},
		// A void argument means presence.
		{table{"a": nil}, []msg{{table{"a": five}, true}, {table{"a": "text"}, true}, {table{"a": nil}, true}, {table{"b": five}, false}, {nil, false}}},
		// Numbers of every type and timestamps by value.
		{table{"a": five}, []msg{
			{table{"a": uint8(5)}, true}, {table{"a": int16(5)}, true}, {table{"a": uint16(5)}, true}, {table{"a": int32(5)}, true}, {table{"a": uint32(5)}, true},
			{table{"a": int64(5)}, true}, {table{"a": float32(5)}, true}, {table{"a": 5.0}, true}, {table{"a": time.Unix(5, 0)}, true}, {table{"a": 5.5}, false},
			{table{"a": "5"}, false}, {table{"a": true}, false}, {table{"a": channel.Decimal{Value: 5}}, false}, {table{"a": nil}, false}, {table{"a": []any{five}}, false},
		}},
		{table{"a": 0.5}, []msg{{table{"a": float32(0.5)}, true}, {table{"a": int32(0)}, false}}},
		{table{"a": time.Unix(1000, 0)}, []msg{{table{"a": time.Unix(1000, 0)}, true}, {table{"a": int16(1000)}, true}, {table{"a": time.Unix(1001, 0)}, false}}},
		// A string and a byte array of the same bytes; decimal, bool, string and number never cross.
		{table{"a": "text"}, []msg{{table{"a": []byte("text")}, true}, {table{"a": "Text"}, false}, {table{"a": "text "}, false}}},
		{table{"a": []byte{0, 255}}, []msg{{table{"a": "\x00\xff"}, true}, {table{"a": []byte{0, 254}}, false}}},
		{table{"a": true}, []msg{{table{"a": true}, true}, {table{"a": false}, false}, {table{"a": int8(1)}, false}, {table{"a": "true"}, false}}},
		{table{"a": channel.Decimal{Scale: 1, Value: 50}}, []msg{
			{table{"a": channel.Decimal{Scale: 1, Value: 50}}, true}, {table{"a": channel.Decimal{Scale: 0, Value: 5}}, false}, {table{"a": five}, false}, {table{"a": 5.0}, false},
		}},
		{table{"a": "1"}, []msg{{table{"a": int32(1)}, false}}},
		// Tables and arrays by content.
		{table{"a": table{"k": "v"}}, []msg{
			{table{"a": table{"k": "v"}}, true}, {table{"a": table{"k": "w"}}, false}, {table{"a": table{"k": "v", "n": int32(2)}}, false}, {table{"a": table{}}, false},
			{table{"a": "v"}, false}, {table{"a": []any{"k", "v"}}, false},
		}},
		{table{"a": []any{int32(1), "x"}}, []msg{
			{table{"a": []any{int32(1), "x"}}, true}, {table{"a": []any{"x", int32(1)}}, false}, {table{"a": []any{int32(1)}}, false}, {table{"a": table{}}, false},
		}},
	} {
		q := sub.bound(x, "", c.args)
		for j, m := range c.msgs {
			b := fmt.Sprintf("%d", j)
			pub.put(x, "ignored", channel.Publishing{Headers: m.h, Body: []byte(b)})
		}
		got := map[string]bool{}
		for _, d := range sub.drain(q) {
			e.check(!got[string(d.Body)], "binding %d: message %s came twice", i, d.Body)
			got[string(d.Body)] = true
		}
		for j, m := range c.msgs {
			if got[fmt.Sprint(j)] != m.want {
				e.Errorf("binding %s, headers %s: routed is %v, want %v", clipped(c.args), clipped(m.h), got[fmt.Sprint(j)], m.want)
			}
		}
		sub.delete(q)
	}
	// RabbitMQ compares a table's fields in the order in which they were sent, which a Go map does not have.
	e.plus("tables with several fields by content", func() {
		q := sub.bound(x, "", table{"a": table{"k": "v", "n": int32(1), "deep": table{"x": true, "y": "z"}}})
		pub.put(x, "", channel.Publishing{Headers: table{"a": table{"n": int32(1), "deep": table{"y": "z", "x": true}, "k": "v"}}, Body: []byte("equal")})
		pub.put(x, "", channel.Publishing{Headers: table{"a": table{"n": int32(1), "deep": table{"y": "z", "x": false}, "k": "v"}}, Body: []byte("not")})
		sub.holds(q, "equal")
		sub.delete(q)
	})
	// Two bindings of one queue, one copy; the key plays no part.
	q := sub.bound(x, "k", table{"a": five})
	sub.bind(q, "other", x, table{"a": five})
	sub.bind(q, "k", x, table{"b": five, "x-match": "any"})
	pub.put(x, "", channel.Publishing{Headers: table{"a": five, "b": five}, Body: []byte("one")})
	sub.holds(q, "one")
	// A bad x-match.
	for _, bad := range []any{"some", "", "ALL", int32(1), true, nil} {
		l := e.open(1)
		l.refuses(l.QueueBind(e.ctx, q, "", x, table{"x-match": bad, "a": five}), channel.PreconditionFailed, "x-match")
	}
}
