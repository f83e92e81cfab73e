package conformance

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var contextChecks = []StoreCheck{
	{
		Name: "Context/EndedBefore", run: contextBefore, Where: whereDoc,
		Rule: "When ctx ends a method returns soon. What had been done stays done.",
	},
	{
		Name: "Context/EndedBefore/Get", run: contextBeforeGet, Where: whereGet,
		Rule: "When ctx ends a Get returns what it took with a nil error, or gives it back: one whose ctx had ended before does not wait, and loses nothing.",
	},
	{
		Name: "Context/EndsWait", run: contextEndsWait, Where: whereDoc,
		Rule: "When ctx ends a method returns soon.",
	},
	{
		Name: "Context/Deadline", run: contextDeadline, Where: whereDoc,
		Rule: "When ctx ends a method returns soon: by its deadline as well.",
	},
	{
		Name: "Context/NothingDropped", run: contextNothingDropped, Where: whereGet,
		Rule: "When ctx ends it returns what it took with a nil error, or gives it back: it never drops it.",
	},
}

// endsSoon runs a call under a context that has ended and checks that it returns.
func (e *storeEnv) endsSoon(what string, f func(ctx context.Context) error) error {
	e.Helper()
	ended, stop := context.WithCancel(e.ctx)
	stop()
	c := calls(e, func(context.Context) (struct{}, error) { return struct{}{}, f(ended) })
	_, err := c.wait(e, what+" under a context that has ended", max(e.slack(), e.units(10)))
	e.between(what+" under a context that has ended: returned", c.took, 0, e.slack())
	return err
}

func contextBefore(e *storeEnv) {
	q := e.ref("orders")
	putErr := e.endsSoon("Put", func(ctx context.Context) error {
		return e.a.Put(ctx, virtual.PutRequest{Messages: e.messages(q, "maybe")})
	})
	n := 0
	if putErr == nil {
		n = 1
	}
	ts := e.await(e.b, q, 1, e.long(), e.units(1)) // an error leaves it open whether it is there
	if len(ts) < n {
		e.Fatalf("Put under a context that has ended returned nil, and nothing is stored")
	}
	e.settle(e.b, virtual.Ack, 0, ts...)

	e.put(e.a, q, "m1")
	for _, lease := range []time.Duration{e.long(), 0} {
		var got []virtual.Taken
		_ = e.endsSoon("Get", func(ctx context.Context) (err error) {
			got, _, err = e.a.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Wait: e.units(50), Lease: lease}, nil)
			if err != nil && len(got) > 0 {
				e.Errorf("a Get returned messages and %v", err)
			}
			return err
		})
		if len(got) == 0 {
			got = e.take(e.b, q, 1, e.long())
			e.settle(e.b, virtual.Requeue, 0, got...)
		} else if lease > 0 {
			e.settle(e.a, virtual.Requeue, 0, got...)
		} else {
			e.put(e.a, q, "m1")
		}
	}
	got := e.take(e.b, q, 1, e.long())
	err := e.endsSoon("Settle", func(ctx context.Context) error { return e.b.Settle(ctx, answers(virtual.Requeue, 0, got...)) })
	if err != nil { // not known: settled again, stale or not
		_ = e.b.Settle(e.ctx, answers(virtual.Requeue, 0, got...))
	}
	e.holds(e.a, q, "after calls under an ended context", "m1")
	_ = e.endsSoon("Size", func(ctx context.Context) error { _, err := e.a.Size(ctx, q); return err })
	_ = e.endsSoon("Purge", func(ctx context.Context) error { _, err := e.a.Purge(ctx, q); return err })
}

// contextBeforeGet has Gets whose context has ended meet an empty queue and a full one.
func contextBeforeGet(e *storeEnv) {
	q := e.ref("orders")
	ended, stop := context.WithCancel(e.ctx)
	stop()
	get := func(what string, lease time.Duration) []virtual.Taken {
		c := calls(e, func(context.Context) ([]virtual.Taken, error) {
			ts, _, err := e.a.Get(ended, virtual.GetRequest{Queue: q, Max: 2, Wait: 2 * e.patience(), Lease: lease}, nil)
			return ts, err
		})
		ts, err := c.wait(e, what, e.patience())
		e.between(what+": returned", c.took, 0, e.slack())
		if err != nil && len(ts) > 0 {
			e.Fatalf("%s returned messages and %v", what, err)
		}
		return ts
	}
	for _, lease := range []time.Duration{e.long(), 0} {
		if ts := get("a Get from an empty queue under a context that has ended", lease); len(ts) > 0 {
			e.Fatalf("a Get took %s from an empty queue", show(texts(ts)))
		}
		all := numbered("m", 4)
		e.put(e.b, q, all...)
		what := "a Get under a context that has ended"
		got := get(what, lease)
		if lease > 0 {
			e.settle(e.a, virtual.Requeue, 0, got...)
			got = nil
		}
		e.holds(e.b, q, what+", and what it did not take", e.took(what, got, all...)...)
	}
}

func contextEndsWait(e *storeEnv) {
	q := e.ref("orders")
	for i, lease := range []time.Duration{e.long(), 0} {
		ctx, stop := context.WithCancel(e.ctx)
		c := calls(e, func(context.Context) ([]virtual.Taken, error) {
			ts, _, err := e.a.Get(ctx, virtual.GetRequest{Queue: q, Max: 5, Wait: e.units(60), Lease: lease}, nil)
			return ts, err
		})
		e.pause(e.units(2))
		stop()
		ts, _ := c.wait(e, "a waiting Get whose context has ended", e.units(30))
		if len(ts) > 0 {
			e.Fatalf("a waiting Get took %d messages from an empty queue", len(ts))
		}
		e.between("a waiting Get whose context ended: returned", c.took, e.units(2), e.units(2)+e.slack())
		body := numbered("m", i+1)[i]
		e.put(e.a, q, body)
		e.holds(e.b, q, "put after a waiting Get was given up", body)
	}
}

func contextDeadline(e *storeEnv) {
	q := e.ref("orders")
	ctx, stop := context.WithTimeout(e.ctx, e.units(2))
	defer stop()
	c := calls(e, func(context.Context) ([]virtual.Taken, error) {
		ts, _, err := e.a.Get(ctx, virtual.GetRequest{Queue: q, Max: 5, Wait: e.units(60), Lease: e.long()}, nil)
		return ts, err
	})
	_, _ = c.wait(e, "a waiting Get with a deadline", e.units(30))
	e.between("a waiting Get with a deadline: returned", c.took, e.units(2), e.units(2)+e.slack())
}

// contextNothingDropped lets contexts end just when messages come.
func contextNothingDropped(e *storeEnv) {
	q := e.ref("orders")
	rounds := 300
	if !e.c.Virtual {
		rounds = 40
	}
	r := rand.New(rand.NewPCG(e.c.seed(), 1))
	for i := range rounds {
		lease := e.long()
		if i%2 == 1 {
			lease = 0
		}
		e.messageMeetsEnd(q, lease, i/2%3, r)
	}
}

// messageMeetsEnd puts a message and ends a Get's context, in one of three ways, and wants the message to be somewhere.
func (e *storeEnv) messageMeetsEnd(q virtual.QueueRef, lease time.Duration, way int, r *rand.Rand) {
	e.Helper()
	ctx, stop := context.WithCancel(e.ctx)
	defer stop()
	c := calls(e, func(context.Context) ([]virtual.Taken, error) {
		ts, _, err := e.b.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Wait: e.units(30), Lease: lease}, nil)
		if err != nil && len(ts) > 0 {
			e.Errorf("a Get returned messages and %v", err)
		}
		return ts, err
	})
	switch way {
	case 0: // it ends when the message is on its way to a Get that waits
		e.quiet()
		e.put(e.a, q, "m")
		stop()
	case 1: // it ends just before
		e.quiet()
		stop()
		e.put(e.a, q, "m")
	case 2: // whatever comes first
		yields := r.IntN(3)
		ender := calls(e, func(context.Context) (struct{}, error) {
			for range yields {
				yield()
			}
			stop()
			return struct{}{}, nil
		})
		e.put(e.a, q, "m")
		_, _ = ender.wait(e, "ending a context", e.patience())
	}
	ts, err := c.wait(e, "a Get whose context has ended", e.units(20))
	switch {
	case err != nil || len(ts) == 0:
		if ts = e.await(e.a, q, 1, e.long(), e.units(20)); len(ts) != 1 {
			e.Fatalf("a message came while a Get's context ended (lease %v, error %v): it is lost", lease, err)
		}
		e.settle(e.a, virtual.Ack, 0, ts...)
	case lease > 0:
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
	e.empty(e.a, q, "a message that a Get has returned")
}
