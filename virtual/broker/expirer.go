package broker

import (
	"context"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// heads is the fallback of the capability Expirer: the janitor takes the head of every queue that has, or may have,
// messages with a TTL and no consumer, when it can have expired, and gives it back when it has not. Queues with consumers
// are left to them. While a head that lives is out, a basic.get of another process may get the message behind it.
type heads struct {
	b *Broker

	mu    sync.Mutex
	plans map[string]headPlan // by incarnation
	moved chan struct{}       // told of queues that are new or have lost their consumers
}

// headPlan is when a queue is looked at next.
type headPlan struct {
	next   time.Time
	gap    time.Duration // to the look before, while there is nothing that expires; 0: there is
	period time.Duration // of the queue when this was planned
}

// Bounds of the looks at queues that were found empty: a message that comes then is found expired no later than this.
const (
	headGap     = time.Second
	headMost    = 20 * time.Second      // between looks at most: the head may be another by then, or older messages have come back
	headsBudget = 20 * time.Millisecond // per queue: so many of them cost no more than 50 looks a second
	lookLate    = time.Millisecond      // a look comes a little late, rather than a little early and again
)

func newHeads(b *Broker) *heads {
	return &heads{b: b, plans: map[string]headPlan{}, moved: make(chan struct{}, 1)}
}

// Expire takes expired heads.
func (h *heads) Expire(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	if r.Queue != (virtual.QueueRef{}) {
		q := h.b.top.queueOf(r.Queue)
		if q == nil || !h.b.top.unattended(q) {
			return buf, 0, nil
		}
		buf, _, err := h.look(ctx, q, r, buf)
		return buf, 0, err
	}
	before := len(buf)
	for end := time.Now().Add(r.Wait); ; {
		due, wait := h.due()
		for _, q := range due {
			var next time.Duration
			var err error
			if buf, next, err = h.look(ctx, q, r, buf); err != nil {
				return buf, 0, err
			}
			h.plan(q, next)
			if len(buf)-before >= r.Max {
				return buf, 0, nil
			}
		}
		left := time.Until(end)
		switch {
		case len(buf) > before || left <= 0:
			return buf, 0, nil
		case len(due) > 0:
			continue // when they are due again is known now
		}
		t := time.NewTimer(min(wait, left))
		select {
		case <-t.C:
		case <-h.moved:
		case <-ctx.Done():
			t.Stop()
			return buf, 0, nil
		}
		t.Stop()
	}
}

// due lists the queues to look at now, and says when the next is to be looked at.
func (h *heads) due() (due []*queueState, wait time.Duration) {
	now := time.Now()
	wait = time.Hour
	t := h.b.top
	t.mu.RLock()
	defer t.mu.RUnlock()
	h.mu.Lock()
	defer h.mu.Unlock()
	for inc := range h.plans {
		if t.live[inc] == nil {
			delete(h.plans, inc)
		}
	}
	for inc, q := range t.live {
		if len(q.consumers) > 0 || q.period() < 0 {
			continue
		}
		plan := h.plans[inc]
		if left := plan.next.Sub(now); left <= 0 || q.period() < plan.period {
			due = append(due, q)
		} else {
			wait = min(wait, left)
		}
	}
	return due, wait
}

// plan says when a queue is looked at next: when its head expires, or else when a message could have that comes now,
// less and less often while there is none.
func (h *heads) plan(q *queueState, next time.Duration) {
	period := h.b.top.period(q)
	h.mu.Lock()
	defer h.mu.Unlock()
	last := h.plans[q.ref.Incarnation].gap
	plan := headPlan{period: period}
	if next <= 0 {
		least := time.Duration(len(h.plans)) * headsBudget
		next = max(min(max(period, min(2*max(last, period, time.Millisecond), headGap)), headMost), least)
		plan.gap = next
	}
	plan.next = time.Now().Add(next + lookLate)
	h.plans[q.ref.Incarnation] = plan
}

// nudge has a queue looked at, if nobody consumes, when what was just put there expires, or at once where it came back.
func (h *heads) nudge(q *queueState, back bool) {
	wait := h.b.top.period(q)
	if wait < 0 {
		return
	}
	plan := headPlan{period: wait}
	if back {
		wait = 0
	}
	plan.next = time.Now().Add(wait + lookLate) // not before it expires: who counts or gets meanwhile would miss it
	h.mu.Lock()
	empty := h.plans[q.ref.Incarnation].gap > 0
	if empty || back {
		h.plans[q.ref.Incarnation] = plan
	}
	h.mu.Unlock()
	if empty || back {
		signal(h.moved)
	}
}

// look takes what has expired at the head of a queue. next is when its head expires; 0: it has none.
func (h *heads) look(ctx context.Context, q *queueState, r virtual.ExpireRequest, buf []virtual.Taken) (out []virtual.Taken, next time.Duration, err error) {
	b := h.b
	p := b.pump(q) // who gets from the queue in this process waits
	if err := p.interrupt(ctx); err != nil {
		return buf, 0, err
	}
	defer p.letGo()
	if b.peeker != nil {
		seen, err := b.peeker.Peek(ctx, q.ref, 1, nil)
		if err != nil || len(seen) == 0 {
			return buf, 0, err
		}
		b.complete(seen, q)
		if t := &seen[0]; !expired(t, time.Time{}) {
			return buf, untilExpiry(t), nil
		}
	}
	for n := 1; r.Max > 0; n = min(32, b.getLimit) {
		n = min(n, r.Max)
		taken, _, err := b.store.Get(ctx, virtual.GetRequest{Queue: q.ref, Max: n, Lease: r.Lease, Need: b.needs(q)}, nil)
		if err != nil {
			return buf, 0, err
		}
		b.complete(taken, q)
		dead := 0
		for dead < len(taken) && expired(&taken[dead], time.Time{}) {
			dead++
		}
		if dead > 0 { // a consumer that has come since is to decide
			if err := b.refresh(ctx); err != nil || !b.top.unattended(q) {
				h.giveBack(ctx, q, taken)
				return buf, 0, err
			}
		}
		buf = append(buf, taken[:dead]...)
		r.Max -= dead
		if dead < len(taken) {
			h.giveBack(ctx, q, taken[dead:])
			return buf, untilExpiry(&taken[dead]), nil
		}
		if len(taken) < n {
			return buf, 0, nil
		}
	}
	return buf, time.Millisecond, nil
}

// giveBack returns what has not expired. A limit may have been looked at while it was missing.
func (h *heads) giveBack(ctx context.Context, q *queueState, taken []virtual.Taken) {
	h.b.giveBackTaken(ctx, taken)
	if q.limit != nil {
		h.b.trim(ctx, q)
	}
}

// untilExpiry returns how long a message still lives, headMost at the longest.
func untilExpiry(t *virtual.Taken) time.Duration {
	if t.TTL <= 0 {
		return headMost
	}
	return min(max(time.Millisecond, t.TTL-t.Age), headMost)
}

// period is the shortest TTL that messages of the queue have, as far as is known; below 0: they have none. topology.mu
// is held.
func (q *queueState) period() time.Duration {
	ms := q.args.ttl
	if q.shortest >= 0 && (ms < 0 || q.shortest < ms) {
		ms = q.shortest
	}
	return time.Duration(ms) * time.Millisecond
}

// unattended reports whether messages may expire in the queue with nobody there to take them.
func (t *topology) unattended(q *queueState) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return q.period() >= 0 && len(q.consumers) == 0
}

func (t *topology) period(q *queueState) time.Duration {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return q.period()
}

// noteExpiring tells the janitor, whoever it is, of the queues that a publication goes to, if it expires by itself.
func (b *Broker) noteExpiring(ctx context.Context, pub *publication) error {
	if b.heads == nil || pub.ttl < 0 || !pub.routed {
		return nil
	}
	err := b.noteTTL(ctx, pub.first.q, pub.ttl)
	for i := 0; err == nil && i < len(pub.more); i++ {
		err = b.noteTTL(ctx, pub.more[i].q, pub.ttl)
	}
	return err
}

// noteTTL tells the janitor, whoever it is, that a queue gets messages that live so many ms: once for a queue, and again when
// they live half as long.
func (b *Broker) noteTTL(ctx context.Context, q *queueState, ms int64) error {
	if q == nil {
		return nil
	}
	b.top.mu.RLock()
	known := q.shortest >= 0 && ms >= q.shortest/2 || q.args.ttl >= 0 && ms >= q.args.ttl
	b.top.mu.RUnlock()
	if known {
		return nil
	}
	return b.update(ctx, "basic.publish", func(t *topology) ([]virtual.Change, error) {
		now := t.live[q.ref.Incarnation]
		if now == nil || now.shortest >= 0 && now.shortest <= ms {
			return nil, nil
		}
		return []virtual.Change{
			{Key: now.guard.Key, Op: virtual.Check, If: virtual.Exists},
			{Key: keyExpiring + q.ref.Incarnation, If: virtual.Any, Value: encode(ms)},
		}, nil
	})
}
