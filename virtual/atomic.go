package virtual

import "context"

// Atomic is the capability to put and settle in one step, all or nothing: transactions, a publish to several queues, a
// dead letter with the ack of its original. Without it the engine puts first, then settles.
type Atomic interface {
	// Apply does all of r in one step, or nothing. *BatchError names the items that stood in the way: messages by their
	// index, settlements by theirs plus the number of messages. One stale receipt, one refused message: nothing was done.
	// Limits and evicted are as in PutBounded.
	Apply(ctx context.Context, r ApplyRequest, evicted []Taken) ([]Taken, error)
}

// ApplyRequest is the argument of Apply.
type ApplyRequest struct {
	PutRequest
	Limits      []Limit
	Settlements []Settlement
}
