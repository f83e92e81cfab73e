package broker

import (
	"context"
	"errors"

	"github.com/dashi-mq/dashi/virtual"
)

// inTurn is the fallback of the capability Atomic: it puts first, then settles. A process that dies in between leaves
// both, the copy and the original: nothing is lost, and the ids of dead letters are the same the next time, for stores
// that tell by them.
type inTurn struct{ b *Broker }

// partly is the error of an Apply in turn that queues refused messages of: all else has been done, and is not to be done again.
type partly struct{ *virtual.BatchError }

// Unwrap returns what was refused.
func (p partly) Unwrap() error { return p.BatchError }

// Apply puts, then settles. A stale receipt does not undo what was put. What the engine's own limits refuse is told before
// anything is done, as by an Apply in one step; what the store refuses in the Put is told with a partly.
func (a inTurn) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	b := a.b
	var err error
	switch {
	case len(r.Limits) > 0:
		if t, ours := b.bounded.(*trimmer); ours {
			if refused, err := t.refuse(ctx, &r.PutRequest, r.Limits); err != nil || refused != nil {
				return evicted, errors.Join(err, refused.Or())
			}
		}
		evicted, err = b.bounded.PutBounded(ctx, r.PutRequest, r.Limits, evicted)
	case len(r.Messages) > 0:
		err = b.store.Put(ctx, r.PutRequest)
	}
	refused, isBatch := errors.AsType[*virtual.BatchError](err)
	if err != nil && !isBatch {
		return evicted, err
	}
	if len(r.Settlements) > 0 { // what was put is not to be put again
		if err := b.insist(ctx, r.Settlements); err != nil {
			return evicted, err
		}
	}
	if isBatch {
		return evicted, partly{refused}
	}
	return evicted, nil
}
