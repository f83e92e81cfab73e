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

// often is how often a handle that listens asks whether it still hears, and looks for wake-ups that got lost.
const often = 5 * time.Second

// ears is the connection on which a handle hears what is published, one for all that waits on it. It is made when
// somebody waits first, and lasts until Close or until it is lost; then all who wait are told, and look by themselves.
//
// Channels, each behind the vhost's base: "get:HANDLE" (a Get that waits may look), "wake:WAITER" (a queue), "due" (something
// becomes due in so many microseconds, earlier than all before), "expire" (a head does), "registry" (something changed).
type ears struct {
	s    *Store
	open chan struct{} // closed when the connection is made, or err says why it is not
	err  error
	conn *goredis.PubSub
	lost chan struct{} // closed when nothing is heard any more
	due  chan time.Duration
	now  chan struct{} // has the keeper look at once

	order sync.Mutex // of what is sent about waiters

	mu      sync.Mutex
	waiting map[string]*waiting
	waiters map[string]*waiter
	silent  bool // since the last ping
}

// waiter is a Notify.
type waiter struct {
	wake  func(virtual.QueueRef)
	heard chan struct{} // closed when the subscription is confirmed; then nil
}

// listen returns the ears of the handle, making them at first, within a call that Close waits for.
func (s *Store) listen(ctx context.Context) (*ears, error) {
	s.earsMu.Lock()
	e := s.ears
	if e == nil || e.deaf() {
		e = &ears{
			s: s, open: make(chan struct{}), lost: make(chan struct{}), due: make(chan time.Duration, 1), now: make(chan struct{}, 1),
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
	base := e.s.base
	channels := []string{base + "get:" + e.s.handle, base + "due", base + "expire", base + "registry"}
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
			e.heard(strings.TrimPrefix(m.Channel, e.s.base), m.Payload)
		}
		e.mu.Unlock()
	}
}

func (e *ears) confirmed(m *goredis.Subscription) {
	w := e.waiters[strings.TrimPrefix(m.Channel, e.s.base+"wake:")]
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
		n, _ := strconv.ParseInt(payload, 10, 64)
		select {
		case e.due <- time.Duration(n) * time.Microsecond:
		default: // one is there already: have the keeper look anew
			poke(e.now)
		}
	case "expire":
		for _, w := range e.waiting {
			poke(w.expiry)
		}
	case "registry":
		for _, w := range e.waiting {
			poke(w.changed)
		}
	}
}

// look has the keeper look at once: somebody waits who did not before.
func (e *ears) look() { poke(e.now) }

// keep sweeps queues when something is due in them, as long as anybody waits, and finds out whether the connection still lives.
func (e *ears) keep() {
	defer e.conn.Close() // ends hear
	pulse := time.NewTicker(often)
	defer pulse.Stop()
	next := time.NewTimer(0)
	defer next.Stop()
	at := time.Now() // when next fires
	sleep := func(d time.Duration) {
		at = time.Now().Add(d)
		next.Reset(d)
	}
	for {
		select {
		case <-e.lost:
			return
		case <-e.s.ctx.Done():
			return
		case d := <-e.due:
			if time.Now().Add(d).Before(at) {
				sleep(d)
			}
			continue
		case <-pulse.C:
			if !e.alive() {
				return
			}
		case <-e.now:
		case <-next.C:
		}
		d, err := e.watch()
		if err != nil {
			return
		}
		sleep(d)
	}
}

// watch sweeps what is due, wakes those of whose wake-up nothing was heard, and returns when something is due next.
func (e *ears) watch() (time.Duration, error) {
	e.mu.Lock()
	names := make([]any, 0, len(e.waiters))
	for name := range e.waiters {
		names = append(names, name)
	}
	idle := len(names) == 0 && len(e.waiting) == 0
	e.mu.Unlock()
	if idle {
		return often, nil
	}
	answer, err := e.s.run(e.s.ctx, watchScript, names...).Slice()
	if err != nil {
		return 0, err
	}
	e.mu.Lock()
	for i := 1; i+1 < len(answer); i += 2 {
		if w := e.waiters[text(answer[i])]; w != nil {
			w.wake(refOf(text(answer[i+1])))
		}
	}
	e.mu.Unlock()
	if due := time.Duration(number(answer[0])) * time.Microsecond; due > 0 {
		return due, nil
	}
	return time.Hour, nil
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
		return e.conn.Unsubscribe(e.s.ctx, e.s.base+"wake:"+name)
	}
	return e.conn.Subscribe(e.s.ctx, e.s.base+"wake:"+name)
}
