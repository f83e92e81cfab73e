package virtual

import "context"

// Namespace is the capability to make and remove queues. With it the engine creates a queue before anything is put
// there, and a Put, Get or Settle on one that was deleted fails with ErrNoQueue (Settle: ErrStale is right too). Without
// it queues come into being by use and are left to themselves, purged; the engine asks Get and Size also of queues that
// nothing was ever put to, which are empty. Such a store may forget an empty queue whenever it likes.
type Namespace interface {
	// Create makes a queue; one that exists is no error, one that was deleted is never made again: ErrNoQueue.
	Create(ctx context.Context, q QueueRef) error
	// Delete removes a queue with everything in it, leased messages too, and returns how many were ready. One that does
	// not exist is no error.
	Delete(ctx context.Context, q QueueRef) (ready int, err error)
	// List returns all queues that exist.
	List(ctx context.Context) ([]QueueRef, error)
}

// Health is the capability of a proven round trip.
type Health interface {
	// Ping asks the store something and waits for the answer.
	Ping(ctx context.Context) error
}
