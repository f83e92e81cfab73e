package conformance

import (
	"bytes"
	"fmt"
	"reflect"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// sameTable compares tables with their types; a time by its second.
func (e *Env) sameTable(what string, got, want table) {
	e.Helper()
	e.sameValue(what, got, want)
}

func (e *Env) sameValue(what string, got, want any) {
	e.Helper()
	switch w := want.(type) {
	case table:
		g, ok := got.(table)
		if !ok || len(g) != len(w) || (g == nil) != (w == nil) {
			e.Errorf("%s: got %#v, want %#v", what, clipped(got), clipped(want))
			return
		}
		for k, v := range inOrder(w) {
			gv, ok := g[k]
			if !ok {
				e.Errorf("%s: %q is missing", what, k)
				continue
			}
			e.sameValue(what+"."+k, gv, v)
		}
	case []any:
		g, ok := got.([]any)
		if !ok || len(g) != len(w) {
			e.Errorf("%s: got %#v, want %#v", what, clipped(got), clipped(want))
			return
		}
		for i := range w {
			e.sameValue(fmt.Sprintf("%s[%d]", what, i), g[i], w[i])
		}
	case time.Time:
		if g, ok := got.(time.Time); !ok || !g.Equal(w) {
			e.Errorf("%s: got %#v, want %v", what, got, w)
		}
	case []byte:
		if g, ok := got.([]byte); !ok || !bytes.Equal(g, w) {
			e.Errorf("%s: got %#v, want %#v", what, clipped(got), clipped(want))
		}
	default:
		if !reflect.DeepEqual(got, want) {
			e.Errorf("%s: got %T %s, want %T %s", what, got, clipped(got), want, clipped(want))
		}
	}
}

func clipped(v any) string {
	s := fmt.Sprintf("%#v", v)
	if len(s) > 200 {
		s = s[:200] + "..."
	}
	return s
}

// sameProperties compares all properties of a delivery with what was published.
func (e *Env) sameProperties(what string, d channel.Delivery, p channel.Publishing) {
	e.Helper()
	e.sameTable(what+": header", d.Headers, p.Headers)
	for _, f := range []struct {
		name      string
		got, want any
	}{
		{"content type", d.ContentType, p.ContentType}, {"content encoding", d.ContentEncoding, p.ContentEncoding},
		{"delivery mode", d.DeliveryMode, p.DeliveryMode}, {"priority", d.Priority, p.Priority}, {"correlation id", d.CorrelationId, p.CorrelationId},
		{"reply-to", d.ReplyTo, p.ReplyTo}, {"expiration", d.Expiration, p.Expiration}, {"message id", d.MessageId, p.MessageId},
		{"timestamp", d.Timestamp.Unix(), p.Timestamp.Unix()}, {"type", d.Type, p.Type}, {"user id", d.UserId, p.UserId}, {"app id", d.AppId, p.AppId},
	} {
		e.check(f.got == f.want, "%s: %s is %v, want %v", what, f.name, f.got, f.want)
	}
}

// death returns entry i of a delivery's x-death.
func (e *Env) death(d channel.Delivery, i int) table {
	e.Helper()
	ds := e.deaths(d)
	if i >= len(ds) {
		e.Fatalf("%q has %d entries of x-death, no number %d", d.Body, len(ds), i)
	}
	return ds[i]
}

func (e *Env) deaths(d channel.Delivery) []table {
	e.Helper()
	list, ok := d.Headers["x-death"].([]any)
	if !ok {
		e.Fatalf("%q: x-death is %#v, want an array", d.Body, d.Headers["x-death"])
	}
	out := make([]table, len(list))
	for i, v := range list {
		if out[i], ok = v.(table); !ok {
			e.Fatalf("%q: entry %d of x-death is %T, want a table", d.Body, i, v)
		}
	}
	return out
}

// died checks one entry of x-death, with its types.
func (e *Env) died(d channel.Delivery, i int, reason, queue, exchange string, count int64, keys ...any) {
	e.Helper()
	t := e.death(d, i)
	when, ok := t["time"].(time.Time)
	e.check(ok && (e.rig.Virtual() || time.Since(when).Abs() < time.Hour), "x-death: time is %#v", t["time"])
	want := table{"reason": reason, "queue": queue, "exchange": exchange, "count": count, "routing-keys": keys, "time": when}
	if o, ok := t["original-expiration"]; ok {
		want["original-expiration"] = o // where there is one, the row looks at it
	}
	e.sameTable(fmt.Sprintf("%q, entry %d of x-death", d.Body, i), t, want)
}
