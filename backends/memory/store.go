package memory

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Get takes messages from the head.
func (s *Store) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	none := virtual.GetResult{Ready: -1}
	if err := s.usable(ctx); err != nil {
		return buf, none, err
	}
	p := s.p
	before := len(buf)
	until := never
	var g *getter
	for waited := false; ; waited = true {
		var w wakes
		p.mu.Lock()
		now := p.now()
		g.leave()
		if until == never && r.Wait > 0 {
			until = now + int64(r.Wait)
		}
		q, err := p.find(r.Queue)
		var res virtual.GetResult
		if err == nil {
			q.sweep(now, &w)
			buf, err = q.get(r, waited, now, buf, &w)
			res = virtual.GetResult{NextIn: q.nextIn(now), Ready: q.nready}
		}
		if err != nil || len(buf) > before || r.Wait <= 0 || r.Max <= 0 || r.Again || now >= until {
			p.mu.Unlock()
			w.fire()
			return buf, res, err
		}
		g = q.waitFor(r.Max)
		next := min(until, q.sweepDue)
		p.mu.Unlock()
		w.fire()
		if !s.sleep(ctx, next, now, g.woken) {
			p.mu.Lock()
			g.leave()
			p.mu.Unlock()
			return buf, none, nil
		}
	}
}

// nextIn returns when something becomes ready by itself. Holders are looked at only where a Get has to wait.
func (q *queue) nextIn(now int64) time.Duration {
	due := min(q.delayed.next(), q.loose.next())
	if q.nready == 0 {
		for _, h := range q.holders {
			if h.n > 0 {
				due = min(due, h.deadline)
			}
		}
	}
	if due == never {
		return 0
	}
	return duration(max(1, due-now))
}

// get takes what is ready now. waited says that the same Get has looked before.
func (q *queue) get(r virtual.GetRequest, waited bool, now int64, buf []virtual.Taken, w *wakes) ([]virtual.Taken, error) {
	if r.Fence != 0 {
		if r.Fence < q.fence {
			return buf, virtual.ErrFence
		}
		q.fence = r.Fence
	}
	if r.Park != "" {
		defer q.noteHead(now)
		if r.Max <= 0 {
			q.park(&r, 0)
			return buf, nil
		}
	}
	var h *holder
	if r.Holder != "" {
		var done bool
		var err error
		if h, done, err = q.hold(r, waited, now); err != nil {
			return buf, err
		}
		if r.Again {
			return q.again(r, h, now, buf, w), nil
		}
		if done {
			return buf, nil
		}
	}
	most, until := r.Max, never
	if r.Park != "" {
		most, until = q.share(&r, now)
	}
	n, size := 0, 0
	for ; n < most; n++ {
		e := q.head()
		if e == nil {
			break
		}
		size += e.msg.Payload.Size()
		if r.MaxBytes > 0 && n > 0 && size > r.MaxBytes {
			break
		}
		q.unready(e)
		switch {
		case r.Lease <= 0:
			e.attempt++
			buf = append(buf, virtual.Taken{Message: e.msg, Attempt: int(e.attempt), Age: duration(now - e.put)})
			q.p.free.put(e)
		case h != nil:
			e.take = r.Take
			buf = append(buf, q.lend(e, now))
			h.add(e)
		default:
			buf = append(buf, q.lendLoose(e, now, int64(r.Lease)))
		}
	}
	if h != nil && h.n > 0 {
		q.schedule(h.deadline)
	}
	if r.Park != "" {
		if q.nready > 0 && until == never && n < most {
			q.park(&r, r.Max) // stopped by MaxBytes: there is more
		} else {
			q.park(&r, n)
		}
		if q.nready > 0 {
			q.rewake = min(q.rewake, until)
			q.schedule(until)
			q.wakeOthers(r.Park, now, w)
		}
	} else {
		q.noteHead(now)
	}
	return buf, nil
}

// again hands out what a Take took and, where that is less than it could have been, records the waiter; what is ready
// by then has woken nobody, so that he is told at once.
func (q *queue) again(r virtual.GetRequest, h *holder, now int64, buf []virtual.Taken, w *wakes) []virtual.Taken {
	n := len(buf)
	for e := h.head; e != nil; e = e.next {
		if e.take == r.Take {
			buf = append(buf, q.taken(e, now))
		}
	}
	if r.Park != "" {
		q.park(&r, len(buf)-n)
		if q.nready > 0 {
			q.wake(now, w)
		}
	}
	return buf
}

// hold returns the holder of a Get, made by its first Take. done says that this Take was answered before.
func (q *queue) hold(r virtual.GetRequest, waited bool, now int64) (h *holder, done bool, err error) {
	h = q.holders[r.Holder]
	if h == nil {
		if _, lost := q.lost[r.Holder]; lost || waited || r.Take != 1 {
			return nil, false, virtual.ErrHolder
		}
		h = &holder{name: r.Holder}
		if q.holders == nil {
			q.holders = map[string]*holder{}
		}
		q.holders[r.Holder] = h
	}
	h.used = now
	h.deadline = max(h.deadline, now+int64(r.Lease))
	if waited {
		done = r.Take < h.take || r.Take <= h.closed
	} else {
		done = r.Take <= h.take
	}
	h.take = max(h.take, r.Take)
	if r.Again {
		h.closed = max(h.closed, r.Take)
	}
	return h, done, nil
}

// Renew extends a holder's leases.
func (s *Store) Renew(ctx context.Context, name string, queues []virtual.QueueRef, d time.Duration) ([]virtual.QueueRef, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	p := s.p
	var w wakes
	p.mu.Lock()
	defer w.fire()
	defer p.mu.Unlock()
	now := p.now()
	var lost []virtual.QueueRef
	for _, ref := range queues {
		q := p.queues[ref]
		if q == nil {
			lost = append(lost, ref)
			continue
		}
		q.sweep(now, &w)
		h := q.holders[name]
		if h == nil {
			lost = append(lost, ref)
			continue
		}
		h.used, h.deadline = now, max(h.deadline, now+int64(d))
	}
	return lost, nil
}

// Settle ends or changes leases.
func (s *Store) Settle(ctx context.Context, all []virtual.Settlement) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	p := s.p
	var w wakes
	p.mu.Lock()
	defer w.fire()
	defer p.mu.Unlock()
	var now int64 // an Ack needs no clock, and a lease that merely ran out may still be acked
	if slices.ContainsFunc(all, func(st virtual.Settlement) bool { return st.Kind != virtual.Ack }) {
		now = p.now()
	}
	var failed *virtual.BatchError
	var q *queue
	for i := range all {
		if q == nil || q.ref != all[i].Queue {
			if q = p.queues[all[i].Queue]; q == nil {
				failed = failed.Add(i, virtual.ErrStale)
				continue
			}
			q.sweep(now, &w)
		}
		if err := q.settle(&all[i], now, &w); err != nil {
			failed = failed.Add(i, err)
		}
	}
	return failed.Or()
}

// valid returns the entry of a receipt that is good, or nil.
func (q *queue) valid(s *virtual.Settlement) *entry {
	l, ok := s.Receipt.(*lease)
	if !ok || l == nil || l.e.lease != l || l.e.state != held {
		return nil
	}
	return l.e
}

func (q *queue) settle(s *virtual.Settlement, now int64, w *wakes) error {
	e := q.valid(s)
	if e == nil {
		return virtual.ErrStale
	}
	switch s.Kind {
	case virtual.Ack:
		q.remove(e)
	case virtual.Extend:
		if h := e.holder; h != nil {
			h.deadline = max(h.deadline, now+int64(s.For))
			break
		}
		q.release(e)
		e.due = now + int64(s.For)
		q.pushLoose(e)
	case virtual.Requeue, virtual.Return:
		q.release(e)
		if s.Kind == virtual.Return {
			e.attempt--
		}
		if s.For > 0 {
			q.hide(e, now+int64(s.For))
			break
		}
		q.putBack(e)
		q.wake(now, w)
		q.noteHead(now)
	}
	return nil
}

// Purge removes what is ready.
func (s *Store) Purge(ctx context.Context, ref virtual.QueueRef) (int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	var w wakes
	s.p.mu.Lock()
	defer w.fire()
	defer s.p.mu.Unlock()
	q := s.p.queues[ref]
	if q == nil {
		return 0, nil
	}
	q.sweep(s.p.now(), &w)
	n := q.nready
	clear(q.levels)
	q.back, q.nready, q.bytes = nil, 0, 0
	return n, nil
}

// Size counts what is ready.
func (s *Store) Size(ctx context.Context, ref virtual.QueueRef) (int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	var w wakes
	s.p.mu.Lock()
	defer w.fire()
	defer s.p.mu.Unlock()
	q := s.p.queues[ref]
	if q == nil {
		return 0, nil
	}
	q.sweep(s.p.now(), &w)
	return q.nready, nil
}

// Peek looks at the head.
func (s *Store) Peek(ctx context.Context, ref virtual.QueueRef, limit int, buf []virtual.Taken) ([]virtual.Taken, error) {
	if err := s.usable(ctx); err != nil {
		return buf, err
	}
	var w wakes
	s.p.mu.Lock()
	defer w.fire()
	defer s.p.mu.Unlock()
	q := s.p.queues[ref]
	if q == nil {
		return buf, nil
	}
	now := s.p.now()
	q.sweep(now, &w)
	es := slices.Clone([]*entry(q.back))
	for l := range q.levels {
		n := 0
		for e := q.levels[l].head; e != nil && n < limit; e = e.next {
			es = append(es, e)
			n++
		}
	}
	slices.SortFunc(es, func(a, b *entry) int {
		return cmp.Or(cmp.Compare(b.level, a.level), cmp.Compare(a.seq, b.seq))
	})
	for _, e := range es[:min(len(es), limit)] {
		buf = append(buf, virtual.Taken{Message: e.msg, Attempt: int(e.attempt), Age: duration(now - e.put)})
	}
	return buf, nil
}

// Expire takes expired heads.
func (s *Store) Expire(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	if err := s.usable(ctx); err != nil {
		return buf, 0, err
	}
	p := s.p
	before := len(buf)
	until := never
	for {
		var w wakes
		p.mu.Lock()
		now := p.now()
		if until == never && r.Wait > 0 {
			until = now + int64(r.Wait)
		}
		p.run(now, &w)
		var next int64
		if r.Queue != (virtual.QueueRef{}) {
			next = never
			if q := p.queues[r.Queue]; q != nil {
				p.expiring.remove(q)
				buf = q.expire(r, now, before, buf)
				q.noteHead(now)
				next = q.expiry(now)
			}
		} else {
			for p.expiring.next() <= now && len(buf)-before < r.Max {
				q := p.expiring.qs[0]
				p.expiring.remove(q)
				buf = q.expire(r, now, before, buf)
				q.noteHead(now)
			}
			next = p.expiring.next()
		}
		sleep := min(until, next, p.due.next())
		tick := p.ticker()
		p.mu.Unlock()
		w.fire()
		if len(buf) > before || r.Wait <= 0 || now >= until {
			d := time.Duration(0)
			if next != never {
				d = max(1, duration(next-now))
			}
			return buf, d, nil
		}
		if !s.sleep(ctx, sleep, now, tick) {
			return buf, 0, nil
		}
	}
}

func (q *queue) expire(r virtual.ExpireRequest, now int64, before int, buf []virtual.Taken) []virtual.Taken {
	for len(buf)-before < r.Max && q.expiry(now) <= now {
		e := q.head()
		q.unready(e)
		buf = append(buf, q.lendLoose(e, now, int64(r.Lease)))
	}
	return buf
}
