package sql

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// ears are what a handle hears of others with, from when somebody waits first until Close. What this handle commits itself, it
// tells those who wait on it directly.
type ears struct {
	s *Store

	mu      sync.Mutex
	waiters map[string]func(virtual.QueueRef)
	waiting map[string]*waitCall
	number  int // of the last waitCall
	w       *watch
}

// watch is a time of hearing. When it is lost, all who wait are told, and look by themselves.
type watch struct {
	ready chan struct{} // closed when nothing is missed from then on
	lost  chan struct{} // closed when something may be missed
	err   error         // why
	look  chan struct{} // has the keeper look
	at    int64         // when the keeper looks by itself, under ears.mu
}

func (e *ears) init(s *Store) {
	e.s, e.waiters, e.waiting = s, map[string]func(virtual.QueueRef){}, map[string]*waitCall{}
}

// has reports whether a waiter, or a Get that waits, is on this handle.
func (e *ears) has(name string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.waiters[name] != nil || e.waiting[name] != nil
}

// committed tells those who wait on this handle what a transaction of its own has done.
func (e *ears) committed(t *tx) {
	if len(t.wakes) == 0 && t.due == never && !t.expires && !t.registry {
		return
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, c := range t.wakes {
		e.wake(c.name, c.ref)
	}
	e.news(t.expires, t.registry)
	if e.w != nil && t.due < e.w.at {
		poke(e.w.look)
	}
}

func (e *ears) wake(name string, ref virtual.QueueRef) {
	if f := e.waiters[name]; f != nil {
		f(ref)
	}
	if w := e.waiting[name]; w != nil {
		poke(w.woken)
	}
}

func (e *ears) news(expires, registry bool) {
	for _, w := range e.waiting {
		if expires {
			poke(w.expires)
		}
		if registry {
			poke(w.changed)
		}
	}
}

func poke(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// listen returns the present watch, begun if there is none, within a call that Close waits for.
func (e *ears) listen(ctx context.Context) (*watch, error) {
	e.mu.Lock()
	w := e.w
	if w == nil || isClosed(w.lost) {
		w = &watch{ready: make(chan struct{}), lost: make(chan struct{}), look: make(chan struct{}, 1), at: never}
		e.w = w
		e.s.tasks.Go(func() { e.keep(w) })
	}
	e.mu.Unlock()
	select {
	case <-w.ready:
		return w, nil
	case <-w.lost:
		return nil, w.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// errNotHeard says that wake-ups may have been missed.
var errNotHeard = errors.New("what others commit is not heard of any more")

// keep hears of others until the database fails or the handle is closed, and sweeps queues when something is due in them.
func (e *ears) keep(w *watch) {
	ctx, stop := context.WithCancel(e.s.ctx)
	watching := make(chan error, 1)
	heard := make(chan struct{})
	go func() { watching <- e.s.db.Watch(ctx, func() { close(heard) }, func() { poke(w.look) }) }()
	w.err = e.attend(ctx, w, heard, watching)
	stop()
	if err := <-watching; w.err == nil {
		w.err = err
	}
	if w.err == nil {
		w.err = errNotHeard
	}
	if e.s.ctx.Err() != nil {
		w.err = virtual.ErrClosed
	}
	close(w.lost)
}

func (e *ears) attend(ctx context.Context, w *watch, heard <-chan struct{}, watching chan error) error {
	select {
	case <-heard:
	case err := <-watching:
		watching <- err // once more, for keep
		return err
	case <-ctx.Done():
		return nil
	}
	h := &hearing{ears: e}
	if err := h.begin(ctx); err != nil {
		return err
	}
	close(w.ready)
	due := time.NewTimer(0)
	defer due.Stop()
	for {
		select {
		case <-due.C:
		case <-w.look:
		case err := <-watching:
			watching <- err
			return err
		case <-ctx.Done():
			return nil
		}
		next, now, err := h.look(ctx)
		if err != nil {
			return err
		}
		e.mu.Lock()
		w.at = next
		e.mu.Unlock()
		due.Stop()
		if next != never {
			due.Reset(duration(max(0, next-now)))
		}
	}
}

// hearing is what was heard last.
type hearing struct {
	*ears
	wake                            int64 // id of the last row of dashi_wake
	due, sooner, revision, sessions int64
}

func (h *hearing) begin(ctx context.Context) error {
	h.sessions = never
	return h.s.view(ctx, func(t *tx) error {
		return t.Query("SELECT max(id) FROM dashi_wake WHERE vhost = ?", func(r Row) bool {
			h.wake = r.Int(0)
			return true
		}, h.s.vhost)
	})
}

const selectNews = `SELECT (SELECT min(due) FROM dashi_queue WHERE vhost = ? AND due IS NOT NULL),
(SELECT sooner FROM dashi_vhost WHERE id = ?), (SELECT revision FROM dashi_vhost WHERE id = ?),
(SELECT min(ends) FROM dashi_session WHERE vhost = ? AND ends IS NOT NULL)`

// look wakes whom others have woken, sweeps what is due, and returns when something is due next, by the clock that says now.
func (h *hearing) look(ctx context.Context) (next, now int64, err error) {
	h.mu.Lock()
	idle := len(h.waiters) == 0 && len(h.waiting) == 0
	h.mu.Unlock()
	if idle {
		return never, 0, nil // who comes has it look again
	}
	var calls []wakeCall
	v := h.s.vhost
	err = h.s.view(ctx, func(t *tx) error {
		now = t.now
		err := t.Query("SELECT id, waiter, name, incarnation, vhost FROM dashi_wake WHERE id > ? ORDER BY id", func(r Row) bool {
			if r.Int(4) == v { // only those of one vhost are committed in the order of their ids
				h.wake = r.Int(0)
				calls = append(calls, wakeCall{r.Text(1), virtual.QueueRef{Name: r.Text(2), Incarnation: r.Text(3)}})
			}
			return true
		}, h.wake)
		if err != nil {
			return err
		}
		return t.Query(selectNews, func(r Row) bool {
			sooner, revision, sessions := r.Int(1), r.Int(2), r.time(3)
			expires, changed := sooner != h.sooner, revision != h.revision || sessions < h.sessions
			h.due, h.sooner, h.revision, h.sessions = r.time(0), sooner, revision, sessions
			h.mu.Lock()
			defer h.mu.Unlock()
			h.news(expires, changed)
			return true
		}, v, v, v, v)
	})
	if err != nil {
		return never, 0, err
	}
	h.mu.Lock()
	for _, c := range calls {
		h.ears.wake(c.name, c.ref)
	}
	h.mu.Unlock()
	if h.due > now {
		return h.due, now, nil
	}
	next = never
	err = h.s.do(ctx, func(t *tx) error {
		now = t.now
		if err := t.sweepAll(); err != nil {
			return err
		}
		if err := t.flush(); err != nil {
			return err
		}
		return t.Query("SELECT min(due) FROM dashi_queue WHERE vhost = ? AND due IS NOT NULL", func(r Row) bool {
			next = r.time(0)
			return true
		}, v)
	})
	return next, now, err
}

// waitCall is a call that waits on this handle: a Get, an Expire or a Changes. Its chans have one place: what comes twice
// before somebody looks, comes once.
type waitCall struct {
	*watch
	e       *ears
	name    string
	woken   chan struct{} // something is there for the Get
	expires chan struct{} // a head expires earlier than was known
	changed chan struct{} // the registry has changed
}

// wait adds a call that waits to those that hear of others, until done.
func (s *Store) wait(ctx context.Context) (*waitCall, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	e := &s.ears
	on, err := e.listen(ctx)
	if err != nil {
		s.leave()
		return nil, err
	}
	w := &waitCall{watch: on, e: e, woken: make(chan struct{}, 1), expires: make(chan struct{}, 1), changed: make(chan struct{}, 1)}
	e.mu.Lock()
	e.number++
	w.name = s.handle + "/" + strconv.Itoa(e.number)
	e.waiting[w.name] = w
	e.mu.Unlock()
	poke(on.look)
	return w, nil
}

func (w *waitCall) done() {
	w.e.mu.Lock()
	delete(w.e.waiting, w.name)
	w.e.mu.Unlock()
	w.e.s.leave()
}

// until asks again and again until ask is done or the time is over: whenever news come, or when ask says that there will be
// something. That ctx has ended, or the handle was closed, is no error.
func (s *Store) until(ctx context.Context, most time.Duration, news func(*waitCall) <-chan struct{}, ask func() (done bool, next time.Duration, err error)) error {
	over := time.NewTimer(most)
	defer over.Stop()
	due := time.NewTimer(most)
	defer due.Stop()
	w, err := s.wait(ctx)
	if err != nil {
		return ended(ctx, err)
	}
	defer w.done()
	for {
		done, next, err := ask()
		if err != nil || done {
			return ended(ctx, err)
		}
		due.Stop()
		if next > 0 {
			due.Reset(next)
		}
		select {
		case <-due.C:
		case <-news(w):
		case <-w.lost:
			return w.err
		case <-over.C:
			return nil
		case <-ctx.Done():
			return nil
		case <-s.ctx.Done():
			return nil
		}
	}
}

// ended is the error of a wait: that ctx has ended is none.
func ended(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) || errors.Is(err, virtual.ErrClosed) {
		return nil
	}
	return err
}

// Notify calls wake for the queues in which waiter was recorded.
func (s *Store) Notify(ctx context.Context, waiter string, ready chan<- struct{}, wake func(virtual.QueueRef)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	e := &s.ears
	w, err := e.listen(ctx)
	if err != nil {
		return err
	}
	e.mu.Lock()
	e.waiters[waiter] = wake
	e.mu.Unlock()
	defer func() {
		e.mu.Lock()
		delete(e.waiters, waiter)
		e.mu.Unlock()
	}()
	poke(w.look)
	if ready != nil {
		close(ready)
	}
	select {
	case <-w.lost:
		return w.err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.ctx.Done():
		return virtual.ErrClosed
	}
}
