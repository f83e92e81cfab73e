package conformance

import (
	"context"
	"errors"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

const whereMarks = "virtual/store.go, PutRequest.Producer"

var markChecks = []StoreCheck{
	{
		Name: "Marks/Repeat", run: marksRepeat, Needs: []Claim{claimMarks}, Where: whereMarks,
		Rule: "The same Sequence again, with equal Messages, stores nothing and gets that outcome.",
	},
	{
		Name: "Marks/Lower", run: marksLower, Needs: []Claim{claimMarks}, Where: whereMarks,
		Rule: "A lower Sequence is refused with ErrSequence.",
	},
	{
		Name: "Marks/EachProducer", run: marksEachProducer, Needs: []Claim{claimMarks}, Where: whereMarks,
		Rule: "A store that keeps marks remembers the last Sequence per Producer; a request without a Producer has none.",
	},
	{
		Name: "Marks/AfterTaken", run: marksAfterTaken, Needs: []Claim{claimMarks}, Where: whereMarks,
		Rule: "The same Sequence again stores nothing, whatever became of the messages since.",
	},
	{
		Name: "Marks/Outcome", run: marksOutcome, Needs: []Claim{claimMarks, claimNamespace}, Where: whereMarks,
		Rule: "The mark keeps the outcome, which items failed: a repeated request gets it, and stores nothing.",
	},
	{
		Name: "Marks/Race", run: marksRace, Needs: []Claim{claimMarks}, Where: whereMarks,
		Rule: "Producer and Sequence make a repeated request harmless: one that arrives while the first is still under way, too.",
	},
	{
		Name: "Marks/Ambiguous", run: marksAmbiguous, Needs: []Claim{claimMarks}, Where: whereDoc,
		Rule: "An error other than those named means that the effect is not known: the engine repeats, and the mark tells.",
	},
}

func (e *storeEnv) produce(s virtual.Store, producer string, sequence uint64, ms []*virtual.Message) error {
	return s.Put(e.ctx, virtual.PutRequest{Messages: ms, Producer: producer, Sequence: sequence})
}

// again copies messages, as a request that was sent again has them.
func again(ms []*virtual.Message) []*virtual.Message {
	out := make([]*virtual.Message, len(ms))
	for i, m := range ms {
		c := *m
		c.Payload = virtual.Bytes(slices.Clone(m.Payload.Bytes()))
		out[i] = &c
	}
	return out
}

func marksRepeat(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	ms := append(e.messages(q, "m1", "m2"), e.message(other, "o1"))
	e.must(e.produce(e.a, "producer", 1, ms), "Put")
	e.each(func(s virtual.Store, handle string) {
		for range 3 {
			e.must(e.produce(s, "producer", 1, again(ms)), "the same Put again by %s", handle)
		}
	})
	e.size(e.b, q, 2, "put seven times")
	e.must(e.produce(e.b, "producer", 2, e.messages(q, "m3")), "the next Put")
	e.must(e.produce(e.b, "producer", 2, e.messages(q, "m3")), "the next Put again")
	e.must(e.produce(e.a, "producer", 100, e.messages(q, "m4")), "a Put with a gap in its sequence")
	e.holds(e.a, q, "each put several times", "m1", "m2", "m3", "m4")
	e.holds(e.a, other, "put several times, another queue", "o1")
}

func marksLower(e *storeEnv) {
	q := e.ref("orders")
	e.must(e.produce(e.a, "producer", 5, e.messages(q, "m5")), "Put")
	for _, lower := range []uint64{4, 1, 0} {
		e.is(e.produce(e.b, "producer", lower, e.messages(q, "late")), virtual.ErrSequence, "a Put with sequence %d after 5", lower)
	}
	e.must(e.produce(e.a, "producer", 5, e.messages(q, "m5")), "sequence 5 again, after lower ones were refused")
	e.must(e.produce(e.a, "producer", 6, e.messages(q, "m6")), "sequence 6")
	e.holds(e.b, q, "after lower sequences were refused", "m5", "m6")
}

func marksEachProducer(e *storeEnv) {
	q := e.ref("orders")
	for _, p := range []string{"p", "P", "p-1", "p.1", "p1", "", "q"} {
		e.must(e.produce(e.a, p, 7, e.messages(q, "of "+p)), "Put by %q", p)
	}
	e.must(e.produce(e.a, "", 7, e.messages(q, "without")), "Put without a producer")
	e.must(e.produce(e.a, "", 3, e.messages(q, "without")), "Put without a producer")
	e.must(e.produce(e.b, "q", 7, e.messages(q, "of q")), "a Put again")
	e.holds(e.b, q, "each producer's first", "of p", "of P", "of p-1", "of p.1", "of p1", "of ", "of q", "without", "without")
}

func marksAfterTaken(e *storeEnv) {
	q := e.ref("orders")
	ms := e.messages(q, "acked", "removed", "purged", "leased")
	e.must(e.produce(e.a, "producer", 1, ms), "Put")
	ts := e.take(e.b, q, 1, e.long())
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.take(e.b, q, 1, 0)
	held := e.take(e.b, q, 1, e.long())
	_, err := e.b.Purge(e.ctx, q)
	e.must(err, "Purge")
	e.must(e.produce(e.a, "producer", 1, again(ms)), "the same Put again, its messages gone since")
	e.empty(e.b, q, "after a Put was repeated whose messages are gone")
	e.settle(e.b, virtual.Requeue, 0, held...)
	e.holds(e.b, q, "what was leased", texts(held)...)
}

func marksOutcome(e *storeEnv) {
	q := e.ref("orders")
	gone := e.create(virtual.QueueRef{Name: "deleted", Incarnation: "1"})
	_, err := capability[virtual.Namespace](e, e.a).Delete(e.ctx, gone)
	e.must(err, "Delete")
	ms := []*virtual.Message{e.message(gone, "lost"), e.message(q, "m1"), e.message(gone, "lost"), e.message(q, "m2")}
	for i := range 3 {
		s := e.a
		if i == 1 {
			s = e.b
		}
		b := e.only(e.produce(s, "producer", 1, again(ms)), "a Put that fails in part, and the same again", 0, 2)
		if !errors.Is(b.Items[0].Err, virtual.ErrNoQueue) {
			e.Fatalf("time %d: the item's error is %v, want %v", i+1, b.Items[0].Err, virtual.ErrNoQueue)
		}
	}
	e.holds(e.b, q, "the rest of a batch that failed in part, put three times", "m1", "m2")
}

func marksRace(e *storeEnv) {
	q := e.ref("orders")
	for i, body := range numbered("m", 20) {
		ms := e.messages(q, body)
		e.onBoth("the same Put sent several times at once", 6, func(ctx context.Context, s virtual.Store, _ int) error {
			return s.Put(ctx, virtual.PutRequest{Messages: again(ms), Producer: "producer", Sequence: uint64(i + 1)})
		})
		e.holds(e.b, q, "put six times at once", body)
	}
}

func marksAmbiguous(e *storeEnv) {
	q := e.ref("orders")
	for i, body := range numbered("m", 10) {
		ms := e.messages(q, body)
		ctx, stop := context.WithCancel(e.ctx)
		ended := calls(e, func(context.Context) (struct{}, error) {
			if i%2 == 0 {
				yield()
			}
			stop()
			return struct{}{}, nil
		})
		_ = e.a.Put(ctx, virtual.PutRequest{Messages: ms, Producer: "producer", Sequence: uint64(i + 1)})
		_, _ = ended.wait(e, "ending a context", e.patience())
		e.must(e.produce(e.b, "producer", uint64(i+1), again(ms)), "a Put repeated after its context had ended")
		e.holds(e.a, q, "a Put whose context ended, repeated", body)
	}
}
