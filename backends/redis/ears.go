package redis

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/virtual"
)

// often is how often a handle that listens asks whether it still hears, and looks for wake-ups that got lost. Every so many times it
// takes nothing for known.
const (
	often    = 5 * time.Second
	mistrust = 12
)

// ears is the connection on which a handle hears what is published, one for all that waits on it. It is made when
// somebody waits first, and lasts until Close or until it is lost; then all who wait are told, and look by themselves.
//
// Channels, each behind the vhost's base: "get:HANDLE" (a Get that waits may look), "wake:WAITER" (a queue), "due" (something
// becomes due in so many microseconds in a queue, earlier than all before in its part), "expire" (a head of a queue does),
// "registry" (something changed).
type ears struct {
	s    *Store
	open chan struct{} // closed when the connection is made, or err says why it is not
	err  error
	conn *goredis.PubSub
	lost chan struct{} // closed when nothing is heard any more
	now  chan struct{} // has the keeper look at its clocks

	heads *heads

	order sync.Mutex // of what is sent about waiters

	mu      sync.Mutex
	waiting map[string]*waiting
	waiters map[string]*waiter
	due     clocks // of what becomes ready by itself
	silent  bool   // since the last ping
}

// waiter is a Notify.
type waiter struct {
	in    partSet // where a Get has recorded it since it began
	wake  func(virtual.QueueRef)
	heard chan struct{} // closed when the subscription is confirmed; then nil
}

// listen returns the ears of the handle, making them at first, within a call that Close waits for.
func (s *Store) listen(ctx context.Context) (*ears, error) {
	s.earsMu.Lock()
	e := s.ears
	if e == nil || e.deaf() {
		e = &ears{
			s: s, open: make(chan struct{}), lost: make(chan struct{}), now: make(chan struct{}, 1), heads: newHeads(s), due: make(clocks, len(s.parts)),
			waiting: map[string]*waiting{}, waiters: map[string]*waiter{},
		}
		s.ears = e
		s.tasks.Go(e.begin)
	}
	s.earsMu.Unlock()
	select {
	case <-e.open:
		return e, e.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// begin subscribes, and listens once that is confirmed: from then on nothing is missed.
func (e *ears) begin() {
	home := e.s.home
	channels := []string{home + "get:" + e.s.handle, home + "due", home + "expire", home + "registry"}
	e.conn = e.s.client.Subscribe(e.s.ctx, channels...)
	for range channels {
		if _, e.err = e.conn.ReceiveTimeout(e.s.ctx, often); e.err != nil {
			_ = e.conn.Close()
			close(e.lost)
			close(e.open)
			return
		}
	}
	close(e.open)
	e.s.tasks.Go(e.hear)
	e.keep()
}

// deaf reports whether nothing is heard any more.
func (e *ears) deaf() bool {
	select {
	case <-e.lost:
		return true
	default:
		return false
	}
}

// hear passes on what is published until the connection is lost or the handle is closed.
func (e *ears) hear() {
	defer close(e.lost)
	defer e.conn.Close()
	for {
		m, err := e.conn.Receive(e.s.ctx)
		if err != nil {
			return
		}
		e.mu.Lock()
		e.silent = false
		switch m := m.(type) {
		case *goredis.Subscription:
			e.confirmed(m)
		case *goredis.Message:
			e.heard(strings.TrimPrefix(m.Channel, e.s.home), m.Payload)
		}
		e.mu.Unlock()
	}
}

func (e *ears) confirmed(m *goredis.Subscription) {
	w := e.waiters[strings.TrimPrefix(m.Channel, e.s.home+"wake:")]
	if w != nil && w.heard != nil && m.Kind == "subscribe" {
		close(w.heard)
		w.heard = nil
	}
}

func (e *ears) heard(channel, payload string) {
	kind, name, _ := strings.Cut(channel, ":")
	switch kind {
	case "wake":
		if w := e.waiters[name]; w != nil {
			w.wake(refOf(payload))
		}
	case "get":
		if w := e.waiting[payload]; w != nil {
			poke(w.woken)
		}
	case "due":
		in, queue, _ := strings.Cut(payload, " ")
		n, _ := strconv.ParseInt(in, 10, 64)
		e.due.nearer(e.s.part(refOf(queue)), time.Duration(n)*time.Microsecond)
		poke(e.now)
	case "expire":
		e.heads.unknown(one(e.s.part(refOf(payload))))
		for _, w := range e.waiting {
			poke(w.expiry)
		}
	case "registry":
		for _, w := range e.waiting {
			poke(w.changed)
		}
	}
}

// look has the keeper look at its clocks: somebody waits where nobody did before.
func (e *ears) look() { poke(e.now) }

// stir has all that wait but w look when heads expire, since w has asked.
func (e *ears) stir(w *waiting) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, other := range e.waiting {
		if other != w {
			poke(other.expiry)
		}
	}
}

// parks notes that a waiter waits in a part from now on.
func (s *Store) parks(waiter string, part int) {
	s.earsMu.Lock()
	e := s.ears
	s.earsMu.Unlock()
	if e == nil {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if w := e.waiters[waiter]; w != nil && !w.in.has(part) {
		w.in |= one(part)
		e.look()
	}
}

// keep sweeps queues when something is due in them, where somebody waits, and finds out whether the connection still lives.
func (e *ears) keep() {
	defer e.conn.Close() // ends hear
	pulse := time.NewTicker(often)
	defer pulse.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	for beats := 1; ; {
		select {
		case <-e.lost:
			return
		case <-e.s.ctx.Done():
			return
		case <-pulse.C:
			if !e.alive() {
				return
			}
			e.doubt(beats%mistrust == 0)
			beats++
		case <-e.now:
		case <-next.C:
		}
		next.Reset(e.watch())
	}
}

// doubt has the parts watched in which waiters may have been woken without hearing it, or all, since in a Cluster what is published may
// get lost between the servers.
func (e *ears) doubt(all bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if all || !e.s.spread() {
		e.due.unknown(e.s.all())
	}
	for _, w := range e.waiters {
		e.due.unknown(w.in)
	}
	if all {
		e.heads.unknown(e.s.all())
		for _, w := range e.waiting {
			poke(w.expiry)
		}
	}
}

// watch sweeps what is due where somebody waits, wakes those of whose wake-up nothing was heard, and returns when something
// is due next. What cannot be asked is asked again a second later: whether the handle still hears is found out by itself.
func (e *ears) watch() time.Duration {
	e.mu.Lock()
	in := e.where()
	parts := e.due.pass(in).list()
	calls := make([]call, len(parts))
	for i, p := range parts {
		calls[i] = call{watchScript, e.s.parts[p], arguments(len(e.waiters))}
		for name, w := range e.waiters {
			if w.in.has(p) {
				calls[i].args = append(calls[i].args, name)
			}
		}
	}
	e.mu.Unlock()
	var answers [][]any
	var err error
	if len(calls) > 0 {
		answers, err = e.s.runAll(e.s.ctx, calls)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, p := range parts {
		if err != nil {
			e.due.nearer(p, time.Second)
			continue
		}
		for k := 1; k+1 < len(answers[i]); k += 2 {
			if w := e.waiters[text(answers[i][k])]; w != nil {
				w.wake(refOf(text(answers[i][k+1])))
			}
		}
		if due := number(answers[i][0]); due > 0 {
			e.due.nearer(p, time.Duration(due)*time.Microsecond)
		}
	}
	if next := e.due.next(in); next > 0 {
		return next
	}
	return time.Hour
}

// where are the parts in which anybody waits.
func (e *ears) where() (in partSet) {
	for _, w := range e.waiting {
		in |= w.in
	}
	for _, w := range e.waiters {
		in |= w.in
	}
	return in
}

// alive asks the server for a sign of life and tells whether there was one since it was asked before.
func (e *ears) alive() bool {
	e.mu.Lock()
	dead := e.silent
	e.silent = true
	e.mu.Unlock()
	return !dead && e.conn.Ping(e.s.ctx) == nil
}

// add has a waiter hear of its wake-ups, once they are asked for: heard is closed when they come.
func (e *ears) add(name string, wake func(virtual.QueueRef), heard chan struct{}) {
	e.mu.Lock()
	e.waiters[name] = &waiter{wake: wake, heard: heard}
	e.mu.Unlock()
}

// remove ends the wake-ups of a waiter: none comes once it has returned.
func (e *ears) remove(name string) {
	e.mu.Lock()
	delete(e.waiters, name)
	e.mu.Unlock()
	e.s.tasks.Go(func() { _ = e.subscribe(name) })
}

// subscribe tells the server whether somebody waits for the wake-ups of a name.
func (e *ears) subscribe(name string) error {
	e.order.Lock()
	defer e.order.Unlock()
	e.mu.Lock()
	wanted := e.waiters[name] != nil
	e.mu.Unlock()
	if !wanted {
		return e.conn.Unsubscribe(e.s.ctx, e.s.home+"wake:"+name)
	}
	return e.conn.Subscribe(e.s.ctx, e.s.home+"wake:"+name)
}
