package broker

import (
	"slices"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// tenure is the time a pump holds messages under one holder's name. It ends when the lease was lost.
type tenure struct {
	pump   *pump
	holder string
	take   uint64
	held   atomic.Int64
	lost   atomic.Bool
}

// holderName returns the name under which this process holds messages.
func (b *Broker) holderName() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.holder == "" {
		b.holder = newName()
	}
	return b.holder
}

// leaseLost ends a tenure whose messages went to others.
func (b *Broker) leaseLost(t *tenure) {
	if t.lost.Swap(true) {
		return
	}
	b.mu.Lock()
	if b.holder == t.holder {
		b.holder = "" // a lost name is never used again on its queue
	}
	b.mu.Unlock()
	if n := t.held.Swap(0); n > 0 && !t.pump.gone.Load() {
		b.tell(channel.Event{Kind: channel.EventLeaseLost, Queue: t.pump.q.name, Count: int(n), Reason: "the lease ran out"})
	}
}

// renew extends the leases of everything this process holds, as long as it lives.
func (b *Broker) renew() {
	tick := time.NewTicker(b.o.Lease / 3)
	tick.Stop()
	for {
		select { // nothing is held, nothing runs
		case <-b.held:
		case <-b.ctx.Done():
			return
		}
		tick.Reset(b.o.Lease / 3)
		for holding := true; holding; {
			select {
			case <-tick.C:
				holding = b.renewAll()
			case <-b.ctx.Done():
				return
			}
		}
		tick.Stop()
	}
}

// holdsAny reports whether a pump holds messages, on their way or unanswered.
func (b *Broker) holdsAny() bool {
	for _, p := range b.allPumps() {
		if t := p.tenure.Load(); t != nil && t.held.Load() > 0 {
			return true
		}
	}
	return false
}

// renewAll reports whether anything is held.
func (b *Broker) renewAll() bool {
	if b.holders == nil {
		b.extendAll()
		return b.holdsAny()
	}
	byHolder := map[string][]*tenure{}
	for _, p := range b.allPumps() {
		t := p.tenure.Load()
		if t != nil && !t.lost.Load() && t.held.Load() > 0 {
			byHolder[t.holder] = append(byHolder[t.holder], t)
		}
	}
	for holder, ts := range byHolder {
		refs := make([]virtual.QueueRef, len(ts))
		for i, t := range ts {
			refs[i] = t.pump.q.ref
		}
		var lost []virtual.QueueRef
		err := b.persist(b.ctx, func() (err error) {
			lost, err = b.holders.Renew(b.ctx, holder, refs, b.o.Lease)
			return err
		})
		if err != nil {
			continue
		}
		for _, t := range ts {
			if slices.Contains(lost, t.pump.q.ref) {
				b.leaseLost(t)
			}
		}
	}
	return len(byHolder) > 0
}
