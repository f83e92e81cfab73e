package sql

import (
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// receipt names a taking: that of a message by a Take of a holder, or, without one, by a token of the queue's own.
type receipt struct {
	queue, place int64
	holder       string
	take         uint64
}

// taken is what the taker sees. The receipt may be nil.
func (t *tx) taken(q *queue, e *entry, r virtual.Receipt) virtual.Taken {
	return virtual.Taken{
		Message: &virtual.Message{
			Queue: q.ref, ID: e.id, Priority: uint8(priorityOf(e.place)), TTL: time.Duration(e.ttl), Payload: virtual.Bytes(e.payload),
		},
		Receipt: r,
		Attempt: int(e.attempts) + 1,
		Age:     duration(max(0, t.now-e.put)),
	}
}
