package broker

import (
	"time"

	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// Stores that keep neither a TTL nor the age of a message (traits TTL, Age) get it from the engine: what is put carries
// the time of that, by the clock of the machine, and what is taken is judged by the clock of the one that takes. This is
// the one place where clocks of two machines are compared, and the table of the store says "by client clocks".

// stamp writes down when a message is put, where the store does not know.
func (b *Broker) stamp(c *content.Message) {
	if b.stamps {
		c.Stamp(time.Now())
	}
}

// ttlAtPut is the TTL that the store is asked to keep.
func (b *Broker) ttlAtPut(queue, message int64) time.Duration {
	if !b.traits.TTL {
		return 0
	}
	return ttlOf(queue, message)
}

// complete adds to what was taken what the store does not keep: age and TTL. q is nil where it is not known.
func (b *Broker) complete(taken []virtual.Taken, q *queueState) {
	if !b.stamps {
		return
	}
	for i := range taken {
		t := &taken[i]
		c := contentOf(t.Payload, nil)
		m := *t.Message
		m.Payload = c // decoded once
		if !b.traits.TTL && q != nil {
			m.TTL = ttlOf(q.args.ttl, expirationOf(c))
		}
		t.Message = &m
		if at, ok := c.Stamped(); ok && !b.traits.Age {
			t.Age = max(0, time.Since(at.Round(0)))
		}
	}
}

// expirationOf returns the expiration property in ms, or -1.
func expirationOf(c *content.Message) int64 {
	if n, ok := parseExpiration(c.Expiration); ok {
		return n
	}
	return -1
}
