package virtual

import (
	"context"
	"time"
)

// Expirer is the capability to take what has expired while nobody consumes. As on RabbitMQ only the head of a queue
// expires: a message behind one that lives longer stays until it gets there. Without it the engine takes the head
// itself where it can, else messages expire only when consumed.
type Expirer interface {
	// Expire takes up to r.Max messages whose TTL has passed, each at the head of its queue, leases them for r.Lease and
	// appends them to buf. With none it waits for one, up to r.Wait. next is when more will have expired, unless they
	// are taken before; 0: not known.
	Expire(ctx context.Context, r ExpireRequest, buf []Taken) (taken []Taken, next time.Duration, err error)
}

// ExpireRequest is the argument of Expire.
type ExpireRequest struct {
	// Queue restricts it to one queue; the zero value asks for all.
	Queue QueueRef
	Max   int
	Wait  time.Duration
	Lease time.Duration // more than 0
}

// Peeker is the capability to look at the head of a queue without taking.
type Peeker interface {
	// Peek appends up to max ready messages from the head to buf, in order, with no receipt.
	Peek(ctx context.Context, q QueueRef, max int, buf []Taken) ([]Taken, error)
}
