package conformance

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const whereNamespace = "virtual/namespace.go, Namespace"

var namespaceChecks = []StoreCheck{
	{
		Name: "Namespace/List", run: namespaceList, Needs: []Claim{claimNamespace}, Where: whereNamespace,
		Rule: "Create makes a queue; one that exists is no error. List returns all queues that exist.",
	},
	{
		Name: "Namespace/Deleted", run: namespaceDeleted, Needs: []Claim{claimNamespace}, Where: whereNamespace,
		Rule: "A Put, Get or Settle on one that was deleted fails with ErrNoQueue (Settle: ErrStale is right too).",
	},
	{
		Name: "Namespace/NeverAgain", run: namespaceNeverAgain, Needs: []Claim{claimNamespace}, Where: whereNamespace,
		Rule: "Create: one that was deleted is never made again.",
	},
	{
		Name: "Namespace/Count", run: namespaceCount, Needs: []Claim{claimNamespace}, Where: whereNamespace,
		Rule: "Delete removes a queue with everything in it, leased messages too, and returns how many were ready. One that does not exist is no error.",
	},
	{
		Name: "Namespace/EndsWaiting", run: namespaceEndsWaiting, Needs: []Claim{claimNamespace}, Where: whereNamespace,
		Rule: "A Get on one that was deleted fails with ErrNoQueue: one that waits, too.",
	},
	{
		Name: "Health/Ping", run: healthPing, Needs: []Claim{claimHealth}, Where: "virtual/namespace.go, Health",
		Rule: "Ping asks the store something and waits for the answer.",
	},
}

var closeChecks = []StoreCheck{
	{
		Name: "Close/EndsWaiting", run: closeEndsWaiting, Needs: []Claim{claimCloser}, Where: "virtual/as.go, Close",
		Rule: "Close closes a store: what waits on it returns.",
	},
	{
		Name: "Close/Refuses", run: closeRefuses, Needs: []Claim{claimCloser}, Where: "virtual/errors.go, ErrClosed",
		Rule: "ErrClosed: the store was closed by this process.",
	},
	{
		Name: "Close/OthersGoOn", run: closeOthers, Needs: []Claim{claimCloser}, Where: "virtual/as.go, Close",
		Rule: "Close closes a handle, not the place: other processes go on, and what it held comes back.",
	},
}

func (e *storeEnv) list(s virtual.Store) []string {
	e.Helper()
	refs, err := capability[virtual.Namespace](e, s).List(e.ctx)
	e.must(err, "List")
	var out []string
	for _, r := range refs {
		out = append(out, r.Name+" "+r.Incarnation)
	}
	slices.Sort(out)
	return out
}

func namespaceList(e *storeEnv) {
	if got := e.list(e.a); len(got) > 0 {
		e.Fatalf("a place that is empty has the queues %s", show(got))
	}
	ns := capability[virtual.Namespace](e, e.a)
	for _, q := range []virtual.QueueRef{{Name: "a", Incarnation: "1"}, {Name: "a", Incarnation: "2"}, {Name: "b c/é*", Incarnation: "1"}} {
		for range 2 {
			e.must(ns.Create(e.ctx, q), "Create of %q", q)
		}
	}
	if got, want := e.list(e.b), []string{"a 1", "a 2", "b c/é* 1"}; !slices.Equal(got, want) {
		e.Fatalf("List is %s, want %s", show(got), show(want))
	}
	_, err := ns.Delete(e.ctx, virtual.QueueRef{Name: "a", Incarnation: "1"})
	e.must(err, "Delete")
	if got, want := e.list(e.b), []string{"a 2", "b c/é* 1"}; !slices.Equal(got, want) {
		e.Fatalf("List is %s, want %s", show(got), show(want))
	}
	e.put(e.a, virtual.QueueRef{Name: "a", Incarnation: "2"}, "m1")
	e.must(ns.Create(e.ctx, virtual.QueueRef{Name: "a", Incarnation: "2"}), "Create of one that has messages")
	e.holds(e.b, virtual.QueueRef{Name: "a", Incarnation: "2"}, "created again", "m1")
}

func namespaceDeleted(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2")
	held := e.take(e.a, q, 1, e.long())
	_, err := capability[virtual.Namespace](e, e.b).Delete(e.ctx, q)
	e.must(err, "Delete")
	for range 2 {
		err = e.a.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, "late")})
		e.is(virtual.ItemErr(err, 0), virtual.ErrNoQueue, "Put to a deleted queue")
		ts, _, err := e.a.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: e.long()}, nil)
		e.is(err, virtual.ErrNoQueue, "Get from a deleted queue")
		if len(ts) > 0 {
			e.Fatalf("a Get from a deleted queue took %d messages", len(ts))
		}
		for _, kind := range []virtual.Kind{virtual.Requeue, virtual.Return, virtual.Extend, virtual.Ack} {
			item := virtual.ItemErr(e.a.Settle(e.ctx, answers(kind, e.long(), held...)), 0)
			if !errors.Is(item, virtual.ErrNoQueue) && !errors.Is(item, virtual.ErrStale) {
				e.Fatalf("%v of a message of a deleted queue: the error is %v, want %v or %v", kind, item, virtual.ErrNoQueue, virtual.ErrStale)
			}
		}
	}
	if got := e.list(e.b); len(got) > 0 {
		e.Fatalf("a deleted queue that was used is listed: %s", show(got))
	}
}

func namespaceNeverAgain(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "old")
	ns := capability[virtual.Namespace](e, e.b)
	_, err := ns.Delete(e.ctx, q)
	e.must(err, "Delete")
	if err := capability[virtual.Namespace](e, e.a).Create(e.ctx, q); err != nil {
		e.is(err, virtual.ErrNoQueue, "Create of a queue that was deleted")
	}
	if got := e.list(e.b); len(got) > 0 {
		e.Fatalf("a deleted queue was made again: %s", show(got))
	}
	never := virtual.QueueRef{Name: "never", Incarnation: "1"}
	_, err = ns.Delete(e.ctx, never)
	e.must(err, "Delete of a queue that never was")
	anew := e.create(virtual.QueueRef{Name: "orders", Incarnation: "2"})
	e.empty(e.a, anew, "a new incarnation")
	e.put(e.a, anew, "new")
	e.holds(e.b, anew, "a new incarnation", "new")
}

func namespaceCount(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	e.put(e.a, other, "o1")
	e.put(e.a, q, numbered("m", 5)...)
	e.take(e.a, q, 2, e.long())
	ns := capability[virtual.Namespace](e, e.b)
	n, err := ns.Delete(e.ctx, q)
	e.must(err, "Delete")
	if n != 3 && e.traits.ExactSize {
		e.Fatalf("Delete of a queue with three ready messages and two leased says %d", n)
	}
	n, err = ns.Delete(e.ctx, q)
	e.must(err, "Delete of a deleted queue")
	if n != 0 {
		e.Fatalf("Delete of a deleted queue says %d", n)
	}
	e.holds(e.a, other, "the other queue", "o1")
}

func namespaceEndsWaiting(e *storeEnv) {
	q := e.ref("orders")
	c := e.waits(e.a, q, 1, e.units(40), e.long())
	_, err := capability[virtual.Namespace](e, e.b).Delete(e.ctx, q)
	e.must(err, "Delete")
	_, err = c.wait(e, "a waiting Get whose queue was deleted", e.units(40)+e.patience())
	e.is(err, virtual.ErrNoQueue, "a waiting Get whose queue was deleted")
	e.between("a waiting Get whose queue was deleted: returned", c.took, 0, e.slack())
}

func healthPing(e *storeEnv) {
	e.each(func(s virtual.Store, handle string) {
		e.must(capability[virtual.Health](e, s).Ping(e.ctx), "Ping by %s", handle)
	})
	_ = e.endsSoon("Ping", capability[virtual.Health](e, e.a).Ping)
}

func closeEndsWaiting(e *storeEnv) {
	q := e.ref("orders")
	s := e.handle()
	type wait struct {
		what string
		c    *call[struct{}]
	}
	var all []wait
	add := func(what string, f func(ctx context.Context) error) {
		all = append(all, wait{what, calls(e, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx) })})
	}
	long := e.units(400)
	add("Get", func(ctx context.Context) error {
		_, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Wait: long, Lease: e.long()}, nil)
		return err
	})
	if g, ok := virtual.As[virtual.Registry](s); ok {
		add("Changes", func(ctx context.Context) error { _, _, _, err := g.Changes(ctx, 0, long); return err })
	}
	if x, ok := virtual.As[virtual.Expirer](s); ok {
		add("Expire", func(ctx context.Context) error {
			_, _, err := x.Expire(ctx, virtual.ExpireRequest{Max: 1, Wait: long, Lease: e.long()}, nil)
			return err
		})
	}
	if n, ok := virtual.As[virtual.Notifier](s); ok {
		add("Notify", func(ctx context.Context) error {
			return n.Notify(ctx, "w", make(chan struct{}), func(virtual.QueueRef) {})
		})
	}
	e.quiet()
	before := time.Now()
	e.must(virtual.Close(s), "Close")
	for _, w := range all {
		_, err := w.c.wait(e, w.what+" that waits on a store that was closed", long/2)
		if err != nil && !errors.Is(err, virtual.ErrClosed) {
			e.Errorf("%s that waits on a store that was closed: the error is %v, want nil or %v", w.what, err, virtual.ErrClosed)
		}
	}
	e.between("what waits on a store that was closed: returned", time.Since(before), 0, e.slack())
	e.put(e.a, q, "m1")
	e.holds(e.b, q, "put after a process that waited has closed", "m1")
}

func closeRefuses(e *storeEnv) {
	q := e.ref("orders")
	s := e.handle()
	e.put(s, q, "m1")
	held := e.take(s, q, 1, e.long())
	for range 2 {
		if err := virtual.Close(s); err != nil && !errors.Is(err, virtual.ErrClosed) {
			e.Fatalf("Close, also of what is closed: %v", err)
		}
	}
	e.is(s.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, "late")}), virtual.ErrClosed, "Put after Close")
	_, _, err := s.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Wait: e.units(5), Lease: e.long()}, nil)
	e.is(err, virtual.ErrClosed, "Get after Close")
	e.is(s.Settle(e.ctx, answers(virtual.Ack, 0, held...)), virtual.ErrClosed, "Settle after Close")
	_, err = s.Size(e.ctx, q)
	e.is(err, virtual.ErrClosed, "Size after Close")
	_, err = s.Purge(e.ctx, q)
	e.is(err, virtual.ErrClosed, "Purge after Close")
	if h, ok := virtual.As[virtual.Health](s); ok {
		e.is(h.Ping(e.ctx), virtual.ErrClosed, "Ping after Close")
	}
}

func closeOthers(e *storeEnv) {
	q := e.ref("orders")
	lease := e.leaseOf(e.units(3))
	s := e.handle()
	e.put(s, q, "m1", "m2", "m3")
	e.take(s, q, 2, lease)
	before := time.Now()
	e.must(virtual.Close(s), "Close")
	e.put(e.a, q, "m4")
	e.pause(lease - time.Since(before) + e.margin())
	e.holds(e.b, q, "after a process has closed that held two", "m1", "m2", "m3", "m4")
}
