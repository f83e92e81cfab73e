package broker

import (
	"context"
	"sync"
)

// combiner runs the work of many callers in batches, in the order of their coming. The first caller runs it on its
// own goroutine where the store is quick (inline), the others leave theirs for the next batch. Nothing is ever held back
// to make a batch larger, and no goroutine exists while there is nothing to do.
type combiner[T any] struct {
	b *Broker
	// run does a batch. When it returns false the batch is run again after a pause, with the number of the try, and no
	// longer on the goroutine of a caller: callers do not wait for a store that fails.
	run    func(batch []T, try int) bool
	inline bool
	batch  int // most items of a batch
	bound  int // most items waiting

	mu     sync.Mutex
	queue  []T
	head   int
	spare  []T // the batch being run
	busy   bool
	added  uint64
	done   uint64
	asleep []sleeper
}

// sleeper waits until done has reached upTo.
type sleeper struct {
	upTo uint64
	c    chan struct{}
}

// add leaves an item. It waits only while too many are waiting already.
func (c *combiner[T]) add(ctx context.Context, item T) error {
	c.mu.Lock()
	for c.busy && len(c.queue)-c.head >= c.bound {
		if err := c.waitLocked(ctx, c.done+1); err != nil {
			return err
		}
	}
	c.added++
	if c.busy {
		c.queue = append(c.queue, item)
		c.mu.Unlock()
		return nil
	}
	c.busy = true
	c.spare = append(c.spare[:0], item)
	c.mu.Unlock()
	first := 0
	if c.inline {
		if c.run(c.spare, 0) {
			c.next(false)
			return nil
		}
		first = 1
	}
	if !c.b.spawn(func() { c.finish(first); c.next(true) }) {
		return c.b.ctx.Err()
	}
	return nil
}

// finish runs the batch until it is done, or the broker ends.
func (c *combiner[T]) finish(try int) {
	for ; ; try++ {
		if try > 0 {
			c.b.pause(try - 1)
		}
		if c.run(c.spare, try) || c.b.ctx.Err() != nil {
			return
		}
	}
}

// next ends a batch and runs those that follow. The caller of add does not work for others for long: it leaves that to
// a goroutine.
func (c *combiner[T]) next(own bool) {
	for {
		c.mu.Lock()
		c.done += uint64(len(c.spare))
		c.wakeLocked()
		clear(c.spare)
		c.spare = c.spare[:0]
		n := min(len(c.queue)-c.head, c.batch)
		if n == 0 {
			c.busy = false
			c.queue, c.head = c.queue[:0], 0
			c.mu.Unlock()
			return
		}
		c.spare = append(c.spare, c.queue[c.head:c.head+n]...)
		clear(c.queue[c.head : c.head+n])
		c.head += n
		if c.head == len(c.queue) {
			c.queue, c.head = c.queue[:0], 0
		}
		c.mu.Unlock()
		if !own {
			c.b.spawn(func() { c.finish(0); c.next(true) })
			return
		}
		c.finish(0)
	}
}

func (c *combiner[T]) wakeLocked() {
	if len(c.asleep) == 0 {
		return
	}
	kept := c.asleep[:0]
	for _, s := range c.asleep {
		if s.upTo <= c.done {
			close(s.c)
			continue
		}
		kept = append(kept, s)
	}
	c.asleep = kept
}

// waitLocked lets the lock go until done has reached upTo. With an error the lock is not held any more.
func (c *combiner[T]) waitLocked(ctx context.Context, upTo uint64) error {
	woken := make(chan struct{})
	c.asleep = append(c.asleep, sleeper{upTo, woken})
	c.mu.Unlock()
	select {
	case <-woken:
		c.mu.Lock()
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-c.b.ctx.Done():
		return c.b.ctx.Err()
	}
}

// flush returns when all that was added before has been run.
func (c *combiner[T]) flush(ctx context.Context) error {
	c.mu.Lock()
	if c.done == c.added {
		c.mu.Unlock()
		return nil
	}
	if err := c.waitLocked(ctx, c.added); err != nil {
		return err
	}
	c.mu.Unlock()
	return nil
}
