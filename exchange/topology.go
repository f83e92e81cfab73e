package exchange

import (
	"errors"
	"fmt"
	"hash/maphash"
	"math"
	"sync/atomic"
)

// ErrDefault is returned by what would declare or bind the default exchange, "". AMQP answers with the channel
// exception 403.
var ErrDefault = errors.New("operation not permitted on the default exchange")

// NotFoundError says that one side of a binding does not exist. AMQP answers with the channel exception 404.
type NotFoundError struct {
	Kind string // "exchange" or "queue"
	Name string
}

// Error names the missing side.
func (e *NotFoundError) Error() string { return fmt.Sprintf("no %s %q", e.Kind, e.Name) }

// Topology holds the exchanges, queues and bindings of one vhost and routes over them.
//
// Route, Explain, the lookups and the listings may run concurrently with one another; everything that changes the
// topology needs exclusive access. The caller holds a [sync.RWMutex] around it.
type Topology struct {
	exchanges map[string]*Exchange
	queues    map[string]*Queue

	// ids finds a binding by a hash of its identity; those of one hash are chained by binding.next. A map keyed by
	// the identity itself would cost three times the memory at a million bindings.
	ids    map[uint64]*binding
	count  int
	seed   maphash.Seed
	idBits uint64 // of the hash, which of its bits are used: all, but for tests of the chains

	// declared counts additions and removals of exchanges, for the route cache.
	declared uint64
	cache    cache

	nodes uint32   // indices given out so far
	free  []uint32 // indices of nodes that are gone, to be used again
}

// Exchange is one exchange. Its fields except Data are to be read only.
type Exchange struct {
	Name      string
	Kind      string
	Alternate string // the argument alternate-exchange; "" is none
	Internal  bool
	Data      any // the caller's

	node   node
	router router
	out    []*binding // the bindings of which it is the source
	hops   int        // how many of them lead to an exchange

	// changes counts bindings added and removed with this exchange as their source, for the route cache.
	changes uint64
}

// Queue is one queue. Its fields except Data and Local are to be read only.
type Queue struct {
	Name string
	Data any // the caller's

	// Local says that this process has a consumer on the queue, which is what a [LocalRandom] exchange looks at. It
	// may be set while others route.
	Local atomic.Bool

	node node
}

// node is what a binding can lead to: it is part of either a Queue or an Exchange.
type node struct {
	index    uint32 // dense: Result marks it in a bit set
	queue    *Queue // one of these two is set
	exchange *Exchange
	in       []*binding // the bindings of which it is the destination
}

func (n *node) name() string {
	if n.queue != nil {
		return n.queue.Name
	}
	return n.exchange.Name
}

// router is the part of an exchange that differs from kind to kind. Routing itself is not a method here: see
// Exchange.route.
type router interface {
	add(b *binding)
	remove(b *binding)

	// keyed reports whether the outcome depends on the routing key and the bindings alone, so that it can be cached.
	keyed() bool
}

// New returns an empty topology. Nothing is predeclared but the default exchange, which is always there.
func New() *Topology {
	return &Topology{
		exchanges: make(map[string]*Exchange),
		queues:    make(map[string]*Queue),
		ids:       make(map[uint64]*binding),
		seed:      maphash.MakeSeed(),
		idBits:    math.MaxUint64,
	}
}

// AddExchange adds an exchange. It is an error if one of that name exists, if the name is "" ([ErrDefault]), or if
// [CheckExchange] has something against it.
func (t *Topology) AddExchange(name, kind string, args map[string]any, internal bool) (*Exchange, error) {
	if name == "" {
		return nil, ErrDefault
	}
	if t.exchanges[name] != nil {
		return nil, fmt.Errorf("exchange %q exists", name)
	}
	if err := CheckExchange(kind, args); err != nil {
		return nil, err
	}
	x := &Exchange{Name: name, Kind: kind, Internal: internal}
	x.Alternate, _, _ = stringArg(args, argAlternate)
	x.node = node{index: t.newIndex(), exchange: x}
	switch Kind(kind) {
	case Direct:
		x.router = newDirect()
	case Fanout:
		x.router = &fanoutRouter{}
	case Topic:
		x.router = &topicRouter{}
	case Headers:
		x.router = newHeaders()
	case ConsistentHash:
		x.router = newHash(args)
	case Random:
		x.router = &randomRouter{}
	case LocalRandom:
		x.router = &randomRouter{local: true}
	}
	t.exchanges[name] = x
	t.declared++
	return x, nil
}

// RemoveExchange removes an exchange and its bindings on both sides. Those that auto-delete rules are about can be
// had before from [Topology.BindingsTo]. An unknown name is no error.
func (t *Topology) RemoveExchange(name string) {
	x := t.exchanges[name]
	if x == nil {
		return
	}
	t.unlinkAll(&x.out)
	t.unlinkAll(&x.node.in)
	delete(t.exchanges, name)
	t.freeIndex(x.node.index)
	t.declared++
}

// Exchange returns the exchange of that name, or nil. The default exchange is none: Exchange("") is nil.
func (t *Topology) Exchange(name string) *Exchange { return t.exchanges[name] }

// AddQueue adds a queue and returns it, or the one that exists already. From then on the default exchange leads to it.
func (t *Topology) AddQueue(name string) *Queue {
	if q := t.queues[name]; q != nil {
		return q
	}
	q := &Queue{Name: name}
	q.node = node{index: t.newIndex(), queue: q}
	t.queues[name] = q
	return q
}

// RemoveQueue removes a queue and its bindings. An unknown name is no error.
func (t *Topology) RemoveQueue(name string) {
	q := t.queues[name]
	if q == nil {
		return
	}
	t.unlinkAll(&q.node.in)
	delete(t.queues, name)
	t.freeIndex(q.node.index)
}

// Queue returns the queue of that name, or nil.
func (t *Topology) Queue(name string) *Queue { return t.queues[name] }

// unlinkAll removes every binding of a list that unlink itself shortens.
func (t *Topology) unlinkAll(list *[]*binding) {
	for len(*list) > 0 {
		t.unlink((*list)[len(*list)-1])
	}
}

// newIndex gives out the smallest indices it can, so that the bit sets in Results stay as small as the topology.
func (t *Topology) newIndex() uint32 {
	if n := len(t.free); n > 0 {
		i := t.free[n-1]
		t.free = t.free[:n-1]
		return i
	}
	t.nodes++
	return t.nodes - 1
}

func (t *Topology) freeIndex(i uint32) { t.free = append(t.free, i) }
