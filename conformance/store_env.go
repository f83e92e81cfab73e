package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"math"
	"sync"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// storeEnv is what a check works with: its T, two handles a and b on one fresh place, and helpers that fail the check by
// themselves. Helpers that may end the check are for the check's own goroutine.
type storeEnv struct {
	T
	c      *StoreConfig
	ctx    context.Context
	check  StoreCheck
	a, b   virtual.Store // two processes
	open   func() (virtual.Store, error)
	traits virtual.Traits
	claims []ClaimValue
	unit   time.Duration
	no     bool // skipped since the store does not claim something

	handles []virtual.Store
	lost    []virtual.Store // of a place that was restarted since
	tasks   sync.WaitGroup
	stop    context.CancelFunc
	atPut   time.Duration // Message.Lease for stores with LeaseAtPut
}

// runCheck opens a place and checks the check on it.
func (e *storeEnv) runCheck() {
	open, err := e.c.Open(e.T)
	if err != nil {
		e.Fatalf("the place cannot be opened: %v", err)
	}
	e.ctx, e.stop = context.WithCancel(e.ctx)
	e.open = open
	e.Cleanup(func() {
		for _, s := range e.lost {
			_ = virtual.Close(s) // as well as it can
		}
		e.closeAll()
	})
	e.Cleanup(func() { // first: what still runs ends
		e.stop()
		e.tasks.Wait()
	})
	e.a = e.handle()
	e.traits, e.claims = virtual.TraitsOf(e.a), Claims(e.a)
	e.unit = e.c.Unit
	if e.unit == 0 {
		e.unit = 100 * time.Millisecond
		if e.c.Virtual {
			e.unit = time.Second
		}
	}
	e.unit = max(e.unit, e.traits.LeaseMin, e.traits.LeaseStep, e.traits.DelayStep)
	e.atPut = e.units(200)
	for _, c := range e.check.Needs {
		if !claimed(e.claims, c) {
			e.no = true
			e.Skipf("%s: no", c)
		}
	}
	if c := e.check.Lacks; c != "" && e.has(c) {
		e.Skipf("%s is claimed", c)
	}
	e.b = e.handle()
	e.check.run(e)
}

// has tells whether the store claims something, for clauses that depend on it.
func (e *storeEnv) has(c Claim) bool { return claimed(e.claims, c) }

// handle opens one more handle on the place: one more process.
func (e *storeEnv) handle() virtual.Store {
	s, err := e.open()
	if err != nil {
		e.Fatalf("a handle cannot be opened: %v", err)
	}
	e.handles = append(e.handles, s)
	return s
}

// closeAll closes all handles.
func (e *storeEnv) closeAll() {
	for _, s := range e.handles {
		if err := virtual.Close(s); err != nil && !errors.Is(err, virtual.ErrClosed) {
			e.Errorf("a handle does not close: %v", err)
		}
	}
	e.handles = nil
}

// each runs f on both handles, one after the other.
func (e *storeEnv) each(f func(s virtual.Store, handle string)) {
	f(e.a, "the first process")
	f(e.b, "the second process")
}

// units is n units of time, and at most the longest lease.
func (e *storeEnv) units(n float64) time.Duration { return time.Duration(n * float64(e.unit)) }

// long is a lease that does not end during a check.
func (e *storeEnv) long() time.Duration {
	d := e.units(200)
	if e.traits.LeaseMax > 0 {
		d = min(d, e.traits.LeaseMax)
	}
	return d
}

// slack is how much later than due something may come.
func (e *storeEnv) slack() time.Duration {
	if e.c.Virtual {
		return e.unit / 2
	}
	return max(4*e.unit, 2*time.Second)
}

// margin is how much longer than due the suite waits before it looks.
func (e *storeEnv) margin() time.Duration {
	if e.c.Virtual {
		return e.unit / 2
	}
	return 2 * e.unit
}

// patience is how long the suite waits for what must come at once: far longer than that.
func (e *storeEnv) patience() time.Duration { return max(50*e.unit, 10*time.Second) }

// pause lets time pass without waiting for anything: for what is to run out in the meantime, and for what must not come.
func (e *storeEnv) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.ctx.Done():
		e.Fatalf("%v", context.Cause(e.ctx))
	}
}

// quiet lets other goroutines get to where they wait.
func (e *storeEnv) quiet() {
	if e.c.Virtual {
		synctest.Wait()
		return
	}
	e.pause(e.unit / 2)
}

// eventually waits until f says true; seen is what it saw last.
func (e *storeEnv) eventually(what string, f func() (ok bool, seen string)) {
	e.Helper()
	end := time.Now().Add(e.patience())
	for {
		ok, seen := f()
		if ok {
			return
		}
		if time.Now().After(end) {
			e.Fatalf("%s: still not so after %v: %s", what, e.patience(), seen)
		}
		e.pause(e.unit / 10)
	}
}

// yield gives way to others, in a bubble as well, where time passes only when all wait.
func yield() { time.Sleep(time.Nanosecond) }

// goes runs f on a goroutine that the check waits for at its end, when its context has ended.
func (e *storeEnv) goes(f func()) { e.tasks.Go(f) }

// call is something that runs on a goroutine of its own.
type call[R any] struct {
	done  chan struct{}
	r     R
	err   error
	began time.Time
	took  time.Duration
}

// calls starts f and returns when it runs. f gets the check's context.
func calls[R any](e *storeEnv, f func(ctx context.Context) (R, error)) *call[R] {
	c := &call[R]{done: make(chan struct{}), began: time.Now()}
	e.goes(func() {
		defer close(c.done)
		c.r, c.err = f(e.ctx)
		c.took = time.Since(c.began)
	})
	return c
}

// running tells whether the call has not returned.
func (c *call[R]) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// wait waits for the call to return.
func (c *call[R]) wait(e *storeEnv, what string, within time.Duration) (R, error) {
	e.Helper()
	t := time.NewTimer(within)
	defer t.Stop()
	select {
	case <-c.done:
	case <-t.C:
		e.Fatalf("%s: has not returned within %v", what, within)
	case <-e.ctx.Done():
		e.Fatalf("%s: %v", what, context.Cause(e.ctx))
	}
	return c.r, c.err
}

// ref names a queue, made first where the store has to be told.
func (e *storeEnv) ref(name string) virtual.QueueRef {
	return e.create(virtual.QueueRef{Name: name, Incarnation: "1"})
}

// refs names n queues.
func (e *storeEnv) refs(n int) []virtual.QueueRef {
	qs := make([]virtual.QueueRef, n)
	for i := range qs {
		qs[i] = e.ref(fmt.Sprintf("queue-%d", i+1))
	}
	return qs
}

func (e *storeEnv) create(q virtual.QueueRef) virtual.QueueRef {
	e.Helper()
	if ns, ok := virtual.As[virtual.Namespace](e.a); ok {
		e.must(ns.Create(e.ctx, q), "create %q", q)
	}
	return q
}

// newID returns an id nobody else uses.
func newID() (id virtual.ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// message makes a message with a text for a body.
func (e *storeEnv) message(q virtual.QueueRef, body string) *virtual.Message {
	m := &virtual.Message{Queue: q, ID: newID(), Payload: virtual.Bytes(body)}
	if e.traits.LeaseAtPut {
		m.Lease = e.atPut
	}
	return m
}

func (e *storeEnv) messages(q virtual.QueueRef, bodies ...string) []*virtual.Message {
	ms := make([]*virtual.Message, len(bodies))
	for i, b := range bodies {
		ms[i] = e.message(q, b)
	}
	return ms
}

// leaseOf has messages put from now on taken under this lease, where the store fixes that at Put.
func (e *storeEnv) leaseOf(d time.Duration) time.Duration {
	e.atPut = d
	return d
}

// put stores texts in one batch, or as many as the store needs.
func (e *storeEnv) put(s virtual.Store, q virtual.QueueRef, bodies ...string) []*virtual.Message {
	e.Helper()
	ms := e.messages(q, bodies...)
	e.putAll(s, ms)
	return ms
}

func (e *storeEnv) putAll(s virtual.Store, ms []*virtual.Message) {
	e.Helper()
	for part := range e.parts(len(ms)) {
		e.must(s.Put(e.ctx, virtual.PutRequest{Messages: ms[part[0]:part[1]]}), "Put of %d messages", part[1]-part[0])
	}
}

// parts cuts n items into as many batches as the store needs.
func (e *storeEnv) parts(n int) func(yield func([2]int) bool) {
	most := e.batch(math.MaxInt)
	return func(yield func([2]int) bool) {
		for i := 0; i < n; i += most {
			if !yield([2]int{i, i + min(most, n-i)}) {
				return
			}
		}
	}
}

// batch is n, or the size of the store's largest batch.
func (e *storeEnv) batch(n int) int {
	if e.traits.MaxBatch > 0 {
		return min(n, e.traits.MaxBatch)
	}
	return min(n, 1<<20)
}

// get takes what there is, at once.
func (e *storeEnv) get(s virtual.Store, q virtual.QueueRef, most int, lease time.Duration) []virtual.Taken {
	e.Helper()
	ts, _, err := s.Get(e.ctx, virtual.GetRequest{Queue: q, Max: most, Lease: lease, Need: virtual.NeedAge | virtual.NeedAttempt}, nil)
	e.must(err, "Get from %q", q)
	e.wellTaken(q, ts, lease)
	return ts
}

// wellTaken checks what holds for everything taken.
func (e *storeEnv) wellTaken(q virtual.QueueRef, ts []virtual.Taken, lease time.Duration) {
	e.Helper()
	for i, t := range ts {
		switch {
		case t.Message == nil:
			e.Fatalf("item %d of a Get has no message", i)
		case t.Queue != q:
			e.Fatalf("a Get from %q returned a message of %q", q, t.Queue)
		case t.Payload == nil:
			e.Fatalf("item %d of a Get has no payload", i)
		case lease > 0 && t.Receipt == nil:
			e.Fatalf("item %d of a Get with a lease has no receipt", i)
		case e.traits.ExactAttempt && t.Attempt < 1:
			e.Fatalf("item %d of a Get says attempt %d", i, t.Attempt)
		}
	}
}

// take takes exactly n messages that are there, waiting for them where the store is slow to show them.
func (e *storeEnv) take(s virtual.Store, q virtual.QueueRef, n int, lease time.Duration) []virtual.Taken {
	e.Helper()
	ts := e.await(s, q, n, lease, e.patience())
	if len(ts) != n {
		e.Fatalf("took %d messages, want %d: %s", len(ts), n, show(texts(ts)))
	}
	return ts
}

// await takes up to n messages, waiting for them.
func (e *storeEnv) await(s virtual.Store, q virtual.QueueRef, n int, lease, within time.Duration) []virtual.Taken {
	e.Helper()
	var ts []virtual.Taken
	end := time.Now().Add(within)
	for len(ts) < n {
		before := len(ts)
		left := time.Until(end)
		if left < 0 {
			return ts
		}
		var err error
		r := virtual.GetRequest{
			Queue: q, Max: e.batch(n - len(ts)), Wait: min(left, e.unit), Lease: lease, Need: virtual.NeedAge | virtual.NeedAttempt,
		}
		ts, _, err = s.Get(e.ctx, r, ts)
		e.must(err, "Get from %q", q)
		e.wellTaken(q, ts, lease)
		if len(ts) == before && left == 0 {
			return ts
		}
	}
	return ts
}

// settle answers takings, in one batch where the store takes it.
func (e *storeEnv) settle(s virtual.Store, kind virtual.Kind, d time.Duration, ts ...virtual.Taken) {
	e.Helper()
	st := answers(kind, d, ts...)
	for part := range e.parts(len(st)) {
		e.must(s.Settle(e.ctx, st[part[0]:part[1]]), "Settle, %v of %d", kind, part[1]-part[0])
	}
}

// answers are the settlements of takings.
func answers(kind virtual.Kind, d time.Duration, ts ...virtual.Taken) []virtual.Settlement {
	st := make([]virtual.Settlement, len(ts))
	for i, t := range ts {
		st[i] = virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: kind, For: d}
	}
	return st
}

// seed begins the random checks.
func (c *StoreConfig) seed() uint64 {
	if c.Seed == 0 {
		return 1
	}
	return c.Seed
}
