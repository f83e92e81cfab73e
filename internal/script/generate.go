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
	// Bytes, Attempts: whether x-max-length-bytes, and x-delivery-limit and quorum queues are used.
	Bytes, Attempts bool
	// Leans are the leanings of all scripts; nil: three at random for each.
	Leans []string
	// Rules are the broker's. Where there is a Peer with other rules, only that is used which both show alike, and one way only:
	// see Alike.
	Rules model.Rules
	Peer  *model.Rules
}

// generator makes a script and keeps a model beside it, so that operations make sense mostly.
type generator struct {
	Profile
	*rand.Rand
	b        *model.Broker
	peer     *model.Broker // nil: there is none
	now      time.Time
	s        Script
	tags     int
	queues   []string
	xs       []string
	leans    map[string]bool
	declared map[string]Op // how a queue or an exchange was last declared
}

// leanings are what a script may have more of than others: all of everything in every script would be little of each.
var leanings = []string{
	"narrow", "narrow", "narrow", // few queues and channels, where operations meet
	"headers", "topics", "limits", "attempts", "deaths", "windows", "confirms", "transactions", "priorities", "again", "exclusive", "time", "deletes", "crashes",
}

// Generate makes the script of a seed.
func Generate(seed uint64, p Profile) Script {
	g := &generator{Profile: p, Rand: rand.New(rand.NewPCG(seed, 1)), now: time.Unix(1e9, 0)}
	g.b = model.New(p.Rules, g.now)
	if p.Peer != nil {
		g.peer = model.New(*p.Peer, g.now)
	}
	g.leans, g.declared = map[string]bool{}, map[string]Op{}
	leans := p.Leans
	for i := 0; i < 3 && p.Leans == nil; i++ {
		leans = append(leans, pick(g, leanings...))
	}
	for _, l := range leans {
		g.leans[l] = true
	}
	queues, exchanges := 2+g.IntN(3), 1+g.IntN(3)
	if g.leans["narrow"] {
		g.Conns, g.Chans, queues, exchanges = min(2, p.Conns), 1, 1+g.IntN(2), 1
	}
	for i := range queues {
		g.queues = append(g.queues, fmt.Sprint("q", i))
	}
	for i := range exchanges {
		g.xs = append(g.xs, fmt.Sprint("x", i))
	}
	for c := range g.Conns {
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
		if g.more(g.either("headers", "topics"), 50) {
			o := g.bindQueue()
			o.Queue = q
			g.add(o)
		}
	}
	for len(g.s) < p.Length {
		g.add(g.op())
	}
	// In the end everything is looked at.
	for c := range g.Conns {
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
	if !alike {
		return
	}
	g.s, g.b, g.peer = append(g.s, o), b, peer
	if (o.Do == DeclareQueue || o.Do == DeclareExchange) && !o.Passive {
		g.declared[o.Queue+o.Exchange] = o
	}
}

func pick[T any](g *generator, from ...T) T { return from[g.IntN(len(from))] }

// often is true p times in a hundred.
func (g *generator) often(p int) bool { return g.IntN(100) < p }

// more is often, and much more often in a script that leans that way.
func (g *generator) more(leaning string, p int) bool {
	if g.leans[leaning] {
		p = max(70, p)
	}
	return g.often(p)
}

// either returns the leaning of several that the script has, if any.
func (g *generator) either(leanings ...string) string {
	for _, l := range leanings {
		if g.leans[l] {
			return l
		}
	}
	return ""
}

// weight is that of a choice, more in a script that leans that way.
func (g *generator) weight(leaning string, n int) int {
	if g.leans[leaning] {
		return 4 * n
	}
	return n
}

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
		{24, g.publish}, {12, g.consume}, {g.weight("deaths", 12), g.settle}, {8, func() Op { return Op{Do: Get, Queue: g.queue(), NoAck: g.often(30)} }},
		{g.weight(g.either("headers", "topics"), 5), g.bindQueue}, {g.weight("again", 3), g.declareQueue}, {g.weight("again", 2), g.declareExchange}, {3, g.bindExchange},
		{g.weight("deletes", 2), func() Op { o := g.bindQueue(); o.Do = UnbindQueue; return o }},
		{1, func() Op { o := g.bindExchange(); o.Do = UnbindExchange; return o }},
		{g.weight("deletes", 1), func() Op { return Op{Do: DeleteQueue, Queue: g.queue(), IfUnused: g.often(40), IfEmpty: g.often(40)} }},
		{g.weight("deletes", 1), func() Op { return Op{Do: DeleteExchange, Exchange: pick(g, g.xs...), IfUnused: g.often(50)} }},
		{g.weight("deletes", 1), func() Op { return Op{Do: PurgeQueue, Queue: g.queue()} }},
		{5, func() Op { return Op{Do: Cancel, Tag: g.someTag()} }},
		{g.weight("windows", 5), func() Op { return Op{Do: Qos, N: g.IntN(5), Global: g.often(30)} }},
		{2, func() Op { return Op{Do: Recover, Requeue: !g.often(5)} }},
		{g.weight("confirms", 3), func() Op { return Op{Do: ConfirmSelect} }},
		{g.weight("transactions", 2), func() Op { return Op{Do: TxSelect} }},
		{g.weight("transactions", 4), func() Op { return Op{Do: TxCommit} }},
		{g.weight("transactions", 1), func() Op { return Op{Do: TxRollback} }},
		{2, func() Op { return Op{Do: CloseChannel} }},
		{1, func() Op { return Op{Do: CloseConnection} }},
		{2, func() Op { return Op{Do: OpenChannel} }},
	}
	if g.Time {
		choices = append(choices, choice{g.weight("time", 6), func() Op { return Op{Do: Sleep, N: pick(g, 500, 1000, 2000, 5000, 12000)} }})
	}
	if g.Crashes {
		choices = append(choices, choice{g.weight("crashes", 1), func() Op { return Op{Do: Crash} }})
	}
	total := 0
	for _, c := range choices {
		total += c.weight
	}
	n := g.IntN(total)
	for _, c := range choices {
		if n -= c.weight; n < 0 {
			o := g.slot(c.make())
			o.NoWait = g.often(5) && mayNotWait(&o)
			return g.sensible(o)
		}
	}
	panic("no choice")
}

// mayNotWait reports whether an operation has a no-wait form. Whoever declares a queue without a name waits for it.
func mayNotWait(o *Op) bool {
	switch o.Do {
	case DeclareQueue:
		return !o.Passive && o.Queue != ""
	case DeclareExchange:
		return !o.Passive
	case DeleteQueue, DeleteExchange, PurgeQueue, BindQueue, BindExchange, UnbindExchange, Consume, Cancel:
		return true
	}
	return false
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

func (g *generator) publish() Op {
	o := Op{Do: Publish, Exchange: g.exchange(), Key: g.key(), N: pick(g, 1, 1, 1, 2, 3, 5), Mandatory: g.often(25), Priority: pick[uint8](g, 0, 0, 1, 2, 3, 200)}
	if g.leans[g.either("deaths", "limits")] && g.often(50) {
		o.Exchange = ""
	}
	if o.Exchange == "" && !g.often(10) {
		o.Key = pick(g, g.queues...)
	}
	if g.more("time", 20) {
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
	if g.often(2) {
		o.Mode = 3
	}
	if g.often(15) {
		o.Size = g.IntN(40)
	}
	if g.often(1) {
		o.Size = g.IntN(64 << 10)
	}
	if g.often(20) {
		o.Props = g.IntN(1 << 7)
	}
	if g.often(4) {
		o.User = pick(g, "guest", "guest", "nobody")
	}
	h := Args{}
	if g.more("headers", 30) {
		h = g.table(false)
	}
	if g.often(14) {
		h["CC"] = []any{g.key(), pick(g, g.queues...)}
	}
	if g.often(14) {
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
	if g.leans["deaths"] && g.often(50) {
		o.Do, o.Requeue = Reject, false
	}
	o.Multiple = o.Do != Reject && g.often(40)
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
