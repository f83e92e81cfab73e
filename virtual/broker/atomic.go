package broker

import (
	"context"

	"github.com/dashi-mq/dashi/virtual"
)

// inTurn is the fallback of the capability Atomic: it puts first, then settles. A process that dies in between leaves
// both, the copy and the original: nothing is lost, and the ids of dead letters are the same the next time, for stores
// that tell by them.
type inTurn struct{ b *Broker }

// Apply puts, then settles. A stale receipt does not undo what was put.
func (a inTurn) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	b := a.b
	var err error
	switch {
	case len(r.Limits) > 0:
		evicted, err = b.bounded.PutBounded(ctx, r.PutRequest, r.Limits, evicted)
	case len(r.Messages) > 0:
		err = b.store.Put(ctx, r.PutRequest)
	}
	if err != nil {
		return evicted, err
	}
	if len(r.Settlements) > 0 {
		return evicted, b.insist(ctx, r.Settlements) // what was put is not to be put again
	}
	return evicted, nil
}
