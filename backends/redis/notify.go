package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// waiting is a call that waits on this handle: a Get, an Expire or a Changes. Its chans have one place: what comes twice
// before somebody looks, comes once.
type waiting struct {
	e       *ears
	in      partSet       // where it waits for messages
	name    string        // of a Get in the queue's list of those that wait
	woken   chan struct{} // something is there for the Get
	expiry  chan struct{} // a head expires earlier than was known
	changed chan struct{} // the registry has changed
}

// wait adds a call that waits for messages in some parts, or for something else, to what this handle hears of, until done.
func (s *Store) wait(ctx context.Context, in partSet) (*waiting, error) {
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
		e: e, in: in, name: hex.EncodeToString(name),
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
	if w == nil { // none could be had
		return
	}
	w.e.mu.Lock()
	delete(w.e.waiting, w.name)
	w.e.mu.Unlock()
	w.e.s.leave()
}

// until asks again and again until ask is done or the time is over: whenever news come, or when ask says that there will be
// something. That ctx has ended, or the handle was closed, is no error.
func (s *Store) until(ctx context.Context, most time.Duration, in partSet, ask func(*waiting) (done bool, next time.Duration, err error), news func(*waiting) <-chan struct{}) error {
	over := time.NewTimer(most)
	defer over.Stop()
	due := time.NewTimer(most)
	defer due.Stop()
	var w *waiting
	defer func() { w.done() }()
	for {
		w.done()
		var err error
		if w, err = s.wait(ctx, in); err != nil {
			return err
		}
		for lost := false; !lost; {
			done, next, err := ask(w)
			if err != nil || done {
				return err
			}
			due.Stop()
			if next > 0 {
				due.Reset(next)
			}
			select {
			case <-due.C:
			case <-news(w):
			case <-w.lost():
				lost = true
			case <-over.C:
				return nil
			case <-ctx.Done():
				return nil
			case <-s.ctx.Done():
				return nil
			}
		}
	}
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
	e.add(waiter, wake, heard)
	defer e.remove(waiter)
	if err := s.ask(ctx, func() error { return e.subscribe(waiter) }); err != nil {
		return err
	}
	for {
		select {
		case <-heard:
			heard = nil
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
