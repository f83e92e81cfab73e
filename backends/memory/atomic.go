package memory

import (
	"container/heap"
	"context"

	"github.com/dashi-mq/dashi/virtual"
)

// pushLoose files a held entry under its own deadline.
func (q *queue) pushLoose(e *entry) {
	heap.Push(&q.loose, e)
	q.schedule(e.due)
}

// hide puts an entry that was held among the delayed ones.
func (q *queue) hide(e *entry, due int64) {
	e.state, e.lease, e.due = delayed, nil, due
	heap.Push(&q.delayed, e)
	q.schedule(due)
}

// Apply puts and settles in one step, or does nothing.
func (s *Store) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	if err := s.usable(ctx); err != nil {
		return evicted, err
	}
	p := s.p
	var w wakes
	p.mu.Lock()
	defer w.fire()
	defer p.mu.Unlock()
	now := p.now()
	mk, answered, err := p.admit(&r.PutRequest, now)
	if answered {
		return append(evicted, mk.evictions()...), err
	}
	p.limit(r.Limits)
	defer p.unlimit()
	failed := p.refusals(&r, now, &w)
	first := len(evicted)
	if failed == nil {
		for i := range r.Settlements {
			_ = p.queues[r.Settlements[i].Queue].settle(&r.Settlements[i], now, &w) // checked above
		}
		for _, m := range r.Messages {
			q, _ := p.find(m.Queue) // checked above
			q.append(m, now)
			if l := q.limit; l != nil {
				evicted = q.trim(l, now, evicted)
			}
			if m.Delay <= 0 {
				q.wake(now, &w)
			}
			q.noteHead(now)
		}
	}
	err = failed.Or()
	p.mark(&r.PutRequest, mk, err, evicted[first:], now)
	return evicted, err
}

// refusals finds all that stands in the way of an Apply, without changing anything.
func (p *Place) refusals(r *virtual.ApplyRequest, now int64, w *wakes) *virtual.BatchError {
	var failed *virtual.BatchError
	coming := map[virtual.QueueRef]*load{} // messages of this request ahead of the one looked at
	for i, m := range r.Messages {
		q, err := p.find(m.Queue)
		if err != nil {
			failed = failed.Add(i, err)
			continue
		}
		q.sweep(now, w)
		if l := q.limit; l != nil && l.Reject && m.Delay <= 0 {
			if coming[m.Queue] == nil {
				coming[m.Queue] = &load{}
			}
			if q.full(l, m, coming[m.Queue], now) {
				failed = failed.Add(i, virtual.ErrFull)
			}
		}
	}
	seen := map[virtual.Receipt]bool{}
	for i := range r.Settlements {
		st := &r.Settlements[i]
		q := p.queues[st.Queue]
		if q != nil {
			q.sweep(now, w)
		}
		if q == nil || q.valid(st) == nil || seen[st.Receipt] {
			failed = failed.Add(len(r.Messages)+i, virtual.ErrStale)
			continue
		}
		if st.Kind != virtual.Extend {
			seen[st.Receipt] = true
		}
	}
	return failed
}
