package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const whereExpirer = "virtual/expirer.go, Expirer"

var expirerChecks = []StoreCheck{
	{
		Name: "Expirer/Head", run: expirerHead, Needs: []Claim{claimExpirer}, Where: whereExpirer,
		Rule: "Expire takes messages whose TTL has passed, each at the head of its queue.",
	},
	{
		Name: "Expirer/Behind", run: expirerBehind, Needs: []Claim{claimExpirer, claimOrdered}, Where: whereExpirer,
		Rule: "Only the head of a queue expires: a message behind one that lives longer stays until it gets there.",
	},
	{
		Name: "Expirer/Max", run: expirerMax, Needs: []Claim{claimExpirer}, Where: whereExpirer,
		Rule: "Expire takes up to r.Max messages and appends them to buf. The zero value of Queue asks for all queues.",
	},
	{
		Name: "Expirer/OneQueue", run: expirerOneQueue, Needs: []Claim{claimExpirer}, Where: "virtual/expirer.go, ExpireRequest.Queue",
		Rule: "Queue restricts it to one queue.",
	},
	{
		Name: "Expirer/Leased", run: expirerLeased, Needs: []Claim{claimExpirer}, Where: whereExpirer,
		Rule: "Expire leases them for r.Lease: after a crash they are ready again.",
	},
	{
		Name: "Expirer/Waits", run: expirerWaits, Needs: []Claim{claimExpirer}, Where: whereExpirer,
		Rule: "With none it waits for one, up to r.Wait.",
	},
	{
		Name: "Expirer/Waits/OneQueue", run: expirerWaitsOne, Needs: []Claim{claimExpirer}, Where: whereExpirer,
		Rule: "With none it waits for one, up to r.Wait: in the one queue asked for, whatever expires elsewhere.",
	},
	{
		Name: "Expirer/Waits/NewHead", run: expirerNewHead, Needs: []Claim{claimExpirer, claimOrdered}, Where: whereExpirer,
		Rule: "With none it waits for one, up to r.Wait: one that becomes the head meanwhile is one, however it does.",
	},
	{
		Name: "Expirer/Next", run: expirerNext, Needs: []Claim{claimExpirer}, Where: whereExpirer,
		Rule: "next is when more will have expired, unless they are taken before; 0: not known.",
	},
	{
		Name: "Expirer/Immediately", run: expirerImmediately, Needs: []Claim{claimExpirer}, Where: "virtual/store.go, Immediately",
		Rule: "Immediately is the TTL of a message that only a waiting Get may have.",
	},
	{
		Name: "Expirer/Parked", run: expirerParked, Needs: []Claim{claimExpirer, claimNotifier}, Where: whereNotifier,
		Rule: "What a waiter could still take counts as on its way to it, at most for a second: expiry leaves the head alone.",
	},
	{
		Name: "Peeker/Order", run: peekerOrder, Needs: []Claim{claimPeeker}, Where: "virtual/expirer.go, Peeker",
		Rule: "Peek appends up to max ready messages from the head to buf, in order, with no receipt.",
	},
	{
		Name: "Peeker/TakesNothing", run: peekerTakesNothing, Needs: []Claim{claimPeeker}, Where: "virtual/expirer.go, Peeker",
		Rule: "Peeker is the capability to look at the head of a queue without taking.",
	},
}

// perishable makes a message with a TTL.
func (e *storeEnv) perishable(q virtual.QueueRef, body string, ttl time.Duration) *virtual.Message {
	m := e.message(q, body)
	m.TTL = ttl
	return m
}

func (e *storeEnv) expire(s virtual.Store, q virtual.QueueRef, most int, wait time.Duration) ([]virtual.Taken, time.Duration) {
	e.Helper()
	ts, next, err := capability[virtual.Expirer](e, s).Expire(e.ctx, virtual.ExpireRequest{Queue: q, Max: most, Wait: wait, Lease: e.long()}, nil)
	e.must(err, "Expire")
	return ts, next
}

// expired checks what an Expire of one queue takes, and acks it.
func (e *storeEnv) expired(s virtual.Store, q virtual.QueueRef, what string, want ...string) {
	e.Helper()
	ts, _ := e.expire(s, q, 10, 0)
	e.same(what, ts, want...)
	for _, t := range ts {
		if t.Receipt == nil {
			e.Fatalf("%s: an expired message has come without a receipt", what)
		}
		if t.TTL == 0 {
			e.Fatalf("%s: an expired message has come without its TTL", what)
		}
	}
	e.settle(s, virtual.Ack, 0, ts...)
}

func expirerHead(e *storeEnv) {
	q := e.ref("orders")
	e.putAll(e.a, []*virtual.Message{
		e.perishable(q, "m1", e.units(2)), e.perishable(q, "m2", e.units(2)), e.message(q, "m3"), e.perishable(q, "m4", e.units(2)),
	})
	e.expired(e.b, q, "before the TTL has passed")
	e.pause(e.units(2) + e.margin())
	want := []string{"m1", "m2"}
	if !e.traits.Ordered {
		want = append(want, "m4")
	}
	e.expired(e.b, q, "after the TTL has passed", want...)
	e.expired(e.b, q, "once more")
	e.size(e.a, q, 4-len(want), "what has not expired, or is not the head")
}

func expirerBehind(e *storeEnv) {
	q := e.ref("orders")
	before := time.Now()
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "long", e.units(8)), e.perishable(q, "short", e.units(2)), e.perishable(q, "third", e.units(2))})
	e.pause(e.units(4) - time.Since(before))
	e.expired(e.b, q, "behind one that lives longer")
	held := e.take(e.a, q, 1, e.long())
	e.same("the head", held, "long")
	ts, _ := e.expire(e.b, q, 1, 0)
	e.same("the head was taken", ts, "short")
	e.settle(e.a, virtual.Requeue, 0, held...)
	e.expired(e.b, q, "behind one that came back")
	e.pause(e.units(8) - time.Since(before) + e.margin())
	e.expired(e.b, q, "after the longer one's time", "long", "third")
}

func expirerMax(e *storeEnv) {
	qs := e.refs(3)
	var want []string
	for _, q := range qs {
		for i := range 4 {
			body := fmt.Sprintf("%s-%d", q.Name, i)
			want = append(want, body)
			e.putAll(e.a, []*virtual.Message{e.perishable(q, body, e.units(1))})
		}
	}
	e.put(e.a, e.ref("others"), "stays")
	e.pause(e.units(1) + e.margin())
	first := e.take(e.a, e.ref("others"), 1, e.long())
	buf := make([]virtual.Taken, 1, 8)
	copy(buf, first)
	for len(buf) < 13 {
		ts, _, err := capability[virtual.Expirer](e, e.b).Expire(e.ctx, virtual.ExpireRequest{Max: 5, Lease: e.long()}, buf)
		e.must(err, "Expire")
		if n := len(ts) - len(buf); n < 1 || n > 5 {
			e.Fatalf("an Expire with Max 5 took %d of %d", n, 13-len(buf))
		}
		buf = ts
	}
	if buf[0] != first[0] {
		e.Fatalf("Expire has changed what was in buf")
	}
	got := texts(buf[1:])
	slices.Sort(got)
	if !slices.Equal(got, want) {
		e.Fatalf("from three queues there have expired %s, want %s", show(got), show(want))
	}
}

func expirerOneQueue(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.putAll(e.a, []*virtual.Message{e.perishable(other, "o1", e.units(1)), e.perishable(q, "m1", e.units(1)), e.perishable(other, "o2", e.units(1))})
	e.pause(e.units(1) + e.margin())
	e.expired(e.b, q, "of one queue", "m1")
	e.expired(e.b, e.ref("unused"), "of a queue that nobody has used")
	e.expired(e.b, other, "of the other", "o1", "o2")
}

func expirerLeased(e *storeEnv) {
	q := e.ref("orders")
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m1", e.units(1)), e.message(q, "m2")})
	e.pause(e.units(1) + e.margin())
	x := capability[virtual.Expirer](e, e.b)
	ts, _, err := x.Expire(e.ctx, virtual.ExpireRequest{Max: 5, Lease: e.units(3)}, nil)
	e.must(err, "Expire")
	e.same("expired", ts, "m1")
	e.size(e.a, q, 1, "what has expired is leased")
	second, _, err := x.Expire(e.ctx, virtual.ExpireRequest{Max: 5, Lease: e.units(3)}, nil)
	e.must(err, "Expire")
	e.same("leased to another Expire", second)
	e.pause(e.units(3) + e.margin())
	again, _, err := x.Expire(e.ctx, virtual.ExpireRequest{Max: 5, Lease: e.units(3)}, nil)
	e.must(err, "Expire")
	e.same("after who expired it has crashed", again, "m1")
	e.stale(e.b.Settle(e.ctx, answers(virtual.Ack, 0, ts...)), 0, "ack by who has crashed")
	e.settle(e.b, virtual.Requeue, 0, again...)
	e.holds(e.a, q, "messages whose TTL has passed are handed out like others", "m1", "m2")
}

// expiring starts an Expire that waits.
func (e *storeEnv) expiring(s virtual.Store, q virtual.QueueRef) *call[[]virtual.Taken] {
	e.Helper()
	x := capability[virtual.Expirer](e, s)
	c := calls(e, func(ctx context.Context) ([]virtual.Taken, error) {
		ts, _, err := x.Expire(ctx, virtual.ExpireRequest{Queue: q, Max: 5, Wait: e.units(40), Lease: e.long()}, nil)
		return ts, err
	})
	e.quiet()
	return c
}

func expirerWaits(e *storeEnv) {
	q := e.ref("orders")
	for _, ask := range []virtual.QueueRef{{}, q} {
		e.putAll(e.a, []*virtual.Message{e.perishable(q, "m1", e.units(4))})
		c := e.expiring(e.b, ask)
		e.waited(c, "an Expire that waits for a head", 0, e.units(4), "m1")
		c = e.expiring(e.b, ask)
		e.putAll(e.a, []*virtual.Message{e.perishable(q, "m2", e.units(2))})
		e.waited(c, "an Expire that waits for one put meanwhile", 0, e.units(2), "m2")
		c = e.expiring(e.b, ask)
		e.putAll(e.a, []*virtual.Message{e.perishable(q, "later", e.units(20)), e.perishable(e.ref("others"), "sooner", e.units(2))})
		if ask == q {
			e.waited(c, "an Expire that waits for one queue", 0, e.units(20), "later")
			e.expired(e.b, e.ref("others"), "the other queue", "sooner")
		} else {
			e.waited(c, "an Expire that waits for all queues", 0, e.units(2), "sooner")
			_, err := e.a.Purge(e.ctx, q)
			e.must(err, "Purge")
		}
	}
	before := time.Now()
	ts, _ := e.expire(e.b, virtual.QueueRef{}, 1, e.units(3))
	e.same("an Expire that waits in vain", ts)
	e.between("an Expire that waits in vain: returned", time.Since(before), e.units(2), e.units(3)+e.slack())
}

func expirerWaitsOne(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.putAll(e.a, []*virtual.Message{e.perishable(other, "o1", e.units(1))})
	e.pause(e.units(1) + e.margin())
	c := e.expiring(e.b, q)
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m1", e.units(3))})
	e.waited(c, "an Expire of one queue, what has expired in another left there", 0, e.units(3), "m1")
	e.expired(e.b, other, "the other queue", "o1")
}

func expirerNewHead(e *storeEnv) {
	q := e.ref("orders")
	for i, how := range []string{"acked", "purged", "returned", "lease over"} {
		long := fmt.Sprintf("long-%d", i)
		e.putAll(e.a, []*virtual.Message{e.message(q, long), e.perishable(q, "m", e.units(2))})
		c := e.expiring(e.b, virtual.QueueRef{})
		switch how {
		case "acked":
			e.pause(e.units(3))
			e.settle(e.a, virtual.Ack, 0, e.take(e.a, q, 1, e.long())...)
		case "purged":
			_, err := e.a.Purge(e.ctx, q)
			e.must(err, "Purge")
			e.putAll(e.a, []*virtual.Message{e.perishable(q, "m", e.units(2))})
		case "returned":
			ts := e.take(e.a, q, 2, e.long())
			e.pause(e.units(3))
			e.settle(e.a, virtual.Requeue, 0, ts[1])
			e.settle(e.a, virtual.Ack, 0, ts[0])
		case "lease over":
			ts := e.take(e.a, q, 1, e.long())
			e.take(e.a, q, 1, e.units(3))
			e.settle(e.a, virtual.Ack, 0, ts...)
		}
		ts := e.waited(c, "an Expire that waits, the head "+how+" meanwhile", 0, e.units(4), "m")
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
}

func expirerNext(e *storeEnv) {
	q := e.ref("orders")
	_, next := e.expire(e.b, virtual.QueueRef{}, 5, 0)
	if next < 0 {
		e.Fatalf("next is %v", next)
	}
	before := time.Now()
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m1", e.units(4))})
	for _, ask := range []virtual.QueueRef{{}, q} {
		_, next = e.expire(e.b, ask, 5, 0)
		if next != 0 && (next < e.units(4)-time.Since(before)-e.unit || next > e.units(4)) {
			e.Fatalf("next is %v, a message expires in %v", next, e.units(4)-time.Since(before))
		}
	}
	if next == 0 {
		e.Logf("next is not known")
		return
	}
	e.pause(next + e.margin())
	e.expired(e.b, q, "when next said", "m1")
}

func expirerImmediately(e *storeEnv) {
	q := e.ref("orders")
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "nobody waits", virtual.Immediately)})
	e.expired(e.b, q, "nobody waits", "nobody waits")
	c := e.expiring(e.b, virtual.QueueRef{})
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m1", virtual.Immediately)})
	ts := e.waited(c, "an Expire that waits", 0, 0, "m1")
	e.settle(e.b, virtual.Ack, 0, ts...)
	get := e.waits(e.b, q, 1, e.units(40), e.long())
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m2", virtual.Immediately)})
	ts = e.waited(get, "a Get that waits", 0, 0, "m2")
	e.settle(e.b, virtual.Requeue, 0, ts...)
	e.expired(e.a, q, "requeued, nobody waits", "m2")
}

func expirerParked(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	for i, ttl := range []time.Duration{virtual.Immediately, 1} {
		w.parked(q)
		e.putAll(e.a, []*virtual.Message{e.perishable(q, "m1", ttl)})
		if i == 1 {
			e.pause(time.Millisecond)
		}
		e.expired(e.a, q, "on its way to a waiter")
		w.wakes(q, "after a Put of what expires", 0)
		ts := w.park(q, 1)
		e.same("the waiter, woken", ts, "m1")
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
	// A waiter that does not come is not waited for.
	w.parked(q)
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m2", virtual.Immediately)})
	before := time.Now()
	ts, _ := e.expire(e.a, q, 5, 10*time.Second)
	e.same("a waiter was woken and does not come", ts, "m2")
	e.between("what was on its way to a waiter that does not come: expired", time.Since(before), 0, time.Second+e.slack())
	e.settle(e.a, virtual.Ack, 0, ts...)
	// One that has struck itself out is no waiter.
	w.parked(q)
	w.park(q, 0)
	e.putAll(e.a, []*virtual.Message{e.perishable(q, "m3", virtual.Immediately)})
	e.expired(e.a, q, "the waiter has struck itself out", "m3")
}

func peekerOrder(e *storeEnv) {
	q := e.ref("orders")
	p := capability[virtual.Peeker](e, e.b)
	peek := func(most int, what string, want ...string) {
		e.Helper()
		ts, err := p.Peek(e.ctx, q, most, nil)
		e.must(err, "Peek")
		e.same(what, ts, want...)
		for _, t := range ts {
			if t.Receipt != nil {
				e.Fatalf("%s: Peek returned a receipt", what)
			}
		}
	}
	peek(5, "an empty queue")
	e.put(e.a, q, numbered("m", 6)...)
	peek(3, "the first three", "m1", "m2", "m3")
	peek(10, "all", numbered("m", 6)...)
	held := e.take(e.a, q, 4, e.long())
	peek(10, "four are leased", "m5", "m6")
	e.settle(e.a, virtual.Requeue, 0, held[3], held[1])
	peek(3, "two came back", "m2", "m4", "m5")
	if e.has(claimLevels) {
		e.putAll(e.a, e.prioritized(q, []string{"high"}, []int{e.traits.Levels - 1}))
		peek(2, "one of a higher priority", "high", "m2")
	}
	buf := make([]virtual.Taken, 1, 4)
	copy(buf, held)
	ts, err := p.Peek(e.ctx, q, 1, buf)
	e.must(err, "Peek")
	if len(ts) != 2 || ts[0] != held[0] {
		e.Fatalf("Peek into a buf of one returned %d, or has changed what was there", len(ts))
	}
}

func peekerTakesNothing(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2")
	for range 3 {
		_, err := capability[virtual.Peeker](e, e.b).Peek(e.ctx, q, 2, nil)
		e.must(err, "Peek")
		e.size(e.a, q, 2, "after Peek")
	}
	ts := e.take(e.a, q, 2, e.long())
	e.same("after Peek", ts, "m1", "m2")
	e.attempt("after Peek", ts[0], 1)
}
