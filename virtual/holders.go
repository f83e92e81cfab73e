package virtual

import (
	"context"
	"time"
)

// Holders is the capability of one lease per holder and queue, however many messages it covers.
//
// A holder comes into being on a queue with its first Get, whose Take is 1. Everything it takes there shares one lease,
// which Get and Renew extend. When the lease ends all its messages are ready again, in order, and the holder is lost: a
// Get in its name is refused with ErrHolder, and the name is never used again.
//
// A holder that has nothing needs no renewal; it may be forgotten after an hour, and is then as good as lost.
//
// Take counts the Gets of a holder on a queue, one in flight at a time. Gets are repeatable: Again says that the reply
// to this Take was lost. The store hands out what that Take took, if it did, whatever Max, takes nothing more, and lets
// the late original, should it still arrive, take nothing. Attempt and Receipt are those of the first time.
//
// Without it the engine extends every message by itself, and what a lost reply took comes back when its lease ends.
type Holders interface {
	// Renew extends the leases of a holder on queues to d from now, in one write, and returns the queues on which it
	// is not known, or known no more.
	Renew(ctx context.Context, holder string, queues []QueueRef, d time.Duration) (lost []QueueRef, err error)
}
