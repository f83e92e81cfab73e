package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"

	"github.com/dashi-mq/dashi/virtual"
)

// waiting is a call that waits on this handle: a Get, an Expire or a Changes. Its chans have one place: what comes twice
// before somebody looks, comes once.
type waiting struct {
	e       *ears
	name    string        // of a Get in the queue's list of those that wait
	woken   chan struct{} // something is there for the Get
	expiry  chan struct{} // a head expires earlier than was known
	changed chan struct{} // the registry has changed
}

// wait adds a call that waits to what this handle hears of, until done.
func (s *Store) wait(ctx context.Context) (*waiting, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	e, err := s.listen(ctx)
	if err != nil {
		s.leave()
		return nil, err
	}
	name := make([]byte, 8)
	_, _ = rand.Read(name) // never fails
	w := &waiting{
		e: e, name: hex.EncodeToString(name),
		woken: make(chan struct{}, 1), expiry: make(chan struct{}, 1), changed: make(chan struct{}, 1),
	}
	e.mu.Lock()
	e.waiting[w.name] = w
	e.mu.Unlock()
	e.look()
	return w, nil
}

// lost returns what is closed when wake-ups may have been missed.
func (w *waiting) lost() <-chan struct{} { return w.e.lost }

func (w *waiting) done() {
	if w == nil { // a second one could not be had
		return
	}
	w.e.mu.Lock()
	delete(w.e.waiting, w.name)
	w.e.mu.Unlock()
	w.e.s.leave()
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// errLost says that wake-ups may have been missed.
var errLost = errors.New("redis: the connection that wakes was lost")

// Notify calls wake for the queues in which waiter was recorded.
func (s *Store) Notify(ctx context.Context, waiter string, ready chan<- struct{}, wake func(virtual.QueueRef)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	e, err := s.listen(ctx)
	if err != nil {
		return err
	}
	heard := make(chan struct{})
	if err := e.add(waiter, wake, heard); err != nil {
		return err
	}
	defer e.remove(waiter)
	for {
		select {
		case <-heard:
			heard = nil
			e.look()
			if ready != nil {
				close(ready)
			}
		case <-e.lost:
			if err := s.usable(ctx); err != nil {
				return err
			}
			return errLost
		case <-ctx.Done():
			return ctx.Err()
		case <-s.ctx.Done():
			return virtual.ErrClosed
		}
	}
}
