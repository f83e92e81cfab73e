package exchange

import (
	"hash/maphash"
	"slices"
	"sync/atomic"
)

const (
	cacheSlots  = 4096 // a power of two
	cacheQueues = 256  // a longer result costs more to copy than to find
)

// cache remembers routes that depend on the exchange and the key alone. It is the one part of a Topology that
// readers change, hence the atomics.
//
// A key has one slot. What is there is good if it is for the same exchange and key and nothing that led to it has
// changed since; nothing is ever swept. The first miss of a key leaves a mark and only the second stores, so
// keys that come once cost no memory, and two busy keys of one slot do not replace each other in turn.
type cache struct {
	slots [cacheSlots]atomic.Pointer[cached]
	marks [cacheSlots]atomic.Uint32
}

type cached struct {
	key       string
	queues    []*Queue
	exchanges []*Exchange // the first is the one published to
	missing   []string
	declared  uint64 // Topology.declared then
	changes   uint64 // changesOf(exchanges) then
}

// changesOf adds up the changes of exchanges. Each only grows, so an equal sum means that each is as it was.
func changesOf(exchanges []*Exchange) (sum uint64) {
	for _, x := range exchanges {
		sum += x.changes
	}
	return sum
}

// worthCaching reports whether a route that begins here may take longer than a look into the cache.
func (x *Exchange) worthCaching() bool {
	switch router := x.router.(type) {
	case *directRouter, *fanoutRouter:
		return x.hops > 0 || x.Alternate != ""
	case *topicRouter:
		return true
	case *hashRouter:
		return router.keyed()
	}
	return false
}

// cacheSlot is where a key is, and what its mark looks like.
type cacheSlot struct {
	place int
	mark  uint32
}

func (c *cache) slot(seed maphash.Seed, x *Exchange, key string) cacheSlot {
	h := mix(maphash.String(seed, key) + uint64(x.node.index))
	return cacheSlot{place: int(h % cacheSlots), mark: uint32(h>>32) | 1}
}

// load fills r from the cache if it can.
func (c *cache) load(s cacheSlot, t *Topology, x *Exchange, key string, r *Result) bool {
	e := c.slots[s.place].Load()
	if e == nil || e.exchanges[0] != x || e.key != key || e.declared != t.declared || e.changes != changesOf(e.exchanges) {
		return false
	}
	r.Queues = append(r.Queues, e.queues...)
	r.Exchanges = append(r.Exchanges, e.exchanges...)
	r.Missing = append(r.Missing, e.missing...)
	return true
}

// store remembers r if the key missed before.
func (c *cache) store(s cacheSlot, t *Topology, key string, r *Result) {
	if len(r.Queues) > cacheQueues || len(r.Exchanges) > cacheQueues {
		return
	}
	mark := &c.marks[s.place]
	if mark.Load() != s.mark {
		mark.Store(s.mark)
		return
	}
	mark.Store(0) // where bindings change all the time, not every miss stores
	c.slots[s.place].Store(&cached{
		key:       key,
		queues:    slices.Clone(r.Queues),
		exchanges: slices.Clone(r.Exchanges),
		missing:   slices.Clone(r.Missing),
		declared:  t.declared,
		changes:   changesOf(r.Exchanges),
	})
}
