package memory

import (
	"context"

	"github.com/dashi-mq/dashi/virtual"
)

// grace is how long what a waiter could take counts as on its way to it once it was woken.
const grace = int64(1e9)

// waiting is a waiter recorded in a queue.
type waiting struct {
	name  string
	max   int
	woken int64 // when; 0: not yet
}

// park strikes out what was recorded for a waiter and, with room, records it anew.
func (q *queue) park(name string, room int) {
	for i := range q.waiting {
		if q.waiting[i].name == name {
			if room > 0 {
				q.waiting[i] = waiting{name: name, max: room}
			} else {
				q.waiting = append(q.waiting[:i], q.waiting[i+1:]...)
			}
			return
		}
	}
	if room > 0 {
		q.waiting = append(q.waiting, waiting{name: name, max: room})
	}
}

// wake tells every waiter that has not been told.
func (q *queue) wake(now int64, w *wakes) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.woken == 0 {
			x.woken = max(now, 1)
			if f := q.p.waiters[x.name]; f != nil {
				w.add(f, q.ref)
			}
		}
	}
	if len(q.getters) > 0 {
		q.wakeGetters()
	}
}

func (q *queue) wakeGetters() {
	for _, g := range q.getters {
		close(g)
	}
	q.getters = nil
}

// owed returns how many messages are on their way to waiters.
func (q *queue) owed(now int64) int {
	n := 0
	for i := range q.waiting {
		if x := &q.waiting[i]; x.woken == 0 || now-x.woken < grace {
			n += x.max
		}
	}
	return n
}

// owedUntil returns until when any message is, or 0.
func (q *queue) owedUntil(now int64) int64 {
	var until int64
	for i := range q.waiting {
		if x := &q.waiting[i]; x.woken != 0 && now-x.woken < grace {
			until = max(until, x.woken+grace)
		}
	}
	return until
}

// wakes collects who is to be woken once the lock is free.
type wakes struct {
	n    int
	few  [4]wakeCall
	many []wakeCall
}

type wakeCall struct {
	f   func(virtual.QueueRef)
	ref virtual.QueueRef
}

func (w *wakes) add(f func(virtual.QueueRef), ref virtual.QueueRef) {
	if w.n < len(w.few) {
		w.few[w.n] = wakeCall{f, ref}
		w.n++
		return
	}
	w.many = append(w.many, wakeCall{f, ref})
}

func (w *wakes) fire() {
	for i := range w.n {
		w.few[i].f(w.few[i].ref)
	}
	for _, c := range w.many {
		c.f(c.ref)
	}
}

// Notify calls wake, on the goroutine of whoever made something ready, for the queues in which waiter was recorded.
func (s *Store) Notify(ctx context.Context, waiter string, ready chan<- struct{}, wake func(virtual.QueueRef)) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	p := s.p
	p.mu.Lock()
	p.waiters[waiter] = wake
	p.mu.Unlock()
	if ready != nil {
		close(ready)
	}
	defer func() {
		p.mu.Lock()
		delete(p.waiters, waiter)
		p.mu.Unlock()
	}()
	for {
		var w wakes
		p.mu.Lock()
		now := p.now()
		next := p.run(now, &w)
		tick := p.ticker()
		p.mu.Unlock()
		w.fire()
		if !s.sleep(ctx, next, now, tick) {
			return s.usable(ctx)
		}
	}
}
