package conformance

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var getChecks = []StoreCheck{
	{
		Name: "Get/Empty", run: getEmpty, Where: whereGet,
		Rule: "An empty queue is no error.",
	},
	{
		Name: "Get/Max", run: getMax, Where: whereGet,
		Rule: "Get takes up to r.Max messages from the head of a queue.",
	},
	{
		Name: "Get/MaxBytes", run: getMaxBytes, Where: "virtual/store.go, GetRequest.MaxBytes",
		Rule: "MaxBytes bounds the payloads; one message is taken whatever its size.",
	},
	{
		Name: "Get/Buf", run: getBuf, Where: whereGet,
		Rule: "It appends them to buf, as append does.",
	},
	{
		Name: "Get/Lease0", run: getLease0, Where: whereGet,
		Rule: "Without a lease (Lease 0) they are removed at once.",
	},
	{
		Name: "Get/Ready", run: getReady, Needs: []Claim{claimExactSize}, Where: "virtual/store.go, GetResult.Ready",
		Rule: "Ready is how many messages remain ready; -1: not known. ExactSize: exact when nothing else happens.",
	},
	{
		Name: "Get/NextIn", run: getNextIn, Where: "virtual/store.go, GetResult.NextIn",
		Rule: "NextIn is when something becomes ready by itself (a delay, a lease); 0: not known.",
	},
	{
		Name: "Get/Body/Kept", run: getBodyKept, Where: "virtual/store.go, Payload",
		Rule: "A payload is immutable: the one of a taking stays as it is, whatever is taken after it.",
	},
	{
		Name: "Get/Attempt/Again", run: getAttemptAgain, Where: "virtual/store.go, Taken.Attempt",
		Rule: "Attempt counts how often the message was handed out, from 1: one that was handed out before comes with more than 1.",
	},
}

var waitChecks = []StoreCheck{
	{
		Name: "Get/Wait/PutElsewhere", run: waitPut, Where: whereGet,
		Rule: "Get waits up to r.Wait for the first message and returns early with what there is.",
	},
	{
		Name: "Get/Wait/TimeOver", run: waitOver, Where: "virtual/store.go, GetRequest.Wait",
		Rule: "Wait bounds how long an empty Get waits.",
	},
	{
		Name: "Get/Wait/WhatThereIs", run: waitWhatThereIs, Where: whereGet,
		Rule: "Get waits for the first message and returns early with what there is.",
	},
	{
		Name: "Get/Wait/Requeue", run: waitRequeue, Where: whereGet,
		Rule: "Get waits up to r.Wait for the first message: one that comes back is one.",
	},
	{
		Name: "Get/Wait/LeaseEnds", run: waitLease, Where: whereGet,
		Rule: "When the lease ends they are ready again: a Get that waits looks.",
	},
	{
		Name: "Get/Wait/DelayEnds", run: waitDelay, Needs: []Claim{claimDelay}, Where: whereGet,
		Rule: "Due delays become ready when somebody looks: a Get that waits looks.",
	},
	{
		Name: "Get/Wait/Many", run: waitMany, Where: whereGet,
		Rule: "Get waits up to r.Wait for the first message: each of many that wait gets one when there are enough.",
	},
}

func getEmpty(e *storeEnv) {
	q := e.ref("orders")
	e.each(func(s virtual.Store, handle string) {
		for _, lease := range []time.Duration{0, e.long()} {
			ts, res, err := s.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 10, Lease: lease}, nil)
			e.must(err, "Get of %s from a queue that nobody has used", handle)
			if len(ts) > 0 {
				e.Fatalf("%s took %d messages from a queue that nobody has used", handle, len(ts))
			}
			if res.Ready > 0 || e.traits.ExactSize && res.Ready != 0 && res.Ready != -1 {
				e.Errorf("%d are ready in an empty queue", res.Ready)
			}
		}
	})
	e.put(e.a, q, "one")
	e.holds(e.b, q, "after it was looked into", "one")
}

func getMax(e *storeEnv) {
	q := e.ref("orders")
	all := numbered("m", 10)
	e.put(e.a, q, all...)
	if ts := e.get(e.b, q, 0, e.long()); len(ts) > 0 {
		e.Fatalf("a Get with Max 0 took %d messages", len(ts))
	}
	var ts []virtual.Taken
	for _, most := range []int{1, 3, 2} {
		got := e.take(e.b, q, most, e.long())
		if one := e.get(e.a, q, most, e.long()); len(one) > most {
			e.Fatalf("a Get with Max %d took %d messages", most, len(one))
		} else {
			e.settle(e.a, virtual.Return, 0, one...)
		}
		ts = append(ts, got...)
	}
	rest := e.take(e.b, q, 4, e.long())
	e.same("taken one, three, two, four", append(ts, rest...), all...)
	e.settle(e.b, virtual.Ack, 0, append(ts, rest...)...)
	e.empty(e.a, q, "after all were taken")
}

func getMaxBytes(e *storeEnv) {
	q := e.ref("orders")
	var want []string
	for _, n := range numbered("", 8) {
		want = append(want, n+strings.Repeat(".", 999))
	}
	e.put(e.a, q, want...)
	get := func(most int) []virtual.Taken {
		ts, _, err := e.b.Get(e.ctx, virtual.GetRequest{Queue: q, Max: e.batch(8), MaxBytes: most, Wait: e.patience(), Lease: e.long()}, nil)
		e.must(err, "Get with MaxBytes")
		if len(ts) > max(1, most/1000) {
			e.Fatalf("a Get with MaxBytes %d took %d messages of 1,000 bytes", most, len(ts))
		}
		if len(ts) == 0 {
			e.Fatalf("a Get with MaxBytes %d took nothing: one message is taken whatever its size", most)
		}
		return ts
	}
	var all []virtual.Taken
	for _, most := range []int{2500, 10, 1000} {
		all = append(all, get(most)...)
	}
	for len(all) < len(want) {
		all = append(all, get(3000)...)
	}
	e.same("taken by bytes", all, want...)
	e.settle(e.b, virtual.Ack, 0, all...)
}

func getBuf(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, numbered("m", 6)...)
	first := e.take(e.a, q, 2, e.long())
	rest := e.took("taken first", first, numbered("m", 6)...)
	for _, room := range []int{0, 1, 10} {
		buf := make([]virtual.Taken, 2, 2+room)
		copy(buf, first)
		ts, _, err := e.b.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Wait: e.patience(), Lease: e.long()}, buf)
		e.must(err, "Get")
		if len(ts) != 3 || ts[0] != first[0] || ts[1] != first[1] {
			e.Fatalf("a Get into a buf of 2 with room for %d returned %d, or has changed what was there", room, len(ts))
		}
		clear(buf) // the caller's
		e.settle(e.b, virtual.Requeue, 0, ts[2])
		clear(ts)
	}
	ts := make([]virtual.Taken, 2, 4)
	copy(ts, first)
	none, _, err := e.b.Get(e.ctx, virtual.GetRequest{Queue: e.ref("empty"), Max: 1, Lease: e.long()}, ts)
	e.must(err, "Get")
	if !slices.Equal(none, ts) {
		e.Fatalf("a Get that took nothing returned %d, want buf as it was", len(none))
	}
	e.settle(e.a, virtual.Ack, 0, first...)
	e.holds(e.a, q, "after the slices were used again", rest...)
}

func getLease0(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2", "m3")
	ts := e.take(e.b, q, 2, 0)
	rest := e.took("taken without a lease", ts, "m1", "m2", "m3")
	e.size(e.a, q, 1, "after two of three were removed")
	e.pause(e.units(3))
	e.holds(e.a, q, "what was not removed", rest...)
}

func getReady(e *storeEnv) {
	q := e.ref("orders")
	n := e.batch(7)
	e.put(e.a, q, numbered("m", n)...)
	var ts []virtual.Taken
	for range 3 * n { // some may take nothing
		var res virtual.GetResult
		var err error
		ts, res, err = e.b.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: e.long()}, ts)
		e.must(err, "Get")
		if want := n - len(ts); res.Ready != -1 && res.Ready != want {
			e.Fatalf("after %d of %d were taken, Ready is %d, want %d", len(ts), n, res.Ready, want)
		}
	}
	e.settle(e.b, virtual.Requeue, 0, ts...)
	// Whatever a Get takes: nothing, several at once, with or without a lease, bounded by bytes.
	left := n
	for _, r := range []virtual.GetRequest{{Max: 0}, {Max: 2, Lease: e.long()}, {Max: 2, MaxBytes: 1, Lease: e.long()}, {Max: 1}} {
		r.Queue = q
		got, res, err := e.a.Get(e.ctx, r, nil)
		e.must(err, "Get")
		left -= len(got)
		if res.Ready != -1 && res.Ready != left {
			e.Fatalf("a Get with Max %d, MaxBytes %d and a lease of %v took %d; Ready is %d, want %d", r.Max, r.MaxBytes, r.Lease, len(got), res.Ready, left)
		}
	}
}

func getBodyKept(e *storeEnv) {
	q := e.ref("orders")
	bodies := numbered("a body that is there for good ", 4)
	e.put(e.a, q, bodies...)
	ts := e.take(e.b, q, 1, e.long())
	seen := texts(ts)
	for len(ts) < len(bodies) {
		ts = append(ts, e.take(e.b, q, 1, e.long())...)
		seen = append(seen, texts(ts[len(ts)-1:])...)
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.put(e.a, q, "something else that is longer than the others")
	ts = append(ts, e.take(e.b, q, 1, 0)...)
	if now := texts(ts[:len(bodies)]); !slices.Equal(now, seen) {
		e.Fatalf("bodies that were taken have changed since: they are %s, were %s", show(now), show(seen))
	}
}

func getAttemptAgain(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1")
	for i := range 4 {
		s := e.a
		if i%2 == 1 {
			s = e.b
		}
		ts := e.take(s, q, 1, e.long())
		if i > 0 && ts[0].Attempt < 2 {
			e.Fatalf("a message that was handed out %d times before comes with attempt %d, want more than 1", i, ts[0].Attempt)
		}
		e.settle(s, virtual.Requeue, 0, ts...)
	}
	e.holds(e.a, q, "requeued four times", "m1")
}

func getNextIn(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	e.put(e.a, q, "m1")
	if e.traits.MaxDelay >= e.units(8) {
		m := e.message(q, "delayed")
		m.Delay = e.units(8)
		e.putAll(e.a, []*virtual.Message{m})
	}
	e.take(e.a, q, 1, lease)
	_, res, err := e.b.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: lease}, nil)
	e.must(err, "Get")
	switch {
	case res.NextIn < 0:
		e.Fatalf("NextIn is %v", res.NextIn)
	case res.NextIn > lease+e.slack():
		e.Fatalf("NextIn is %v, but a lease of %v ends before", res.NextIn, lease)
	case res.NextIn > 0:
		e.pause(res.NextIn + e.margin())
		if ts := e.await(e.b, q, 1, lease, e.slack()); len(ts) == 0 {
			e.Fatalf("NextIn was %v; nothing has become ready since", res.NextIn)
		}
	default:
		e.Logf("NextIn is not known")
	}
}

// waits starts a Get that waits, and lets it get there.
func (e *storeEnv) waits(s virtual.Store, q virtual.QueueRef, most int, wait, lease time.Duration) *call[[]virtual.Taken] {
	e.Helper()
	c := calls(e, func(ctx context.Context) ([]virtual.Taken, error) {
		ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: most, Wait: wait, Lease: lease}, nil)
		return ts, err
	})
	e.quiet()
	return c
}

// waited checks what a Get that waited has got.
func (e *storeEnv) waited(c *call[[]virtual.Taken], what string, least, most time.Duration, want ...string) []virtual.Taken {
	e.Helper()
	ts, err := c.wait(e, what, most+e.patience())
	e.must(err, "%s", what)
	e.same(what, ts, want...)
	e.between(what+": returned", c.took, least, most+e.slack())
	return ts
}

func waitPut(e *storeEnv) {
	q := e.ref("orders")
	for _, lease := range []time.Duration{e.long(), 0} {
		for _, s := range []virtual.Store{e.b, e.a} {
			c := e.waits(s, q, 5, e.units(40), lease)
			if !c.running() {
				e.Fatalf("a Get on an empty queue returned before its Wait was over")
			}
			e.pause(e.units(1))
			e.put(e.a, q, "late")
			ts := e.waited(c, "a waiting Get, put by the first process", 0, e.units(2), "late")
			if lease > 0 {
				e.settle(s, virtual.Ack, 0, ts...)
			}
		}
	}
}

func waitOver(e *storeEnv) {
	q := e.ref("orders")
	c := e.waits(e.b, q, 1, e.units(3), e.long())
	e.waited(c, "a waiting Get on an empty queue", 0, e.units(3))
	if c.took < e.units(2) {
		e.Errorf("returned with nothing after %v, want to wait %v", c.took, e.units(3))
	}
	e.put(e.a, q, "after")
	e.holds(e.a, q, "put after a Get waited in vain", "after")
}

func waitWhatThereIs(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1")
	c := e.waits(e.b, q, 10, e.units(40), e.long())
	ts := e.waited(c, "a Get for ten with one there", 0, 0, "m1")
	e.settle(e.b, virtual.Ack, 0, ts...)
}

func waitRequeue(e *storeEnv) {
	q := e.ref("orders")
	for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return} {
		e.put(e.a, q, "m1")
		held := e.take(e.a, q, 1, e.long())
		c := e.waits(e.b, q, 1, e.units(40), e.long())
		e.settle(e.a, kind, 0, held...)
		ts := e.waited(c, "a waiting Get, after "+kind.String(), 0, 0, "m1")
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
}

func waitLease(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	lease := e.leaseOf(e.units(3))
	// What ends in another queue in the meantime is not this Get's business.
	e.put(e.a, other, "elsewhere")
	e.take(e.a, other, 1, lease/3)
	e.put(e.a, q, "m1")
	e.take(e.a, q, 1, lease)
	c := e.waits(e.b, q, 1, e.units(40), lease)
	e.waited(c, "a waiting Get, after the lease another process had", 0, lease, "m1")
	// The lease is given while another one waits.
	e.pause(lease + e.margin())
	ts := e.take(e.a, q, 1, lease)
	e.settle(e.a, virtual.Ack, 0, ts...)
	first, second := e.waits(e.a, q, 1, e.units(40), lease), e.waits(e.b, q, 1, e.units(40), lease)
	e.put(e.a, q, "m2")
	done, left := first, second
	select {
	case <-first.done:
	case <-second.done:
		done, left = second, first
	}
	e.waited(done, "one of two waiting Gets", 0, e.units(1), "m2")
	e.waited(left, "the other one, after the first one's lease", 0, lease+e.units(1), "m2")
}

func waitDelay(e *storeEnv) {
	q := e.ref("orders")
	delay := min(e.units(3), e.traits.MaxDelay)
	c := e.waits(e.b, q, 1, e.units(40), e.long())
	m := e.message(q, "m1")
	m.Delay = delay
	e.putAll(e.a, []*virtual.Message{m})
	ts := e.waited(c, "a waiting Get, a delayed message put meanwhile", delay, delay+e.units(1), "m1")
	c = e.waits(e.a, q, 1, e.units(40), e.long())
	e.settle(e.b, virtual.Requeue, delay, ts...)
	e.waited(c, "a waiting Get, a message requeued with a delay meanwhile", delay, delay+e.units(1), "m1")
}

func waitMany(e *storeEnv) {
	q := e.ref("orders")
	var all []*call[[]virtual.Taken]
	for i := range 8 {
		s := e.a
		if i%2 == 1 {
			s = e.b
		}
		all = append(all, e.waits(s, q, 1, e.units(40), e.long()))
	}
	e.put(e.a, q, numbered("m", 4)...)
	e.put(e.b, q, numbered("n", 4)...)
	seen := map[string]bool{}
	for _, c := range all {
		ts, err := c.wait(e, "one of eight waiting Gets", e.patience())
		e.must(err, "Get")
		if len(ts) != 1 {
			e.Fatalf("one of eight waiting Gets got %d messages though there was one for each", len(ts))
		}
		seen[texts(ts)[0]] = true
		e.between("one of eight waiting Gets: returned", c.took, 0, e.units(2)+e.slack())
	}
	if len(seen) != 8 {
		e.Fatalf("eight waiting Gets got %d different messages", len(seen))
	}
}
