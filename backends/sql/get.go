package sql

import (
	"context"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Get takes messages from the head.
func (s *Store) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	before := len(buf)
	buf, res, err := s.get(ctx, &r, "", false, buf)
	if err != nil || len(buf) > before || r.Wait <= 0 || r.Max <= 0 || r.Again {
		return buf, res, err
	}
	over := time.NewTimer(r.Wait)
	defer over.Stop()
	w, err := s.wait(ctx)
	if err != nil {
		return buf, res, err
	}
	defer w.done()
	for {
		buf, res, err = s.get(ctx, &r, w.name, true, buf)
		if err != nil || len(buf) > before {
			return buf, res, err
		}
		select {
		case <-w.woken:
			continue
		case <-w.lost:
			err = w.err
		case <-over.C:
		case <-ctx.Done():
		case <-s.ctx.Done():
		}
		s.leaveQueue(r.Queue, w.name)
		return buf, res, err
	}
}

// leaveQueue takes a Get that has waited in vain off the list of those that wait. If that fails, what comes first is held up for it,
// for a second.
func (s *Store) leaveQueue(ref virtual.QueueRef, name string) {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	_ = s.do(ctx, func(t *tx) error {
		if q, err := t.load(ref); q != nil || err != nil {
			if err == nil {
				t.strike(q, name)
			}
			return err
		}
		return nil
	})
}

// get asks once. getter is the name of a Get that waits, waited says that the same Get has looked before.
func (s *Store) get(ctx context.Context, r *virtual.GetRequest, getter string, waited bool, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	before := len(buf)
	res := virtual.GetResult{Ready: -1}
	err := s.do(ctx, func(t *tx) error {
		buf = buf[:before]
		q, err := t.find(r.Queue)
		if err != nil {
			return err
		}
		if q == nil {
			return virtual.ErrNoQueue
		}
		if err := t.sweep(q); err != nil {
			return err
		}
		g := &getting{tx: t, q: q, r: r, getter: getter, waited: waited}
		if buf, err = g.run(buf); err != nil {
			return err
		}
		next, err := t.nextIn(q)
		if err != nil {
			return err
		}
		res = virtual.GetResult{NextIn: in(next, t.now), Ready: int(q.ready)}
		return t.noteHead(q)
	})
	if err != nil {
		return buf[:before], virtual.GetResult{Ready: -1}, err
	}
	return buf, res, nil
}

// getting is a Get in its transaction.
type getting struct {
	*tx
	q      *queue
	r      *virtual.GetRequest
	getter string
	waited bool
}

func (g *getting) run(buf []virtual.Taken) ([]virtual.Taken, error) {
	q, r := g.q, g.r
	if r.Fence != 0 {
		if r.Fence < q.fence {
			return buf, virtual.ErrFence
		}
		if r.Fence > q.fence {
			g.touch(q)
			q.fence = r.Fence
		}
	}
	if g.getter != "" {
		g.strike(q, g.getter)
	}
	if r.Park != "" && r.Max <= 0 {
		g.strike(q, r.Park)
		return buf, nil
	}
	if r.Holder != "" {
		done, err := g.hold()
		if err != nil {
			return buf, err
		}
		if r.Again {
			return g.again(buf)
		}
		if done {
			g.waitOn()
			return buf, nil
		}
	}
	n, until := r.Max, never
	if r.Park != "" {
		n, until = q.share(r, g.now)
	}
	es, cut, err := g.fitting(n)
	if err != nil {
		return buf, err
	}
	before := len(buf)
	if buf, err = g.lend(es, buf); err != nil {
		return buf, err
	}
	if len(es) == 0 {
		g.waitOn()
	}
	if r.Park == "" {
		return buf, nil
	}
	if taken := len(buf) - before; cut {
		g.park(q, r, 0) // stopped by MaxBytes: there is more
	} else {
		g.park(q, r, taken)
	}
	if q.ready > 0 {
		if until < q.remaining {
			g.touch(q)
			q.remaining = until
		}
		if until != never {
			g.schedule(q, until)
		}
		g.wake(q, r.Park)
	}
	return buf, nil
}

// waitOn records a Get that waits.
func (g *getting) waitOn() {
	if g.getter != "" && g.r.Max > 0 {
		g.touch(g.q)
		g.q.waiting = append(g.q.waiting, waiting{Name: g.getter, Get: true, Max: g.r.Max})
	}
}

// fitting returns up to n messages of no more than MaxBytes, but one. cut says that there were more.
func (g *getting) fitting(n int) (es []entry, cut bool, err error) {
	f := fits{n: int64(max(0, n)), bytes: int64(g.r.MaxBytes)}
	if es, err = g.peek(g.q, f); err != nil || f.bytes <= 0 {
		return es, false, err
	}
	sum := int64(0)
	for i := range es {
		if sum += es[i].size; sum > f.bytes && i > 0 {
			return es[:i], true, nil
		}
	}
	return es, false, nil
}

const (
	selectHolder = "SELECT take, closed, ends, idle, lost FROM dashi_holder WHERE queue = ? AND holder = ?"
	upsertHolder = `INSERT INTO dashi_holder (queue, holder, take, closed, ends, idle) VALUES (?, ?, ?, ?, ?, 0)
ON CONFLICT (queue, holder) DO UPDATE SET take = excluded.take, closed = excluded.closed, ends = excluded.ends, idle = 0`
)

// hold returns whether this Get of a holder was answered before. Its first one makes the holder.
func (g *getting) hold() (done bool, err error) {
	var last, closed uint64
	known, lost, ends := false, false, int64(0)
	err = g.Query(selectHolder, func(r Row) bool {
		known, lost = true, r[4] != nil
		last, closed = uint64(r.Int(0)), uint64(r.Int(1))
		if r.Int(3) == 0 {
			ends = r.Int(2)
		}
		return true
	}, g.q.id, g.r.Holder)
	if err != nil {
		return false, err
	}
	take := g.r.Take
	if lost || !known && (g.waited || take != 1) {
		return false, virtual.ErrHolder
	}
	done = take <= last
	if g.waited {
		done = take < last || take <= closed
	}
	if g.r.Again {
		closed = max(closed, take)
	}
	ends = max(ends, g.now+micros(g.r.Lease))
	_, err = g.Exec(upsertHolder, g.q.id, g.r.Holder, int64(max(last, take)), int64(closed), ends)
	if !known {
		g.schedule(g.q, ends) // to be forgotten, if for nothing else
	}
	return done, err
}

// again hands out what a Take took. What is ready by then has woken nobody, so that who waits is told at once.
func (g *getting) again(buf []virtual.Taken) ([]virtual.Taken, error) {
	q, r := g.q, g.r
	es, err := g.members(q, r.Holder, r.Take)
	if err != nil {
		return buf, err
	}
	for i := range es {
		buf = append(buf, g.taken(q, &es[i], receipt{q.id, es[i].place, r.Holder, r.Take}))
	}
	if r.Park != "" {
		g.park(q, r, len(es))
		if q.ready > 0 {
			g.wake(q, "")
		}
	}
	return buf, nil
}

const (
	selectMembers = "SELECT " + columns + ` FROM dashi_take t JOIN dashi_message m ON m.queue = t.queue AND m.place BETWEEN t.first AND t.last
WHERE t.queue = ? AND t.holder = ? AND t.take = ?
AND NOT EXISTS (SELECT 1 FROM dashi_exception e WHERE e.queue = m.queue AND e.place = m.place) ORDER BY m.place`
	selectHeld = "SELECT e.attempts, " + columns + ` FROM dashi_exception e JOIN dashi_message m ON m.queue = e.queue AND m.place = e.place
WHERE e.queue = ? AND e.holder = ? AND e.take = ? ORDER BY e.place`
)

// members returns what a holder has of a Take, in order.
func (t *tx) members(q *queue, holder string, take uint64) (es []entry, err error) {
	err = t.Query(selectMembers, func(r Row) bool {
		var e entry
		e.read(r, 0)
		es = append(es, e)
		return true
	}, q.id, holder, int64(take))
	if err != nil {
		return nil, err
	}
	if q.exceptions == 0 {
		return es, nil
	}
	err = t.Query(selectHeld, func(r Row) bool {
		e := entry{back: true, attempts: r.Int(0)}
		e.read(r, 1)
		es = append(es, e)
		return true
	}, q.id, holder, int64(take))
	inOrder(es)
	return es, err
}

const insertTake = "INSERT INTO dashi_take (queue, holder, take, first, last, held) VALUES (?, ?, ?, ?, ?, ?)"

// lend leases what was found ready, or removes it.
func (g *getting) lend(es []entry, buf []virtual.Taken) ([]virtual.Taken, error) {
	q, r := g.q, g.r
	if len(es) == 0 {
		return buf, nil
	}
	if r.Lease <= 0 {
		for i := range es {
			buf = append(buf, g.taken(q, &es[i], nil))
		}
		if err := g.remove(q, es); err != nil {
			return buf, err
		}
		g.advance(es)
		return buf, nil
	}
	if r.Holder == "" {
		buf, err := g.lendLoose(q, es, micros(r.Lease), buf)
		g.advance(es)
		return buf, err
	}
	g.unready(q, es)
	for i := range es {
		e := &es[i]
		buf = append(buf, g.taken(q, e, receipt{q.id, e.place, r.Holder, r.Take}))
		if e.back {
			if err := g.change(q, e.place, "held", e.attempts, never, r.Holder, int64(r.Take)); err != nil {
				return buf, err
			}
		}
	}
	err := g.advanceBy(es, func(first, last, n int64) error {
		_, err := g.Exec(insertTake, q.id, r.Holder, int64(r.Take), first, last, n)
		return err
	})
	g.schedule(q, g.now+micros(r.Lease))
	return buf, err
}

// advance moves the heads of the levels behind what was taken.
func (g *getting) advance(es []entry) {
	_ = g.advanceBy(es, func(_, _, _ int64) error { return nil })
}

// advanceBy calls f for the fresh messages of each level that were taken: from first to last, n of them. A level in which none is
// left is behind what else is there, the delayed ones.
func (g *getting) advanceBy(es []entry, f func(first, last, n int64) error) error {
	q := g.q
	g.touch(q)
	for i := range q.levels {
		l := &q.levels[i]
		first, last, n := int64(0), int64(0), int64(0)
		for k := range es {
			if e := &es[k]; !e.back && priorityOf(e.place) == l.priority {
				if n == 0 {
					first = e.place
				}
				last = e.place
				n++
			}
		}
		if n > 0 {
			l.head = last
			if err := f(first, last, n); err != nil {
				return err
			}
		}
		if q.ready == q.returned {
			l.head = l.tail
		}
	}
	return nil
}
