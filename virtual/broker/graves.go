package broker

import (
	"context"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// nameless is the fallback of the capability Namespace: queues come into being by use. One that is deleted is emptied at
// once and, since leased messages come back, again by the janitor, some time later: a record of the registry, written
// with the deletion, says so to whoever is the janitor then.
type nameless struct{ b *Broker }

func (nameless) Create(context.Context, virtual.QueueRef) error { return nil }

func (n nameless) Delete(ctx context.Context, q virtual.QueueRef) (int, error) {
	return n.b.store.Purge(ctx, q)
}

func (nameless) List(context.Context) ([]virtual.QueueRef, error) { return nil, nil }

// grave is an incarnation that has to be emptied once it is no more.
type grave struct {
	ref   virtual.QueueRef
	since time.Time // when this process first saw it without its queue
}

// emptyGraves empties what came back to queues that are no more, when all leases have ended.
func (b *Broker) emptyGraves(ctx context.Context) error {
	var due []virtual.QueueRef
	now := time.Now()
	b.top.mu.Lock()
	for inc, g := range b.top.graves {
		switch {
		case b.top.live[inc] != nil:
		case g.since.IsZero():
			g.since = now
		case now.Sub(g.since) > b.o.Lease*3/2:
			due = append(due, g.ref)
		}
	}
	b.top.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	for _, ref := range due {
		if _, err := b.store.Purge(ctx, ref); err != nil {
			return err
		}
	}
	return b.update(ctx, "janitor", func(t *topology) ([]virtual.Change, error) {
		var changes []virtual.Change
		for _, ref := range due {
			if t.graves[ref.Incarnation] != nil {
				changes = append(changes, virtual.Change{Key: keyGrave + ref.Incarnation, Op: virtual.Delete, If: virtual.Any})
			}
		}
		return changes, nil
	})
}
