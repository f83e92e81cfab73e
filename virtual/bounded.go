package virtual

import (
	"context"
	"time"
)

// Bounded is the capability of limits kept by the store, exactly, in the step of the Put. Without it the engine trims
// afterwards, approximately.
type Bounded interface {
	// PutBounded is Put into queues that have limits. Evicted messages are appended to evicted; those of a limit with a
	// Holder come back leased, so that dead-lettering survives a crash, and a repeated request gets the same; the others
	// are gone. A refused message is ErrFull in the *BatchError. A request without messages only trims.
	PutBounded(ctx context.Context, r PutRequest, limits []Limit, evicted []Taken) ([]Taken, error)
}

// Limit is the limit of one queue. Only ready messages count, delayed ones do not.
type Limit struct {
	Queue QueueRef
	// MaxLen and MaxBytes bound the number of ready messages and the sum of Payload.Size; -1: no bound.
	MaxLen, MaxBytes int
	// Reject refuses what finds the queue at its limit; else messages are taken from its head until it fits.
	Reject bool
	// Holder, when set, keeps evicted messages leased for Lease, each by itself: it is a name for people to read, not a
	// holder in the sense of Holders.
	Holder string
	Lease  time.Duration
}
