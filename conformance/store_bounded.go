package conformance

import (
	"errors"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const whereBounded = "virtual/bounded.go, Bounded"

var boundedChecks = []StoreCheck{
	{
		Name: "Bounded/DropHead", run: boundedDropHead, Needs: []Claim{claimBounded}, Where: "virtual/bounded.go, Limit.Reject",
		Rule: "Messages are taken from its head until it fits. Only ready messages count, delayed ones do not.",
	},
	{
		Name: "Bounded/DropHead/Levels", run: boundedLevels, Needs: []Claim{claimBounded, claimLevels}, Where: "virtual/bounded.go, Limit.Reject",
		Rule: "Messages are taken from its head until it fits: the head is what a Get would take.",
	},
	{
		Name: "Bounded/Bytes", run: boundedBytes, Needs: []Claim{claimBounded}, Where: "virtual/bounded.go, Limit.MaxBytes",
		Rule: "MaxBytes bounds the sum of Payload.Size of the ready messages; -1: no bound.",
	},
	{
		Name: "Bounded/Reject", run: boundedReject, Needs: []Claim{claimBounded}, Where: "virtual/bounded.go, Limit.Reject",
		Rule: "Reject refuses what finds the queue at its limit. A refused message is ErrFull in the *BatchError.",
	},
	{
		Name: "Bounded/Reject/Behind", run: boundedBehind, Needs: []Claim{claimBounded}, Where: wherePut,
		Rule: "*BatchError names the items that failed; the others are stored. Behind one that failed: stored, or ErrBehind.",
	},
	{
		Name: "Bounded/NoHolder", run: boundedNoHolder, Needs: []Claim{claimBounded}, Where: whereBounded,
		Rule: "Evicted messages are appended to evicted; those of a limit without a Holder are gone.",
	},
	{
		Name: "Bounded/Holder", run: boundedHolder, Needs: []Claim{claimBounded}, Where: whereBounded,
		Rule: "Those of a limit with a Holder come back leased, so that dead-lettering survives a crash.",
	},
	{
		Name: "Bounded/Repeat", run: boundedRepeat, Needs: []Claim{claimBounded, claimMarks}, Where: whereBounded,
		Rule: "A repeated request gets the same evicted messages, and the same refusals.",
	},
	{
		Name: "Bounded/Trim", run: boundedTrim, Needs: []Claim{claimBounded}, Where: whereBounded,
		Rule: "A request without messages only trims.",
	},
	{
		Name: "Bounded/EachQueue", run: boundedEachQueue, Needs: []Claim{claimBounded}, Where: "virtual/bounded.go, Limit",
		Rule: "Limit is the limit of one queue: others are put to as ever.",
	},
	{
		Name: "Bounded/Parked", run: boundedParked, Needs: []Claim{claimBounded, claimNotifier}, Where: whereNotifier,
		Rule: "What a waiter could still take counts as on its way to it, at most for a second: limits leave room for it.",
	},
}

// limit is a limit on the number of messages.
func limit(q virtual.QueueRef, most int) virtual.Limit {
	return virtual.Limit{Queue: q, MaxLen: most, MaxBytes: -1}
}

func (e *storeEnv) bounded(s virtual.Store, r virtual.PutRequest, limits ...virtual.Limit) ([]virtual.Taken, error) {
	e.Helper()
	return capability[virtual.Bounded](e, s).PutBounded(e.ctx, r, limits, nil)
}

// evicts puts texts under limits and checks which messages had to go.
func (e *storeEnv) evicts(what string, l virtual.Limit, bodies []string, want ...string) []virtual.Taken {
	e.Helper()
	out, err := e.bounded(e.a, virtual.PutRequest{Messages: e.messages(l.Queue, bodies...)}, l)
	e.must(err, "PutBounded, %s", what)
	e.same(what+": evicted", out, want...)
	return out
}

func boundedDropHead(e *storeEnv) {
	q := e.ref("orders")
	e.evicts("up to the limit", limit(q, 3), []string{"m1", "m2", "m3"})
	e.evicts("one too many", limit(q, 3), []string{"m4"}, "m1")
	e.evicts("two too many", limit(q, 3), []string{"m5", "m6"}, "m2", "m3")
	held := e.take(e.b, q, 2, e.long())
	e.evicts("two are leased", limit(q, 3), []string{"m7", "m8"})
	e.settle(e.b, virtual.Requeue, 0, held...)
	e.size(e.b, q, 5, "two came back")
	e.evicts("two came back", limit(q, 3), []string{"m9"}, "m4", "m5", "m6")
	if e.has(claimDelay) {
		m := e.message(q, "delayed")
		m.Delay = min(e.units(3), e.traits.MaxDelay)
		out, err := e.bounded(e.a, virtual.PutRequest{Messages: []*virtual.Message{m}}, limit(q, 3))
		e.must(err, "PutBounded of a delayed message")
		e.same("a delayed message: evicted", out)
		e.take(e.b, q, 3, 0)
		e.pause(m.Delay + e.margin())
		e.holds(e.b, q, "the delayed message", "delayed")
	} else {
		e.holds(e.b, q, "what is left", "m7", "m8", "m9")
	}
	e.evicts("a limit of none", limit(q, 0), []string{"m10"}, "m10")
	e.evicts("no bound", limit(q, -1), numbered("n", 10))
	e.holds(e.b, q, "without a bound", numbered("n", 10)...)
}

func boundedLevels(e *storeEnv) {
	q := e.ref("orders")
	top := e.traits.Levels - 1
	e.putAll(e.a, e.prioritized(q, []string{"low1", "low2", "high1"}, []int{0, 0, top}))
	ms := e.prioritized(q, []string{"low3", "high2"}, []int{0, top})
	out, err := e.bounded(e.a, virtual.PutRequest{Messages: ms}, limit(q, 3))
	e.must(err, "PutBounded")
	e.same("the highest are the head: evicted", out, "high1", "high2")
	e.holds(e.b, q, "what is left", "low1", "low2", "low3")
}

func boundedBytes(e *storeEnv) {
	q := e.ref("orders")
	l := virtual.Limit{Queue: q, MaxLen: -1, MaxBytes: 2500}
	body := func(name string, n int) string { return name + strings.Repeat(".", n-len(name)) }
	m1, m2, m3, big := body("m1", 1000), body("m2", 1000), body("m3", 1000), body("big", 2000)
	e.evicts("two of three kilobytes", l, []string{m1, m2})
	e.evicts("the third", l, []string{m3}, m1)
	e.evicts("one that needs the room of two", l, []string{big}, m2, m3)
	e.evicts("a small one beside it", l, []string{"small"})
	held := e.take(e.b, q, 1, e.long())
	e.evicts("the big one is leased", l, []string{m1, m2})
	e.settle(e.b, virtual.Ack, 0, held...)
	e.holds(e.b, q, "what is left", "small", m1, m2)
	l.MaxLen = 1
	e.evicts("both limits", l, []string{"x", "y"}, "x")
	e.evicts("one larger than the limit", l, []string{body("huge", 3000)}, "y", body("huge", 3000))
	e.size(e.b, q, 0, "all had to go")
}

func boundedReject(e *storeEnv) {
	q := e.ref("orders")
	l := limit(q, 3)
	l.Reject = true
	out, err := e.bounded(e.a, virtual.PutRequest{Messages: e.messages(q, "m1", "m2")}, l)
	e.must(err, "PutBounded below the limit")
	e.same("below the limit: evicted", out)
	out, err = e.bounded(e.a, virtual.PutRequest{Messages: e.messages(q, "m3", "m4", "m5")}, l)
	b := e.only(err, "two too many", 1, 2)
	if !errors.Is(b.Items[0].Err, virtual.ErrFull) {
		e.Fatalf("the item's error is %v, want %v", b.Items[0].Err, virtual.ErrFull)
	}
	e.same("two too many: evicted", out)
	held := e.take(e.b, q, 1, e.long())
	_, err = e.bounded(e.b, virtual.PutRequest{Messages: e.messages(q, "m6")}, l)
	e.must(err, "PutBounded, one is leased")
	e.settle(e.b, virtual.Requeue, 0, held...)
	_, err = e.bounded(e.b, virtual.PutRequest{Messages: e.messages(q, "m7")}, l)
	e.is(err, virtual.ErrFull, "one came back")
	e.holds(e.a, q, "what was not refused", "m1", "m2", "m3", "m6")
	l.MaxLen, l.MaxBytes = -1, 100
	_, err = e.bounded(e.a, virtual.PutRequest{Messages: e.messages(q, strings.Repeat("x", 90))}, l)
	e.must(err, "PutBounded below the limit in bytes")
	_, err = e.bounded(e.a, virtual.PutRequest{Messages: e.messages(q, strings.Repeat("y", 90))}, l)
	e.is(err, virtual.ErrFull, "PutBounded beyond the limit in bytes")
	e.size(e.b, q, 1, "after a refusal")
}

func boundedBehind(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	l := virtual.Limit{Queue: q, MaxLen: -1, MaxBytes: 100, Reject: true}
	ms := append(e.messages(q, "m1", strings.Repeat("x", 200), "m3"), e.message(other, "o1"))
	_, err := e.bounded(e.a, virtual.PutRequest{Messages: ms}, l)
	e.is(virtual.ItemErr(err, 1), virtual.ErrFull, "one larger than the limit")
	want := []string{"m1"}
	if behind := virtual.ItemErr(err, 2); behind == nil {
		want = append(want, "m3")
	} else {
		e.is(behind, virtual.ErrBehind, "one that fits, behind the one that was refused")
	}
	e.holds(e.b, q, "beside the refused one", want...)
	e.holds(e.b, other, "another queue", "o1")
}

func boundedNoHolder(e *storeEnv) {
	q := e.ref("orders")
	ms := e.messages(q, "m1", "m2", "m3")
	e.putAll(e.a, ms)
	first := e.take(e.b, q, 1, e.long())
	buf := make([]virtual.Taken, 1, 8)
	copy(buf, first)
	out, err := capability[virtual.Bounded](e, e.a).PutBounded(e.ctx, virtual.PutRequest{Messages: e.messages(q, "m4")}, []virtual.Limit{limit(q, 1)}, buf)
	e.must(err, "PutBounded")
	if len(out) != 3 || out[0] != first[0] {
		e.Fatalf("PutBounded has appended to evicted of one and returned %d, or has changed what was there", len(out))
	}
	e.same("evicted", out[1:], "m2", "m3")
	if out[1].ID != ms[1].ID || out[1].Queue != q {
		e.Fatalf("an evicted message has come with id %x of %q", out[1].ID, out[1].Queue)
	}
	e.pause(e.units(4))
	e.holds(e.b, q, "what was not evicted", "m4")
}

func boundedHolder(e *storeEnv) {
	q := e.ref("orders")
	l := limit(q, 2)
	l.Holder, l.Lease = "trimmer", e.units(3)
	e.put(e.a, q, "m1", "m2")
	before := time.Now()
	out := e.evicts("three too many", l, []string{"m3", "m4", "m5"}, "m1", "m2", "m3")
	for _, t := range out {
		if t.Receipt == nil {
			e.Fatalf("a message evicted under a holder has come without a receipt")
		}
	}
	e.size(e.b, q, 2, "what was evicted is leased")
	e.settle(e.a, virtual.Ack, 0, out[1])
	e.pause(e.units(2) - time.Since(before))
	e.size(e.b, q, 2, "before the lease is over")
	e.pause(e.units(3) - time.Since(before) + e.margin())
	e.holds(e.b, q, "after who trimmed has crashed", "m1", "m3", "m4", "m5")
}

func boundedRepeat(e *storeEnv) {
	q := e.ref("orders")
	l := limit(q, 1)
	l.Holder, l.Lease = "trimmer", e.long()
	e.put(e.a, q, "m1", "m2")
	r := virtual.PutRequest{Messages: e.messages(q, "m3"), Producer: "producer", Sequence: 1}
	first, err := e.bounded(e.a, r, l)
	e.must(err, "PutBounded")
	e.same("evicted", first, "m1", "m2")
	kept := append([]virtual.Taken(nil), first...)
	clear(first) // the caller's
	for range 2 {
		r.Messages = again(r.Messages)
		out, err := e.bounded(e.b, r, l)
		e.must(err, "PutBounded again")
		e.alike("the same request again", out, kept)
	}
	e.size(e.b, q, 1, "put three times")
	e.settle(e.a, virtual.Ack, 0, kept...)
	l.Reject = true
	r = virtual.PutRequest{Messages: e.messages(q, "m4"), Producer: "producer", Sequence: 2}
	_, err = e.bounded(e.a, r, l)
	e.is(err, virtual.ErrFull, "PutBounded of a full queue")
	e.holds(e.b, q, "the only one", "m3")
	_, err = e.bounded(e.a, r, l)
	e.is(err, virtual.ErrFull, "the same request again, which would not be refused now")
	e.empty(e.b, q, "a request was refused twice")
}

func boundedTrim(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.put(e.a, q, numbered("m", 6)...)
	e.put(e.a, other, numbered("o", 3)...)
	out, err := e.bounded(e.b, virtual.PutRequest{}, limit(q, 4), limit(other, 1), limit(e.ref("unused"), 1))
	e.must(err, "PutBounded of no messages")
	byQueue := map[virtual.QueueRef][]virtual.Taken{}
	for _, t := range out {
		byQueue[t.Queue] = append(byQueue[t.Queue], t)
	}
	e.same("trimmed", byQueue[q], "m1", "m2")
	e.same("trimmed, another queue", byQueue[other], "o1", "o2")
	e.holds(e.a, q, "what is left", "m3", "m4", "m5", "m6")
	e.holds(e.a, other, "what is left, another queue", "o3")
}

func boundedEachQueue(e *storeEnv) {
	qs := e.refs(3)
	for _, q := range qs {
		e.put(e.a, q, "first")
	}
	reject := limit(qs[0], 1)
	reject.Reject = true
	ms := []*virtual.Message{e.message(qs[0], "m"), e.message(qs[1], "m"), e.message(qs[2], "m")}
	out, err := e.bounded(e.b, virtual.PutRequest{Messages: ms}, reject, limit(qs[1], 1))
	e.only(err, "one queue refuses, one drops, one has no limit", 0)
	e.same("evicted", out, "first")
	if out[0].Queue != qs[1] {
		e.Fatalf("a message of %q was evicted, want one of %q", out[0].Queue, qs[1])
	}
	e.holds(e.a, qs[0], "the queue that refuses", "first")
	e.holds(e.a, qs[1], "the queue that drops", "m")
	e.holds(e.a, qs[2], "the queue without a limit", "first", "m")
}

func boundedParked(e *storeEnv) {
	q := e.ref("orders")
	w := e.waiter(e.b, "w")
	// A queue of length 0 still lets through what a waiter takes.
	w.parked(q)
	e.evicts("a limit of none, and one waits", limit(q, 0), []string{"m1"})
	w.wakes(q, "after a Put", 0)
	e.same("the waiter, woken", w.park(q, 2), "m1")
	reject := limit(q, 0)
	reject.Reject = true
	_, err := e.bounded(e.a, virtual.PutRequest{Messages: e.messages(q, "m2", "m3")}, reject)
	e.only(err, "two for a waiter that can take one more", 1)
	w.wakes(q, "after a Put", 0)
	e.same("the waiter, woken", w.park(q, 1), "m2")
	e.evicts("a limit of none, and nobody waits any more", limit(q, 0), []string{"m4"}, "m4")
	w.parked(q)
	e.evicts("one waits", limit(q, 0), []string{"m5"})
	e.pause(time.Second + e.margin())
	e.evicts("who waited does not come", limit(q, 0), []string{"m6"}, "m5", "m6")
	// What is on its way is the head; the limit is on what comes behind it.
	l := limit(q, 1)
	l.Holder, l.Lease = "trimmer", e.long()
	w.parked(q)
	e.evicts("a limit of one, and one waits", l, []string{"m7", "m8", "m9"}, "m8")
	w.wakes(q, "after a Put", 0)
	e.same("the waiter, woken", w.park(q, 2), "m7", "m9")
	big := strings.Repeat("x", 200)
	l.MaxLen, l.MaxBytes = -1, 100
	w.parked(q)
	e.evicts("a limit in bytes, and one waits", l, []string{big, big, "m10"}, big)
	w.wakes(q, "after a Put", 0)
	e.same("the waiter, woken", w.park(q, 1), big)
	e.holds(e.a, q, "what keeps the limit", "m10")
	l.Reject = true
	w.parked(q)
	_, err = e.bounded(e.a, virtual.PutRequest{Messages: e.messages(q, big, big, "m11")}, l)
	if e.is(virtual.ItemErr(err, 1), virtual.ErrFull, "the second of a size that one waits for"); virtual.ItemErr(err, 0) != nil {
		e.Fatalf("what a waiter takes is refused by a limit in bytes: %v", err)
	}
	if x, atomic := virtual.As[virtual.Atomic](e.a); atomic {
		other := e.ref("others")
		w.parked(other)
		l.Queue = other
		r := virtual.ApplyRequest{PutRequest: virtual.PutRequest{Messages: e.messages(other, big, big, "m12")}, Limits: []virtual.Limit{l}}
		_, err = x.Apply(e.ctx, r, nil)
		e.only(err, "Apply of two of a size that one waits for", 1)
	}
}
