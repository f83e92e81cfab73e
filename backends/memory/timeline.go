package memory

import (
	"container/heap"
	"context"
	"time"
)

func duration(ns int64) time.Duration { return time.Duration(ns) }

// timeline is a heap of queues in which something becomes due, at most one entry each. An entry may come too early,
// since leases are renewed and heads are taken: then the queue is looked at in vain and entered anew.
type timeline struct {
	slot int // which of the queue's slots this timeline uses
	qs   []*queue
}

// slot is a queue's entry in a timeline: never means none.
type slot struct {
	at    int64
	index int
}

func (t *timeline) Len() int           { return len(t.qs) }
func (t *timeline) Less(i, j int) bool { return t.qs[i].slots[t.slot].at < t.qs[j].slots[t.slot].at }
func (t *timeline) Swap(i, j int) {
	t.qs[i], t.qs[j] = t.qs[j], t.qs[i]
	t.qs[i].slots[t.slot].index, t.qs[j].slots[t.slot].index = i, j
}

// Push belongs to heap.Interface.
func (t *timeline) Push(x any) {
	q := x.(*queue)
	q.slots[t.slot].index = len(t.qs)
	t.qs = append(t.qs, q)
}

// Pop belongs to heap.Interface.
func (t *timeline) Pop() any {
	q := t.qs[len(t.qs)-1]
	t.qs[len(t.qs)-1] = nil
	t.qs = t.qs[:len(t.qs)-1]
	return q
}

func (t *timeline) remove(q *queue) {
	if s := &q.slots[t.slot]; s.at != never {
		heap.Remove(t, s.index)
		s.at = never
	}
}

func (t *timeline) next() int64 {
	if len(t.qs) == 0 {
		return never
	}
	return t.qs[0].slots[t.slot].at
}

// schedule has the queue looked at no later than at, and whoever sleeps until then told.
func (p *Place) schedule(t *timeline, q *queue, at int64) {
	s := &q.slots[t.slot]
	if at >= s.at || q.gone {
		return
	}
	first := t.next()
	absent := s.at == never
	s.at = at
	if absent {
		heap.Push(t, q)
	} else {
		heap.Fix(t, s.index)
	}
	if (at < first || t == &p.expiring) && p.tick != nil { // an Expire may wait for one queue
		close(p.tick)
		p.tick = nil
	}
}

// run sweeps every queue that is due and returns when the next will be.
func (p *Place) run(now int64, w *wakes) int64 {
	for p.due.next() <= now {
		q := p.due.qs[0]
		p.due.remove(q)
		q.sweep(now, w)
		p.schedule(&p.due, q, q.sweepDue)
		q.noteHead(now)
	}
	return p.due.next()
}

// ticker returns a chan that is closed when something becomes due earlier than what is known now.
func (p *Place) ticker() <-chan struct{} {
	if p.tick == nil {
		p.tick = make(chan struct{})
	}
	return p.tick
}

// sleep waits until the time next, the tick, or the end of ctx or of the handle; it reports whether to go on.
func (s *Store) sleep(ctx context.Context, next, now int64, tick <-chan struct{}) bool {
	var timer <-chan time.Time
	if next != never {
		t := time.NewTimer(max(0, duration(next-now)))
		defer t.Stop()
		timer = t.C
	}
	select {
	case <-timer:
		return true
	case <-tick:
		return true
	case <-ctx.Done():
	case <-s.done:
	}
	return false
}
