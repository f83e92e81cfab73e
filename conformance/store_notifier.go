package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const whereNotifier = "virtual/notifier.go, Notifier"

var notifierChecks = []StoreCheck{
	{
		Name: "Notifier/Put", run: notifierPut, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "A Get with Park that takes less than Max records the waiter for that queue. Put wakes who is recorded, by any process.",
	},
	{
		Name: "Notifier/TookLess", run: notifierTookLess, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "A Get with Park that takes less than Max records the waiter: one that took something, too. Waking on \"the queue was empty\" would strand him.",
	},
	{
		Name: "Notifier/Requeue", run: notifierRequeue, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "Put, Requeue, Return, a due delay and an ended lease wake who is recorded.",
	},
	{
		Name: "Notifier/LeaseEnds", run: notifierLease, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "An ended lease wakes who is recorded.",
	},
	{
		Name: "Notifier/HolderLost", run: notifierHolder, Needs: []Claim{claimNotifier, claimHolders}, Where: whereNotifier,
		Rule: "An ended lease wakes who is recorded: a holder's as well.",
	},
	{
		Name: "Notifier/DelayEnds", run: notifierDelay, Needs: []Claim{claimNotifier, claimDelay}, Where: whereNotifier,
		Rule: "A due delay wakes who is recorded.",
	},
	{
		Name: "Notifier/Deleted", run: notifierDeleted, Needs: []Claim{claimNotifier, claimNamespace}, Where: whereNotifier,
		Rule: "The queue's deletion wakes who is recorded.",
	},
	{
		Name: "Notifier/StruckOut", run: notifierStruckOut, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "Every Get with Park strikes out what was recorded for that waiter before; one with Max 0 does nothing else.",
	},
	{
		Name: "Notifier/OnlyItsQueues", run: notifierOnlyItsQueues, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "wake is called for each queue in which something may be ready for the waiter.",
	},
	{
		Name: "Notifier/Many", run: notifierMany, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "Put wakes who is recorded: every waiter, in every process.",
	},
	{
		Name: "Notifier/Ends", run: notifierEnds, Needs: []Claim{claimNotifier}, Where: "virtual/notifier.go, Notify",
		Rule: "Notify runs until ctx ends. ready is closed when waiters recorded from now on are woken.",
	},
	{
		Name: "Notifier/Again", run: notifierAgain, Needs: []Claim{claimNotifier, claimHolders}, Where: "virtual/store.go, GetRequest.Park",
		Rule: "An empty Get, or one that took less than Max, records this waiter: one said again, the original of which never came, too.",
	},
}

// waiter is a process that is woken.
type waiter struct {
	e     *storeEnv
	s     virtual.Store
	name  string
	woken chan virtual.QueueRef
	ended *call[struct{}]
	stop  context.CancelFunc
}

// waiter starts Notify on a handle.
func (e *storeEnv) waiter(s virtual.Store, name string) *waiter {
	e.Helper()
	n := capability[virtual.Notifier](e, s)
	w := &waiter{e: e, s: s, name: name, woken: make(chan virtual.QueueRef, 4096)}
	ready := make(chan struct{})
	var ctx context.Context
	ctx, w.stop = context.WithCancel(e.ctx)
	w.ended = calls(e, func(context.Context) (struct{}, error) {
		return struct{}{}, n.Notify(ctx, name, ready, func(q virtual.QueueRef) {
			select {
			case w.woken <- q:
			default:
				e.Errorf("more than %d wake-ups wait", cap(w.woken))
			}
		})
	})
	t := time.NewTimer(e.patience())
	defer t.Stop()
	select {
	case <-ready:
	case <-w.ended.done:
		e.Fatalf("Notify has returned: %v", w.ended.err)
	case <-t.C:
		e.Fatalf("Notify has not closed ready within %v", e.patience())
	}
	return w
}

// park takes up to most messages and has the waiter recorded when there were fewer.
func (w *waiter) park(q virtual.QueueRef, most int) []virtual.Taken {
	w.e.Helper()
	ts, _, err := w.s.Get(w.e.ctx, virtual.GetRequest{Queue: q, Max: most, Lease: w.e.long(), Park: w.name}, nil)
	w.e.must(err, "Get with Park")
	return ts
}

// parked parks on an empty queue.
func (w *waiter) parked(q virtual.QueueRef) {
	w.e.Helper()
	if ts := w.park(q, 1); len(ts) > 0 {
		w.e.Fatalf("%s was taken from a queue that should be empty", texts(ts)[0])
	}
}

// wakes waits for a wake-up for a queue.
func (w *waiter) wakes(q virtual.QueueRef, what string, within time.Duration) {
	e := w.e
	e.Helper()
	t := time.NewTimer(within + e.slack())
	defer t.Stop()
	for {
		select {
		case got := <-w.woken:
			if got == q {
				return
			}
		case <-w.ended.done:
			e.Fatalf("%s: Notify has returned: %v", what, w.ended.err)
		case <-t.C:
			e.Fatalf("%s: %s was not woken for %q within %v", what, w.name, q.Name, within+e.slack())
		}
	}
}

// sleeps checks that there is no wake-up.
func (w *waiter) sleeps(what string) {
	e := w.e
	e.Helper()
	e.pause(e.units(2))
	select {
	case q := <-w.woken:
		e.Fatalf("%s: %s was woken for %q", what, w.name, q.Name)
	default:
	}
}

func notifierPut(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	e.each(func(s virtual.Store, handle string) {
		w.parked(q)
		e.put(s, q, "m")
		w.wakes(q, "after a Put by "+handle, 0)
		ts := w.park(q, 1)
		e.same("when woken", ts, "m")
		e.settle(e.b, virtual.Ack, 0, ts...)
	})
}

func notifierTookLess(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	e.put(e.a, q, "m1", "m2")
	e.same("two of three asked for", w.park(q, 3), "m1", "m2")
	e.put(e.a, q, "m3")
	w.wakes(q, "after a Put, the waiter having taken two of three it could", 0)
	e.put(e.a, q, "m4", "m5")
	e.same("three of three asked for", w.park(q, 3), "m3", "m4", "m5")
	e.put(e.a, q, "m6")
	w.sleeps("after a Put, the waiter having taken as many as it could")
	e.same("asked for again", w.park(q, 3), "m6")
}

func notifierRequeue(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		e.put(e.a, q, "m1")
		ts := e.take(e.a, q, 1, e.long())
		w.parked(q)
		e.settle(e.a, kind, 0, ts...)
		w.wakes(q, "after "+kind.String(), 0)
		ts = w.park(q, 1)
		e.same("after "+kind.String(), ts, "m1")
		e.settle(e.b, virtual.Ack, 0, ts...)
		w.parked(q)
		e.put(e.a, q, "m2")
		w.wakes(q, "after a Put", 0)
		w.park(q, 1)
	}
}

func notifierLease(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	lease := e.leaseOf(e.units(3))
	e.put(e.a, q, "m1", "m2")
	e.take(e.a, q, 1, lease)
	ts := w.park(q, 2)
	e.same("one is leased to another", ts, "m2")
	w.wakes(q, "when another's lease has ended", lease)
	e.same("what another's lease gave back", w.park(q, 2), "m1")
	// Parked first, leased to another afterwards.
	e.settle(e.b, virtual.Ack, 0, ts...)
	other := e.ref("others")
	w.parked(other)
	e.put(e.a, other, "o1")
	w.wakes(other, "after a Put", 0)
	e.take(e.a, other, 1, lease)
	w.parked(other) // too late
	w.wakes(other, "when the lease of who was quicker has ended", lease)
	e.same("what another's lease gave back", w.park(other, 1), "o1")
}

func notifierHolder(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	lease := e.units(3)
	e.put(e.a, q, "m1", "m2")
	e.held(e.a, q, "h", 1, 2, lease)
	w.parked(q)
	for range 3 {
		e.pause(e.units(2))
		e.renew(e.a, "h", lease, q)
	}
	w.sleeps("a holder renews its lease")
	w.wakes(q, "when another holder's lease has ended", lease)
	e.same("what a lost holder had", w.park(q, 2), "m1", "m2")
}

// until waits, looking again at each wake-up, until a Get takes something.
func (w *waiter) until(q virtual.QueueRef, what string, least, most time.Duration) []virtual.Taken {
	e := w.e
	e.Helper()
	for before := time.Now(); ; {
		w.wakes(q, what, most-time.Since(before))
		if ts := w.park(q, 1); len(ts) > 0 {
			e.between(what+": was woken and took one", time.Since(before), least, most+e.slack())
			return ts
		}
	}
}

func notifierDelay(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	delay := min(e.units(4), e.traits.MaxDelay)
	w.parked(q)
	m := e.message(q, "delayed")
	m.Delay = delay
	e.putAll(e.a, []*virtual.Message{m})
	ts := w.until(q, "when a delay is due", delay-e.unit, delay)
	e.same("when a delay is due", ts, "delayed")
	w.parked(q)
	e.settle(e.b, virtual.Requeue, delay, ts...)
	ts = w.until(q, "when the delay of a requeue is due", delay-e.unit, delay)
	e.same("when the delay of a requeue is due", ts, "delayed")
}

func notifierDeleted(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	w.parked(q)
	_, err := capability[virtual.Namespace](e, e.a).Delete(e.ctx, q)
	e.must(err, "Delete")
	w.wakes(q, "after the queue was deleted", 0)
	_, _, err = e.b.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: e.long(), Park: "w"}, nil)
	e.is(err, virtual.ErrNoQueue, "Get with Park from a deleted queue")
}

func notifierStruckOut(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	w.parked(q)
	if ts := w.park(q, 0); len(ts) > 0 {
		e.Fatalf("a Get with Max 0 took %d messages", len(ts))
	}
	e.put(e.a, q, "m1")
	w.sleeps("after a Get with Max 0, and a Put")
	e.same("asked for again", w.park(q, 1), "m1")
	e.put(e.a, q, "m2")
	w.sleeps("after a Get that took as many as it could, and a Put")
	e.same("asked for again", w.park(q, 1), "m2")
	w.park(q, 0)
	e.put(e.a, q, "m3", "m4")
	e.same("asked for again", w.park(q, 3), "m3", "m4")
	w.park(q, 0)
	e.put(e.a, q, "m5")
	w.sleeps("after a Get with Max 0 that follows one that took less, and a Put")
}

func notifierOnlyItsQueues(e *storeEnv) {
	qs := e.refs(4)
	w, v := e.waiter(e.a, "w"), e.waiter(e.b, "v")
	w.parked(qs[0])
	w.parked(qs[1])
	v.parked(qs[2])
	e.put(e.a, qs[3], "nobody's")
	e.put(e.a, qs[2], "v's")
	v.wakes(qs[2], "after a Put", 0)
	w.sleeps("Puts to queues in which others wait, or nobody")
	e.put(e.b, qs[1], "w's")
	select {
	case q := <-w.woken:
		if q != qs[1] {
			e.Fatalf("woken for %q after a Put to %q", q.Name, qs[1].Name)
		}
	case <-time.After(e.slack()):
		e.Fatalf("not woken after a Put to one of two queues in which the waiter is recorded")
	}
	v.sleeps("a Put to a queue in which another waits")
	e.put(e.b, qs[0], "w's")
	w.wakes(qs[0], "after a Put to the other queue", 0)
}

func notifierMany(e *storeEnv) {
	q := e.ref("orders")
	var ws []*waiter
	for i := range 6 {
		ws = append(ws, e.waiter([]virtual.Store{e.a, e.b}[i%2], fmt.Sprintf("w%d", i)))
		ws[i].parked(q)
	}
	e.put(e.a, q, numbered("m", 6)...)
	for _, w := range ws {
		w.wakes(q, "one of six waiters, after a Put of six", 0)
		if ts := w.park(q, 1); len(ts) != 1 {
			e.Fatalf("a waiter was woken by a Put that has enough for all, and found none")
		}
	}
}

func notifierEnds(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	w.parked(q)
	w.stop()
	_, err := w.ended.wait(e, "Notify whose context has ended", e.slack()+e.patience())
	if err != nil && !errors.Is(err, context.Canceled) {
		e.Errorf("Notify whose context ended returned %v", err)
	}
	e.put(e.a, q, "m1")
	select {
	case q := <-w.woken:
		e.Fatalf("woken for %q after Notify has returned", q.Name)
	case <-time.After(e.units(1)):
	}
	w = e.waiter(e.b, "w")
	ts := w.park(q, 1)
	e.same("what came while nobody was woken", ts, "m1")
	w.parked(q)
	e.put(e.a, q, "m2")
	w.wakes(q, "after Notify was started anew under its name", 0)
}

func notifierAgain(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	for take := range uint64(3) {
		ts, _, err := e.b.Get(e.ctx, virtual.GetRequest{
			Queue: q, Max: 2, Lease: e.long(), Holder: "h", Take: take + 1, Again: true, Park: "w",
		}, nil)
		e.must(err, "Get again with Park")
		if len(ts) > 0 {
			e.Fatalf("a Take said again took %s from an empty queue", show(texts(ts)))
		}
		e.put(e.a, q, "m")
		w.wakes(q, "after a Put, the waiter recorded by a Take said again", 0)
		e.holds(e.a, q, "the message", "m")
	}
}
