package script

import (
	"maps"
	"slices"

	"github.com/dashi-mq/dashi/channel"
)

// again is a declaration that was made before, with at most one difference.
func (g *generator) again(o Op) Op {
	o.Args = maps.Clone(o.Args)
	switch g.IntN(8) {
	case 0:
		o.Durable = !o.Durable
	case 1:
		o.AutoDelete = !o.AutoDelete
	case 2:
		o.Exclusive = o.Do == DeclareQueue && !o.Exclusive
	case 3:
		o.Internal = o.Do == DeclareExchange && !o.Internal
	case 4:
		for _, k := range slices.Sorted(maps.Keys(o.Args)) {
			delete(o.Args, k)
			break
		}
	case 5:
		o.Passive = true
	}
	return g.slot(o)
}

func (g *generator) declareExchange() Op {
	if o, has := g.declared[pick(g, g.xs...)]; has && g.more("again", 30) {
		return g.again(o)
	}
	o := Op{
		Do: DeclareExchange, Exchange: pick(g, g.xs...), Type: g.kind(),
		Passive: g.often(10), Durable: g.often(30), AutoDelete: g.often(15), Internal: g.often(8),
	}
	if g.often(25) {
		o.Args = Args{"alternate-exchange": pick(g, append([]string{"amq.fanout", "x9"}, g.xs...)...)}
	}
	if g.Delay && g.often(15) {
		o.Args = Args{"x-delayed-type": o.Type}
		o.Type = channel.Delayed
	}
	if g.often(1) {
		o.Type = "x-nothing"
	}
	if g.often(1) {
		o.Exchange = pick(g, "", "amq.x", "amq.topic")
	}
	return g.slot(o)
}

func (g *generator) kind() string {
	switch {
	case g.leans["headers"] && g.often(60):
		return channel.Headers
	case g.leans["topics"] && g.often(60):
		return channel.Topic
	}
	return pick(g, channel.Direct, channel.Fanout, channel.Topic, channel.Headers)
}

func (g *generator) declareQueue() Op {
	if o, has := g.declared[pick(g, g.queues...)]; has && g.more("again", 30) {
		return g.again(o)
	}
	o := Op{Do: DeclareQueue, Queue: g.queue(), Passive: g.often(15), Durable: g.often(30), Exclusive: g.more("exclusive", 8), AutoDelete: g.often(12)}
	if g.often(2) {
		o.Queue = pick(g, "", "amq.q")
	}
	a := Args{}
	set := func(leaning string, p int, key string, v any) {
		if g.more(leaning, p) {
			a[key] = v
		}
	}
	set(g.either("deaths", "limits"), 45, "x-dead-letter-exchange", pick(g, append([]string{"", "", "", "x9"}, g.xs...)...))
	if _, has := a["x-dead-letter-exchange"]; has {
		set(g.either("deaths", "limits"), 45, "x-dead-letter-routing-key", pick(g, append([]string{"a", "b.c"}, g.queues...)...))
	}
	set("time", 25, "x-message-ttl", g.millis())
	set("limits", 25, "x-max-length", int64(g.IntN(4)))
	if g.Bytes {
		set("limits", 10, "x-max-length-bytes", int64(10*g.IntN(5)))
	}
	if a["x-max-length"] != nil || a["x-max-length-bytes"] != nil {
		set("limits", 50, "x-overflow", pick(g, "drop-head", "reject-publish", "reject-publish-dlx", "reject-publish-dlx"))
	}
	if (a["x-max-length"] != nil || a["x-max-length-bytes"] != nil) && a["x-message-ttl"] == int64(0) {
		delete(a, "x-message-ttl") // who of a batch dies of which is anybody's guess
	}
	set("priorities", 15, "x-max-priority", int64(pick(g, 1, 1, 3, 10)))
	set("windows", 15, "x-single-active-consumer", true)
	if g.Time {
		set("time", 6, "x-expires", pick[int64](g, 2000, 9000, 30000))
	}
	if g.Attempts {
		set("attempts", 12, "x-delivery-limit", int64(g.IntN(3)))
		set("attempts", 5, "x-queue-type", pick(g, "quorum", "quorum", "classic"))
	}
	if g.often(2) {
		a[pick(g, "x-message-ttl", "x-max-length", "x-overflow", "x-max-priority")] = pick[any](g, int64(-1), "bad", true)
	}
	if len(a) > 0 {
		o.Args = a
	}
	return g.slot(o)
}

func (g *generator) table(bind bool) Args {
	a := Args{}
	for _, k := range []string{"h", "k", "x-h"} {
		if g.often(45) {
			if a[k] = int64(1); g.often(50) { // or nothing would match
				continue
			}
			a[k] = pick[any](g, int64(1), int64(2), 1.5, "1", "s", true, []any{int64(1), "s"}, channel.Table{"t": int64(1)})
			if bind && g.often(10) {
				a[k] = nil
			}
		}
	}
	return a
}

func (g *generator) bindArgs() Args {
	if !g.more("headers", 25) {
		return nil
	}
	a := g.table(true)
	if g.often(70) {
		a["x-match"] = pick(g, "all", "any", "any", "all-with-x", "any-with-x", "any-with-x")
	}
	if g.often(2) {
		a["x-match"] = "some"
	}
	return a
}

func (g *generator) bindQueue() Op {
	x := g.exchange()
	if x == "" && !g.often(10) {
		x = pick(g, g.xs...)
	}
	return g.slot(Op{Do: BindQueue, Queue: g.queue(), Exchange: x, Key: g.pattern(), Args: g.bindArgs()})
}

func (g *generator) bindExchange() Op {
	return g.slot(Op{Do: BindExchange, To: pick(g, append([]string{"amq.fanout"}, g.xs...)...), Exchange: pick(g, append([]string{"amq.topic"}, g.xs...)...), Key: g.pattern(), Args: g.bindArgs()})
}
