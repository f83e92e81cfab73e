package script

import (
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/model"
)

// Profile says what a generator may use.
type Profile struct {
	Length int // about how many operations
	Conns  int
	Chans  int // of each connection
	// Time, Crashes, Delay: whether time passes, processes die, messages are delayed.
	Time, Crashes, Delay bool
	// Bytes, Limits, Quorum: whether x-max-length-bytes, x-delivery-limit are used, and the latter on quorum queues.
	Bytes, Attempts bool
	// Rules are the broker's. Where there is a Peer with other rules, only that is used which both show alike, and one way only:
	// see Alike.
	Rules model.Rules
	Peer  *model.Rules
}

// generator makes a script and keeps a model beside it, so that operations make sense mostly.
type generator struct {
	Profile
	*rand.Rand
	b      *model.Broker
	peer   *model.Broker // nil: there is none
	now    time.Time
	s      Script
	tags   int
	queues []string
	xs     []string
}

// Generate makes the script of a seed.
func Generate(seed uint64, p Profile) Script {
	g := &generator{Profile: p, Rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0)}
	g.b = model.New(p.Rules, g.now)
	if p.Peer != nil {
		g.peer = model.New(*p.Peer, g.now)
	}
	for i := range 2 + g.IntN(3) {
		g.queues = append(g.queues, fmt.Sprint("q", i))
	}
	for i := range 1 + g.IntN(3) {
		g.xs = append(g.xs, fmt.Sprint("x", i))
	}
	for c := range p.Conns {
		g.add(Op{Do: OpenChannel, Conn: c})
	}
	for _, x := range g.xs {
		o := g.declareExchange()
		o.Exchange, o.Passive = x, false
		g.add(o)
	}
	for _, q := range g.queues {
		o := g.declareQueue()
		o.Queue, o.Passive = q, false
		g.add(o)
		if g.IntN(2) == 0 {
			o := g.bindQueue()
			o.Queue = q
			g.add(o)
		}
	}
	for len(g.s) < p.Length {
		g.add(g.op())
	}
	// In the end everything is looked at.
	for c := range p.Conns {
		g.add(Op{Do: CloseConnection, Conn: c})
	}
	g.add(Op{Do: OpenChannel})
	for _, q := range g.queues {
		if g.exists(q) {
			g.add(Op{Do: Drain, Queue: q})
		}
	}
	return g.s
}

// exists reports whether a queue is there that anybody may use.
func (g *generator) exists(queue string) bool {
	_, step := model.Predict(g.b, func(b *model.Broker) {
		b.OpenChannel(model.Slot{Conn: maxConns})
		b.Call(model.Slot{Conn: maxConns}, &channel.QueueDeclare{Name: queue, Passive: true})
	})
	return step.Reply.Code == 0
}

// add appends an operation and lets the model make it.
func (g *generator) add(o Op) {
	if o.Do != OpenChannel && o.Do != Sleep && o.Do != Crash && !g.b.Open(o.Slot()) && g.IntN(8) > 0 {
		g.add(Op{Do: OpenChannel, Conn: o.Conn, Chan: o.Chan})
	}
	switch o.Do {
	case Sleep:
		g.now = g.now.Add(time.Duration(o.N) * time.Millisecond)
	case Crash:
		g.now = g.now.Add(max(g.Rules.Lease, g.Rules.Session))
	}
	b, peer, alike := predict(g.b, g.peer, &o, len(g.s), g.now)
	if alike {
		g.s, g.b, g.peer = append(g.s, o), b, peer
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// often is true p times in a hundred.
func (g *generator) often(p int) bool { return g.IntN(100) < p }

func (g *generator) slot(o Op) Op {
	o.Conn, o.Chan = g.IntN(g.Conns), g.IntN(g.Chans)
	return o
}

var words = []string{"a", "b", "c"}

// key is a routing key.
func (g *generator) key() string {
	switch g.IntN(6) {
	case 0:
		return ""
	case 1:
		return pick(g, g.queues...)
	}
	k := pick(g, words...)
	for g.often(40) {
		k += "." + pick(g, "a", "b", "c", "")
	}
	return k
}

// pattern is the key of a binding.
func (g *generator) pattern() string {
	if g.often(30) {
		return g.key()
	}
	k := pick(g, "*", "#", "a", "b")
	for g.often(45) {
		k += "." + pick(g, "*", "#", "a", "b", "")
	}
	return k
}

func (g *generator) exchange() string {
	switch g.IntN(10) {
	case 0, 1:
		return ""
	case 2:
		return pick(g, "amq.direct", "amq.fanout", "amq.topic", "amq.headers")
	}
	return pick(g, g.xs...)
}

// queue is the name of a queue; rarely of none, or of the channel's last.
func (g *generator) queue() string {
	switch {
	case g.often(2):
		return "q9"
	case g.often(3):
		return ""
	case g.often(2):
		return "amq.gen-1"
	}
	return pick(g, g.queues...)
}

// millis is a time of a message or a queue: short beside what a script sleeps in all, or for ever.
func (g *generator) millis() int64 {
	if !g.Time || g.often(15) {
		return pick[int64](g, 0, 100_000_000)
	}
	return pick[int64](g, 0, 1000, 3000, 7000, 20000)
}

func (g *generator) op() Op {
	type choice struct {
		weight int
		make   func() Op
	}
	choices := []choice{
		{24, g.publish}, {12, g.consume}, {16, g.settle}, {8, func() Op { return Op{Do: Get, Queue: g.queue(), NoAck: g.often(30)} }},
		{5, g.bindQueue}, {3, g.declareQueue}, {2, g.declareExchange}, {3, g.bindExchange},
		{2, func() Op { o := g.bindQueue(); o.Do = UnbindQueue; return o }},
		{1, func() Op { o := g.bindExchange(); o.Do = UnbindExchange; return o }},
		{1, func() Op { return Op{Do: DeleteQueue, Queue: g.queue(), IfUnused: g.often(40), IfEmpty: g.often(40)} }},
		{1, func() Op { return Op{Do: DeleteExchange, Exchange: pick(g, g.xs...), IfUnused: g.often(50)} }},
		{1, func() Op { return Op{Do: PurgeQueue, Queue: g.queue()} }},
		{5, func() Op { return Op{Do: Cancel, Tag: g.someTag()} }},
		{5, func() Op { return Op{Do: Qos, N: g.IntN(5), Global: g.often(30)} }},
		{2, func() Op { return Op{Do: Recover, Requeue: !g.often(5)} }},
		{3, func() Op { return Op{Do: ConfirmSelect} }},
		{2, func() Op { return Op{Do: TxSelect} }},
		{4, func() Op { return Op{Do: TxCommit} }},
		{1, func() Op { return Op{Do: TxRollback} }},
		{2, func() Op { return Op{Do: CloseChannel} }},
		{1, func() Op { return Op{Do: CloseConnection} }},
		{2, func() Op { return Op{Do: OpenChannel} }},
	}
	if g.Time {
		choices = append(choices, choice{8, func() Op { return Op{Do: Sleep, N: pick(g, 500, 1000, 2000, 5000, 12000)} }})
	}
	if g.Crashes {
		choices = append(choices, choice{1, func() Op { return Op{Do: Crash} }})
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := g.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			o := g.slot(c.make())
			return g.sensible(o)
		}
	}
	panic("no choice")
}

// sensible moves an operation to a channel where it does something, mostly.
func (g *generator) sensible(o Op) Op {
	wants := func(s model.Slot) bool { return true }
	switch o.Do {
	case Ack, Nack, Reject:
		wants = func(s model.Slot) bool { return len(g.b.Unacked(s)) > 0 }
	case TxCommit, TxRollback:
		wants = g.b.Transactional
	case Cancel:
		if slots := g.b.Consuming(o.Tag); len(slots) > 0 && g.often(90) {
			o.Conn, o.Chan = slots[0].Conn, slots[0].Chan
			return o
		}
	}
	if g.often(3) {
		return o
	}
	for range 20 {
		if wants(o.Slot()) {
			if n := len(g.b.Unacked(o.Slot())); n > 0 && o.N > 0 {
				o.N %= n
			}
			return o
		}
		o = g.slot(o)
	}
	if o.Do == TxCommit || o.Do == TxRollback {
		o.Do = TxSelect
	}
	return o
}

func (g *generator) declareExchange() Op {
	o := Op{
		Do: DeclareExchange, Exchange: pick(g, g.xs...), Type: pick(g, channel.Direct, channel.Fanout, channel.Topic, channel.Headers),
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

func (g *generator) declareQueue() Op {
	o := Op{Do: DeclareQueue, Queue: g.queue(), Passive: g.often(15), Durable: g.often(30), Exclusive: g.often(8), AutoDelete: g.often(12)}
	if g.often(2) {
		o.Queue = pick(g, "", "amq.q")
	}
	a := Args{}
	set := func(p int, key string, v any) {
		if g.often(p) {
			a[key] = v
		}
	}
	set(45, "x-dead-letter-exchange", pick(g, append([]string{"", "", "x9"}, g.xs...)...))
	if _, has := a["x-dead-letter-exchange"]; has {
		set(60, "x-dead-letter-routing-key", pick(g, append([]string{"a", "b.c"}, g.queues...)...))
	}
	set(25, "x-message-ttl", g.millis())
	set(25, "x-max-length", int64(g.IntN(4)))
	if g.Bytes {
		set(10, "x-max-length-bytes", int64(10*g.IntN(5)))
	}
	if a["x-max-length"] != nil || a["x-max-length-bytes"] != nil {
		set(50, "x-overflow", pick(g, "drop-head", "reject-publish", "reject-publish-dlx"))
	}
	if a["x-max-length"] != nil && a["x-message-ttl"] == int64(0) {
		delete(a, "x-message-ttl") // who of a batch dies of which is anybody's guess
	}
	set(15, "x-max-priority", int64(pick(g, 1, 3, 10)))
	set(15, "x-single-active-consumer", true)
	if g.Time {
		set(6, "x-expires", pick[int64](g, 2000, 9000, 30000))
	}
	if g.Attempts {
		set(12, "x-delivery-limit", int64(g.IntN(3)))
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
			a[k] = pick[any](g, int64(1), int64(2), 1.5, "1", "s", true)
			if bind && g.often(10) {
				a[k] = nil
			}
		}
	}
	return a
}

func (g *generator) bindArgs() Args {
	if !g.often(25) {
		return nil
	}
	a := g.table(true)
	if g.often(70) {
		a["x-match"] = pick(g, "all", "any", "all-with-x", "any-with-x")
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

func (g *generator) publish() Op {
	o := Op{Do: Publish, Exchange: g.exchange(), Key: g.key(), N: pick(g, 1, 1, 1, 2, 3, 5), Mandatory: g.often(25), Priority: pick[uint8](g, 0, 0, 1, 3, 9, 200)}
	if o.Exchange == "" && !g.often(10) {
		o.Key = pick(g, g.queues...)
	}
	if g.often(20) {
		o.Expiration = fmt.Sprint(g.millis())
	}
	if o.Expiration == "0" { // who of a batch expires and who is pushed out is anybody's guess
		o.N = 1
	}
	if g.often(1) {
		o.Expiration = pick(g, "-1", "x", "1.5")
	}
	if g.often(1) {
		o.Exchange = "x9"
	}
	if g.often(30) {
		o.Mode = pick[uint8](g, 1, 2)
	}
	if g.often(15) {
		o.Size = g.IntN(40)
	}
	h := Args{}
	if g.often(30) {
		h = g.table(false)
	}
	if g.often(12) {
		h["CC"] = []any{g.key(), pick(g, g.queues...)}
	}
	if g.often(8) {
		h["BCC"] = []any{pick(g, g.queues...)}
	}
	if g.Delay && g.often(30) {
		h["x-delay"] = pick[int64](g, -5, 0, 1000, 4000)
	}
	if len(h) > 0 {
		o.Headers = h
	}
	return o
}

func (g *generator) consume() Op {
	g.tags++
	o := Op{Do: Consume, Queue: g.queue(), Tag: fmt.Sprint("c", g.tags), NoAck: g.often(20), Exclusive: g.often(6)}
	if g.often(20) {
		o.Args = Args{"x-priority": int64(g.IntN(3))}
	}
	if g.often(1) {
		o.Tag = "c1"
	}
	return o
}

// someTag is the tag of a consumer that is likely to be there.
func (g *generator) someTag() string {
	var there []string
	for i := range g.tags {
		if tag := fmt.Sprint("c", i+1); len(g.b.Consuming(tag)) > 0 {
			there = append(there, tag)
		}
	}
	if len(there) == 0 {
		return "c0"
	}
	return there[g.IntN(len(there))]
}

func (g *generator) settle() Op {
	o := Op{Do: pick(g, Ack, Ack, Ack, Nack, Nack, Reject), N: g.IntN(3), Requeue: g.often(50)}
	o.Multiple = o.Do != Reject && g.often(30)
	if o.Do == Ack {
		o.Requeue = false
	}
	switch {
	case o.Multiple && g.often(40):
		o.N = -1
	case g.often(1):
		o.N = -1
	}
	return o
}
