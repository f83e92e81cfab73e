package broker

import (
	"errors"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// extension is one message whose lease is renewed by itself, where the store has no holders.
type extension struct {
	port *port
	tag  uint64
	from *tenure
}

// extendAll renews the lease of every message that was delivered and not answered.
func (b *Broker) extendAll() {
	var all []virtual.Settlement
	var of []extension
	for _, p := range b.allPorts() {
		p.mu.Lock()
		p.unacked.each(0, func(tag uint64, e *entry) {
			if e.lost || e.from.pump.gone.Load() {
				return
			}
			s := e.settlement(virtual.Extend)
			s.For = b.o.Lease
			all, of = append(all, s), append(of, extension{p, tag, e.from})
		})
		p.mu.Unlock()
	}
	for i := 0; i < len(all) && b.ctx.Err() == nil; i += batchLimit {
		end := min(i+batchLimit, len(all))
		err := b.persist(b.ctx, func() error { return b.store.Settle(b.ctx, all[i:end]) })
		if err != nil && !told(err) {
			continue
		}
		b.extensionsLost(of[i:end], err)
	}
}

// extensionsLost notes the messages that others have taken since.
func (b *Broker) extensionsLost(of []extension, err error) {
	lost := map[*pump]int{}
	failed, _ := errors.AsType[*virtual.BatchError](err)
	if failed == nil {
		return
	}
	for _, it := range failed.Items {
		x := of[it.Index]
		if !errors.Is(it.Err, virtual.ErrStale) {
			continue
		}
		x.port.mu.Lock()
		if e := x.port.unacked.find(x.tag); e != nil && !e.lost && e.from == x.from { // not answered meanwhile
			e.lost = true
			x.from.held.Add(-1)
			lost[x.from.pump]++
		}
		x.port.mu.Unlock()
	}
	for p, n := range lost {
		if !p.gone.Load() {
			b.tell(channel.Event{Kind: channel.EventLeaseLost, Queue: p.q.name, Count: n, Reason: "the lease ran out"})
		}
	}
}
