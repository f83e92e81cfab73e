package sql

import (
	"context"
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

// Put appends messages.
func (s *Store) Put(ctx context.Context, r virtual.PutRequest) error {
	_, err := s.PutBounded(ctx, r, nil, nil)
	return err
}

// PutBounded appends messages under limits.
func (s *Store) PutBounded(ctx context.Context, r virtual.PutRequest, limits []virtual.Limit, evicted []virtual.Taken) ([]virtual.Taken, error) {
	var out []virtual.Taken
	err := s.do(ctx, func(t *tx) error {
		out = nil
		m, answered, err := t.admit(&r)
		if err != nil || answered {
			out = m.evictions()
			return m.failure(err)
		}
		m, err = t.put(&r, limits)
		if err != nil {
			return err
		}
		out = m.evicted
		if err := t.mark(&r, m); err != nil {
			return err
		}
		return m.failure(nil)
	})
	return append(evicted, out...), err
}

// put does what a request asks for.
func (t *tx) put(r *virtual.PutRequest, limits []virtual.Limit) (*mark, error) {
	m := &mark{sequence: r.Sequence}
	limited, err := t.limit(limits)
	defer unlimit(limited)
	if err != nil {
		return nil, err
	}
	var queues []*queue
	if len(r.Messages) == 0 {
		queues = limited // a request that only trims
	}
	var q *queue
	behind := map[*queue]bool{} // one that was too large
	for i, msg := range r.Messages {
		if q == nil || q.ref != msg.Queue {
			if q, err = t.find(msg.Queue); err != nil {
				return nil, err
			}
			if q == nil {
				m.failed = m.failed.Add(i, virtual.ErrNoQueue)
				continue
			}
			if err := t.sweep(q); err != nil {
				return nil, err
			}
			if !slices.Contains(queues, q) {
				queues = append(queues, q)
			}
		}
		if refused, err := t.refuses(q, msg, &load{}); err != nil {
			return nil, err
		} else if refused {
			m.failed = m.failed.Add(i, virtual.ErrFull)
			continue
		}
		if why := t.s.tooLarge(msg); why != nil || behind[q] {
			if behind[q] {
				why = virtual.ErrBehind
			}
			behind[q] = true
			m.failed = m.failed.Add(i, why)
			continue
		}
		if err := t.append(q, msg); err != nil {
			return nil, err
		}
	}
	return m, t.settleDown(queues, m)
}

// tooLarge returns why the database does not take a message.
func (s *Store) tooLarge(m *virtual.Message) error {
	if s.o.Largest > 0 && len(m.Payload.Bytes()) > s.o.Largest {
		return fmt.Errorf("%w: %s takes %d bytes", virtual.ErrTooLarge, s.db.Name(), s.o.Largest)
	}
	return nil
}

// settleDown has queues keep their limits after something was put, and wakes who waits for it.
func (t *tx) settleDown(queues []*queue, m *mark) error {
	for _, q := range queues {
		if q.limit != nil {
			var err error
			if m.evicted, err = t.trim(q, q.limit, m.evicted); err != nil {
				return err
			}
		}
		if q.ready > 0 {
			t.wake(q, "")
		}
		if err := t.noteHead(q); err != nil {
			return err
		}
	}
	return nil
}

// limit tells the queues their limits, for the time of one call.
func (t *tx) limit(limits []virtual.Limit) (queues []*queue, err error) {
	for i := range limits {
		q, err := t.find(limits[i].Queue)
		if err != nil {
			return queues, err
		}
		if q == nil {
			continue
		}
		if err := t.sweep(q); err != nil {
			return queues, err
		}
		q.limit = &limits[i]
		queues = append(queues, q)
	}
	return queues, nil
}

func unlimit(queues []*queue) {
	for _, q := range queues {
		q.limit = nil
	}
}

// load is what a request has for a queue ahead of a message: how many, and how many bytes behind what is on its way.
type load struct{ n, bytes int64 }

// refuses reports whether a queue that rejects has no room for m, behind others of its request that are not there yet; else m is
// one of those.
func (t *tx) refuses(q *queue, m *virtual.Message, ahead *load) (bool, error) {
	l := q.limit
	if l == nil || !l.Reject || m.Delay > 0 {
		return false, nil
	}
	owed, size := q.owed(t.now), int64(m.Payload.Size())
	n, bytes := q.ready+ahead.n, q.bytes+ahead.bytes
	switch {
	case n < owed: // it is on its way itself
		size = 0
	case l.MaxLen >= 0 && n+1 > int64(l.MaxLen)+owed:
		return true, nil
	case l.MaxBytes >= 0 && bytes+size > int64(l.MaxBytes):
		aside, err := t.peek(q, fits{n: owed})
		if err != nil {
			return false, err
		}
		if bytes-sum(aside)+size > int64(l.MaxBytes) {
			return true, nil
		}
	}
	ahead.n++
	ahead.bytes += size
	return false, nil
}

func sum(es []entry) (n int64) {
	for i := range es {
		n += es[i].size
	}
	return n
}

// trim takes messages from the head, behind what is on its way, until the queue keeps its limit. Those of a limit with a holder
// are leased, the others are gone.
func (t *tx) trim(q *queue, l *virtual.Limit, evicted []virtual.Taken) ([]virtual.Taken, error) {
	over := func(n, bytes int64) bool {
		return n > 0 && (l.MaxLen >= 0 && n > int64(l.MaxLen) || l.MaxBytes >= 0 && bytes > int64(l.MaxBytes))
	}
	for !l.Reject && over(q.ready, q.bytes) {
		owed := min(q.owed(t.now), q.ready)
		atOnce := int64(16)
		if l.MaxLen >= 0 {
			atOnce = max(atOnce, q.ready-owed-int64(l.MaxLen))
		}
		es, err := t.peek(q, fits{n: owed + atOnce})
		if err != nil {
			return evicted, err
		}
		n, bytes := q.ready-owed, q.bytes-sum(es[:owed])
		es = es[owed:]
		k := 0
		for ; k < len(es) && over(n, bytes); k++ {
			n, bytes = n-1, bytes-es[k].size
		}
		if k == 0 {
			break
		}
		if l.Holder != "" {
			if evicted, err = t.lendLoose(q, es[:k], micros(l.Lease), evicted); err != nil {
				return evicted, err
			}
			continue
		}
		for i := range es[:k] {
			evicted = append(evicted, t.taken(q, &es[i], nil))
		}
		if err := t.remove(q, es[:k]); err != nil {
			return evicted, err
		}
	}
	return evicted, nil
}
