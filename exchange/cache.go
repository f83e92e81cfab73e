package exchange

import (
	"hash/maphash"
	"math/rand/v2"
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
// A key has two places, so that hardly ever three busy keys want the same two. What is there is good if it is for the same
// exchange and key and nothing that led to it has changed since; nothing is ever swept. The first miss of a key leaves a mark
// and only the second stores, so keys that come once cost no memory, and busy keys of one place do not replace each other in
// turn. A tag beside a slot tells most misses without a look at what is in it.
type cache struct {
	slots [cacheSlots]atomic.Pointer[cached]
	tags  [cacheSlots]atomic.Uint32
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

// cacheSlot is where a key may be, and what its tag and mark look like.
type cacheSlot struct {
	places [2]int
	tag    uint32
}

func (c *cache) slot(seed maphash.Seed, x *Exchange, key string) cacheSlot {
	h := mix(maphash.String(seed, key) + uint64(x.node.index))
	return cacheSlot{places: [2]int{int(h % cacheSlots), int(h / cacheSlots % cacheSlots)}, tag: uint32(h>>32) | 1}
}

// load fills r from the cache if it can.
func (c *cache) load(s cacheSlot, t *Topology, x *Exchange, key string, r *Result) bool {
	for _, place := range s.places {
		if c.tags[place].Load() != s.tag {
			continue
		}
		if e := c.slots[place].Load(); e != nil && e.exchanges[0] == x && e.key == key && e.good(t) {
			r.Queues, r.Exchanges, r.Missing = e.queues, e.exchanges, e.missing
			return true
		}
	}
	return false
}

// good reports whether nothing that led to a result has changed since.
func (e *cached) good(t *Topology) bool {
	return e.declared == t.declared && e.changes == changesOf(e.exchanges)
}

// again reports whether the key missed before, and marks it if not: at one of its places, by chance, so that no two keys
// wipe out each other's marks for ever.
func (c *cache) again(s cacheSlot) bool {
	for _, place := range s.places {
		if c.marks[place].CompareAndSwap(s.tag, 0) { // where bindings change all the time, not every miss stores
			return true
		}
	}
	c.marks[s.places[rand.IntN(len(s.places))]].Store(s.tag)
	return false
}

// store remembers r if the key missed before.
func (c *cache) store(s cacheSlot, t *Topology, key string, r *Result) {
	if len(r.Queues) > cacheQueues || len(r.Exchanges) > cacheQueues {
		return
	}
	if !c.again(s) {
		return
	}
	place := s.places[0]
	if e := c.slots[place].Load(); e != nil && e.key != key && e.good(t) {
		place = s.places[1]
	}
	c.tags[place].Store(s.tag)
	c.slots[place].Store(&cached{
		key:       key,
		queues:    slices.Clone(r.Queues),
		exchanges: slices.Clone(r.Exchanges),
		missing:   slices.Clone(r.Missing),
		declared:  t.declared,
		changes:   changesOf(r.Exchanges),
	})
}
