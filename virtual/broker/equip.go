package broker

import (
	"time"

	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

// equip takes what the store offers beyond the five methods and, for what it does not, a fallback of the engine's own:
//
//	Registry   the same records in a reserved queue (package internal/registry)
//	Guards     a bind waits until no other process routes on what it knew before (barrier.go)
//	Holders    every message is extended by itself (extend.go)
//	Notifier   a Get that waits, cut short by what this process publishes (poll.go)
//	Expirer    the janitor takes the heads of queues (expirer.go)
//	Bounded    queues are trimmed after a Put (bounded.go)
//	Atomic     puts come first, then acks (atomic.go)
//	Namespace  queues come into being by use, and are emptied (graves.go)
//	TTL, Age   messages carry the time of their Put, by the publisher's clock (stamp.go)
//	MaxDelay   a lease hides what is not due (delayed.go)
//
// What cannot be had without is refused at the declaration (queueArgs.unsupported).
func (b *Broker) equip() {
	raw, t := b.store, b.traits
	b.holders, _ = virtual.As[virtual.Holders](raw)
	b.notifier, _ = virtual.As[virtual.Notifier](raw)
	b.peeker, _ = virtual.As[virtual.Peeker](raw)
	b.stamps = !t.TTL || !t.Age
	if t.MaxBatch > 0 || t.MaxBatchBytes > 0 {
		b.store = &batches{Store: raw, t: t}
	}
	if t.LeaseAtPut {
		b.putLease = b.o.Lease
	}
	var ok bool
	if b.registry, ok = virtual.As[virtual.Registry](raw); !ok {
		b.registry = registry.New(raw, registry.Options{
			Lease: min(registryLease, b.o.Lease*2/5), Fresh: b.o.Fresh, Poll: b.watchEvery, Conflict: b.conflict,
		})
	}
	b.registry = patientRegistry{b.registry, b}
	b.guarded = ok && t.Guards
	if b.namespace, ok = virtual.As[virtual.Namespace](raw); !ok {
		b.namespace = nameless{b}
		b.top.buries = true
	}
	b.namespace = patientNamespace{b.namespace, b}
	if b.bounded, ok = virtual.As[virtual.Bounded](raw); !ok {
		b.bounded = newTrimmer(b)
	} else {
		b.exactLimits = true
	}
	if b.atomic, ok = virtual.As[virtual.Atomic](raw); !ok {
		b.atomic = inTurn{b}
	}
	b.quick = t.Quick && ok && b.exactLimits // the fallbacks take several calls
	if b.expirer, ok = virtual.As[virtual.Expirer](raw); !ok {
		b.heads = newHeads(b)
		b.expirer = b.heads
	}
}

// registryLease is how long the one message of a registry in a queue is hidden while it is read or written; shorter
// where the leases of messages are.
const registryLease = 4 * time.Second

// watchEvery is how often this process looks for what others have declared, where the store does not tell: often while
// it consumes, since its queues may be deleted, else as it says that it is alive.
func (b *Broker) watchEvery() time.Duration {
	for _, p := range b.allPumps() {
		if len(p.list()) > 0 {
			return 2 * b.o.Barrier
		}
	}
	return b.o.SessionTTL / 3
}
