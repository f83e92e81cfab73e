package conformance

import (
	"errors"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const (
	whereMinimal = "virtual/doc.go, More than that"
	ruleMinimal  = "A minimal store ignores every field that belongs to a trait it does not claim: one that does not has the trait, and is to claim it. "
)

// unclaimedChecks show abilities that a store has and does not claim: the engine would do without, and the trait's own
// checks would never run. Only what shows without fail is here. Not Ordered, ExactSize and ExactAttempt, which may be luck; not
// Age, since clocks of one machine agree; not StaleTold, where of two products behind one client one may tell and the other
// not; not WithConnection, since Close may give back what the end of a process does not; not what needs a capability
// (Guards, Ranked), which may be hidden.
var unclaimedChecks = []StoreCheck{
	{
		Name: "Unclaimed/Levels", run: unclaimedLevels, Lacks: claimLevels, Where: whereMinimal,
		Rule: ruleMinimal + "Without Levels Message.Priority orders nothing.",
	},
	{
		Name: "Unclaimed/MaxDelay", run: unclaimedDelay, Lacks: claimDelay, Where: whereMinimal,
		Rule: ruleMinimal + "Without MaxDelay Message.Delay and the For of Requeue and Return hide nothing.",
	},
	{
		Name: "Unclaimed/TTL", run: unclaimedTTL, Lacks: claimTTL, Where: whereMinimal,
		Rule: ruleMinimal + "Without TTL Message.TTL does not come back, and no message goes by it.",
	},
	{
		Name: "Unclaimed/Marks", run: unclaimedMarks, Lacks: claimMarks, Where: whereMinimal,
		Rule: ruleMinimal + "Without Marks PutRequest.Producer and Sequence keep nothing from being stored.",
	},
	{
		Name: "Unclaimed/Fences", run: unclaimedFences, Lacks: claimFences, Where: whereMinimal,
		Rule: ruleMinimal + "Without Fences GetRequest.Fence refuses nothing.",
	},
	{
		Name: "Unclaimed/LeaseAtPut", run: unclaimedLeaseAtPut, Lacks: claimLeaseAtPut, Where: whereMinimal,
		Rule: ruleMinimal + "Without LeaseAtPut the lease is what the Get asks for.",
	},
	{
		Name: "Unclaimed/MaxBatch", run: unclaimedMaxBatch, Lacks: claimMaxBatch, Where: "virtual/traits.go, MaxBatch",
		Rule: "MaxBatch bounds the messages of one Put, Get or Settle; 0: no bound.",
	},
	{
		Name: "Unclaimed/MaxBatchBytes", run: unclaimedMaxBatchBytes, Lacks: claimMaxBatchBytes, Where: "virtual/traits.go, MaxBatchBytes",
		Rule: "MaxBatchBytes bounds the payloads of one Put; 0: no bound.",
	},
}

func unclaimedLevels(e *storeEnv) {
	if by := e.ahead(e.ref("orders"), 9); by > 0.9 {
		e.Fatalf("messages of priority 9 put behind others came ahead of them: claim Levels, or ignore Message.Priority")
	}
}

func unclaimedDelay(e *storeEnv) {
	q := e.ref("orders")
	m := e.message(q, "m1")
	m.Delay = 4 * e.patience()
	e.putAll(e.a, []*virtual.Message{m})
	ts := e.await(e.b, q, 1, e.long(), e.patience())
	if len(ts) == 0 {
		e.Fatalf("a message put with a delay of %v does not come before: claim MaxDelay, or ignore Message.Delay", m.Delay)
	}
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		e.settle(e.b, kind, m.Delay, ts...)
		if ts = e.await(e.b, q, 1, e.long(), e.patience()); len(ts) == 0 {
			e.Fatalf("%v with a delay of %v: the message does not come before: claim MaxDelay, or ignore Settlement.For", kind, m.Delay)
		}
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
}

func unclaimedTTL(e *storeEnv) {
	q := e.ref("orders")
	ms := e.messages(q, "short", "long")
	ms[0].TTL, ms[1].TTL = e.units(1), e.units(1000)
	e.putAll(e.a, ms)
	e.pause(e.units(2))
	ts := e.take(e.b, q, 2, e.long())
	e.same("two, of which one has expired", ts, "short", "long")
	if ts[0].TTL != 0 && ts[1].TTL != 0 {
		e.Fatalf("messages came with the TTL they were put with: claim TTL, or ignore Message.TTL")
	}
}

func unclaimedMarks(e *storeEnv) {
	q := e.ref("orders")
	for i, sequence := range []uint64{5, 5, 4} {
		body := numbered("m", 3)[i]
		err := e.produce(e.a, "producer", sequence, e.messages(q, body))
		if errors.Is(err, virtual.ErrSequence) {
			e.Fatalf("a lower sequence was refused: claim Marks, or ignore PutRequest.Sequence")
		}
		e.must(err, "Put")
	}
	ts := e.await(e.b, q, 3, e.long(), e.patience())
	if len(ts) == 2 {
		e.Fatalf("a Put with a sequence that was there before has stored nothing: claim Marks, or ignore PutRequest.Sequence")
	}
	e.same("put in the name of a producer", ts, "m1", "m2", "m3")
}

func unclaimedFences(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2")
	for _, fence := range []uint64{5, 3} {
		_, err := e.fenced(e.a, q, fence)
		if errors.Is(err, virtual.ErrFence) {
			e.Fatalf("a Get with a lower fence was refused: claim Fences, or ignore GetRequest.Fence")
		}
		e.must(err, "Get with a fence")
	}
}

func unclaimedLeaseAtPut(e *storeEnv) {
	q := e.ref("orders")
	m := e.message(q, "m1")
	m.Lease = e.long()
	e.putAll(e.a, []*virtual.Message{m})
	lease := e.units(3)
	before := time.Now()
	e.take(e.a, q, 1, lease)
	ts := e.await(e.b, q, 1, e.long(), lease+e.slack()+e.units(5))
	if len(ts) == 0 {
		e.Fatalf("a Get's lease of %v does not end, the message was put with one of %v: claim LeaseAtPut, or ignore Message.Lease", lease, m.Lease)
	}
	e.between("a message put with a longer lease: came back", time.Since(before), lease, lease+e.slack())
}

func unclaimedMaxBatch(e *storeEnv) {
	q := e.ref("orders")
	want := numbered("m", 2000)
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, want...)}), "Put of %d messages", len(want))
	ts := e.takeBatch(q, e.long(), want)
	e.must(e.b.Settle(e.ctx, answers(virtual.Ack, 0, ts...)), "Ack of %d messages", len(ts))
	e.empty(e.a, q, "all is acked")
}

func unclaimedMaxBatchBytes(e *storeEnv) {
	q := e.ref("orders")
	size := 256 << 10
	if e.traits.MaxBody > 0 {
		size = min(size, e.traits.MaxBody)
	}
	want := make([]string, e.batch(32))
	for i, n := range numbered("m", len(want)) {
		want[i] = n + strings.Repeat(".", size-len(n))
	}
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, want...)}), "Put of %d messages of %d bytes", len(want), size)
	ts := e.take(e.b, q, len(want), e.long())
	for i, t := range ts {
		if e.traits.Ordered && string(t.Payload.Bytes()) != want[i] {
			e.Fatalf("message %d of a batch of many bytes has come changed, or at another's place", i)
		}
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.empty(e.a, q, "all is acked")
}
