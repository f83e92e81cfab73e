package broker

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

// tries is how often a call of the store is made again when its answer was lost.
const tries = 5

// update makes a change of the registry: plan looks at a fresh view, under its read lock, and returns what to
// change or why not. When somebody else was faster it is asked again. An unanswered update is also asked again: the
// view shows whether it had happened.
func (b *Broker) update(ctx context.Context, op string, plan func(t *topology) ([]virtual.Change, error)) error {
	for try := 0; ; {
		if err := b.refresh(ctx); err != nil {
			return unstored(op, err)
		}
		b.top.mu.RLock()
		changes, err := plan(b.top)
		b.top.mu.RUnlock()
		if err != nil || len(changes) == 0 {
			return err
		}
		rev, err := b.registry.Update(ctx, b.sessionName(), changes)
		switch {
		case err == nil:
			if err = b.catchUp(ctx, rev); err == nil {
				return nil
			}
		case errors.Is(err, virtual.ErrConflict):
			continue
		}
		if try = b.again(ctx, try, err); try == 0 {
			return unstored(op, err)
		}
	}
}

// updateForAll is update for a change that has to hold for whatever is routed once it has returned, by any process.
func (b *Broker) updateForAll(ctx context.Context, op string, plan func(t *topology) ([]virtual.Change, error)) error {
	changed := false
	err := b.update(ctx, op, func(t *topology) ([]virtual.Change, error) {
		c, err := plan(t)
		changed = changed || len(c) > 0
		return c, err
	})
	if err != nil || !changed {
		return err
	}
	return b.barrier(ctx)
}

// again waits before another try; 0 means that there is none.
func (b *Broker) again(ctx context.Context, try int, err error) int {
	if errors.Is(err, virtual.ErrSession) {
		signal(b.doubted) // a new one begins at once
	} else {
		b.storeFailed(err)
	}
	if try+1 >= tries || ctx.Err() != nil || b.ctx.Err() != nil || errors.Is(err, virtual.ErrClosed) {
		return 0
	}
	return b.pauseIn(ctx, try)
}

// removal collects the records that go with one another: a queue with its bindings, an exchange with its bindings,
// auto-delete exchanges with their last binding, auto-delete queues with their last consumer.
type removal struct {
	t       *topology
	changes []virtual.Change
	gone    map[string]bool   // bindings and exchanges, by key
	sources map[string]string // exchanges that lose a binding
	order   []string          // of sources
}

func newRemoval(t *topology) *removal {
	return &removal{t: t, gone: map[string]bool{}, sources: map[string]string{}}
}

func (r *removal) binding(key string) {
	if r.gone[key] {
		return
	}
	r.gone[key] = true
	r.changes = append(r.changes, virtual.Change{Key: key, Op: virtual.Delete, If: virtual.Any})
	src := r.t.bindings[key].Source
	if _, known := r.sources[src]; !known {
		r.sources[src] = src
		r.order = append(r.order, src)
	}
}

func (r *removal) bindings(of map[string]struct{}) {
	for _, key := range slices.Sorted(maps.Keys(of)) {
		r.binding(key)
	}
}

func (r *removal) exchange(name string) {
	x := r.t.exchanges[name]
	if x == nil || r.gone[x.guard.Key] {
		return
	}
	r.gone[x.guard.Key] = true
	r.changes = append(r.changes, virtual.Change{Key: x.guard.Key, Op: virtual.Delete, If: virtual.Condition(x.guard.Rev)})
	r.bindings(r.t.bySource[name])
	r.bindings(r.t.byDest[x.guard.Key])
}

func (r *removal) queue(q *queueState) {
	r.changes = append(r.changes, virtual.Change{Key: q.guard.Key, Op: virtual.Delete, If: virtual.Condition(q.guard.Rev)})
	r.bindings(r.t.byDest[q.guard.Key])
	for _, id := range slices.Sorted(maps.Keys(q.consumers)) {
		r.changes = append(r.changes, virtual.Change{Key: q.consumerKey(id), Op: virtual.Delete, If: virtual.Any})
	}
	if r.t.buries {
		r.changes = append(r.changes, virtual.Change{Key: keyGrave + q.ref.Incarnation, If: virtual.Any, Value: encode(q.name)})
	}
	if q.shortest >= 0 {
		r.changes = append(r.changes, virtual.Change{Key: keyExpiring + q.ref.Incarnation, Op: virtual.Delete, If: virtual.Any})
	}
	if q.args.expires > 0 {
		r.changes = append(r.changes, virtual.Change{Key: keyTouch + q.ref.Incarnation, Op: virtual.Delete, If: virtual.Any})
	}
	// used 0 is the condition Absent: nobody may have begun to consume unseen.
	r.changes = append(r.changes, virtual.Change{Key: q.useKey(), Op: virtual.Delete, If: virtual.Condition(q.used)})
}

// consumers removes consumers of one queue, and the queue when they were the last and it is auto-delete.
func (r *removal) consumers(q *queueState, ids ...string) {
	n := 0
	for _, id := range ids {
		if q.consumers[id] != nil {
			n++
		}
	}
	if n == 0 {
		return
	}
	if q.rec.AutoDelete && n == len(q.consumers) {
		r.queue(q)
		return
	}
	for _, id := range ids {
		r.changes = append(r.changes, virtual.Change{Key: q.consumerKey(id), Op: virtual.Delete, If: virtual.Any})
	}
	r.changes = append(r.changes, virtual.Change{Key: q.useKey(), Op: virtual.Touch, If: virtual.Condition(q.used)})
}

// done returns the changes. Exchanges that lose bindings get a new revision, so that guards notice; auto-delete
// ones that lose their last go, and what that takes along goes too.
func (r *removal) done() []virtual.Change {
	for again := true; again; {
		again = false
		for i := 0; i < len(r.order); i++ {
			x := r.t.exchanges[r.order[i]]
			if x != nil && !r.gone[x.guard.Key] && x.rec.AutoDelete && r.all(r.t.bySource[x.name]) {
				r.exchange(x.name)
				again = true
			}
		}
	}
	for _, name := range r.order {
		if x := r.t.exchanges[name]; x != nil && !r.gone[x.guard.Key] {
			c := virtual.Change{Key: x.guard.Key, Op: virtual.Touch, If: virtual.Any}
			if x.rec.AutoDelete {
				c.If = virtual.Condition(x.guard.Rev) // it stays for the bindings seen here: they must be the ones there are
			}
			r.changes = append(r.changes, c)
		}
	}
	return r.changes
}

func (r *removal) all(keys map[string]struct{}) bool {
	for k := range keys {
		if !r.gone[k] {
			return false
		}
	}
	return true
}

func (q *queueState) useKey() string { return keyUse + q.ref.Incarnation }

func (q *queueState) consumerKey(id string) string {
	return keyConsumer + q.ref.Incarnation + "/" + id
}

// deleteQueue deletes this incarnation of a queue, if it is still there.
func (b *Broker) deleteQueue(ctx context.Context, q *queueState) error {
	err := b.updateForAll(ctx, named("queue.delete", q.name), func(t *topology) ([]virtual.Change, error) {
		if t.live[q.ref.Incarnation] == nil {
			return nil, nil
		}
		r := newRemoval(t)
		r.queue(t.live[q.ref.Incarnation])
		return r.done(), nil
	})
	if err != nil {
		return err
	}
	_, err = b.namespace.Delete(ctx, q.ref)
	return err
}
