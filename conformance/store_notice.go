package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var noticeChecks = []StoreCheck{
	{
		Name: "Notifier/NoneLost", run: notifierNoneLost, Needs: []Claim{claimNotifier}, Where: whereNotifier,
		Rule: "A Get with Park records the waiter in its own step: no message comes between the look and the record.",
	},
	{
		Name: "Ranked/HigherFirst", run: rankedHigherFirst, Needs: []Claim{claimRanked, claimNotifier}, Where: whereNotifier,
		Rule: "A Get takes nothing for its consumers of a priority while other waiters have room recorded at a higher one.",
	},
	{
		Name: "Ranked/LeftBehind", run: rankedLeftBehind, Needs: []Claim{claimRanked, claimNotifier}, Where: whereNotifier,
		Rule: "A Get that leaves messages behind wakes the others that are recorded.",
	},
	{
		Name: "Ranked/NotForEver", run: rankedNotForEver, Needs: []Claim{claimRanked, claimNotifier}, Where: whereNotifier,
		Rule: "What a waiter could still take counts as on its way to it at most for a second: then others may have it.",
	},
	{
		Name: "Ranked/Parts", run: rankedParts, Needs: []Claim{claimRanked, claimNotifier}, Where: "virtual/store.go, GetRequest.Rooms",
		Rule: "Rooms parts Max by priority, the highest first: what is for higher ones than others wait with is taken.",
	},
}

// ranks takes for consumers of several priorities and has the waiter recorded for what it could take beyond that.
func (w *waiter) ranks(q virtual.QueueRef, rooms ...virtual.Room) []virtual.Taken {
	w.e.Helper()
	r := virtual.GetRequest{Queue: q, Lease: w.e.long(), Park: w.name, Rooms: rooms}
	for _, room := range rooms {
		r.Max += room.Room
	}
	ts, _, err := w.s.Get(w.e.ctx, r, nil)
	w.e.must(err, "Get with Rooms")
	return ts
}

func rankedHigherFirst(e *storeEnv) {
	q := e.ref("orders")
	high, low := e.waiter(e.a, "high"), e.waiter(e.b, "low")
	high.ranks(q, virtual.Room{Priority: 5, Room: 2})
	e.put(e.b, q, "m1", "m2")
	high.wakes(q, "after a Put", 0)
	e.same("of a lower priority than one that waits", low.ranks(q, virtual.Room{Priority: 4, Room: 2}))
	e.same("of the higher priority", high.ranks(q, virtual.Room{Priority: 5, Room: 2}), "m1", "m2")
	e.put(e.b, q, "m3", "m4")
	low.wakes(q, "nobody of a higher priority waits", 0)
	e.same("nobody of a higher priority waits", low.ranks(q, virtual.Room{Priority: 4, Room: 1}), "m3")
	e.same("as high", low.ranks(q, virtual.Room{Priority: -1, Room: 1}), "m4")
	// One as high as another does not come after it.
	high.ranks(q, virtual.Room{Priority: 5, Room: 1})
	e.put(e.b, q, "m5")
	e.same("as high as one that waits", low.ranks(q, virtual.Room{Priority: 5, Room: 1}), "m5")
	// One that has struck itself out is not waited for.
	high.ranks(q, virtual.Room{Priority: 5, Room: 1})
	high.park(q, 0)
	e.put(e.b, q, "m6")
	e.same("the higher one has struck itself out", low.ranks(q, virtual.Room{Priority: 0, Room: 1}), "m6")
}

func rankedLeftBehind(e *storeEnv) {
	q := e.ref("orders")
	high, low := e.waiter(e.a, "high"), e.waiter(e.b, "low")
	high.ranks(q, virtual.Room{Priority: 5, Room: 2})
	e.put(e.b, q, "m1", "m2", "m3")
	high.wakes(q, "after a Put", 0)
	low.ranks(q, virtual.Room{Priority: 0, Room: 2})
	e.same("of the higher priority", high.ranks(q, virtual.Room{Priority: 5, Room: 2}), "m1", "m2")
	low.wakes(q, "one was left behind", 0)
	e.same("what was left behind", low.ranks(q, virtual.Room{Priority: 0, Room: 2}), "m3")
}

func rankedNotForEver(e *storeEnv) {
	q := e.ref("orders")
	high, low := e.waiter(e.a, "high"), e.waiter(e.b, "low")
	high.ranks(q, virtual.Room{Priority: 5, Room: 2})
	e.put(e.b, q, "m1")
	high.wakes(q, "after a Put", 0)
	before := time.Now()
	e.same("of a lower priority than one that waits", low.ranks(q, virtual.Room{Priority: 0, Room: 1}))
	for {
		low.wakes(q, "one of higher priority was woken and does not come", time.Second)
		if ts := low.ranks(q, virtual.Room{Priority: 0, Room: 1}); len(ts) > 0 {
			e.same("one of higher priority does not come", ts, "m1")
			break
		}
	}
	e.between("what was left for one that does not come: taken", time.Since(before), 0, time.Second+e.slack())
}

func rankedParts(e *storeEnv) {
	q := e.ref("orders")
	w, v := e.waiter(e.a, "w"), e.waiter(e.b, "v")
	w.ranks(q, virtual.Room{Priority: 3, Room: 1})
	e.put(e.b, q, "m1", "m2", "m3", "m4")
	ts := v.ranks(q, virtual.Room{Priority: 5, Room: 1}, virtual.Room{Priority: 0, Room: 3})
	e.same("of priorities above and below one that waits", ts, "m1")
	e.same("the one that waits", w.ranks(q, virtual.Room{Priority: 3, Room: 1}), "m2")
	ts = v.ranks(q, virtual.Room{Priority: 5, Room: 1}, virtual.Room{Priority: 0, Room: 3})
	e.same("nobody else waits", ts, "m3", "m4")
}

// sleepers are consumers that sleep until they are woken, and then look nowhere but where they are told to.
type sleepers struct {
	e    *storeEnv
	mu   sync.Mutex
	seen map[virtual.ID]bool
	left int
	all  chan struct{} // closed when none are left
}

func (x *sleepers) acked(t virtual.Taken) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.seen[t.ID] {
		x.e.Errorf("%s came twice", t.Payload.Bytes())
		return
	}
	x.seen[t.ID] = true
	if x.left--; x.left == 0 {
		close(x.all)
	}
}

// look takes until a Get that took less than it could has recorded the waiter.
func (x *sleepers) look(w *waiter, q virtual.QueueRef, r *rand.Rand) error {
	for {
		most := 1 + r.IntN(3)
		ts, _, err := w.s.Get(x.e.ctx, virtual.GetRequest{Queue: q, Max: most, Lease: x.e.long(), Park: w.name}, nil)
		if err != nil {
			return err
		}
		for _, t := range ts {
			kind := virtual.Ack
			if r.IntN(4) == 0 {
				kind = virtual.Requeue
			}
			if err := w.s.Settle(x.e.ctx, answers(kind, 0, t)); err != nil {
				return err
			}
			if kind == virtual.Ack {
				x.acked(t)
			}
		}
		if len(ts) < most {
			return nil
		}
	}
}

func (x *sleepers) consume(w *waiter, qs []virtual.QueueRef, r *rand.Rand) error {
	for _, q := range qs {
		if err := x.look(w, q, r); err != nil {
			return err
		}
	}
	for {
		select {
		case q := <-w.woken:
			if err := x.look(w, q, r); err != nil {
				return err
			}
		case <-x.e.ctx.Done():
			return nil
		}
	}
}

func notifierNoneLost(e *storeEnv) {
	const consumers, producers = 4, 3
	each := 60
	if e.c.Virtual && !raceEnabled {
		each = 400
	}
	qs := e.refs(2)
	ms := make([][]*virtual.Message, producers)
	for p := range ms {
		for i := range each {
			ms[p] = append(ms[p], e.message(qs[i%len(qs)], fmt.Sprintf("m%d-%d", p, i)))
		}
	}
	x := &sleepers{e: e, seen: map[virtual.ID]bool{}, left: producers * each, all: make(chan struct{})}
	for i := range consumers {
		w := e.waiter([]virtual.Store{e.a, e.b}[i%2], fmt.Sprintf("w%d", i))
		e.goes(func() {
			if err := x.consume(w, qs, rand.New(rand.NewPCG(e.c.seed(), uint64(i)))); err != nil && e.ctx.Err() == nil {
				e.Errorf("a consumer: %v", err)
			}
		})
	}
	e.onBoth("a producer", producers, func(ctx context.Context, s virtual.Store, p int) error {
		for i, m := range ms[p] {
			if err := s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{m}}); err != nil {
				return err
			}
			if i%3 == 0 {
				yield() // lets consumers run dry
			}
		}
		return nil
	})
	t := time.NewTimer(e.patience())
	defer t.Stop()
	select {
	case <-x.all:
	case <-t.C:
		x.mu.Lock()
		defer x.mu.Unlock()
		e.Fatalf("%d of %d messages are left, and no consumer was woken for them", x.left, producers*each)
	}
}
