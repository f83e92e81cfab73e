package broker

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// delayedQueue holds the messages of x-delayed-message exchanges until they are due.
var delayedQueue = virtual.QueueRef{Name: "!delayed", Incarnation: "1"}

// delayOf returns how long an x-delayed-message exchange keeps a message.
func delayOf(h channel.Table) time.Duration {
	ms, _ := integer(h["x-delay"])
	return time.Duration(max(0, min(ms, maxMillis))) * time.Millisecond
}

// delayAtPut is what of a delay the store is asked to keep in the Put: all of it, or as much as it can. The rest is hidden
// when it comes up.
func (b *Broker) delayAtPut(d time.Duration) time.Duration { return min(d, b.traits.MaxDelay) }

// deliverDelayed routes the messages of x-delayed-message exchanges when they are due, with the bindings of then. It looks
// for them only while there is such an exchange: without, they would lead nowhere.
func (b *Broker) deliverDelayed(ctx context.Context) {
	var pace pacer
	for try := 0; ctx.Err() == nil; {
		if !b.top.delays() {
			select {
			case <-b.delaying:
			case <-ctx.Done():
			}
			continue
		}
		sent := time.Now()
		taken, _, err := b.store.Get(ctx, virtual.GetRequest{
			Queue: delayedQueue, Max: b.getLimit, Wait: getWait, Lease: b.o.Lease, Need: virtual.NeedAge,
		}, nil)
		if err != nil {
			b.storeFailed(err)
			try = b.pause(try)
			continue
		}
		try = 0
		b.complete(taken, nil)
		due := b.hide(ctx, taken)
		for i := range due {
			b.release(ctx, &due[i].Taken)
		}
		sleep(ctx, pace.after(len(taken), time.Since(sent) >= getWait/2, napMost))
	}
}

// dueMessage is a delayed message that is due, and since when.
type dueMessage struct {
	virtual.Taken
	late time.Duration
}

// hide keeps away for longer what is not due, since the store takes delays only up to a bound, or none: then the lease of
// the taking is made as long. It returns the others, the one that was due
// first in front.
func (b *Broker) hide(ctx context.Context, taken []virtual.Taken) []dueMessage {
	var due []dueMessage
	var early []virtual.Settlement
	for i := range taken {
		t := &taken[i]
		left := delayOf(contentOf(t.Payload, nil).Headers) - t.Age
		if left <= 0 {
			due = append(due, dueMessage{*t, -left})
			continue
		}
		s := settlementOf(t, virtual.Extend)
		if b.traits.MaxDelay > 0 {
			s.Kind, s.For = virtual.Return, min(left, b.traits.MaxDelay)
		} else if s.For = left; b.traits.LeaseMax > 0 {
			s.For = min(left, b.traits.LeaseMax)
		}
		early = append(early, s)
	}
	if len(early) > 0 {
		_ = b.insist(ctx, early)
	}
	slices.SortStableFunc(due, func(a, b dueMessage) int { return cmp.Compare(b.late, a.late) })
	return due
}

// release puts a delayed message where it goes now, and takes it out of the delayed ones in the same step.
func (b *Broker) release(ctx context.Context, t *virtual.Taken) {
	d := &death{taken: *t, reason: "due"}
	c := contentOf(t.Payload, nil)
	l := &letter{content: c, reason: reasonRejected, cc: append(keysOf(c.Headers["CC"]), c.BCC...)}
	settle := []virtual.Settlement{settlementOf(t, virtual.Ack)}
	var refused []virtual.QueueRef // queues that do not take it
	fresh := false
	for try := 0; ctx.Err() == nil; {
		if err := b.look(ctx); err != nil {
			b.storeFailed(err)
			try = b.pause(try)
			continue
		}
		r, targets := b.due(l, d, refused)
		if len(r.Messages) == 0 && !fresh { // it leads nowhere, as far as we know
			if err := b.refresh(ctx); err != nil {
				b.storeFailed(err)
				try = b.pause(try)
				continue
			}
			fresh = true
			continue
		}
		if len(r.Messages) == 0 {
			_ = b.insist(ctx, settle)
			return
		}
		if err := b.noteReleased(ctx, c, targets); err != nil {
			b.storeFailed(err)
			try = b.pause(try)
			continue
		}
		r.Settlements = settle
		evicted, err := b.atomic.Apply(ctx, r, nil)
		if _, done := errors.AsType[partly](err); err == nil || done {
			b.arrived(r.Messages)
			b.bury(ctx, b.evictions(evicted))
			return
		}
		if errors.Is(err, virtual.ErrGuard) {
			if err = b.outdated(ctx, err, r.Guard); err == nil {
				continue
			}
		}
		if failed, ok := errors.AsType[*virtual.BatchError](err); ok {
			for _, it := range failed.Items {
				if it.Index >= len(targets) {
					return // taken by another janitor
				}
				refused = append(refused, targets[it.Index])
			}
			continue
		}
		b.storeFailed(err)
		try = b.pause(try)
	}
}

// noteReleased is noteExpiring for a delayed message.
func (b *Broker) noteReleased(ctx context.Context, c *content.Message, targets []virtual.QueueRef) error {
	ttl := expirationOf(c)
	if b.heads == nil || ttl < 0 {
		return nil
	}
	for _, to := range targets {
		if err := b.noteTTL(ctx, b.top.queueOf(to), ttl); err != nil {
			return err
		}
	}
	return nil
}

// due routes a delayed message past its exchange's delay.
func (b *Broker) due(l *letter, d *death, refused []virtual.QueueRef) (virtual.ApplyRequest, []virtual.QueueRef) {
	past := *l
	past.content = l.content.Clone()
	if past.content.Headers != nil {
		past.content.Headers = channel.CloneTable(past.content.Headers)
		delete(past.content.Headers, "x-delay")
	}
	r, targets := b.address(&past, d, refused)
	payload := l.content
	if b.stamps { // it is put now
		payload = l.content.Clone()
		b.stamp(payload)
	}
	for _, m := range r.Messages {
		m.Payload = payload
		if n := expirationOf(l.content); n >= 0 && m.TTL >= 0 && b.traits.TTL {
			if ttl := ttlOf(-1, n); m.TTL == 0 || ttl < m.TTL {
				m.TTL = ttl
			}
		}
	}
	return r, targets
}
