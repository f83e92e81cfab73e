package channel

import "sync"

// maxSpill bounds how many events wait for a listener that does not read; the oldest go first.
const maxSpill = 65536

// notifier hands values to the listeners a program registered, and never blocks: what a listener's chan has no room for
// waits in a bounded queue that a goroutine empties. The goroutine exists only while something waits.
type notifier[T any] struct {
	mu        sync.Mutex
	listeners []*listener[T]
	closed    bool
	done      chan struct{} // closed with the notifier: ends goroutines that wait for a reader
	wg        sync.WaitGroup
}

type listener[T any] struct {
	c       chan T
	spill   []T
	running bool
}

// add registers c. After the end it is closed at once.
func (n *notifier[T]) add(c chan T) chan T {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		close(c)
		return c
	}
	if n.done == nil {
		n.done = make(chan struct{})
	}
	n.listeners = append(n.listeners, &listener[T]{c: c})
	return c
}

func (n *notifier[T]) send(v T) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return
	}
	for _, l := range n.listeners {
		if len(l.spill) == 0 && !l.running {
			select {
			case l.c <- v:
				continue
			default:
			}
		}
		if len(l.spill) == maxSpill {
			l.spill = l.spill[1:]
		}
		l.spill = append(l.spill, v)
		if !l.running {
			l.running = true
			n.wg.Go(func() { n.forward(l) })
		}
	}
}

func (n *notifier[T]) forward(l *listener[T]) {
	for {
		n.mu.Lock()
		if len(l.spill) == 0 || n.closed {
			l.running = false
			n.mu.Unlock()
			return
		}
		v := l.spill[0]
		l.spill = l.spill[1:]
		n.mu.Unlock()
		select {
		case l.c <- v:
		case <-n.done:
			n.mu.Lock()
			l.spill = append([]T{v}, l.spill...)
			n.mu.Unlock()
		}
	}
}

// close ends the notifier: goroutines are joined, and every listener's chan is closed.
func (n *notifier[T]) close() {
	n.mu.Lock()
	if n.closed {
		n.mu.Unlock()
		return
	}
	n.closed = true
	if n.done != nil {
		close(n.done)
	}
	n.mu.Unlock()
	n.wg.Wait()
	for _, l := range n.listeners {
		for _, v := range l.spill { // what still fits is not lost
			select {
			case l.c <- v:
				continue
			default:
			}
			break
		}
		close(l.c)
	}
}
