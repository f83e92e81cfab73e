package memory

import (
	"context"

	"github.com/dashi-mq/dashi/virtual"
)

// mark is the outcome of a producer's last request.
type mark struct {
	sequence uint64
	err      error
	evicted  []virtual.Taken
	used     int64
}

// Put appends messages.
func (s *Store) Put(ctx context.Context, r virtual.PutRequest) error {
	_, err := s.PutBounded(ctx, r, nil, nil)
	return err
}

// PutBounded appends messages under limits.
func (s *Store) PutBounded(ctx context.Context, r virtual.PutRequest, limits []virtual.Limit, evicted []virtual.Taken) ([]virtual.Taken, error) {
	if err := s.usable(ctx); err != nil {
		return evicted, err
	}
	p := s.p
	var w wakes
	p.mu.Lock()
	defer w.fire()
	defer p.mu.Unlock()
	now := p.now()
	mk, answered, err := p.admit(&r, now)
	if answered {
		return append(evicted, mk.evictions()...), err
	}
	p.limit(limits)
	defer p.unlimit()
	var failed *virtual.BatchError
	first := len(evicted)
	var q *queue
	for i, m := range r.Messages {
		if q == nil || q.ref != m.Queue {
			var err error
			if q, err = p.find(m.Queue); err != nil {
				failed = failed.Add(i, err)
				continue
			}
			q.sweep(now, &w)
		}
		if l := q.limit; l != nil {
			if l.Reject && m.Delay <= 0 && q.full(l, m, &load{}, now) {
				failed = failed.Add(i, virtual.ErrFull)
				continue
			}
			q.append(m, now)
			evicted = q.trim(l, now, evicted)
		} else {
			q.append(m, now)
		}
		if m.Delay <= 0 {
			q.wake(now, &w)
		}
		q.noteHead(now)
	}
	if len(r.Messages) == 0 {
		for i := range limits {
			if q, err := p.find(limits[i].Queue); err == nil {
				q.sweep(now, &w)
				evicted = q.trim(&limits[i], now, evicted)
				q.noteHead(now)
			}
		}
	}
	err = failed.Or()
	p.mark(&r, mk, err, evicted[first:], now)
	return evicted, err
}

// evictions are those of the outcome that is repeated; a nil mark has none.
func (m *mark) evictions() []virtual.Taken {
	if m == nil {
		return nil
	}
	return m.evicted
}

// admit answers a request that is repeated, behind its producer, or whose guard does not hold; else it returns the
// producer's mark, if there is one yet.
func (p *Place) admit(r *virtual.PutRequest, now int64) (m *mark, answered bool, err error) {
	if r.Producer != "" {
		m = p.marks[r.Producer]
	}
	if m != nil && r.Sequence < m.sequence {
		return nil, true, virtual.ErrSequence
	}
	if m != nil && r.Sequence == m.sequence {
		return m, true, m.err
	}
	if err := p.guard(r.Guard, now); err != nil {
		return nil, true, err
	}
	return m, false, nil
}

// mark keeps the outcome of a producer's request.
func (p *Place) mark(r *virtual.PutRequest, m *mark, err error, evicted []virtual.Taken, now int64) {
	if r.Producer == "" {
		return
	}
	if m == nil {
		if len(p.marks) >= 1024 {
			for name, old := range p.marks {
				if now-old.used > forget {
					delete(p.marks, name)
				}
			}
		}
		m = new(mark)
		p.marks[r.Producer] = m
	}
	m.sequence, m.err, m.used = r.Sequence, err, now
	m.evicted = append(m.evicted[:0], evicted...)
}

// limit tells the queues their limits, for the time of one request.
func (p *Place) limit(limits []virtual.Limit) {
	for i := range limits {
		if q, err := p.find(limits[i].Queue); err == nil {
			q.limit = &limits[i]
			p.limited = append(p.limited, q)
		}
	}
}

func (p *Place) unlimit() {
	for i, q := range p.limited {
		q.limit, p.limited[i] = nil, nil
	}
	p.limited = p.limited[:0]
}

// load is what a request has for a queue ahead of a message: how many, and how many bytes behind what is on its way.
type load struct{ n, bytes int }

// full reports whether a queue that rejects has no room for m, behind others of its request that are not there yet; else m is one
// of those.
func (q *queue) full(l *virtual.Limit, m *virtual.Message, ahead *load, now int64) bool {
	owed, size := q.owed(now), m.Payload.Size()
	onItsWay := q.nready+ahead.n < owed
	switch {
	case onItsWay:
		size = 0
	case l.MaxLen >= 0 && q.nready+ahead.n+1 > l.MaxLen+owed:
		return true
	case l.MaxBytes >= 0 && q.bytes+ahead.bytes+size > l.MaxBytes:
		q.setAside(owed)
		defer q.takeBack()
		if q.bytes+ahead.bytes+size > l.MaxBytes {
			return true
		}
	}
	ahead.n++
	ahead.bytes += size
	return false
}

// trim takes messages from the head, behind what is on its way, until the queue keeps its limit.
func (q *queue) trim(l *virtual.Limit, now int64, evicted []virtual.Taken) []virtual.Taken {
	if l.Reject || !q.over(l) {
		return evicted
	}
	q.setAside(q.owed(now))
	defer q.takeBack()
	for q.over(l) {
		e := q.head()
		q.unready(e)
		if l.Holder != "" {
			evicted = append(evicted, q.lendLoose(e, now, int64(l.Lease)))
			continue
		}
		evicted = append(evicted, virtual.Taken{Message: e.msg, Attempt: int(e.attempt), Age: duration(now - e.put)})
		q.p.free.put(e)
	}
	return evicted
}

// over reports whether what is ready is beyond a limit.
func (q *queue) over(l *virtual.Limit) bool {
	return q.nready > 0 && (l.MaxLen >= 0 && q.nready > l.MaxLen || l.MaxBytes >= 0 && q.bytes > l.MaxBytes)
}

// setAside leaves out of the ready ones the first n, until takeBack.
func (q *queue) setAside(n int) {
	for range min(n, q.nready) {
		e := q.head()
		q.unready(e)
		q.p.aside = append(q.p.aside, e)
	}
}

func (q *queue) takeBack() {
	for _, e := range q.p.aside {
		q.putBack(e)
	}
	clear(q.p.aside)
	q.p.aside = q.p.aside[:0]
}
