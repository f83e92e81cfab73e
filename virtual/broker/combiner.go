package broker

import (
	"context"
	"sync"
)

// combiner runs the work of many callers in batches, in the order of their coming. Where the store is quick (inline) a lone
// caller runs its own item at once, on its own goroutine; what comes while a batch runs is the next batch. Callers in a hurry
// (one item close behind the other) leave their items to be gathered: a goroutine runs them as soon as it gets to run, and
// who gathers enough before that runs them itself. Nothing is ever held back for a time, and no goroutine exists while there
// is nothing to do.
type combiner[T any] struct {
	b *Broker
	// run does a batch. When it returns false the batch is run again after a pause, with the number of the try, and no
	// longer on the goroutine of a caller: callers do not wait for a store that fails. ctx is that of the broker, or of a
	// caller: then it ends with the broker's, too.
	run    func(ctx context.Context, batch []T, try int) bool
	inline bool
	batch  int // most items of a batch
	bound  int // most items waiting

	mu      sync.Mutex
	queue   []T
	head    int
	spare   []T // the batch being run
	busy    bool
	hurry   int   // how many items came one close behind the other
	last    int64 // when the last one came that was run at once, by b.now
	fetched bool  // a goroutine is on its way for what is gathered
	added   uint64
	done    uint64
	asleep  []sleeper
}

const (
	// gather is how many items are worth a call of a quick store: more make it hardly cheaper, and leave the processor's
	// caches.
	gather = 64
	// hurryGap is how soon, in nanoseconds, an item follows the one before where callers are in a hurry: about as long as it
	// takes to run one.
	hurryGap = 2000
	// hurries is how many items in a row have to follow so.
	hurries = 4
)

// sleeper waits until done has reached upTo.
type sleeper struct {
	upTo uint64
	c    chan struct{}
}

// add leaves an item. It waits only while too many are waiting already. awaited says that the caller waits for this item before
// he does anything else: a lone one is run on his goroutine then, until ctx ends, since waking another would be the better part of
// the time that it takes.
func (c *combiner[T]) add(ctx context.Context, item T, awaited bool) error {
	c.mu.Lock()
	for c.busy && len(c.queue)-c.head >= c.bound {
		if err := c.waitLocked(ctx, c.done+1); err != nil {
			return err
		}
	}
	c.added++
	switch {
	case c.busy:
		c.queue = append(c.queue, item)
		c.mu.Unlock()
		return nil
	case !c.inline:
		c.busy = true
		c.spare = append(c.spare[:0], item)
		c.mu.Unlock()
		if awaited {
			return c.runFor(ctx)
		}
		return c.goFinish(0)
	case c.gathering():
		c.queue = append(c.queue, item)
		switch {
		case len(c.queue) >= gather:
			c.take()
		case !c.fetched:
			c.fetched = true
			c.mu.Unlock()
			if !c.b.spawn(c.fetch) {
				return c.b.ctx.Err()
			}
			return nil
		default:
			c.mu.Unlock()
			return nil
		}
	default:
		c.busy = true
		c.spare = append(c.spare[:0], item)
	}
	c.mu.Unlock()
	return c.runHere(c.b.ctx)
}

// gathering reports whether callers are in a hurry. What is gathered has to be run before anything else, so that it is
// true while there is any.
func (c *combiner[T]) gathering() bool {
	if len(c.queue) > 0 || c.hurry >= hurries {
		return true
	}
	now := c.b.now()
	if now-c.last < hurryGap {
		c.hurry++
	} else {
		c.hurry = 0
	}
	c.last = now
	return false
}

// take makes a batch of what is waiting.
func (c *combiner[T]) take() {
	c.busy = true
	n := min(len(c.queue)-c.head, c.batch)
	if n == len(c.queue) {
		c.queue, c.spare = c.spare[:0], c.queue
		return
	}
	c.spare = append(c.spare[:0], c.queue[c.head:c.head+n]...)
	clear(c.queue[c.head : c.head+n])
	if c.head += n; c.head == len(c.queue) {
		c.queue, c.head = c.queue[:0], 0
	}
}

// fetch runs what was gathered.
func (c *combiner[T]) fetch() {
	c.mu.Lock()
	c.fetched = false
	if c.busy || len(c.queue) == 0 {
		c.mu.Unlock()
		return
	}
	c.take()
	if len(c.spare) == 1 {
		c.hurry = 0 // nobody is: this one only had to wait
	}
	c.mu.Unlock()
	c.finish(0)
	c.next(true)
}

// runFor runs the batch on the goroutine of a caller, until ctx ends: then it is run again without him.
func (c *combiner[T]) runFor(ctx context.Context) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(c.b.ctx, stop)()
	return c.runHere(ctx)
}

// runHere runs the batch on the goroutine of a caller.
func (c *combiner[T]) runHere(ctx context.Context) error {
	if c.run(ctx, c.spare, 0) {
		c.next(false)
		return nil
	}
	return c.goFinish(1)
}

// goFinish runs the batch, and those that follow, on a goroutine.
func (c *combiner[T]) goFinish(try int) error {
	if !c.b.spawn(func() { c.finish(try); c.next(true) }) {
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
		if c.run(c.b.ctx, c.spare, try) || c.b.ctx.Err() != nil {
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
		if len(c.queue) == 0 {
			c.busy = false
			c.mu.Unlock()
			return
		}
		c.take()
		c.mu.Unlock()
		if !own {
			_ = c.goFinish(0)
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
	if !c.busy && len(c.queue) > 0 { // gathered: the goroutine would only be waited for
		c.take()
		c.mu.Unlock()
		if err := c.runHere(c.b.ctx); err != nil {
			return err
		}
		c.mu.Lock()
	}
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
