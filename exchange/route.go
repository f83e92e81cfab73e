package exchange

import (
	"slices"
	"time"
)

// Message is what routing looks at.
type Message struct {
	Key string // the routing key

	// CC holds the keys of the headers CC and BCC together. They are routed with Key as if the message had been
	// published with each, but as one message (https://www.rabbitmq.com/docs/sender-selected).
	CC []string

	Headers       map[string]any
	MessageID     string
	CorrelationID string
	Timestamp     time.Time
}

// Result is what [Topology.Route] found, and its working memory: used again and again, it costs no allocation. The
// zero value is ready. It is for one Route at a time, and the slices, which must not be changed, are valid until the next.
type Result struct {
	// Queues has each queue that the message goes to once, in no particular order.
	Queues []*Queue

	// Exchanges has each exchange that the message passed once, the first one first. The default exchange is never
	// among them.
	Exchanges []*Exchange

	// Missing has the names of alternate exchanges that were needed and do not exist.
	Missing []string

	// Memory of our own: what the slices above show may be the cache's.
	queues    []*Queue
	exchanges []*Exchange
	missing   []string

	seen    bitset // nodes that are in Queues or Exchanges, while routing
	scan    topicScan
	unkeyed bool // the outcome depends on more than exchange and key
}

// bitset is a set of small numbers.
type bitset []uint64

func (s *bitset) grow(n uint32) {
	if words := int(n+63) / 64; words > len(*s) {
		*s = append(*s, make([]uint64, words-len(*s))...)
	}
}

func (s bitset) has(i uint32) bool { return s[i/64]&(1<<(i%64)) != 0 }
func (s bitset) set(i uint32)      { s[i/64] |= 1 << (i % 64) }
func (s bitset) clear(i uint32)    { s[i/64] &^= 1 << (i % 64) }

// reach adds a destination, unless it is there already.
func (r *Result) reach(n *node) {
	if r.seen.has(n.index) {
		return
	}
	r.seen.set(n.index)
	if n.queue != nil {
		r.Queues = append(r.Queues, n.queue)
	} else {
		r.Exchanges = append(r.Exchanges, n.exchange)
	}
}

// reachAll reports whether there was any destination, new or not.
func (r *Result) reachAll(list []*binding) bool {
	for _, b := range list {
		r.reach(b.dst)
	}
	return len(list) > 0
}

// Route fills r with the queues that m goes to when it is published to the exchange. It returns false, and an
// empty result, if there is no such exchange. That a message may not be published to an internal exchange is
// for the caller to say.
//
// From the first exchange on, each exchange that is reached routes the message once, by all its keys. Where an
// exchange's own bindings select no destination for any of them, its alternate is reached instead; a destination that
// was there already, or an exchange that then leads nowhere, counts as one
// (https://www.rabbitmq.com/docs/ae, https://www.rabbitmq.com/docs/e2e).
func (t *Topology) Route(r *Result, exchange string, m *Message) bool {
	r.Queues, r.Exchanges, r.Missing = r.queues[:0], r.exchanges[:0], r.missing[:0]
	if exchange == "" {
		t.routeDefault(r, m)
		r.keep()
		return true
	}
	x := t.exchanges[exchange]
	if x == nil {
		return false
	}
	if len(m.CC) > 0 || !x.worthCaching() {
		t.walk(r, x, m)
		r.keep()
		return true
	}
	slot := t.cache.slot(t.seed, x, m.Key)
	if t.cache.load(slot, t, x, m.Key, r) {
		return true
	}
	t.walk(r, x, m)
	r.keep()
	if !r.unkeyed {
		t.cache.store(slot, t, m.Key, r)
	}
	return true
}

// keep has the memory used again that a route filled.
func (r *Result) keep() { r.queues, r.exchanges, r.missing = r.Queues, r.Exchanges, r.Missing }

// routeDefault routes over the default exchange, to which each queue is bound by its name (AMQP 0-9-1, section
// 3.1.3.1). No queue is named "", which stands for the last one declared on a channel.
func (t *Topology) routeDefault(r *Result, m *Message) {
	if q := t.queues[m.Key]; q != nil && m.Key != "" {
		r.Queues = append(r.Queues, q)
	}
	if len(m.CC) == 0 {
		return
	}
	r.seen.grow(t.nodes)
	for _, q := range r.Queues {
		r.seen.set(q.node.index)
	}
	for _, key := range m.CC {
		if q := t.queues[key]; q != nil && key != "" {
			r.reach(&q.node)
		}
	}
	r.unmark()
}

// walk routes from exchange to exchange; r.Exchanges is the list of those to do as well as of those done.
func (t *Topology) walk(r *Result, first *Exchange, m *Message) {
	r.unkeyed = false
	r.seen.grow(t.nodes)
	r.reach(&first.node)
	for i := 0; i < len(r.Exchanges); i++ {
		x := r.Exchanges[i]
		if !x.router.keyed() {
			r.unkeyed = true
		}
		if x.route(m, r) || x.Alternate == "" {
			continue
		}
		if a := t.exchanges[x.Alternate]; a != nil {
			r.reach(&a.node)
		} else if !slices.Contains(r.Missing, x.Alternate) {
			r.Missing = append(r.Missing, x.Alternate)
		}
	}
	r.unmark()
}

// route reaches what the exchange's own bindings select and reports whether they selected anything.
//
// A switch and not a method of router: calls that the compiler can follow keep the caller's Message off the heap.
func (x *Exchange) route(m *Message, r *Result) bool {
	switch router := x.router.(type) {
	case *directRouter:
		return router.route(m, r)
	case *fanoutRouter:
		return r.reachAll(x.out)
	case *topicRouter:
		return router.route(m, r)
	case *headersRouter:
		return router.route(m, r)
	case *hashRouter:
		return router.route(m, r)
	case *randomRouter:
		return router.route(r)
	}
	return false
}

// unmark clears the marks that this route made, and only those: there may be a million nodes.
func (r *Result) unmark() {
	for _, q := range r.Queues {
		r.seen.clear(q.node.index)
	}
	for _, x := range r.Exchanges {
		r.seen.clear(x.node.index)
	}
}
