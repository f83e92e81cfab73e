package redis

import (
	"fmt"
	"hash/crc32"
	"math/bits"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// What Options.Slots may be.
const (
	// SlotsVhost keeps all of a vhost in one slot of a Cluster, so on one of its masters: what concerns several queues is one step.
	SlotsVhost = "vhost"
	// SlotsQueue spreads the queues of a vhost over 64 slots, and so over all masters. The store has no Guards and no Atomic then: a
	// Put to several queues is one step for each of the slots they are in.
	SlotsQueue = "queue"
)

// inParts is how many parts a vhost has with SlotsQueue. It never changes: it says where a queue is.
const inParts = 64

// baseOf is what the names of a vhost's own keys begin with, and of its queues' where they are in one slot. The braces are
// the hash tag of a Cluster.
func baseOf(prefix, vhost string) string { return prefix + ":{" + vhost + "}:" }

// partsOf are what the names of the queues' keys begin with, part by part. No vhost's own base looks like one of these, whatever
// its name: those end with "}:". The scripts know them by their ends, to find the vhost they are part of.
func partsOf(prefix, vhost string) []string {
	bases := make([]string, inParts)
	for i := range bases {
		bases[i] = fmt.Sprintf("%s:{%s#%d}part:", prefix, vhost, i)
	}
	return bases
}

// spread tells whether the queues are in several slots.
func (s *Store) spread() bool { return len(s.parts) > 1 }

// part is the part that a queue is in, whatever its incarnation.
func (s *Store) part(q virtual.QueueRef) int {
	if !s.spread() {
		return 0
	}
	return int(crc32.ChecksumIEEE([]byte(q.Name)) % inParts)
}

// base is what the names of a queue's keys begin with.
func (s *Store) base(q virtual.QueueRef) string { return s.parts[s.part(q)] }

// byPart puts together what is in one part, in the order in which the parts come first.
func byPart[T any](s *Store, all []T, queue func(*T) virtual.QueueRef) (parts []int, items [][]T) {
	if !s.spread() || len(all) == 1 {
		if len(all) == 0 {
			return nil, nil
		}
		return []int{s.part(queue(&all[0]))}, [][]T{all}
	}
	at := map[int]int{}
	for i := range all {
		p := s.part(queue(&all[i]))
		k, found := at[p]
		if !found {
			k = len(parts)
			at[p] = k
			parts, items = append(parts, p), append(items, nil)
		}
		items[k] = append(items[k], all[i])
	}
	return parts, items
}

// partSet is a set of parts.
type partSet uint64

func one(part int) partSet { return 1 << part }

// all is the set of all parts.
func (s *Store) all() partSet { return partSet(1)<<len(s.parts) - 1 }

func (p partSet) has(part int) bool { return p&one(part) != 0 }

// list returns the parts in order.
func (p partSet) list() []int {
	var list []int
	for ; p != 0; p &= p - 1 {
		list = append(list, bits.TrailingZeros64(uint64(p)))
	}
	return list
}

// clocks say of each part when something is due in it, as far as is known. The zero time is not known: look at once.
type clocks []time.Time

// never is far away.
var never = time.Unix(1<<40, 0)

// nearer notes that something is due in d.
func (c clocks) nearer(part int, d time.Duration) {
	if at := time.Now().Add(d); at.Before(c[part]) {
		c[part] = at
	}
}

// pass returns which of some parts are due, and forgets that they were.
func (c clocks) pass(of partSet) (due partSet) {
	now := time.Now()
	for _, p := range of.list() {
		if !c[p].After(now) {
			due |= one(p)
			c[p] = never
		}
	}
	return due
}

// unknown has some parts looked at.
func (c clocks) unknown(parts partSet) {
	for _, p := range parts.list() {
		c[p] = time.Time{}
	}
}

// next is how long it takes until one of some parts is due, more than 0; 0: none is known to be.
func (c clocks) next(of partSet) time.Duration {
	at := never
	for _, p := range of.list() {
		if c[p].Before(at) {
			at = c[p]
		}
	}
	if at == never {
		return 0
	}
	return max(now, time.Until(at))
}
