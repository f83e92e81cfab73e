package sql

import (
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

// waiting is who waits for messages of a queue: a waiter that is parked, or a Get. What it could take is on its way to it.
type waiting struct {
	Name  string         `json:"name"`
	Get   bool           `json:"get,omitempty"`
	Max   int            `json:"max"`
	Woken int64          `json:"woken,omitempty"` // when; 0: not yet
	Rooms []virtual.Room `json:"rooms,omitempty"` // max by priority; none: all of it is of priority 0
}

// comes reports whether it still counts.
func (x *waiting) comes(now int64) bool { return x.Woken == 0 || now-x.Woken < grace }

// above returns how much of it is for consumers of a higher priority.
func (x *waiting) above(priority int) (n int) {
	if len(x.Rooms) == 0 && priority < 0 {
		return x.Max
	}
	for _, r := range x.Rooms {
		if r.Priority > priority {
			n += r.Room
		}
	}
	return n
}

// wakeCall is a wake-up of this handle's own.
type wakeCall struct {
	name string
	ref  virtual.QueueRef
}

// strike takes out who was recorded under a name.
func (t *tx) strike(q *queue, name string) {
	at := slices.IndexFunc(q.waiting, func(x waiting) bool { return x.Name == name })
	if at < 0 {
		return
	}
	t.touch(q)
	if q.waiting[at].Woken != 0 {
		_, _ = t.Exec("DELETE FROM dashi_wake WHERE vhost = ? AND waiter = ? AND name = ? AND incarnation = ?",
			t.s.vhost, name, q.ref.Name, q.ref.Incarnation) // the transaction notes the error
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
}

// park strikes out what was recorded for a waiter and, when it has room left after taking n, records it anew.
func (t *tx) park(q *queue, r *virtual.GetRequest, n int) {
	t.strike(q, r.Park)
	if n >= r.Max {
		return
	}
	x := waiting{Name: r.Park, Max: r.Max - n}
	for _, room := range r.Rooms {
		k := min(n, room.Room)
		n -= k
		x.Rooms = append(x.Rooms, virtual.Room{Priority: room.Priority, Room: room.Room - k})
	}
	t.touch(q)
	q.waiting = append(q.waiting, x)
}

// share returns how many messages a Get may take, leaving those that are on their way to consumers of higher priority in
// other processes, and when the first of these is given up, never if there are none.
func (q *queue) share(r *virtual.GetRequest, now int64) (n int, until int64) {
	until = never
	rooms := r.Rooms
	if rooms == nil {
		rooms = []virtual.Room{{Room: r.Max}}
	}
	for _, room := range rooms {
		for i := range q.waiting {
			x := &q.waiting[i]
			if !x.Get && x.Name != r.Park && x.comes(now) && x.above(room.Priority) > 0 {
				until = min(until, max(x.Woken, now)+grace)
			}
		}
		if until != never {
			break // they come first: whatever is there beyond that is taken when they have been
		}
		n += room.Room
	}
	return min(n, r.Max), until
}

// wake tells everybody who has not been told, but for one. Who does not come is struck out.
func (t *tx) wake(q *queue, except string) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.Woken == 0 && x.Name != except {
			t.wakeOne(q, x)
		}
	}
	// What tells them stays: one that stood still for a while may come yet.
	if n := len(q.waiting); n > 0 {
		q.waiting = slices.DeleteFunc(q.waiting, func(x waiting) bool { return !x.comes(t.now) })
		if len(q.waiting) < n {
			t.touch(q)
		}
	}
}

// wakeGetters has every Get that waits look again.
func (t *tx) wakeGetters(q *queue) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.Get && x.Woken == 0 {
			t.wakeOne(q, x)
		}
	}
}

// wakeOne tells one: after the commit if it waits on this handle, else by a row that its own handle finds.
func (t *tx) wakeOne(q *queue, x *waiting) {
	t.touch(q)
	x.Woken = t.now
	if t.s.ears.has(x.Name) {
		t.wakes = append(t.wakes, wakeCall{x.Name, q.ref})
		return
	}
	t.others = true
	// The transaction notes the errors.
	_, _ = t.Exec("DELETE FROM dashi_wake WHERE vhost = ? AND at < ?", t.s.vhost, t.now-forget)
	_, _ = t.Exec("INSERT INTO dashi_wake (vhost, waiter, name, incarnation, at) VALUES (?, ?, ?, ?, ?)",
		t.s.vhost, x.Name, q.ref.Name, q.ref.Incarnation, t.now)
}

// owed returns how many messages are on their way.
func (q *queue) owed(now int64) (n int64) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.comes(now) {
			n += int64(x.Max)
		}
	}
	return n
}

// owedUntil returns until when any is that is there, or 0.
func (q *queue) owedUntil(now int64) (until int64) {
	for i := range q.waiting {
		if x := &q.waiting[i]; x.Woken != 0 && x.comes(now) {
			until = max(until, x.Woken+grace)
		}
	}
	return until
}
