package conformance

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var traitChecks = []StoreCheck{
	{
		Name: "Levels/Order", run: levelsOrder, Needs: []Claim{claimLevels, claimOrdered}, Where: "virtual/store.go, Message.Priority",
		Rule: "Priority orders a queue, higher first; within a priority the order of Put.",
	},
	{
		Name: "Levels/Ahead", run: levelsAhead, Needs: []Claim{claimLevels}, Where: "virtual/store.go, Message.Priority",
		Rule: "Priority orders a queue, higher first: also where the store is not Ordered, but for what a few steps make.",
	},
	{
		Name: "Levels/Requeue", run: levelsRequeue, Needs: []Claim{claimLevels, claimOrdered}, Where: "virtual/store.go, Requeue",
		Rule: "Requeue makes it ready again at the place of its Put: in its own priority.",
	},
	{
		Name: "Delay/Hides", run: delayHides, Needs: []Claim{claimDelay}, Where: "virtual/store.go, Message.Delay",
		Rule: "Delay hides the message for that long after Put.",
	},
	{
		Name: "Delay/Place", run: delayPlace, Needs: []Claim{claimDelay, claimOrdered}, Where: "virtual/store.go, Message.Delay",
		Rule: "A delayed message keeps its place of Put.",
	},
	{
		Name: "TTL/Carried", run: ttlCarried, Needs: []Claim{claimTTL}, Where: "virtual/traits.go, TTL",
		Rule: "TTL: messages carry a TTL through the store. Messages whose TTL has passed are handed out like others.",
	},
	{
		Name: "Age/SincePut", run: ageSincePut, Needs: []Claim{claimAge}, Where: "virtual/traits.go, Age",
		Rule: "Age: Taken.Age is the time since Put by the store's clock, kept over Requeue.",
	},
	{
		Name: "Fences/Lower", run: fencesLower, Needs: []Claim{claimFences}, Where: "virtual/store.go, GetRequest.Fence",
		Rule: "Fence, when not 0, refuses the Get with ErrFence if one with a higher Fence was seen on the queue.",
	},
	{
		Name: "Fences/EachQueue", run: fencesEachQueue, Needs: []Claim{claimFences}, Where: "virtual/store.go, GetRequest.Fence",
		Rule: "Fence belongs to the queue; a Get without one is not refused.",
	},
}

func (e *storeEnv) prioritized(q virtual.QueueRef, bodies []string, priorities []int) []*virtual.Message {
	ms := e.messages(q, bodies...)
	for i := range ms {
		ms[i].Priority = uint8(priorities[i])
	}
	return ms
}

func levelsOrder(e *storeEnv) {
	q := e.ref("orders")
	top := e.traits.Levels - 1
	priorities := []int{0, top, 1, 0, top, top / 2, 1, 0}
	bodies := numbered("m", len(priorities))
	e.putAll(e.a, e.prioritized(q, bodies, priorities))
	order := make([]int, len(bodies))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int { return priorities[b] - priorities[a] })
	want := make([]string, len(bodies))
	for i, at := range order {
		want[i] = bodies[at]
	}
	ts := e.take(e.b, q, len(bodies), e.long())
	e.same("priorities 0 to the highest, mixed", ts, want...)
	for i, t := range ts {
		if int(t.Priority) != priorities[order[i]] {
			e.Errorf("message %s has come with priority %d, want %d", want[i], t.Priority, priorities[order[i]])
		}
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
}

// ahead puts as many messages of a high priority behind as many of a low one, takes all one by one and returns how much
// earlier the high ones came in the mean, in parts of what would be if all of them came first: 1 is a strict order of
// priorities, 0 none, -1 the order of Put.
func (e *storeEnv) ahead(q virtual.QueueRef, high uint8) float64 {
	e.Helper()
	const each = 40
	e.put(e.a, q, numbered("low", each)...)
	ms := e.messages(q, numbered("high", each)...)
	for _, m := range ms {
		m.Priority = high
	}
	e.putAll(e.a, ms)
	sum := 0
	for at := range 2 * each {
		ts := e.take(e.b, q, 1, e.long())
		if strings.HasPrefix(texts(ts)[0], "low") {
			sum += at
		} else {
			sum -= at
		}
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
	return float64(sum) / (each * each)
}

func levelsAhead(e *storeEnv) {
	if by := e.ahead(e.ref("orders"), uint8(e.traits.Levels-1)); by < 0.5 {
		e.Fatalf("messages of the highest priority put behind others came ahead by %.2f, where 1 is all of them first and 0 is no order", by)
	}
}

func levelsRequeue(e *storeEnv) {
	q := e.ref("orders")
	top := e.traits.Levels - 1
	lease := e.leaseOf(e.units(3))
	e.putAll(e.a, e.prioritized(q, []string{"low1", "high1", "low2", "high2", "low3"}, []int{0, top, 0, top, 0}))
	ts := e.take(e.a, q, 4, lease)
	e.same("taken by priority", ts, "high1", "high2", "low1", "low2")
	e.settle(e.a, virtual.Requeue, 0, ts[2], ts[1])
	e.putAll(e.a, e.prioritized(q, []string{"high3", "low4"}, []int{top, 0}))
	e.pause(lease + e.margin())
	e.holds(e.b, q, "two requeued, two whose lease ran out, and others", "high1", "high2", "high3", "low1", "low2", "low3", "low4")
}

func delayHides(e *storeEnv) {
	q := e.ref("orders")
	delay := min(e.units(4), e.traits.MaxDelay)
	m := e.message(q, "delayed")
	m.Delay = delay
	before := time.Now()
	e.putAll(e.a, []*virtual.Message{m, e.message(q, "now")})
	e.size(e.b, q, 1, "one of two is delayed")
	e.holds(e.b, q, "before the delay is over", "now")
	ts := e.await(e.b, q, 1, e.long(), delay+e.slack())
	e.same("after the delay", ts, "delayed")
	e.between("a delayed message: came", time.Since(before), delay, delay+e.traits.DelayStep+e.slack())
	e.attempt("a delayed message", ts[0], 1)
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.empty(e.a, q, "acked")
}

func delayPlace(e *storeEnv) {
	q := e.ref("orders")
	delay := min(e.units(3), e.traits.MaxDelay)
	ms := e.messages(q, "m1", "m2", "m3", "m4", "m5")
	ms[1].Delay = delay
	ms[3].Delay = delay / 3
	e.putAll(e.a, ms)
	ts := e.take(e.b, q, 1, e.long())
	e.same("the head", ts, "m1")
	e.settle(e.b, virtual.Requeue, 0, ts...)
	e.pause(delay + e.margin())
	e.holds(e.b, q, "the second and the fourth of five were delayed", "m1", "m2", "m3", "m4", "m5")
}

func ttlCarried(e *storeEnv) {
	q := e.ref("orders")
	ttls := map[string]time.Duration{
		"none": 0, "immediately": virtual.Immediately, "short": e.units(2), "ms": 1500 * time.Millisecond, "long": 400 * time.Hour,
	}
	bodies := []string{"none", "immediately", "short", "ms", "long"}
	ms := e.messages(q, bodies...)
	for i := range ms {
		ms[i].TTL = ttls[bodies[i]]
	}
	e.putAll(e.a, ms)
	e.pause(e.units(3))
	for range 2 {
		ts := e.take(e.b, q, len(bodies), e.long())
		e.same("messages of which some have expired", ts, bodies...)
		for _, t := range ts {
			if body := string(t.Payload.Bytes()); t.TTL != ttls[body] {
				e.Errorf("message %s has come with TTL %v, want %v", body, t.TTL, ttls[body])
			}
		}
		e.settle(e.b, virtual.Requeue, 0, ts...)
	}
}

func ageSincePut(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(4))
	before := time.Now()
	e.put(e.a, q, "m1")
	after := time.Now()
	check := func(what string, t virtual.Taken, asked time.Time) {
		e.Helper()
		least, most := asked.Sub(after), time.Since(before)
		slip := e.slack() / 10 // of the clock
		if t.Age < least-max(slip, e.traits.DelayStep) || t.Age > most+slip {
			e.Fatalf("%s: Age is %v, want %v to %v", what, t.Age, least, most)
		}
	}
	asked := time.Now()
	ts := e.take(e.b, q, 1, e.long())
	check("taken at once", ts[0], asked)
	e.pause(e.units(2))
	e.settle(e.b, virtual.Requeue, 0, ts...)
	asked = time.Now()
	ts = e.take(e.a, q, 1, lease)
	check("taken after a requeue", ts[0], asked)
	asked = time.Now().Add(lease)
	ts = e.await(e.b, q, 1, e.long(), lease+e.slack())
	e.same("after a lease ran out", ts, "m1")
	check("taken after a lease ran out", ts[0], asked)
	if e.has(claimDelay) {
		delay := min(e.units(2), e.traits.MaxDelay)
		e.settle(e.b, virtual.Requeue, delay, ts...)
		asked = time.Now().Add(delay)
		ts = e.await(e.b, q, 1, e.long(), delay+e.slack())
		e.same("after a requeue with a delay", ts, "m1")
		check("taken after a requeue with a delay", ts[0], asked)
	}
}

func (e *storeEnv) fenced(s virtual.Store, q virtual.QueueRef, fence uint64) ([]virtual.Taken, error) {
	ts, _, err := s.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: e.long(), Fence: fence}, nil)
	if err != nil && len(ts) > 0 {
		e.Errorf("a Get returned messages and %v", err)
	}
	return ts, err
}

func fencesLower(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2", "m3")
	for _, step := range []struct {
		fence uint64
		ok    bool
	}{{5, true}, {5, true}, {4, false}, {1, false}, {5, true}, {7, true}, {6, false}, {5, false}, {7, true}} {
		s := e.a
		if step.fence == 5 {
			s = e.b
		}
		ts, err := e.fenced(s, q, step.fence)
		if !step.ok {
			e.is(err, virtual.ErrFence, "a Get with fence %d after a higher one", step.fence)
			continue
		}
		e.must(err, "a Get with fence %d", step.fence)
		e.same("under a fence", ts, "m1")
		e.settle(s, virtual.Requeue, 0, ts...)
	}
	e.holds(e.a, q, "after Gets that were refused", "m1", "m2", "m3")
	if _, err := e.fenced(e.b, q, 6); !errors.Is(err, virtual.ErrFence) {
		e.Fatalf("a Get with a lower fence from an empty queue: the error is %v, want %v", err, virtual.ErrFence)
	}
}

func fencesEachQueue(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.put(e.a, q, "m1")
	e.put(e.a, other, "o1")
	_, err := e.fenced(e.a, e.ref("third"), 9) // an empty Get is seen, too
	e.must(err, "a Get with a fence")
	ts, err := e.fenced(e.b, q, 3)
	e.must(err, "a Get with a fence lower than another queue's")
	e.same("under a fence", ts, "m1")
	e.settle(e.b, virtual.Requeue, 0, ts...)
	e.holds(e.a, q, "a Get without a fence", "m1")
	e.holds(e.a, other, "a queue without a fence", "o1")
	_, err = e.fenced(e.a, e.ref("third"), 8)
	e.is(err, virtual.ErrFence, "a Get with a fence lower than that of an empty Get")
}
