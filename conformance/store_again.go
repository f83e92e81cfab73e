package conformance

import (
	"context"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

var againChecks = []StoreCheck{
	{
		Name: "Again/Same", run: againSame, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Again: the store hands out what that Take took, whatever Max. Attempt and Receipt are those of the first time.",
	},
	{
		Name: "Again/NothingMore", run: againNothingMore, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Again: the store hands out what that Take took, if it did, and takes nothing more.",
	},
	{
		Name: "Again/LateOriginal", run: againLate, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Again lets the late original, should it still arrive, take nothing.",
	},
	{
		Name: "Again/WaitingOriginal", run: againWaiting, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Again lets the late original take nothing: one that still waits as well.",
	},
	{
		Name: "Again/OnlyThatTake", run: againOnlyThat, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "The store hands out what that Take took: not what another one did, and not what was settled since.",
	},
	{
		Name: "Again/Extends", run: againExtends, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Everything it takes there shares one lease, which Get and Renew extend: a Get said again, too.",
	},
	{
		Name: "Again/Waits", run: againWaits, Needs: []Claim{claimHolders}, Where: whereGet,
		Rule: "Get waits up to r.Wait for the first message: in a holder's name as well.",
	},
	{
		Name: "Again/LostReplies", run: againLostReplies, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Gets are repeatable: whatever replies are lost, each message comes once.",
	},
}

// repeat says that the reply to a Take was lost.
func (e *storeEnv) repeat(s virtual.Store, q virtual.QueueRef, take uint64, most int) []virtual.Taken {
	e.Helper()
	ts, _, err := s.Get(e.ctx, virtual.GetRequest{
		Queue: q, Max: most, Lease: e.long(), Holder: "h", Take: take, Again: true, Need: virtual.NeedAge | virtual.NeedAttempt,
	}, nil)
	e.must(err, "Get %d again", take)
	e.wellTaken(q, ts, e.long())
	return ts
}

// alike checks that a Get said again has handed out the same.
func (e *storeEnv) alike(what string, got, want []virtual.Taken) {
	e.Helper()
	e.same(what, got, texts(want)...)
	for _, w := range want {
		i := slices.IndexFunc(got, func(t virtual.Taken) bool { return t.ID == w.ID })
		if i < 0 {
			e.Fatalf("%s: message %s has come with another id", what, w.Payload.Bytes())
		}
		if got[i].Receipt != w.Receipt {
			e.Fatalf("%s: message %s has come with another receipt", what, w.Payload.Bytes())
		}
		if got[i].Attempt != w.Attempt {
			e.Fatalf("%s: message %s has come with attempt %d, want %d as the first time", what, w.Payload.Bytes(), got[i].Attempt, w.Attempt)
		}
	}
}

func againSame(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 8)...)
	back := e.take(e.b, q, 2, e.long()) // so that attempts differ
	e.settle(e.b, virtual.Requeue, 0, back...)
	first := e.held(e.a, q, "h", 1, 3, e.long())
	for _, most := range []int{3, 1, 8, 0} {
		e.alike("Take 1 again", e.repeat(e.a, q, 1, most), first)
	}
	second := e.held(e.a, q, "h", 2, 2, e.long())
	e.alike("Take 2 again, by another process", e.repeat(e.b, q, 2, 2), second)
	e.settle(e.a, virtual.Ack, 0, append(first, second...)...)
	e.size(e.b, q, 3, "eight put, five acked")
}

func againNothingMore(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 4)...)
	first := e.held(e.a, q, "h", 1, 1, e.long())
	e.alike("Take 1 of one message again, with a Max of ten", e.repeat(e.a, q, 1, 10), first)
	if ts := e.repeat(e.a, q, 2, 10); len(ts) > 0 {
		e.Fatalf("Take 2 again, the original of which never came, took %s", show(texts(ts)))
	}
	e.size(e.b, q, 3, "after Gets that took nothing more")
	e.same("the next Take", e.held(e.a, q, "h", 3, 3, e.long()), "m2", "m3", "m4")
	if ts := e.repeat(e.b, e.ref("others"), 1, 5); len(ts) > 0 {
		e.Fatalf("Take 1 again of a holder that nobody has seen took %s", show(texts(ts)))
	}
}

func againLate(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 4)...)
	late := func(take uint64) {
		e.Helper()
		ts, err := e.hold(e.b, q, "h", take, 4, e.long())
		e.must(err, "the late original of Take %d", take)
		if len(ts) > 0 {
			e.Fatalf("the late original of Take %d took %s", take, show(texts(ts)))
		}
	}
	e.repeat(e.a, q, 1, 4)
	late(1)
	e.size(e.b, q, 4, "after a late original")
	ts := e.held(e.a, q, "h", 2, 2, e.long())
	late(1)
	late(2) // a copy of a request that was answered
	e.repeat(e.a, q, 3, 4)
	late(3)
	late(2)
	e.size(e.b, q, 2, "after late originals")
	e.settle(e.a, virtual.Ack, 0, ts...)
	e.same("the next Take", e.held(e.a, q, "h", 4, 2, e.long()), "m3", "m4")
}

func againWaiting(e *storeEnv) {
	q := e.ref("orders")
	waits := func(take uint64) *call[[]virtual.Taken] {
		c := calls(e, func(ctx context.Context) ([]virtual.Taken, error) {
			ts, _, err := e.a.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Wait: e.units(10), Lease: e.long(), Holder: "h", Take: take}, nil)
			return ts, err
		})
		e.quiet()
		return c
	}
	for _, take := range []uint64{1, 2} {
		c := waits(take)
		if ts := e.repeat(e.b, q, take, 1); len(ts) > 0 {
			e.Fatalf("Take %d again took %s from an empty queue", take, show(texts(ts)))
		}
		e.put(e.b, q, "m")
		ts, err := c.wait(e, "the original, which waits", e.units(10)+e.patience())
		if err == nil && len(ts) > 0 {
			e.Fatalf("Take %d was said again; its original, which waited, has taken a message since", take)
		}
		ts = e.take(e.b, q, 1, e.long())
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
}

func againOnlyThat(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 6)...)
	first := e.held(e.a, q, "h", 1, 3, e.long())
	second := e.held(e.a, q, "h", 2, 2, e.long())
	e.settle(e.a, virtual.Ack, 0, first...)
	e.settle(e.a, virtual.Requeue, 0, second[0])
	e.alike("Take 2 again, one of two requeued since", e.repeat(e.a, q, 2, 5), second[1:])
	got := e.take(e.b, q, 2, e.long())
	e.same("what the holder does not have", got, texts(second)[0], "m6")
	e.settle(e.b, virtual.Ack, 0, got...)
	e.settle(e.a, virtual.Ack, 0, second[1])
	if ts := e.repeat(e.a, q, 2, 5); len(ts) > 0 {
		e.Fatalf("Take 2 again, all settled since, handed out %s", show(texts(ts)))
	}
}

func againExtends(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1")
	first := e.held(e.a, q, "h", 1, 1, e.units(4))
	e.pause(e.units(2))
	e.alike("Take 1 again", e.repeat(e.a, q, 1, 1), first) // with a long lease
	e.pause(e.units(4))
	e.size(e.b, q, 0, "a Get said again has extended the lease")
	e.settle(e.a, virtual.Ack, 0, first...)
	e.empty(e.b, q, "acked")
}

func againWaits(e *storeEnv) {
	q := e.ref("orders")
	for take := range uint64(4) {
		c := calls(e, func(ctx context.Context) ([]virtual.Taken, error) {
			ts, _, err := e.a.Get(ctx, virtual.GetRequest{
				Queue: q, Max: 2, Wait: e.units(40), Lease: e.long(), Holder: "h", Take: take + 1,
			}, nil)
			return ts, err
		})
		e.quiet()
		e.put(e.b, q, "m")
		ts := e.waited(c, "a holder's Get that waits", 0, 0, "m")
		e.alike("and the same Take again", e.repeat(e.a, q, take+1, 2), ts)
		if take%2 == 0 {
			e.settle(e.a, virtual.Ack, 0, ts...)
		}
	}
}

// againLostReplies loses every second reply, and every third request arrives late.
func againLostReplies(e *storeEnv) {
	q := e.ref("orders")
	const n = 60
	e.put(e.a, q, numbered("m", n)...)
	var got []string
	for take := uint64(1); len(got) < n; take++ {
		var ts []virtual.Taken
		switch take % 4 {
		case 0: // the reply came
			var err error
			ts, err = e.hold(e.a, q, "h", take, 3, e.long())
			e.must(err, "Get %d", take)
		case 1, 2: // the reply was lost
			_, err := e.hold(e.a, q, "h", take, 3, e.long())
			e.must(err, "Get %d", take)
			ts = e.repeat(e.a, q, take, 3)
		case 3: // the request comes after it was said again
			ts = e.repeat(e.a, q, take, 3)
			late, err := e.hold(e.a, q, "h", take, 3, e.long())
			e.must(err, "Get %d", take)
			if len(late) > 0 {
				e.Fatalf("the late original of Take %d took %s", take, show(texts(late)))
			}
		}
		got = append(got, texts(ts)...)
		e.settle(e.a, virtual.Ack, 0, ts...)
		if take > 10*n {
			e.Fatalf("after %d Gets %d of %d messages have come", take, len(got), n)
		}
	}
	if e.traits.Ordered && !slices.Equal(got, numbered("m", n)) || len(got) != n {
		e.Fatalf("with replies lost there came %s", show(got))
	}
	e.empty(e.b, q, "all has come")
}
