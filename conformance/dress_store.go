package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// dressed is a handle on a store that behaves as its profile says.
type dressed struct {
	p     Profile
	s     virtual.Store
	ctx   context.Context // ends with Close
	stop  context.CancelCauseFunc
	calls sync.WaitGroup // calls and polls under way

	mu     sync.Mutex // guards what follows; no store is called under it
	closed bool
	rand   *rand.Rand
	sizes  map[virtual.QueueRef]sized
	held   map[virtual.Receipt]hold // what the connection holds, where leases end with it
	prune  int                      // how many held are worth a look for those that have lapsed
	polls  map[virtual.QueueRef]*poll
}

// receipt is the receipt that the caller sees.
type receipt struct {
	virtual.Receipt
	lease time.Duration // that of Put, where it is fixed there
	of    *dressed      // the connection, where leases end with it: nobody else can settle it
}

// hold is a message held by a connection.
type hold struct {
	virtual.Settlement // how it is given back
	until              time.Time
}

// sized is what Size said and when.
type sized struct {
	n  int
	at time.Time
}

// Traits are those of the profile.
func (d *dressed) Traits() virtual.Traits { return d.p.Traits }

// Close ends what waits, gives back what the connection holds and what no Get has asked for, and closes the store beneath.
func (d *dressed) Close() error {
	d.mu.Lock()
	closed := d.closed
	d.closed = true
	d.mu.Unlock()
	if closed {
		return nil
	}
	d.stop(virtual.ErrClosed)
	d.calls.Wait()
	var back []virtual.Settlement
	for _, h := range d.held {
		back = append(back, h.Settlement)
	}
	for _, p := range d.polls {
		for _, k := range p.stash {
			back = append(back, answer(k.Taken, virtual.Requeue, 0))
		}
	}
	_ = d.s.Settle(context.Background(), back) // what has lapsed is stale
	return virtual.Close(d.s)
}

// answer is the settlement of a taking beneath.
func answer(t virtual.Taken, kind virtual.Kind, d time.Duration) virtual.Settlement {
	return virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: kind, For: d}
}

// enter begins a call. Its context ends with the caller's, and with Close.
func (d *dressed) enter(ctx context.Context) (context.Context, func(), error) {
	d.mu.Lock()
	closed := d.closed
	if !closed {
		d.calls.Add(1)
	}
	overdue := d.lapsed(d.p.Traps && !closed)
	d.mu.Unlock()
	if closed {
		return nil, nil, virtual.ErrClosed
	}
	if len(overdue) > 0 {
		_ = d.s.Settle(context.Background(), overdue)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(d.ctx, func() { cancel(virtual.ErrClosed) })
	return ctx, func() {
		unhook()
		cancel(nil)
		d.calls.Done()
	}, nil
}

// travel is one way of a call.
func (d *dressed) travel(ctx context.Context) error {
	if d.p.Latency <= 0 {
		return nil
	}
	t := time.NewTimer(d.p.Latency / 2)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// call runs f as a call of the store, there and back.
func (d *dressed) call(ctx context.Context, f func(ctx context.Context) error) error {
	ctx, done, err := d.enter(ctx)
	if err != nil {
		return err
	}
	defer done()
	if err := d.travel(ctx); err != nil {
		return err
	}
	err = f(ctx)
	if errors.Is(err, context.Canceled) {
		return context.Cause(ctx)
	}
	if lost := d.travel(ctx); lost != nil {
		return lost
	}
	return err
}

// Put stores what the profile's store takes.
func (d *dressed) Put(ctx context.Context, r virtual.PutRequest) error {
	return d.call(ctx, func(ctx context.Context) error { return d.put(ctx, r) })
}

func (d *dressed) put(ctx context.Context, r virtual.PutRequest) error {
	t := &d.p.Traits
	var leases, delays []time.Duration
	for _, m := range r.Messages {
		leases, delays = append(leases, m.Lease), append(delays, m.Delay)
	}
	if err := d.p.refuses(len(r.Messages), leases, delays); err != nil {
		return err
	}
	below := virtual.PutRequest{}
	if t.Marks {
		below.Producer, below.Sequence = r.Producer, r.Sequence
	}
	failed := make([]error, len(r.Messages))
	behind := map[virtual.QueueRef]bool{}
	size := 0
	for i, m := range r.Messages {
		body := m.Payload.Bytes()
		size += len(body)
		switch {
		case behind[m.Queue]:
			failed[i] = virtual.ErrBehind
		case t.MaxBody > 0 && len(body) > t.MaxBody:
			failed[i] = fmt.Errorf("%w: at most %d bytes", virtual.ErrTooLarge, t.MaxBody)
			behind[m.Queue] = t.Ordered
			size -= len(body)
		default:
			below.Messages = append(below.Messages, d.p.stored(m, body))
		}
	}
	if t.MaxBatchBytes > 0 && size > t.MaxBatchBytes {
		return fmt.Errorf("%s: a request of %d bytes, at most %d", d.p.Name, size, t.MaxBatchBytes)
	}
	err := d.s.Put(ctx, below)
	if _, items := errors.AsType[*virtual.BatchError](err); err != nil && !items {
		return err
	}
	var all *virtual.BatchError
	n := 0 // of the messages that went below
	for i, why := range failed {
		if why == nil {
			why = virtual.ItemErr(err, n)
			n++
		}
		if why != nil {
			all = all.Add(i, why)
		}
	}
	return all.Or()
}

// Get takes what the profile's store hands out.
func (d *dressed) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	none := virtual.GetResult{Ready: -1}
	ctx, done, err := d.enter(ctx)
	if err != nil {
		return buf, none, err
	}
	defer done()
	if err := d.p.refuses(r.Max, []time.Duration{r.Lease}, nil); err != nil || r.Max <= 0 {
		return buf, none, err
	}
	below := virtual.GetRequest{Queue: r.Queue, Max: r.Max, MaxBytes: r.MaxBytes, Wait: r.Wait, Lease: d.p.lease(r.Lease)}
	if d.p.Traits.LeaseAtPut && r.Lease <= 0 {
		below.Lease = 0
	}
	if d.p.Traits.Fences {
		below.Fence = r.Fence
	}
	get := d.receive
	if d.p.Poll > 0 {
		get = d.polled
	}
	ts, res, err := get(ctx, below)
	if err != nil {
		return buf, none, err
	}
	for _, t := range ts {
		buf = append(buf, d.handed(t, r, below.Lease))
	}
	if !d.p.Traits.ExactSize {
		res.Ready = -1
	}
	return buf, res, nil
}

// handed returns a taking as the caller sees it.
func (d *dressed) handed(t virtual.Taken, r virtual.GetRequest, lease time.Duration) virtual.Taken {
	traits := &d.p.Traits
	if d.p.Redelivered {
		t.Attempt = min(t.Attempt, 2)
	}
	if d.p.Frugal && r.Need&virtual.NeedAttempt == 0 {
		t.Attempt = 0
	}
	if !traits.Age || d.p.Frugal && r.Need&virtual.NeedAge == 0 {
		t.Age = 0
	}
	if traits.DelayStep > 0 {
		t.Age = t.Age.Truncate(traits.DelayStep) // the store's clock has no finer one
	}
	if r.Lease <= 0 {
		t.Receipt = nil
		return t
	}
	seen := receipt{Receipt: t.Receipt}
	if traits.LeaseAtPut {
		lease = t.Lease
		seen.lease = lease
	}
	if traits.LeaseEnd == virtual.WithConnection {
		seen.of = d
		d.hold(seen, answer(t, virtual.Requeue, 0), lease)
	}
	t.Receipt = seen
	if lease != r.Lease {
		t.Granted = lease
	}
	return t
}

// trapped is the lease beneath where only the connection ends it.
const trapped = 1 << 60

// hold notes what the connection holds; what has lapsed is dropped now and then.
func (d *dressed) hold(r receipt, back virtual.Settlement, lease time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.p.Traps && len(d.held) >= max(d.prune, 1024) {
		d.lapsed(true)
		d.prune = 2 * len(d.held)
	}
	d.held[r] = hold{back, time.Now().Add(lease)}
}

// lapsed takes out what is held beyond its lease, if it is asked to, and returns how to give it back. It is called under
// the lock.
func (d *dressed) lapsed(look bool) (back []virtual.Settlement) {
	if !look {
		return nil
	}
	now := time.Now()
	for k, h := range d.held {
		if !h.until.After(now) {
			back = append(back, h.Settlement)
			delete(d.held, k)
		}
	}
	return back
}

// Settle answers takings as far as the profile's store can.
func (d *dressed) Settle(ctx context.Context, all []virtual.Settlement) error {
	return d.call(ctx, func(ctx context.Context) error { return d.settle(ctx, all) })
}

func (d *dressed) settle(ctx context.Context, all []virtual.Settlement) error {
	var leases, delays []time.Duration
	below, renewed := make([]virtual.Settlement, len(all)), make([]time.Duration, len(all))
	for i, st := range all {
		seen, _ := st.Receipt.(receipt)
		st.Receipt = seen.Receipt
		if seen.of != nil && seen.of != d {
			st.Receipt = nil
		}
		switch st.Kind {
		case virtual.Extend:
			leases = append(leases, st.For)
			st.For = d.p.lease(st.For)
			if d.p.Traits.LeaseAtPut {
				st.For = seen.lease
			}
			renewed[i] = st.For
			if d.p.Traps {
				st.For = trapped
			}
		case virtual.Return, virtual.Requeue:
			delays = append(delays, st.For)
			st.For = d.p.delay(st.For)
			if d.p.CountsReturn {
				st.Kind = virtual.Requeue
			}
		}
		below[i] = st
	}
	if err := d.p.refuses(len(all), leases, delays); err != nil {
		return err
	}
	err := d.s.Settle(ctx, below)
	if _, items := errors.AsType[*virtual.BatchError](err); err != nil && !items {
		return err
	}
	var failed *virtual.BatchError
	for i, st := range all {
		item := virtual.ItemErr(err, i)
		if item != nil && (d.p.Traits.StaleTold || !errors.Is(item, virtual.ErrStale)) {
			failed = failed.Add(i, item)
		}
		if item == nil {
			d.settled(st, renewed[i])
		}
	}
	return failed.Or()
}

// settled notes that the connection holds a message no more, or for longer.
func (d *dressed) settled(st virtual.Settlement, lease time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	h, held := d.held[st.Receipt]
	switch {
	case !held:
	case st.Kind == virtual.Extend:
		h.until = time.Now().Add(lease)
		d.held[st.Receipt] = h
	default:
		delete(d.held, st.Receipt)
	}
}

// Purge removes what is ready, and what is kept here for a Get that has not come.
func (d *dressed) Purge(ctx context.Context, q virtual.QueueRef) (n int, err error) {
	err = d.call(ctx, func(ctx context.Context) (err error) {
		kept := d.unstash(q)
		err = d.s.Settle(ctx, answersOf(kept, virtual.Ack, 0))
		for i := range kept {
			if virtual.ItemErr(err, i) == nil {
				n++
			}
		}
		if _, stale := errors.AsType[*virtual.BatchError](err); err != nil && !stale {
			return err
		}
		more, err := d.s.Purge(ctx, q)
		n += more
		return err
	})
	return n, err
}

// Size counts what is ready, or was not long ago.
func (d *dressed) Size(ctx context.Context, q virtual.QueueRef) (n int, err error) {
	err = d.call(ctx, func(ctx context.Context) (err error) {
		d.mu.Lock()
		last, ok := d.sizes[q]
		d.mu.Unlock()
		if ok && time.Since(last.at) < d.p.Lag {
			n = last.n
			return nil
		}
		if n, err = d.s.Size(ctx, q); err != nil || d.p.Lag <= 0 {
			return err
		}
		d.mu.Lock()
		defer d.mu.Unlock()
		if len(d.sizes) >= 1024 {
			clear(d.sizes)
		}
		d.sizes[q] = sized{n, time.Now()}
		return nil
	})
	return n, err
}
