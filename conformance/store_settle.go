package conformance

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var settleChecks = []StoreCheck{
	{
		Name: "Settle/Ack", run: settleAck, Where: "virtual/store.go, Ack",
		Rule: "Ack removes the message for good.",
	},
	{
		Name: "Settle/Requeue/Place", run: settlePlace, Where: "virtual/store.go, Requeue",
		Rule: "Requeue makes it ready again at the place of its Put if the store is Ordered.",
	},
	{
		Name: "Settle/Requeue/Batch", run: settleBackwards, Where: "virtual/store.go, Requeue",
		Rule: "Requeue makes it ready again at the place of its Put if the store is Ordered, in whatever order a batch names them.",
	},
	{
		Name: "Settle/Requeue/For", run: settleFor, Needs: []Claim{claimDelay}, Where: "virtual/store.go, Settlement.For",
		Rule: "Requeue makes it ready again, after For, at the place of its Put if the store is Ordered. Delays are rounded up to DelayStep.",
	},
	{
		Name: "Settle/Requeue/Attempt", run: settleAttempt, Needs: []Claim{claimExactAttempt}, Where: "virtual/store.go, Requeue",
		Rule: "After Requeue Attempt rises at the next taking. After Return the taking is not counted.",
	},
	{
		Name: "Settle/Requeue/Comes", run: settleComes, Where: "virtual/store.go, Requeue",
		Rule: "Requeue makes it ready again; Return does the same.",
	},
	{
		Name: "Settle/Batch/Mixed", run: settleMixed, Where: whereSettle,
		Rule: "Settle ends or changes leases: of several queues and in several ways at once.",
	},
	{
		Name: "Settle/Batch/HalfStale", run: settleHalfStale, Where: whereSettle,
		Rule: "*BatchError names the items that failed; the others count.",
	},
	{
		Name: "Settle/NoReceipt", run: settleNoReceipt, Where: "virtual/store.go, Receipt",
		Rule: "nil, or a receipt of another store, is ErrStale, and has no effect; the others of the batch count.",
	},
}

// foreign is a receipt of another store.
type foreign struct{ n int }

func settleNoReceipt(e *storeEnv) {
	for _, kind := range []virtual.Kind{virtual.Ack, virtual.Requeue, virtual.Return, virtual.Extend} {
		for what, receipt := range map[string]virtual.Receipt{"no receipt": nil, "a receipt of another store": foreign{1}} {
			q := e.ref("orders-" + kind.String() + "-" + strings.ReplaceAll(what, " ", "-"))
			what = kind.String() + " with " + what
			e.put(e.a, q, "m1", "m2", "m3", "m4")
			ts := e.take(e.a, q, e.batch(3), e.long())
			st := answers(kind, 0, ts...)
			if kind == virtual.Extend {
				st = answers(kind, e.long(), ts...)
			}
			none := len(st) / 2
			st[none].Receipt = receipt
			err := e.a.Settle(e.ctx, st)
			for i := range st {
				item := virtual.ItemErr(err, i)
				if i != none && item != nil || item != nil && !errors.Is(item, virtual.ErrStale) {
					e.Fatalf("%s, item %d of %d: item %d has the error %v", what, none, len(st), i, item)
				}
			}
			back := e.took("taken", ts, "m1", "m2", "m3", "m4")
			if kind == virtual.Requeue || kind == virtual.Return {
				back = append(back, texts(append(slices.Clone(ts[:none]), ts[none+1:]...))...)
			}
			slices.Sort(back)
			e.holds(e.b, q, what+": the item itself stays leased", back...)
			if kind == virtual.Extend {
				e.settle(e.a, virtual.Ack, 0, append(slices.Clone(ts[:none]), ts[none+1:]...)...)
			}
			e.settle(e.a, virtual.Requeue, 0, ts[none])
			e.holds(e.b, q, what+", and a requeue with its own receipt", texts(ts[none:none+1])...)
		}
	}
}

func settleAck(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	e.put(e.a, q, "m1", "m2", "m3")
	ts := e.take(e.a, q, 2, lease)
	rest := e.took("taken", ts, "m1", "m2", "m3")
	e.settle(e.a, virtual.Ack, 0, ts...)
	e.pause(lease + e.margin())
	e.holds(e.b, q, "after two of three were acked and their leases are over", rest...)
}

func settlePlace(e *storeEnv) {
	q := e.ref("orders")
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		e.put(e.a, q, numbered("m", 6)...)
		ts := e.take(e.a, q, 4, e.long())
		e.settle(e.a, kind, 0, ts[2]) // m3
		e.settle(e.a, kind, 0, ts[0]) // m1
		e.put(e.b, q, "m7")
		got := e.take(e.b, q, 3, e.long())
		if e.traits.Ordered {
			e.same("after "+kind.String()+" of the third and the first of four", got, "m1", "m3", "m5")
		}
		e.settle(e.a, kind, 0, ts[3], ts[1]) // m4, m2
		got = append(got, e.take(e.b, q, 4, e.long())...)
		e.same("after "+kind.String()+" of all four", got, "m1", "m3", "m5", "m2", "m4", "m6", "m7")
		e.settle(e.b, virtual.Ack, 0, got...)
		e.empty(e.b, q, "all is acked")
	}
}

func settleBackwards(e *storeEnv) {
	q := e.ref("orders")
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		all := numbered("m", e.batch(9))
		e.put(e.a, q, all...)
		ts := e.take(e.a, q, len(all), e.long())
		e.put(e.a, q, "last")
		st := answers(kind, 0, ts...)
		for i := range len(st) / 2 {
			st[i], st[len(st)-1-i] = st[len(st)-1-i], st[i]
		}
		e.must(e.a.Settle(e.ctx, st), "Settle, %v", kind)
		e.holds(e.b, q, "after "+kind.String()+" of nine, the last one first", append(all, "last")...)
	}
}

func settleFor(e *storeEnv) {
	q := e.ref("orders")
	delay := min(e.units(5), e.traits.MaxDelay)
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		e.put(e.a, q, "m1", "m2", "m3")
		ts := e.take(e.a, q, 2, e.long())
		before := time.Now()
		e.settle(e.a, kind, delay, ts...)
		e.size(e.b, q, 1, "two of three are to come back later")
		third := e.take(e.b, q, 1, e.long())
		e.same("before the delay is over", third, e.took("taken", ts, "m1", "m2", "m3")...)
		e.settle(e.b, virtual.Requeue, 0, third...)
		third = e.take(e.b, q, 1, e.long())
		e.empty(e.b, q, "before the delay is over")
		e.put(e.b, q, "m4")
		back := e.await(e.b, q, 1, e.long(), e.slack())
		e.same("behind them", back, "m4")
		e.settle(e.b, virtual.Requeue, 0, append(back, third...)...)
		e.pause(delay - time.Since(before) + e.margin())
		e.holds(e.b, q, "after the delay", "m1", "m2", "m3", "m4")
	}
}

func settleAttempt(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1")
	want := 1
	for i, kind := range []virtual.Kind{
		virtual.Return, virtual.Requeue, virtual.Requeue, virtual.Return, virtual.Return, virtual.Requeue, virtual.Return, virtual.Ack,
	} {
		s := e.a
		if i%3 == 1 {
			s = e.b
		}
		ts := e.take(s, q, 1, e.long())
		e.attempt("taken again, to be settled with "+kind.String(), ts[0], want)
		e.settle(s, kind, 0, ts...)
		if kind == virtual.Requeue {
			want++
		}
	}
	e.empty(e.a, q, "acked at last")
}

func settleComes(e *storeEnv) {
	q := e.ref("orders")
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		all := numbered("m", 5)
		e.put(e.a, q, all...)
		for range 4 {
			ts := e.take(e.a, q, 5, e.long())
			e.settle(e.a, kind, 0, ts...)
			e.size(e.b, q, 5, "after "+kind.String())
		}
		e.holds(e.b, q, "after four times "+kind.String(), all...)
	}
}

func settleMixed(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	lease := e.leaseOf(e.units(4))
	e.put(e.a, q, "m1", "m2", "m3", "m4")
	e.put(e.a, other, "o1", "o2")
	ts, os := e.take(e.a, q, 4, lease), e.take(e.a, other, 2, lease)
	by := map[string]virtual.Taken{}
	for _, t := range append(ts, os...) {
		by[texts([]virtual.Taken{t})[0]] = t
	}
	var st []virtual.Settlement
	add := func(body string, kind virtual.Kind, d time.Duration) { st = append(st, answers(kind, d, by[body])...) }
	add("m1", virtual.Ack, 0)
	add("o1", virtual.Requeue, 0)
	add("m2", virtual.Extend, e.long())
	add("o2", virtual.Ack, 0)
	add("m4", virtual.Return, 0)
	add("m3", virtual.Requeue, 0)
	for part := range e.parts(len(st)) {
		e.must(e.a.Settle(e.ctx, st[part[0]:part[1]]), "Settle of a mixed batch")
	}
	e.holds(e.b, other, "one acked, one requeued", "o1")
	e.holds(e.b, q, "one acked, one extended, one returned, one requeued", "m3", "m4")
	if !e.traits.LeaseAtPut {
		e.pause(lease + e.margin())
		e.empty(e.b, q, "one was extended beyond this")
	}
	e.settle(e.a, virtual.Requeue, 0, by["m2"])
	e.holds(e.b, q, "the one that was extended", "m2")
}

func settleHalfStale(e *storeEnv) {
	q := e.ref("orders")
	e.leaseOf(e.units(6))
	e.put(e.a, q, "m1")
	lost, held := e.lose(q, e.a, e.b)
	e.put(e.a, q, "m2", "m3", "m4")
	ts := e.take(e.a, q, 3, e.long())
	st := append(answers(virtual.Ack, 0, ts[0], lost), answers(virtual.Requeue, 0, ts[1])...)
	err := e.a.Settle(e.ctx, st)
	e.stale(err, 1, "a batch of three with a stale receipt in the middle")
	if e.traits.StaleTold {
		e.only(err, "a batch of three with a stale receipt in the middle", 1)
	}
	e.settle(e.b, virtual.Requeue, 0, held)
	e.settle(e.a, virtual.Requeue, 0, ts[2])
	want := append(texts([]virtual.Taken{held}), texts(ts[1:])...)
	e.holds(e.b, q, "one acked and one requeued beside a stale receipt, and others", want...)
}
