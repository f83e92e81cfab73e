package sql

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// most bounds how many calls share a transaction.
const most = 128

// call is a call that waits for the writer. What it does it may have to do again, from the beginning, in another transaction.
type call struct {
	ctx   context.Context
	f     func(*tx) error
	state atomic.Int32
	err   error
	done  chan struct{}
}

// The states of a call.
const (
	waits   int32 = iota
	begun         // it has run, perhaps in a transaction that failed
	givenUp       // by its caller
)

// cache is what the writer knows of the database as long as nobody else commits.
type cache struct {
	queues    map[virtual.QueueRef]*queue
	revisions map[string]uint64
	marks     map[string]*mark
	sessions  int64 // no session ends before; 0: not known
}

func newCache() cache {
	return cache{queues: map[virtual.QueueRef]*queue{}, revisions: map[string]uint64{}, marks: map[string]*mark{}}
}

// crowded says that the cache is to begin anew.
func (c *cache) crowded() bool {
	return len(c.queues) > 4096 || len(c.revisions) > 16384 || len(c.marks) > 4096
}

// tx is a transaction: that of a few calls which share it, or one that only reads.
type tx struct {
	Tx
	s     *Store
	c     *cache
	now   int64
	err   error // of the database
	dirty []*queue

	// What the others are told after the commit.
	wakes    []wakeCall
	others   bool  // those who wait on other handles find rows
	due      int64 // the soonest time scheduled
	expires  bool  // a head expires sooner than before
	registry bool  // has changed
}

// Exec passes on, and notes what fails.
func (t *tx) Exec(statement string, args ...any) (int64, error) {
	n, err := t.Tx.Exec(statement, args...)
	if err != nil {
		t.err = err
	}
	return n, err
}

// Query passes on, and notes what fails.
func (t *tx) Query(statement string, row func(Row) bool, args ...any) error {
	err := t.Tx.Query(statement, row, args...)
	if err != nil {
		t.err = err
	}
	return err
}

// fail has the transaction fail.
func (t *tx) fail(err error) error {
	t.err = err
	return err
}

// do has the writer run f in a transaction, together with what else has come. If f returns an error, it has changed nothing, or the
// database failed. When ctx ends before it has begun, it is not run.
func (s *Store) do(ctx context.Context, f func(*tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	c := &call{ctx: ctx, f: f, done: make(chan struct{})}
	select {
	case s.calls <- c:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case <-c.done:
	case <-ctx.Done():
		if c.state.CompareAndSwap(waits, givenUp) {
			return ctx.Err()
		}
		<-c.done
	}
	return c.err
}

// write runs calls until Close.
func (s *Store) write() {
	defer close(s.writer)
	batch := make([]*call, 0, most)
	for c := range s.calls {
		batch = append(batch[:0], c)
		for more := true; more && len(batch) < most; {
			select {
			case c, ok := <-s.calls:
				if more = ok; ok {
					batch = append(batch, c)
				}
			default:
				more = false
			}
		}
		if err := s.commit(batch); err != nil && len(batch) > 1 && !errors.Is(err, ErrUnknown) {
			for i, c := range batch { // whichever it was: the others need not fail with it
				if c.ctx.Err() == nil {
					_ = s.commit(batch[i : i+1])
				}
			}
		}
		for _, c := range batch {
			close(c.done)
		}
		clear(batch)
	}
}

// patience is how long a transaction goes on whose callers have all given up, or whose handle was closed: long beside what one
// takes, and short beside how long a database may not answer.
const patience = time.Second

// wanted returns a context that ends when nobody has wanted calls for that long, and what ends its watching.
func (s *Store) wanted(batch []*call) (context.Context, func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var left atomic.Int64
	left.Store(int64(len(batch)))
	giveUp := func() { time.AfterFunc(patience, cancel) }
	stops := []func() bool{context.AfterFunc(s.ctx, giveUp)}
	for _, c := range batch {
		stops = append(stops, context.AfterFunc(c.ctx, func() {
			if left.Add(-1) == 0 {
				giveUp()
			}
		}))
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}

// commit runs calls in one transaction. Its error, which all of them get, is of the database.
func (s *Store) commit(batch []*call) error {
	t := &tx{s: s, c: &s.cache, due: never}
	ctx, stop := s.wanted(batch)
	defer stop()
	err := s.db.Update(ctx, func(x Tx, alone bool) (tell bool, err error) {
		t.Tx, t.err = x, nil
		t.wakes, t.dirty, t.due, t.expires, t.registry, t.others = nil, nil, never, false, false, false
		if !alone || s.cache.crowded() {
			s.cache = newCache()
		}
		t.now = x.Now()
		for _, c := range batch {
			if c.state.CompareAndSwap(waits, begun); c.state.Load() == begun {
				c.err = c.f(t)
			}
			if t.err != nil {
				return false, t.err
			}
		}
		if t.expires {
			if _, err := t.Exec("UPDATE dashi_vhost SET sooner = sooner + 1 WHERE id = ?", s.vhost); err != nil {
				return false, err
			}
		}
		return t.others || t.due != never || t.expires || t.registry, t.flush()
	})
	if err != nil {
		s.cache = newCache()
		if s.ctx.Err() != nil {
			err = virtual.ErrClosed
		}
		for _, c := range batch {
			c.err = err
		}
		return err
	}
	s.ears.committed(t)
	return nil
}

// flush writes what was changed in queues.
func (t *tx) flush() error {
	for _, q := range t.dirty {
		if err := q.save(t); err != nil {
			return err
		}
	}
	t.dirty = t.dirty[:0]
	return nil
}

// view runs f in a transaction that only reads.
func (s *Store) view(ctx context.Context, f func(*tx) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.db.View(ctx, func(x Tx) error {
		c := newCache()
		return f(&tx{Tx: x, s: s, c: &c, now: x.Now(), due: never})
	})
}
