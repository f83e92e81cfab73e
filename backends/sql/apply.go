package sql

import (
	"context"

	"github.com/dashi-mq/dashi/virtual"
)

// Apply puts and settles in one step, or does nothing.
func (s *Store) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	var out []virtual.Taken
	err := s.do(ctx, func(t *tx) error {
		out = nil
		m, answered, err := t.admit(&r.PutRequest)
		if err != nil || answered {
			out = m.evictions()
			return m.failure(err)
		}
		if m, err = t.apply(&r); err != nil {
			return err
		}
		out = m.evicted
		if err := t.mark(&r.PutRequest, m); err != nil {
			return err
		}
		return m.failure(nil)
	})
	return append(evicted, out...), err
}

// apply does all, or finds what stands in the way.
func (t *tx) apply(r *virtual.ApplyRequest) (*mark, error) {
	m := &mark{sequence: r.Sequence}
	limited, err := t.limit(r.Limits)
	defer unlimit(limited)
	if err != nil {
		return nil, err
	}
	var queues []*queue
	if queues, m.failed, err = t.obstacles(r); err != nil || m.failed != nil {
		return m, err
	}
	if failed, err := t.settle(r.Settlements); err != nil || failed != nil {
		if err == nil {
			err = t.fail(failed) // looked for above
		}
		return nil, err
	}
	for i, msg := range r.Messages {
		if err := t.append(queues[i], msg); err != nil {
			return nil, err
		}
	}
	var each []*queue
	for i, q := range queues {
		if i == 0 || q != queues[i-1] {
			each = append(each, q)
		}
	}
	return m, t.settleDown(each, m)
}

// obstacles finds all that stands in the way of an Apply, without doing anything of it, and the queues of its messages.
func (t *tx) obstacles(r *virtual.ApplyRequest) (queues []*queue, failed *virtual.BatchError, err error) {
	queues = make([]*queue, len(r.Messages))
	coming := map[*queue]*load{} // messages of this request ahead of the one looked at
	for i, m := range r.Messages {
		q, err := t.find(m.Queue)
		if err != nil {
			return nil, nil, err
		}
		if q == nil {
			failed = failed.Add(i, virtual.ErrNoQueue)
			continue
		}
		queues[i] = q
		if err := t.sweep(q); err != nil {
			return nil, nil, err
		}
		if coming[q] == nil {
			coming[q] = &load{}
		}
		if why := t.s.tooLarge(m); why != nil {
			failed = failed.Add(i, why)
		} else if full, err := t.refuses(q, m, coming[q]); err != nil {
			return nil, nil, err
		} else if full {
			failed = failed.Add(i, virtual.ErrFull)
		}
	}
	seen := map[receipt]bool{}
	s := &settling{tx: t}
	for i := range r.Settlements {
		st := &r.Settlements[i]
		rec, ours := st.Receipt.(receipt)
		good := ours && !seen[rec]
		if good {
			if good, err = s.stands(st.Queue, rec); err != nil {
				return nil, nil, err
			}
		}
		if !good {
			failed = failed.Add(len(r.Messages)+i, virtual.ErrStale)
		}
		if ours && st.Kind != virtual.Extend {
			seen[rec] = true
		}
	}
	return queues, failed, nil
}

// stands tells whether a receipt is good and its message there.
func (s *settling) stands(ref virtual.QueueRef, r receipt) (bool, error) {
	if s.q == nil || s.q.ref != ref {
		if err := s.turn(ref); err != nil {
			return false, err
		}
		if s.q == nil {
			return false, nil
		}
		if err := s.sweep(s.q); err != nil {
			return false, err
		}
	}
	if r.queue != s.q.id {
		return false, nil
	}
	v, err := s.valid(r)
	if err != nil || !v.good {
		return false, err
	}
	_, there, err := s.size(r.place)
	return there, err
}
