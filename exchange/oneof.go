package exchange

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"
)

// candidates are the destinations of an exchange that picks one, each once however often it is bound.
type candidates struct {
	list []*candidate
	of   map[*node]*candidate
}

type candidate struct {
	dst      *node
	place    int
	bindings int

	// For a hash:
	weights []uint64 // of its bindings, ascending
	hash    uint64   // of its name
}

func (c *candidates) join(b *binding) *candidate {
	m := c.of[b.dst]
	if m == nil {
		if c.of == nil {
			c.of = make(map[*node]*candidate)
		}
		m = &candidate{dst: b.dst, place: len(c.list)}
		c.of[b.dst] = m
		c.list = append(c.list, m)
	}
	m.bindings++
	return m
}

func (c *candidates) leave(b *binding) *candidate {
	m := c.of[b.dst]
	m.bindings--
	if m.bindings == 0 {
		delete(c.of, b.dst)
		last := c.list[len(c.list)-1]
		c.list[m.place], last.place = last, m.place
		c.list[len(c.list)-1] = nil
		c.list = c.list[:len(c.list)-1]
	}
	return m
}

// randomRouter is an x-random or x-local-random exchange.
type randomRouter struct {
	candidates
	local bool // only queues that have a consumer here
}

func (x *randomRouter) add(b *binding)    { x.join(b) }
func (x *randomRouter) remove(b *binding) { x.leave(b) }
func (x *randomRouter) keyed() bool       { return false }

func (x *randomRouter) route(r *Result) (selected bool) {
	var to *node
	if !x.local {
		if len(x.list) == 0 {
			return false
		}
		to = x.list[rand.IntN(len(x.list))].dst
	} else {
		// One pass, since Local may change meanwhile: the n-th that is local replaces the pick with probability 1/n.
		n := 0
		for _, m := range x.list {
			if m.dst.isLocal() {
				n++
				if rand.IntN(n) == 0 {
					to = m.dst
				}
			}
		}
		if to == nil {
			return false
		}
	}
	r.reach(to)
	return true
}

// isLocal reports whether a local random exchange may choose the node. An exchange has no consumers.
func (n *node) isLocal() bool { return n.queue != nil && n.queue.Local.Load() }

// hashRouter is an x-consistent-hash exchange, by weighted rendezvous hashing (Thaler and Ravishankar 1998; weights:
// Schindelhauer and Schomaker 2005): every destination draws a number from the hash of the message's text and its own
// name, stretched by its weight, and the highest wins.
//
// RabbitMQ uses jump consistent hashing over numbered buckets, whose numbers depend on the order in which the
// bindings were made. Here several processes route, each with its own copy of the bindings, so the choice must follow
// from the set of them alone. A ring would do that too, but needs about a thousand points a queue before shares
// come within a few per cent of the weights; this is exact. A new destination takes over just its share of the keys, and
// one that goes hands its own to the others: no other key moves. The price is a look at each destination, which the
// route cache hides for the keys that come again.
//
// A destination bound more than once counts with the largest of the weights. RabbitMQ 3.10 ignores all bindings
// but the first, which is again a matter of order; the largest is what lets a weight be raised by binding anew and
// then unbinding the old, with each key moving at most once.
type hashRouter struct {
	candidates
	source hashSource
	header string // for byHeader
}

// hashSource is what of a message is hashed.
type hashSource uint8

const (
	byKey hashSource = iota
	byHeader
	byMessageID
	byCorrelationID
	byTimestamp
)

// hashProperty reads the argument hash-property; byKey is an unknown one.
func hashProperty(name string) hashSource {
	switch name {
	case "message_id":
		return byMessageID
	case "correlation_id":
		return byCorrelationID
	case "timestamp":
		return byTimestamp
	}
	return byKey
}

func newHash(args map[string]any) *hashRouter {
	if header, ok := args[argHashHeader].(string); ok {
		return &hashRouter{source: byHeader, header: header}
	}
	property, _ := args[argHashProperty].(string)
	return &hashRouter{source: hashProperty(property)}
}

func (x *hashRouter) add(b *binding) {
	weight, _ := weightOf(b.key) // checked by Bind
	m := x.join(b)
	at, _ := slices.BinarySearch(m.weights, weight)
	m.weights = slices.Insert(m.weights, at, weight)
	kind := "q"
	if b.dst.exchange != nil {
		kind = "e"
	}
	m.hash = mix(hashText(hashText(fnvOffset, kind), b.dst.name()))
}

func (x *hashRouter) remove(b *binding) {
	weight, _ := weightOf(b.key)
	m := x.leave(b)
	at, _ := slices.BinarySearch(m.weights, weight)
	m.weights = slices.Delete(m.weights, at, at+1)
}

func (m *candidate) weight() uint64 { return m.weights[len(m.weights)-1] }

func (x *hashRouter) keyed() bool { return x.source == byKey }

func (x *hashRouter) route(m *Message, r *Result) (selected bool) {
	if len(x.list) == 0 {
		return false
	}
	r.reach(x.choose(x.hash(m)).dst)
	return true
}

// choose returns the destination for a hash.
func (x *hashRouter) choose(h uint64) *candidate {
	best, bestDraw := x.list[0], draw(h, x.list[0])
	for _, m := range x.list[1:] {
		d := draw(h, m)
		var order int
		if m.weight() == best.weight() {
			order = cmp.Compare(d, bestDraw) // no logarithms while weights are equal, as they mostly are
		} else {
			order = cmp.Compare(stretch(d, m.weight()), stretch(bestDraw, best.weight()))
		}
		if order == 0 {
			order = cmp.Compare(m.hash, best.hash)
		}
		if order > 0 {
			best, bestDraw = m, d
		}
	}
	return best
}

// draw is a number of 53 bits for a message's hash and a destination.
func draw(h uint64, m *candidate) uint64 { return mix(h^m.hash) >> 11 }

// stretch turns a uniform draw into one that is the highest of all with a probability in proportion to weight.
func stretch(d, weight uint64) float64 {
	return -float64(weight) / math.Log((float64(d)+0.5)/(1<<53))
}

// hash returns the hash of what the exchange looks at. A message that lacks it gets the hash of nothing: such messages
// go to one queue. Only the routing key itself counts, not those in CC and BCC: one message has one place.
func (x *hashRouter) hash(m *Message) uint64 {
	switch x.source {
	case byHeader:
		v, ok := m.Headers[x.header]
		if !ok {
			return mix(fnvOffset)
		}
		if tag(v) == 0 { // hashValue sees the type alone
			return mix(hashText(fnvOffset, fmt.Sprintf("%#v", v)))
		}
		return hashValue(v)
	case byMessageID:
		return mix(hashText(fnvOffset, m.MessageID))
	case byCorrelationID:
		return mix(hashText(fnvOffset, m.CorrelationID))
	case byTimestamp:
		if m.Timestamp.IsZero() {
			return mix(fnvOffset)
		}
		return hashSeconds(m.Timestamp)
	}
	return mix(hashText(fnvOffset, m.Key))
}

func hashSeconds(at time.Time) uint64 {
	var room [20]byte
	return mix(hashText(fnvOffset, strconv.AppendInt(room[:0], at.Unix(), 10)))
}
