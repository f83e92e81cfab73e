package conformance

import (
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var queueChecks = []StoreCheck{
	{
		Name: "Size/ReadyOnly", run: sizeReadyOnly, Where: "virtual/store.go, Store.Size",
		Rule: "Size counts the ready messages of a queue.",
	},
	{
		Name: "Size/Unused", run: sizeUnused, Where: "virtual/store.go, Store.Size",
		Rule: "Size counts the ready messages of a queue: one that nobody has used has none, and Purge removes none.",
	},
	{
		Name: "Purge/ReadyOnly", run: purgeReadyOnly, Where: "virtual/store.go, Store.Purge",
		Rule: "Purge removes all ready messages of a queue and returns how many. Leased ones stay.",
	},
	{
		Name: "Purge/Delayed", run: purgeDelayed, Needs: []Claim{claimDelay}, Where: "virtual/store.go, Store.Purge",
		Rule: "Purge removes all ready messages of a queue. Delayed ones stay.",
	},
	{
		Name: "Purge/OneQueue", run: purgeOneQueue, Where: "virtual/store.go, Store.Purge",
		Rule: "Purge removes all ready messages of a queue, and of no other.",
	},
	{
		Name: "Purge/Returned", run: purgeReturned, Where: "virtual/store.go, Store.Purge",
		Rule: "Purge removes all ready messages of a queue: those that came back are ready.",
	},
}

func (e *storeEnv) purge(s virtual.Store, q virtual.QueueRef, want int, what string) {
	e.Helper()
	n, err := s.Purge(e.ctx, q)
	e.must(err, "Purge of %q", q)
	if e.traits.ExactSize && n != want {
		e.Fatalf("%s: Purge says %d, want %d", what, n, want)
	}
}

func sizeReadyOnly(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 6)...)
	e.each(func(s virtual.Store, handle string) { e.size(s, q, 6, "six put, "+handle) })
	ts := e.take(e.a, q, 4, e.long())
	e.size(e.b, q, 2, "six put, four leased")
	e.settle(e.a, virtual.Ack, 0, ts[0])
	e.size(e.b, q, 2, "six put, three leased, one acked")
	e.settle(e.a, virtual.Requeue, 0, ts[1])
	e.size(e.b, q, 3, "one more requeued")
	e.settle(e.a, virtual.Return, 0, ts[2])
	e.size(e.b, q, 4, "one more returned")
	e.settle(e.a, virtual.Requeue, 0, ts[3])
	e.size(e.b, q, 5, "one more requeued")
	if e.has(claimDelay) {
		m := e.message(q, "delayed")
		m.Delay = min(e.units(4), e.traits.MaxDelay)
		e.putAll(e.a, []*virtual.Message{m})
		e.size(e.b, q, 5, "one delayed")
		e.pause(m.Delay + e.margin())
		e.size(e.b, q, 6, "when it is due")
	}
	other := e.ref("others")
	lease := e.leaseOf(e.units(6))
	e.put(e.a, other, "m1")
	e.take(e.a, other, 1, lease)
	if e.traits.ExactSize { // else it may lag until the lease is over
		e.size(e.b, other, 0, "one put and leased")
	}
	e.pause(lease + e.margin())
	e.size(e.b, other, 1, "after its lease ran out")
}

func sizeUnused(e *storeEnv) {
	q := e.ref("orders")
	e.each(func(s virtual.Store, handle string) {
		e.size(s, q, 0, "nobody has used the queue, "+handle)
		e.purge(s, q, 0, "nobody has used the queue, "+handle)
	})
	e.put(e.a, q, "m1")
	e.holds(e.b, q, "after it was purged when empty", "m1")
}

func purgeReadyOnly(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 7)...)
	ts := e.take(e.a, q, 3, e.long())
	e.purge(e.b, q, 4, "seven put, three leased")
	e.size(e.a, q, 0, "after Purge")
	e.empty(e.a, q, "after Purge")
	e.purge(e.b, q, 0, "purged before")
	e.settle(e.a, virtual.Ack, 0, ts[0])
	e.settle(e.a, virtual.Requeue, 0, ts[1:]...)
	e.put(e.b, q, "anew")
	e.holds(e.b, q, "what was leased while the queue was purged, and what was put since", texts(ts[1:])[0], texts(ts[1:])[1], "anew")
}

func purgeDelayed(e *storeEnv) {
	q := e.ref("orders")
	m := e.message(q, "delayed")
	m.Delay = min(e.units(3), e.traits.MaxDelay)
	before := time.Now()
	e.putAll(e.a, append([]*virtual.Message{m}, e.messages(q, "m1", "m2")...))
	ts := e.take(e.a, q, 1, e.long())
	e.settle(e.a, virtual.Requeue, m.Delay, ts...)
	e.purge(e.b, q, 1, "two of three are delayed")
	e.pause(m.Delay - time.Since(before) + e.margin())
	e.holds(e.b, q, "what was delayed while the queue was purged", "delayed", texts(ts)[0])
}

func purgeOneQueue(e *storeEnv) {
	qs := e.refs(3)
	for _, q := range qs {
		e.put(e.a, q, "m1", "m2")
	}
	e.purge(e.b, qs[1], 2, "one of three queues")
	e.holds(e.b, qs[0], "the queue before the one purged", "m1", "m2")
	e.holds(e.b, qs[2], "the queue behind the one purged", "m1", "m2")
	e.empty(e.b, qs[1], "the one purged")
}

func purgeReturned(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	e.put(e.a, q, numbered("m", 5)...)
	ts := e.take(e.a, q, 4, lease)
	e.settle(e.a, virtual.Requeue, 0, ts[0])
	e.settle(e.a, virtual.Return, 0, ts[1])
	e.pause(lease + e.margin())
	e.eventually("the leases are over", func() (bool, string) {
		n, err := e.a.Size(e.ctx, q)
		e.must(err, "Size")
		return n == 5, "not all five are ready"
	})
	e.purge(e.b, q, 5, "one requeued, one returned, two whose lease ran out, one never taken")
	e.size(e.a, q, 0, "after Purge")
	e.empty(e.a, q, "after Purge")
}
