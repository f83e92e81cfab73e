package conformance

import (
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var leaseChecks = []StoreCheck{
	{
		Name: "Lease/Hides", run: leaseHides, Where: whereGet,
		Rule: "With a lease, messages stay in the store, hidden from every other Get until the lease ends.",
	},
	{
		Name: "Lease/RunsOut", run: leaseRunsOut, Where: whereGet,
		Rule: "Hidden until the lease ends by the store's clock; then they are ready again, and Attempt rises.",
	},
	{
		Name: "Lease/RunsOut/InOrder", run: leaseInOrder, Where: whereTraits,
		Rule: "Ordered: the order of Put, exactly; what an abandoned lease gives back is at its old place.",
	},
	{
		Name: "Lease/RunsOut/Each", run: leaseEach, Where: "virtual/store.go, GetRequest.Lease",
		Rule: "Lease is how long the messages are hidden: each Get's for what it took.",
	},
	{
		Name: "Lease/Stale", run: leaseStale, Where: whereSettle,
		Rule: "A receipt whose lease ran out and whose message was taken again has no effect; ErrStale says so where the trait StaleTold holds.",
	},
	{
		Name: "Lease/Stale/Again", run: leaseStaleAgain, Where: "virtual/store.go, Receipt",
		Rule: "Receipt names one taking of one message: a later taking by the same process has another.",
	},
	{
		Name: "Lease/Lapsed", run: leaseLapsed, Where: whereSettle,
		Rule: "A lease that merely ran out, or a message already gone: nil and ErrStale are both right.",
	},
	{
		Name: "Lease/Extend", run: leaseExtend, Where: "virtual/store.go, Extend",
		Rule: "Extend renews the lease to For from now. The receipt stays valid.",
	},
	{
		Name: "Lease/Extend/Ends", run: leaseExtendEnds, Where: "virtual/store.go, Extend",
		Rule: "Extend renews the lease to For from now: then it ends.",
	},
	{
		Name: "Lease/Granted", run: leaseGranted, Where: "virtual/store.go, Taken.Granted",
		Rule: "Granted is the lease given; 0: as asked.",
	},
	{
		Name: "Lease/WithConnection", run: leaseWithConnection, Needs: []Claim{claimWithConnection}, Where: "virtual/traits.go, LeaseEnd",
		Rule: "WithConnection: leases end when the connection that took the messages ends, too.",
	},
}

func leaseHides(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2", "m3")
	held := e.take(e.a, q, 2, e.long())
	e.attempt("taken for the first time", held[0], 1)
	e.size(e.b, q, 1, "two of three are leased")
	e.pause(e.units(2))
	ts := e.take(e.b, q, 1, e.long())
	e.same("beside what is leased", ts, e.took("taken for the first time", held, "m1", "m2", "m3")...)
	e.each(func(s virtual.Store, handle string) { e.empty(s, q, "all is leased, "+handle) })
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.settle(e.a, virtual.Ack, 0, held...)
	e.size(e.b, q, 0, "all is acked")
	e.empty(e.b, q, "all is acked")
}

// comesBack waits for messages whose lease runs out, and checks when they come. before is when the lease was asked for.
func (e *storeEnv) comesBack(s virtual.Store, q virtual.QueueRef, before time.Time, lease time.Duration, want ...string) []virtual.Taken {
	e.Helper()
	ts := e.await(s, q, len(want), e.long(), lease+e.slack()+e.units(5))
	e.between("messages whose lease ran out: came back", time.Since(before), lease, lease+e.slack())
	e.same("messages whose lease ran out", ts, want...)
	return ts
}

func leaseRunsOut(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	e.put(e.a, q, "m1", "m2")
	before := time.Now()
	e.take(e.a, q, 2, lease)
	ts := e.comesBack(e.b, q, before, lease, "m1", "m2")
	e.attempt("taken again after a lease ran out", ts[0], 2)
	e.attempt("taken again after a lease ran out", ts[1], 2)
	e.size(e.a, q, 0, "leased again")
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.empty(e.a, q, "acked under the second lease")
}

func leaseInOrder(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	all := numbered("m", 10)
	e.put(e.a, q, all...)
	ts := e.take(e.a, q, 6, lease)
	acked := []string{texts(ts)[1], texts(ts)[3]}
	e.settle(e.a, virtual.Ack, 0, ts[1], ts[3])
	e.put(e.a, q, "m11")
	e.pause(lease + e.margin())
	want := slices.DeleteFunc(append(all, "m11"), func(s string) bool { return slices.Contains(acked, s) })
	e.same("four of six whose lease ran out, and what was behind them", e.take(e.b, q, len(want), lease), want...)
}

func leaseEach(e *storeEnv) {
	q := e.ref("orders")
	if e.traits.LeaseAtPut { // Lease/AtPut is about that
		e.Skipf("the store fixes leases at Put")
	}
	e.put(e.a, q, "m1", "m2", "m3")
	before := time.Now()
	long := e.take(e.a, q, 1, e.units(12))
	short := e.take(e.a, q, 1, e.units(3))
	last := e.take(e.b, q, 1, e.long())
	ts := e.comesBack(e.b, q, before, e.units(3), texts(short)...)
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.comesBack(e.b, q, before, e.units(12), texts(long)...)
	e.settle(e.b, virtual.Ack, 0, last...)
}

// lose takes a message, lets the lease run out and has it taken again: it returns the first taking and the second.
func (e *storeEnv) lose(q virtual.QueueRef, first, second virtual.Store) (lost, held virtual.Taken) {
	e.Helper()
	lease := e.units(2)
	if e.traits.LeaseAtPut {
		lease = e.atPut
	}
	lost = e.take(first, q, 1, lease)[0]
	ts := e.await(second, q, 1, e.long(), lease+e.slack()+e.patience())
	if len(ts) != 1 || ts[0].ID != lost.ID {
		e.Fatalf("a message whose lease of %v ran out does not come back", lease)
	}
	return lost, ts[0]
}

func leaseStale(e *storeEnv) {
	e.leaseOf(e.units(6))
	for _, kind := range []virtual.Kind{virtual.Ack, virtual.Requeue, virtual.Return, virtual.Extend} {
		q := e.ref("orders-" + kind.String())
		e.put(e.a, q, "m1")
		lost, held := e.lose(q, e.a, e.b)
		what := kind.String() + " with the receipt of a lease that ran out, the message taken by another since"
		e.stale(e.a.Settle(e.ctx, answers(kind, e.unit, lost)), 0, what)
		e.size(e.a, q, 0, what)
		e.empty(e.a, q, what)
		e.pause(e.units(2))
		e.empty(e.a, q, what+", a while later")
		e.settle(e.b, virtual.Requeue, 0, held) // the other's receipt is as good as before
		ts := e.take(e.a, q, 1, e.long())
		e.attempt("taken for the third time", ts[0], 3)
		e.stale(e.b.Settle(e.ctx, answers(virtual.Ack, 0, held)), 0, "ack after a requeue, the message taken by another since")
		e.settle(e.a, virtual.Ack, 0, ts...)
		e.empty(e.b, q, "after it was acked")
	}
}

func leaseStaleAgain(e *storeEnv) {
	q := e.ref("orders")
	e.leaseOf(e.units(6))
	e.put(e.a, q, "m1")
	lost, held := e.lose(q, e.a, e.a)
	if lost.Receipt == held.Receipt {
		e.Errorf("two takings of a message have one receipt")
	}
	e.stale(e.a.Settle(e.ctx, answers(virtual.Ack, 0, lost)), 0, "ack by the process that has taken it again, with the old receipt")
	e.settle(e.a, virtual.Requeue, 0, held)
	for i, kind := range []virtual.Kind{virtual.Return, virtual.Requeue, virtual.Return} {
		old := e.take(e.a, q, 1, e.long())
		e.settle(e.a, kind, 0, old...)
		anew := e.take(e.a, q, 1, e.long())
		what := "ack with the receipt of a taking that ended with " + kind.String() + ", the message taken again since"
		e.stale(e.a.Settle(e.ctx, answers(virtual.Ack, 0, old...)), 0, what)
		e.settle(e.a, virtual.Return, 0, anew...)
		ts := e.await(e.b, q, 1, e.long(), e.slack())
		if len(ts) != 1 {
			e.Fatalf("%s (%d): the message is gone", what, i)
		}
		e.settle(e.b, virtual.Requeue, 0, ts...)
	}
	// The same with a message that was never seen but returned.
	q = e.ref("returned")
	e.put(e.a, q, "m2")
	old := e.take(e.a, q, 1, e.long())
	e.settle(e.a, virtual.Return, 0, old...)
	anew := e.take(e.b, q, 1, e.long())
	e.attempt("a Return does not count the taking (virtual/store.go, Return), yet the next one says", anew[0], 1)
	e.stale(e.a.Settle(e.ctx, answers(virtual.Ack, 0, old...)), 0, "ack with the receipt of a first taking that was returned, taken by another since")
	e.settle(e.b, virtual.Requeue, 0, anew...)
	e.holds(e.b, q, "after a stale ack", "m2")
}

func leaseLapsed(e *storeEnv) {
	lease := e.leaseOf(e.units(2))
	for _, kind := range []virtual.Kind{virtual.Ack, virtual.Requeue, virtual.Return, virtual.Extend} {
		q := e.ref("orders-" + kind.String())
		e.put(e.a, q, "m1")
		held := e.take(e.a, q, 1, lease)
		e.pause(lease + e.margin())
		err := virtual.ItemErr(e.a.Settle(e.ctx, answers(kind, e.unit, held...)), 0)
		if err != nil {
			e.is(err, virtual.ErrStale, "%v after the lease merely ran out", kind)
			ts := e.await(e.b, q, 1, lease, e.units(2)+e.slack())
			if len(ts) != 1 {
				e.Fatalf("%v after the lease merely ran out said %v, and the message is lost", kind, err)
			}
		}
		q = e.ref("gone-" + kind.String())
		e.put(e.a, q, "m2", "m3")
		held = e.take(e.a, q, 1, lease)
		e.settle(e.a, virtual.Ack, 0, held...)
		if err := virtual.ItemErr(e.a.Settle(e.ctx, answers(kind, e.unit, held...)), 0); err != nil {
			e.is(err, virtual.ErrStale, "%v of a message already acked", kind)
		}
		rest := e.await(e.b, q, 2, e.long(), e.units(1))
		if len(rest) != 1 {
			e.Fatalf("%v of a message already acked: %d messages remain, want the other one", kind, len(rest))
		}
	}
}

func leaseExtend(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(5))
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, lease)
	for i := range 6 {
		e.pause(e.units(3))
		e.settle(e.a, virtual.Extend, lease, held...)
		if ts := e.get(e.b, q, 1, lease); len(ts) > 0 {
			e.Fatalf("a lease of %v was extended every %v and ran out at time %d", lease, e.units(3), i+1)
		}
	}
	e.settle(e.a, virtual.Ack, 0, held...)
	e.pause(lease + e.margin())
	e.empty(e.b, q, "acked with the receipt of a lease that was extended")
}

func leaseExtendEnds(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, lease)
	e.pause(e.units(1))
	before := time.Now()
	extended := e.units(6)
	if e.traits.LeaseAtPut {
		extended = lease
	}
	e.settle(e.a, virtual.Extend, extended, held...)
	ts := e.comesBack(e.b, q, before, extended, "m1")
	e.stale(e.a.Settle(e.ctx, answers(virtual.Ack, 0, held...)), 0, "ack after an extended lease ran out")
	e.settle(e.b, virtual.Ack, 0, ts...)
}

func leaseGranted(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(4))
	e.put(e.a, q, "m1")
	before := time.Now()
	held := e.take(e.a, q, 1, lease)
	if granted := held[0].Granted; granted != 0 {
		lease = granted
	}
	if lease <= 0 {
		e.Fatalf("a lease of %v was granted", lease)
	}
	e.pause(lease - e.unit - time.Since(before))
	e.empty(e.b, q, "before the granted lease is over")
	e.comesBack(e.b, q, before, lease, "m1")
}

func leaseWithConnection(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2", "m3")
	third := e.handle()
	e.take(third, q, 2, e.long())
	before := time.Now()
	e.must(virtual.Close(third), "Close")
	ts := e.await(e.b, q, 3, e.long(), e.patience())
	e.between("messages of a closed handle: came back", time.Since(before), 0, e.slack())
	e.same("messages of a closed handle", ts, "m1", "m2", "m3")
}
