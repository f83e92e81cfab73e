package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/dashi-mq/dashi/virtual"
)

const whereAtomic = "virtual/atomic.go, Atomic"

var atomicChecks = []StoreCheck{
	{
		Name: "Atomic/All", run: atomicAll, Needs: []Claim{claimAtomic}, Where: whereAtomic,
		Rule: "Apply does all of r in one step.",
	},
	{
		Name: "Atomic/Stale", run: atomicStale, Needs: []Claim{claimAtomic}, Where: whereAtomic,
		Rule: "One stale receipt: nothing was done. *BatchError names settlements by their index plus the number of messages.",
	},
	{
		Name: "Atomic/Refused", run: atomicRefused, Needs: []Claim{claimAtomic, claimBounded}, Where: whereAtomic,
		Rule: "One refused message: nothing was done.",
	},
	{
		Name: "Atomic/NoQueue", run: atomicNoQueue, Needs: []Claim{claimAtomic, claimNamespace}, Where: whereAtomic,
		Rule: "One refused message, since its queue is deleted: nothing was done.",
	},
	{
		Name: "Atomic/Guard", run: atomicGuard, Needs: []Claim{claimAtomic, claimGuards, claimRegistry}, Where: whereGuard,
		Rule: "A guard that does not hold: nothing was done.",
	},
	{
		Name: "Atomic/Evicts", run: atomicEvicts, Needs: []Claim{claimAtomic, claimBounded}, Where: whereAtomic,
		Rule: "Limits and evicted are as in PutBounded.",
	},
	{
		Name: "Atomic/Repeat", run: atomicRepeat, Needs: []Claim{claimAtomic, claimMarks}, Where: whereMarks,
		Rule: "The same Sequence again does nothing and gets the outcome.",
	},
	{
		Name: "Atomic/Wakes", run: atomicWakes, Needs: []Claim{claimAtomic, claimNotifier}, Where: whereNotifier,
		Rule: "Put wakes who is recorded: in one step with others, too.",
	},
	{
		Name: "Atomic/Together", run: atomicTogether, Needs: []Claim{claimAtomic, claimExactSize}, Where: whereAtomic,
		Rule: "Apply does all of r in one step, or nothing: nobody sees a part of it.",
	},
}

func (e *storeEnv) apply(s virtual.Store, ms []*virtual.Message, st []virtual.Settlement, limits ...virtual.Limit) ([]virtual.Taken, error) {
	e.Helper()
	r := virtual.ApplyRequest{PutRequest: virtual.PutRequest{Messages: ms}, Limits: limits, Settlements: st}
	return capability[virtual.Atomic](e, s).Apply(e.ctx, r, nil)
}

func atomicAll(e *storeEnv) {
	q, other, third := e.ref("orders"), e.ref("others"), e.ref("third")
	e.put(e.a, q, "m1", "m2", "m3")
	ts := e.take(e.a, q, 3, e.long())
	ms := []*virtual.Message{e.message(other, "o1"), e.message(third, "t1"), e.message(other, "o2")}
	_, err := e.apply(e.a, ms, append(answers(virtual.Ack, 0, ts[0]), answers(virtual.Requeue, 0, ts[2])...))
	e.must(err, "Apply")
	e.holds(e.b, other, "put in one step with others", "o1", "o2")
	e.holds(e.b, third, "put in one step with others", "t1")
	got := e.take(e.b, q, 1, e.long())
	e.same("requeued in one step with others", got, texts(ts[2:])...)
	e.settle(e.b, virtual.Ack, 0, got...)
	e.settle(e.a, virtual.Requeue, 0, ts[1])
	e.holds(e.b, q, "one of three was acked in one step with others", texts(ts[1:2])...)
	for _, part := range []struct {
		ms []*virtual.Message
		st []virtual.Settlement
	}{{nil, nil}, {e.messages(q, "only put"), nil}} {
		_, err := e.apply(e.b, part.ms, part.st)
		e.must(err, "Apply of a part")
	}
	got = e.take(e.a, q, 1, e.long())
	_, err = e.apply(e.a, nil, answers(virtual.Ack, 0, got...))
	e.must(err, "Apply of settlements alone")
	e.empty(e.b, q, "acked by Apply")
}

// nothingDone checks that a message leased by a is leased as before, and that there is nothing else.
func (e *storeEnv) nothingDone(what string, held virtual.Taken, q, other virtual.QueueRef, others ...string) {
	e.Helper()
	e.size(e.b, q, 0, what)
	e.empty(e.b, q, what)
	e.holds(e.b, other, what, others...)
	e.settle(e.a, virtual.Requeue, 0, held)
	ts := e.take(e.b, q, 1, e.long())
	e.same(what+": requeued", ts, texts([]virtual.Taken{held})...)
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.empty(e.b, q, what)
}

func atomicStale(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.leaseOf(e.units(20))
	lostIn := e.ref("lost")
	e.put(e.a, lostIn, "lost")
	lost, _ := e.lose(lostIn, e.a, e.b)
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, e.long())[0]
	st := []virtual.Settlement{answers(virtual.Ack, 0, held)[0], answers(virtual.Ack, 0, lost)[0]}
	_, err := e.apply(e.a, e.messages(other, "o1", "o2", "o3"), st)
	b := e.only(err, "the second of two receipts is stale, behind three messages", 4)
	if !errors.Is(b.Items[0].Err, virtual.ErrStale) {
		e.Fatalf("the item's error is %v, want %v", b.Items[0].Err, virtual.ErrStale)
	}
	e.nothingDone("one receipt is stale", held, q, other)
}

func atomicRefused(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.put(e.a, other, "o1")
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, e.long())[0]
	l := limit(other, 2)
	l.Reject = true
	ms := append(e.messages(other, "o2", "o3"), e.message(q, "m2"))
	out, err := e.apply(e.a, ms, answers(virtual.Ack, 0, held), l)
	b := e.only(err, "the second of three messages is refused", 1)
	if !errors.Is(b.Items[0].Err, virtual.ErrFull) {
		e.Fatalf("the item's error is %v, want %v", b.Items[0].Err, virtual.ErrFull)
	}
	if len(out) > 0 {
		e.Fatalf("an Apply that did nothing has evicted %d messages", len(out))
	}
	e.nothingDone("one message is refused", held, q, other, "o1")
}

func atomicNoQueue(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	gone := e.create(virtual.QueueRef{Name: "deleted", Incarnation: "1"})
	_, err := capability[virtual.Namespace](e, e.a).Delete(e.ctx, gone)
	e.must(err, "Delete")
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, e.long())[0]
	_, err = e.apply(e.a, []*virtual.Message{e.message(other, "o1"), e.message(gone, "lost")}, answers(virtual.Ack, 0, held))
	e.only(err, "the second of two messages names a deleted queue", 1)
	e.nothingDone("one queue is deleted", held, q, other)
}

func atomicGuard(e *storeEnv) {
	q, other, g := e.ref("orders"), e.ref("others"), e.registry(e.a, "a")
	rev := g.must(write("x", "1", virtual.Any))
	e.put(e.a, q, "m1", "m2")
	first, held := e.take(e.a, q, 1, e.long()), e.take(e.a, q, 1, e.long())[0]
	r := virtual.ApplyRequest{
		PutRequest:  virtual.PutRequest{Messages: e.messages(other, "o1"), Guard: []virtual.Revision{{Key: "x", Rev: rev}}},
		Settlements: answers(virtual.Ack, 0, first...),
	}
	apply := capability[virtual.Atomic](e, e.a).Apply
	_, err := apply(e.ctx, r, nil)
	e.must(err, "Apply with a guard that holds")
	g.must(op("x", virtual.Touch, virtual.Any))
	r.Messages, r.Settlements = e.messages(other, "o2"), answers(virtual.Ack, 0, held)
	_, err = apply(e.ctx, r, nil)
	e.differs(err, "Apply with a guard that does not hold", "x")
	e.nothingDone("the guard does not hold", held, q, other, "o1")
}

func atomicEvicts(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.put(e.a, other, "o1", "o2")
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, e.long())
	l := limit(other, 2)
	l.Holder, l.Lease = "trimmer", e.long()
	out, err := e.apply(e.a, e.messages(other, "o3"), answers(virtual.Ack, 0, held...), l)
	e.must(err, "Apply")
	e.same("evicted", out, "o1")
	e.empty(e.b, q, "acked in one step with a Put that evicted another")
	e.size(e.b, other, 2, "one was evicted")
	e.settle(e.a, virtual.Requeue, 0, out...)
	e.holds(e.b, other, "the evicted one was given back", "o1", "o2", "o3")
}

func atomicRepeat(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.put(e.a, q, "m1", "m2")
	held := e.take(e.a, q, 2, e.long())
	r := virtual.ApplyRequest{
		PutRequest:  virtual.PutRequest{Messages: e.messages(other, "o1"), Producer: "producer", Sequence: 1},
		Settlements: answers(virtual.Ack, 0, held[0]),
	}
	for range 3 {
		_, err := capability[virtual.Atomic](e, e.a).Apply(e.ctx, r, nil)
		e.must(err, "Apply, the receipt of which is stale when it is repeated")
	}
	e.holds(e.b, other, "put by one request three times", "o1")
	r.Sequence, r.Messages, r.Settlements = 2, e.messages(other, "o2"), answers(virtual.Ack, 0, held[0], held[1])
	for range 2 {
		_, err := capability[virtual.Atomic](e, e.a).Apply(e.ctx, r, nil)
		e.only(err, "Apply with a stale receipt, and the same again", 1)
	}
	e.nothingDone("one receipt is stale", held[1], q, other)
}

func atomicWakes(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	w := e.waiter(e.b, "w")
	e.put(e.a, q, "m1")
	held := e.take(e.a, q, 1, e.long())
	w.parked(q)
	w.parked(other)
	_, err := e.apply(e.a, e.messages(other, "o1"), answers(virtual.Requeue, 0, held...))
	e.must(err, "Apply")
	left := map[virtual.QueueRef]bool{q: true, other: true}
	e.eventually("both queues wake the waiter", func() (bool, string) {
		select {
		case got := <-w.woken:
			delete(left, got)
		default:
		}
		return len(left) == 0, fmt.Sprintf("%v do not", left)
	})
	get := e.waits(e.b, e.ref("third"), 1, e.units(40), e.long())
	_, err = e.apply(e.a, e.messages(e.ref("third"), "t1"), nil)
	e.must(err, "Apply")
	e.waited(get, "a Get that waits, after Apply", 0, 0, "t1")
}

// atomicTogether adds to a queue by pairs, one of each put and the other given back, and counts from aside.
func atomicTogether(e *storeEnv) {
	q := e.ref("orders")
	rounds := 400
	if !e.c.Virtual {
		rounds = 60
	}
	e.put(e.a, q, numbered("m", rounds)...)
	held := e.take(e.a, q, rounds, e.long())
	pairs := calls(e, func(ctx context.Context) (struct{}, error) {
		x, _ := virtual.As[virtual.Atomic](e.a)
		for _, t := range held {
			_, err := x.Apply(ctx, virtual.ApplyRequest{
				PutRequest:  virtual.PutRequest{Messages: e.messages(q, "mate")},
				Settlements: answers(virtual.Requeue, 0, t),
			}, nil)
			if err != nil {
				return struct{}{}, err
			}
		}
		return struct{}{}, nil
	})
	for looks := 0; pairs.running(); looks++ {
		n, err := e.b.Size(e.ctx, q)
		e.must(err, "Size")
		if n%2 != 0 {
			e.Fatalf("look %d sees %d messages where each Apply adds two", looks, n)
		}
	}
	_, err := pairs.wait(e, "who adds pairs", e.patience())
	e.must(err, "Apply")
	e.size(e.b, q, 2*rounds, "all pairs were added")
}
