package conformance

import (
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// boundChecks are about the numbers among the traits: what is within a bound is taken, and steps round up.
var boundChecks = []StoreCheck{
	{
		Name: "Bounds/MaxBatch", run: boundsBatch, Needs: []Claim{claimMaxBatch}, Where: "virtual/traits.go, MaxBatch",
		Rule: "MaxBatch bounds the messages of one Put, Get or Settle: one of that many is taken.",
	},
	{
		Name: "Bounds/MaxBatchBytes", run: boundsBatchBytes, Needs: []Claim{claimMaxBatchBytes}, Where: "virtual/traits.go, MaxBatchBytes",
		Rule: "MaxBatchBytes bounds the payloads of one Put: a batch of that many bytes is taken.",
	},
	{
		Name: "Bounds/LeaseStep", run: boundsLeaseStep, Where: "virtual/traits.go, LeaseStep",
		Rule: "Leases last as long as asked, or to the end of the LeaseStep: never shorter, nor longer. 0: no steps.",
	},
	{
		Name: "Bounds/LeaseMin", run: boundsLeaseMin, Needs: []Claim{claimLeaseMin}, Where: "virtual/traits.go, LeaseMin",
		Rule: "LeaseMin bounds leases: one of that length is given.",
	},
	{
		Name: "Bounds/LeaseMax", run: boundsLeaseMax, Needs: []Claim{claimLeaseMax}, Where: "virtual/traits.go, LeaseMax",
		Rule: "LeaseMax bounds leases: one of that length is given, and extended to.",
	},
	{
		Name: "Bounds/DelayStep", run: boundsDelayStep, Needs: []Claim{claimDelay}, Where: "virtual/traits.go, DelayStep",
		Rule: "Delays are rounded up to DelayStep: a delay is never shorter than asked. 0: no steps.",
	},
	{
		Name: "Bounds/MaxDelay", run: boundsMaxDelay, Needs: []Claim{claimDelay}, Where: "virtual/traits.go, MaxDelay",
		Rule: "MaxDelay bounds Message.Delay and Settlement.For: one of that length is taken, and kept.",
	},
	{
		Name: "Lease/AtPut", run: leaseAtPut, Needs: []Claim{claimLeaseAtPut}, Where: "virtual/traits.go, LeaseAtPut",
		Rule: "LeaseAtPut: the lease is fixed by Message.Lease, whatever a Get or an Extend asks for.",
	},
}

func boundsBatch(e *storeEnv) {
	q := e.ref("orders")
	n := e.traits.MaxBatch
	want := numbered("m", n)
	lease := e.leaseOf(e.units(5))
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, want...)}), "Put of MaxBatch messages")
	e.must(e.b.Settle(e.ctx, answers(virtual.Requeue, 0, e.takeBatch(q, lease, want)...)), "Requeue of MaxBatch messages")
	e.must(e.b.Settle(e.ctx, answers(virtual.Ack, 0, e.takeBatch(q, lease, want)...)), "Ack of MaxBatch messages")
	e.pause(lease + e.margin())
	e.empty(e.a, q, "all is acked")
}

// takeBatch takes messages by Gets that ask for all of them at once.
func (e *storeEnv) takeBatch(q virtual.QueueRef, lease time.Duration, want []string) []virtual.Taken {
	e.Helper()
	var ts []virtual.Taken
	end := time.Now().Add(e.patience())
	for len(ts) < len(want) && time.Now().Before(end) {
		var err error
		ts, _, err = e.b.Get(e.ctx, virtual.GetRequest{Queue: q, Max: len(want), Wait: e.unit, Lease: lease}, ts)
		e.must(err, "Get of %d messages", len(want))
	}
	e.same("a large batch", ts, want...)
	return ts
}

func boundsBatchBytes(e *storeEnv) {
	q := e.ref("orders")
	n := e.batch(4)
	if e.traits.MaxBody > 0 {
		n = max(n, (e.traits.MaxBatchBytes+e.traits.MaxBody-1)/e.traits.MaxBody)
	}
	if n > e.batch(n) {
		e.Skipf("as many bytes cannot be put in MaxBatch bodies of MaxBody")
	}
	want := numbered("m", n)
	left := e.traits.MaxBatchBytes
	for i := range want {
		size := left / (n - i)
		want[i] += strings.Repeat(".", size-len(want[i]))
		left -= size
	}
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, want...)}), "Put of MaxBatchBytes bytes")
	ts := e.take(e.b, q, n, e.long())
	for _, t := range ts {
		if i := len(t.Payload.Bytes()); i != len(want[0]) && i != len(want[n-1]) {
			e.Fatalf("a body of a batch of MaxBatchBytes came back with %d bytes, want %d", i, len(want[0]))
		}
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.empty(e.a, q, "all is acked")
}

func boundsLeaseStep(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(max(e.units(1.3), e.traits.LeaseMin))
	most := up(lease, e.traits.LeaseStep)
	e.put(e.a, q, "m1")
	for range 2 {
		before := time.Now()
		held := e.take(e.a, q, 1, lease)
		after := time.Now()
		if g := held[0].Granted; g != 0 && (g < lease || g > most) {
			e.Fatalf("a lease of %v was granted as %v, want %v to %v", lease, g, lease, most)
		}
		ts := e.await(e.b, q, 1, lease, most+e.slack()+e.units(3))
		e.same("after the lease", ts, "m1")
		if late := time.Since(after); late > most+e.slack()/2 {
			e.Fatalf("a lease of %v lasted %v, want at most %v", lease, late, most)
		}
		if early := time.Since(before); early < lease {
			e.Fatalf("a lease of %v lasted %v", lease, early)
		}
		e.settle(e.b, virtual.Requeue, 0, ts...)
	}
}

func boundsLeaseMin(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(up(e.traits.LeaseMin, e.traits.LeaseStep))
	e.put(e.a, q, "m1")
	before := time.Now()
	e.take(e.a, q, 1, lease)
	e.comesBack(e.b, q, before, lease, "m1")
}

func boundsLeaseMax(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.traits.LeaseMax)
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, lease)
	e.must(e.a.Settle(e.ctx, answers(virtual.Extend, lease, held...)), "Extend to LeaseMax")
	if !e.c.Virtual {
		e.settle(e.a, virtual.Ack, 0, held...)
		return
	}
	e.pause(lease - e.units(1))
	e.empty(e.b, q, "before a lease of LeaseMax is over")
	e.pause(e.units(1) + e.margin())
	e.holds(e.b, q, "after a lease of LeaseMax", "m1")
}

func boundsDelayStep(e *storeEnv) {
	q := e.ref("orders")
	delay := min(e.units(1.3), e.traits.MaxDelay)
	most := up(delay, e.traits.DelayStep)
	back := func(what string, before time.Time) []virtual.Taken {
		after := time.Now()
		ts := e.await(e.b, q, 1, e.long(), most+e.slack()+e.units(3))
		e.same(what, ts, "m1")
		if early, late := time.Since(before), time.Since(after); early < delay || late > most+e.slack()/2 {
			e.Fatalf("%s of %v lasted %v to %v, want %v to %v", what, delay, late, early, delay, most)
		}
		return ts
	}
	m := e.message(q, "m1")
	m.Delay = delay
	before := time.Now()
	e.putAll(e.a, []*virtual.Message{m})
	ts := back("a delay", before)
	before = time.Now()
	e.settle(e.b, virtual.Requeue, delay, ts...)
	back("a requeue with a delay", before)
}

// watched is how long virtual time may be let pass for a bound to be tried.
const watched = 20 * 24 * time.Hour

func boundsMaxDelay(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	delay := e.traits.MaxDelay
	m := e.message(q, "m1")
	m.Delay = delay
	e.putAll(e.a, []*virtual.Message{m})
	e.put(e.a, other, "o1")
	e.settle(e.a, virtual.Requeue, delay, e.take(e.a, other, 1, e.long())...)
	e.pause(e.units(5))
	e.empty(e.b, q, "put with a delay of MaxDelay")
	e.empty(e.b, other, "requeued with a delay of MaxDelay")
	if !e.c.Virtual || delay > watched {
		return
	}
	e.pause(delay)
	e.holds(e.b, q, "after a delay of MaxDelay", "m1")
	e.holds(e.b, other, "after a requeue with a delay of MaxDelay", "o1")
}

func leaseAtPut(e *storeEnv) {
	q := e.ref("orders")
	e.leaseOf(e.units(9))
	e.put(e.a, q, "m1")
	e.leaseOf(e.units(3))
	e.put(e.a, q, "m2")
	before := time.Now()
	held := e.take(e.a, q, 2, e.units(100))
	for _, t := range held {
		want := e.units(9)
		if string(t.Payload.Bytes()) == "m2" {
			want = e.units(3)
		}
		if t.Granted != want {
			e.Errorf("a Get asked for a lease of %v: %s says Granted %v, want %v", e.units(100), t.Payload.Bytes(), t.Granted, want)
		}
	}
	e.settle(e.b, virtual.Ack, 0, e.comesBack(e.b, q, before, e.units(3), "m2")...)
	for _, t := range held {
		if string(t.Payload.Bytes()) == "m1" {
			before = time.Now()
			e.settle(e.a, virtual.Extend, e.units(100), t)
		}
	}
	e.settle(e.b, virtual.Ack, 0, e.comesBack(e.b, q, before, e.units(9), "m1")...)
	e.put(e.a, q, "m3")
	e.take(e.a, q, 1, 0)
	e.pause(e.units(4))
	e.empty(e.b, q, "taken without a lease")
}
