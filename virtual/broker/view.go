package broker

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// refresh brings the view up to what the registry has now.
func (b *Broker) refresh(ctx context.Context) error { return b.changes(ctx, 0) }

// catchUp brings the view to a revision that this process has just made: it is there to be seen at once.
func (b *Broker) catchUp(ctx context.Context, rev uint64) error {
	since := b.revision()
	if since >= rev {
		return nil
	}
	return b.changesSince(ctx, since, time.Second)
}

func (b *Broker) revision() uint64 {
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	return b.top.rev
}

// changes asks for what is newer than the view, and waits for it up to wait.
func (b *Broker) changes(ctx context.Context, wait time.Duration) error {
	return b.changesSince(ctx, b.revision(), wait)
}

func (b *Broker) changesSince(ctx context.Context, since uint64, wait time.Duration) error {
	sent := b.now()
	records, rev, reset, err := b.registry.Changes(ctx, since, wait)
	if errors.Is(err, virtual.ErrLost) {
		return b.restore(ctx, since)
	}
	if err != nil {
		return err
	}
	if wait == 0 {
		defer b.seen(sent, reset)
	}
	if len(records) > 0 || reset || rev != since {
		b.react(b.top.apply(records, rev, reset, b.sessionName()))
	}
	return nil
}

// seen notes how fresh the view is: it has all that was there when the answer was asked for.
func (b *Broker) seen(sent int64, reset bool) {
	for {
		old := b.sight.asked.Load()
		if old >= sent && !reset || b.sight.asked.CompareAndSwap(old, sent) {
			return
		}
	}
}

// conflict is told when a registry without a compare-and-set of the store's found that two processes had written at once,
// one of them after a pause longer than its lease. What both declared stands; of what only one may have, the first does.
func (b *Broker) conflict(keys []string) {
	b.spawn(func() {
		b.log.Warn(string(channel.EventRegistryConflict), "keys", keys)
		b.tell(channel.Event{Kind: channel.EventRegistryConflict, Reason: fmt.Sprintf("two processes wrote at once: %q", keys)})
		if b.refresh(b.ctx) != nil {
			return
		}
		for _, p := range b.allPumps() {
			b.top.mu.RLock()
			first := p.q.first()
			alone := first != nil && first.rec.Exclusive
			b.top.mu.RUnlock()
			for _, c := range p.list() {
				if c.id != first.idOf() && (alone || c.exclusive) {
					c.port.cancelled(c)
					p.remove(c)
					_ = b.unregister(b.ctx, c)
				}
			}
		}
	})
}

// watch follows what other processes declare.
func (b *Broker) watch() {
	for try := 0; b.ctx.Err() == nil; {
		if err := b.changes(b.ctx, time.Minute); err != nil {
			b.storeFailed(err)
			try = b.pause(try)
			continue
		}
		b.storeAnswered()
		try = 0
	}
}

// react does what a change of the view asks for. It is called without locks.
func (b *Broker) react(e effects) {
	for _, q := range e.gone {
		b.queueGone(q)
	}
	for q := range e.consumers {
		if q.args.singleActive || q.ranked.Load() { // who comes first may have changed
			if p := b.pumpOf(q.ref); p != nil {
				p.wake()
			}
		}
	}
	b.noteUse(e)
	if e.janitor || e.work {
		signal(b.cleaning)
	}
	if e.delaying {
		signal(b.delaying)
	}
	if e.heads && b.heads != nil {
		signal(b.heads.moved)
	}
}

// queueGone ends the consumers of a queue that is no more, whoever deleted it.
func (b *Broker) queueGone(q *queueState) {
	b.mu.Lock()
	p := b.pumps[q.ref]
	delete(b.pumps, q.ref)
	b.mu.Unlock()
	if p != nil {
		p.end()
	}
}
