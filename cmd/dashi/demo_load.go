package main

import (
	"fmt"
	"sync"
	"time"
)

// Bounds on what may be on its way at a time, so that a log of any size needs little memory.
const (
	maxCopies = 20_000
	maxBytes  = 64 << 20
)

// load counts the copies of messages that are on their way: published and not yet at their end.
type load struct {
	mu      sync.Mutex
	changed sync.Cond
	copies  int64
	bytes   int64
	ended   int64 // copies that reached their end, ever
	err     error // why nobody need wait any more
}

func newLoad() *load {
	l := &load{}
	l.changed.L = &l.mu
	return l
}

// add counts copies of a message, waiting for room.
func (l *load) add(copies, size int) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, bytes := int64(copies), int64(copies*size)
	for l.err == nil && l.copies > 0 && (l.copies+n > maxCopies || l.bytes+bytes > maxBytes) {
		l.changed.Wait()
	}
	l.copies += n
	l.bytes += bytes
	return l.err
}

// end counts a copy that reached its end.
func (l *load) end(size int) {
	l.mu.Lock()
	l.copies--
	l.bytes -= int64(size)
	l.ended++
	l.mu.Unlock()
	l.changed.Broadcast()
}

// fail wakes all who wait.
func (l *load) fail(err error) {
	l.mu.Lock()
	if l.err == nil {
		l.err = err
	}
	l.mu.Unlock()
	l.changed.Broadcast()
}

// drained waits until nothing is on its way, or somebody failed.
func (l *load) drained() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.copies > 0 && l.err == nil {
		l.changed.Wait()
	}
	return l.err
}

func (l *load) now() (copies, ended int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.copies, l.ended
}

// watch calls stop when something is on its way and nothing reached its end for as long as patience. The caller ends
// it by what it returns.
func watch(l *load, patience time.Duration, stop func(error)) (end func()) {
	quit, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(patience / 10)
		defer tick.Stop()
		_, before := l.now()
		for still := 0; still < 10; {
			select {
			case <-tick.C:
			case <-quit:
				return
			}
			copies, ended := l.now()
			if copies > 0 && ended == before {
				still++
			} else {
				still, before = 0, ended
			}
			if still == 10 {
				stop(fmt.Errorf("%s did not arrive: nothing moved for %v", plural(copies, "message"), patience))
			}
		}
	}()
	return func() { close(quit); <-done }
}
