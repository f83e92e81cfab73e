package broker

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// janitor is the part of a process that does the vhost's chores while it holds the janitor's lock: expiry with nobody
// consuming, queues that nobody uses, delayed messages, what dead processes left. When nobody lives it is done at the
// next open.
type janitor struct {
	stop context.CancelFunc // nil: this process is not the janitor
}

// uses is when queues with x-expires were last used, as far as this process saw.
type uses struct {
	mu    sync.Mutex
	last  map[string]time.Time // by incarnation
	told  map[string]time.Time // when this process said so itself
	moved chan struct{}        // told of changes
}

// bootstrap prepares the vhost: the predeclared exchanges and, with nobody else there, an end to what is transient.
func (b *Broker) bootstrap(ctx context.Context) error {
	b.txName = newName()
	upTo := b.revision() // what is newer may be of a process that comes now
	sessions, err := b.registry.Sessions(ctx)
	if err != nil {
		return err
	}
	alone := len(sessions) == 1 && sessions[0] == b.sessionName()
	var gone []*queueState
	err = b.update(ctx, "open", func(t *topology) ([]virtual.Change, error) {
		gone = gone[:0]
		r := newRemoval(t)
		if alone {
			for _, q := range t.queues {
				if !q.rec.Durable && q.guard.Rev <= upTo {
					gone = append(gone, q)
					r.queue(q)
				}
			}
			for _, x := range t.exchanges {
				if !x.rec.Durable && x.guard.Rev <= upTo {
					r.exchange(x.name)
				}
			}
		}
		changes := r.done()
		for name, rec := range predeclared {
			if t.exchanges[name] == nil {
				changes = append(changes, virtual.Change{Key: keyExchange + name, If: virtual.Absent, Value: encode(rec)})
			}
		}
		return changes, nil
	})
	if err != nil {
		return err
	}
	for _, q := range gone {
		if _, err := b.namespace.Delete(ctx, q.ref); err != nil {
			return err
		}
	}
	signal(b.cleaning)
	return nil
}

// leave ends the session: consumers, exclusive queues and locks go with it.
func (b *Broker) leave(ctx context.Context) error {
	return b.registry.EndSession(ctx, b.sessionName())
}

// clean elects the janitor and, being it, cleans up whenever something went.
func (b *Broker) clean() {
	defer func() {
		if b.janitor.stop != nil {
			b.janitor.stop()
		}
	}()
	// Queues that others delete are theirs to remove from the store. Those they did not, since they died in between, are
	// looked for a while later.
	later := time.NewTimer(time.Hour)
	defer later.Stop()
	for {
		select {
		case <-b.cleaning:
			later.Reset(2 * b.orphanAge())
		case <-later.C:
		case <-b.ctx.Done():
			return
		}
		for try := 0; b.ctx.Err() == nil; {
			mine, err := b.elect()
			switch {
			case err == nil && mine:
				err = b.tidy(b.ctx)
			case err == nil:
				b.top.mu.Lock()
				clear(b.top.dead) // the janitor's to remove
				b.top.mu.Unlock()
			}
			if err == nil {
				break
			}
			b.storeFailed(err)
			try = b.pause(try)
		}
	}
}

// elect takes the janitor's lock when it is free, and starts or stops the chores.
func (b *Broker) elect() (mine bool, err error) {
	session := b.sessionName()
	err = b.update(b.ctx, "janitor", func(t *topology) ([]virtual.Change, error) {
		mine = t.janitor == session
		if t.janitor != "" {
			return nil, nil
		}
		return []virtual.Change{{Key: keyJanitor, If: virtual.Absent, Session: session}}, nil
	})
	if err != nil {
		return false, err
	}
	b.top.mu.RLock()
	mine = b.top.janitor == session
	b.top.mu.RUnlock()
	switch {
	case mine && b.janitor.stop == nil:
		var ctx context.Context
		ctx, b.janitor.stop = context.WithCancel(b.ctx)
		b.uses.restart(b.top)
		for _, chore := range []func(context.Context){b.expireHeads, b.expireQueues, b.deliverDelayed} {
			b.spawn(func() { chore(ctx) })
		}
	case !mine && b.janitor.stop != nil:
		b.janitor.stop()
		b.janitor.stop = nil
	}
	return mine, nil
}

// tidy removes what has lost its reason: bindings to queues that are no more, auto-delete queues whose last consumer died
// with its process, and queues in the store that nobody declared.
func (b *Broker) tidy(ctx context.Context) error {
	var gone []*queueState
	err := b.update(ctx, "janitor", func(t *topology) ([]virtual.Change, error) {
		gone = gone[:0]
		r := newRemoval(t)
		for key, rec := range t.bindings {
			if t.stale(rec) || t.exchanges[rec.Source] == nil {
				r.binding(key)
			}
		}
		for _, q := range t.queues {
			if q.rec.AutoDelete && q.used != 0 && len(q.consumers) == 0 {
				gone = append(gone, q)
				r.queue(q)
			}
		}
		return r.done(), nil
	})
	if err != nil {
		return err
	}
	for _, q := range gone {
		if _, err := b.namespace.Delete(ctx, q.ref); err != nil {
			return err
		}
	}
	if err := b.emptyGraves(ctx); err != nil {
		return err
	}
	return b.dropOrphans(ctx)
}

// orphanAge is for how long nobody names a queue of the store before it is taken for a leftover: until every living process has
// declared again what a store has lost.
func (b *Broker) orphanAge() time.Duration { return max(b.o.Lease, b.o.SessionTTL) }

// dropOrphans deletes queues of the store that no record names. One whose declaring process is alive may be about to be
// named, unless this process saw it named and gone.
func (b *Broker) dropOrphans(ctx context.Context) error {
	refs, err := b.namespace.List(ctx)
	if err != nil {
		return err
	}
	sessions, err := b.registry.Sessions(ctx)
	if err != nil {
		return err
	}
	alive := map[string]bool{}
	for _, s := range sessions {
		alive[s] = true
	}
	if err := b.refresh(ctx); err != nil {
		return err
	}
	for _, ref := range refs {
		maker, _, _ := strings.Cut(ref.Incarnation, ".")
		b.top.mu.Lock()
		nameless := b.top.live[ref.Incarnation] == nil && !strings.HasPrefix(ref.Name, "!")
		since, known := b.top.dead[ref]
		if nameless && !known && !alive[maker] {
			b.top.dead[ref] = time.Now()
		}
		b.top.mu.Unlock()
		if !nameless || !known || time.Since(since) < b.orphanAge() {
			continue
		}
		if _, err := b.namespace.Delete(ctx, ref); err != nil {
			return err
		}
		b.top.mu.Lock()
		delete(b.top.dead, ref)
		b.top.mu.Unlock()
	}
	return nil
}

// expireHeads buries what expires at the heads of queues.
func (b *Broker) expireHeads(ctx context.Context) {
	for try := 0; ctx.Err() == nil; {
		taken, _, err := b.expirer.Expire(ctx, virtual.ExpireRequest{Max: batchLimit, Wait: time.Minute, Lease: b.o.Lease}, nil)
		if err != nil {
			b.storeFailed(err)
			try = b.pause(try)
			continue
		}
		try = 0
		b.bury(ctx, b.expiries(taken))
	}
}

// noteUse remembers when queues with x-expires were used.
func (b *Broker) noteUse(e effects) {
	now := time.Now()
	b.uses.mu.Lock()
	defer b.uses.mu.Unlock()
	note := func(q *queueState) {
		if q.args.expires > 0 {
			b.uses.last[q.ref.Incarnation] = now
			signal(b.uses.moved)
		}
	}
	for q := range e.consumers {
		note(q)
	}
	for _, q := range e.used {
		note(q)
	}
	for _, q := range e.fresh {
		note(q)
	}
	for _, q := range e.gone {
		delete(b.uses.last, q.ref.Incarnation)
		delete(b.uses.told, q.ref.Incarnation)
	}
}

// restart counts anew: a janitor that takes over has not seen what happened before.
func (u *uses) restart(t *topology) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, q := range t.queues {
		if q.args.expires > 0 {
			u.last[q.ref.Incarnation] = time.Now()
		}
	}
	signal(u.moved)
}

// expiresIn returns how long a queue with x-expires stays unused before it goes. Uses without a consumer are told to
// others only every eighth of that time, so the janitor waits for as much longer.
func (a *queueArgs) expiresIn() time.Duration {
	d := time.Duration(a.expires) * time.Millisecond
	return d + d/8
}

// touch tells the janitor that a queue with x-expires is used.
func (b *Broker) touch(q *queueState) {
	if q.args.expires == 0 {
		return
	}
	now := time.Now()
	b.uses.mu.Lock()
	// Not by what others told: this process may have heard of it late.
	told, known := b.uses.told[q.ref.Incarnation]
	recent := known && now.Sub(told) < time.Duration(q.args.expires)*time.Millisecond/8
	if !recent {
		b.uses.told[q.ref.Incarnation] = now
	}
	b.uses.mu.Unlock()
	if recent {
		return
	}
	_ = b.update(b.ctx, "touch", func(t *topology) ([]virtual.Change, error) {
		if t.live[q.ref.Incarnation] == nil {
			return nil, nil
		}
		return []virtual.Change{
			{Key: q.guard.Key, Op: virtual.Check, If: virtual.Exists},
			{Key: keyTouch + q.ref.Incarnation, If: virtual.Any},
		}, nil
	})
}

// expireQueues deletes queues that nobody has used for their x-expires.
func (b *Broker) expireQueues(ctx context.Context) {
	for {
		due, next := b.unused()
		if len(due) > 0 { // others may have used them since
			if err := b.refresh(ctx); err != nil {
				b.storeFailed(err)
				due, next = nil, time.Second
			} else {
				due, next = b.unused()
			}
		}
		for _, q := range due {
			b.log.Info("queue expired", "queue", q.name, "vhost", b.o.Vhost)
			if err := b.deleteQueue(ctx, q); err != nil {
				b.storeFailed(err)
				next = time.Second
			}
		}
		if len(due) > 0 && next == 0 {
			continue
		}
		timer := time.NewTimer(next)
		select {
		case <-timer.C:
		case <-b.uses.moved:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		timer.Stop()
	}
}

// unused returns the queues whose time is over, and when to look again.
func (b *Broker) unused() (due []*queueState, next time.Duration) {
	now := time.Now()
	next = time.Hour
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	b.uses.mu.Lock()
	defer b.uses.mu.Unlock()
	for inc, last := range b.uses.last {
		q := b.top.live[inc]
		if q == nil || len(q.consumers) > 0 {
			continue
		}
		if left := last.Add(q.args.expiresIn()).Sub(now); left <= 0 {
			due = append(due, q)
		} else {
			next = min(next, left)
		}
	}
	return due, next
}

// scanTimeouts closes channels that leave a delivery unanswered for too long.
func (b *Broker) scanTimeouts() {
	if b.o.ConsumerTimeout < 0 {
		return
	}
	t := time.NewTicker(max(time.Millisecond, b.o.ConsumerTimeout/4))
	defer t.Stop()
	for {
		select {
		case <-t.C:
		case <-b.ctx.Done():
			return
		}
		limit := b.now() - int64(b.o.ConsumerTimeout)
		for _, p := range b.allPorts() {
			p.mu.Lock()
			at, any := p.unacked.oldest()
			p.mu.Unlock()
			if any && at <= limit {
				p.fail(fail(channel.PreconditionFailed, "", "delivery acknowledgement on channel timed out. Timeout value used: %d ms. This timeout value can be configured",
					b.o.ConsumerTimeout.Milliseconds()))
			}
		}
	}
}

func (b *Broker) allPorts() []*port {
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	var ports []*port
	for _, c := range conns {
		c.mu.Lock()
		for p := range c.ports {
			ports = append(ports, p)
		}
		c.mu.Unlock()
	}
	return ports
}
