package memory

import (
	"context"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

// grace is how long what a waiter could take counts as on its way to it once it was woken.
const grace = int64(1e9)

// waiting is a waiter recorded in a queue.
type waiting struct {
	name  string
	max   int
	rooms []virtual.Room // max by priority; nil: all of it is of priority 0
	woken int64          // when; 0: not yet
}

// due reports whether what the waiter could take still counts as on its way to it.
func (x *waiting) due(now int64) bool { return x.woken == 0 || now-x.woken < grace }

// above returns how much of it is for consumers of a higher priority.
func (x *waiting) above(priority int) int {
	if x.rooms == nil && priority < 0 {
		return x.max
	}
	n := 0
	for _, r := range x.rooms {
		if r.Priority > priority {
			n += r.Room
		}
	}
	return n
}

// park strikes out what was recorded for a waiter and, when it has room left after taking n, records it anew.
func (q *queue) park(r *virtual.GetRequest, n int) {
	q.waiting = slices.DeleteFunc(q.waiting, func(x waiting) bool { return x.name == r.Park })
	if n >= r.Max {
		return
	}
	x := waiting{name: r.Park, max: r.Max - n}
	for _, room := range r.Rooms {
		k := min(n, room.Room)
		n -= k
		x.rooms = append(x.rooms, virtual.Room{Priority: room.Priority, Room: room.Room - k})
	}
	q.waiting = append(q.waiting, x)
}

// share returns how many messages a Get may take, leaving those that are on their way to consumers of higher priority in
// other processes. until is when the first of those is given up, never if there are none.
func (q *queue) share(r *virtual.GetRequest, now int64) (n int, until int64) {
	if r.Rooms == nil && len(q.waiting) == 0 {
		return r.Max, never
	}
	rooms := r.Rooms
	if rooms == nil {
		rooms = []virtual.Room{{Room: r.Max}}
	}
	until = never
	for _, room := range rooms {
		others := 0
		for i := range q.waiting {
			x := &q.waiting[i]
			if x.name == r.Park || !x.due(now) {
				continue
			}
			if above := x.above(room.Priority); above > 0 {
				others += above
				until = min(until, max(x.woken, now)+grace)
			}
		}
		if others > 0 {
			break // they come first: whatever is there beyond that is taken when they have been
		}
		n += room.Room
	}
	return min(n, r.Max), until
}

// wake tells every waiter that has not been told.
func (q *queue) wake(now int64, w *wakes) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.woken == 0 {
			q.wakeOne(x, now, w)
		}
	}
	q.wakeGetters()
}

// wakeOthers tells those that a Get has left something for.
func (q *queue) wakeOthers(name string, now int64, w *wakes) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.woken == 0 && x.name != name {
			q.wakeOne(x, now, w)
		}
	}
}

func (q *queue) wakeOne(x *waiting, now int64, w *wakes) {
	x.woken = max(now, 1)
	if f := q.p.waiters[x.name]; f != nil {
		w.add(f, q.ref)
	}
}

// getter is a Get that waits. What it could take counts as on its way to it, as with a waiter.
type getter struct {
	q     *queue
	max   int
	woken chan struct{} // closed to have it look
	at    int64         // when; 0: not yet
}

func (g *getter) due(now int64) bool { return g.at == 0 || now-g.at < grace }

// waitFor records a Get that waits for up to n messages.
func (q *queue) waitFor(n int) *getter {
	g := &getter{q: q, max: n, woken: make(chan struct{})}
	q.getters = append(q.getters, g)
	return g
}

// leave strikes a Get out that looks itself now, or has ended.
func (g *getter) leave() {
	if g != nil {
		g.q.getters = slices.DeleteFunc(g.q.getters, func(x *getter) bool { return x == g })
	}
}

// wakeGetters has every Get that waits look again.
func (q *queue) wakeGetters() {
	if len(q.getters) == 0 {
		return
	}
	now := q.p.now()
	for _, g := range q.getters {
		if g.at == 0 {
			g.at = max(now, 1)
			close(g.woken)
		}
	}
}

// owed returns how many messages are on their way to waiters.
func (q *queue) owed(now int64) int {
	n := 0
	for i := range q.waiting {
		if x := &q.waiting[i]; x.due(now) {
			n += x.max
		}
	}
	for _, g := range q.getters {
		if g.due(now) {
			n += g.max
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
	for _, g := range q.getters {
		if g.at != 0 && g.due(now) {
			until = max(until, g.at+grace)
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
