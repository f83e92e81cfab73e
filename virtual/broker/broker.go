package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// Broker is one process on a store: one session, its watcher and its janitor candidate. Connect opens connections on
// it. It is safe for concurrent use.
type Broker struct {
	store     virtual.Store
	traits    virtual.Traits
	registry  virtual.Registry
	holders   virtual.Holders
	notifier  virtual.Notifier
	expirer   virtual.Expirer
	bounded   virtual.Bounded
	atomic    virtual.Atomic
	namespace virtual.Namespace
	peeker    virtual.Peeker // nil: none
	heads     *heads         // nil: the store has an Expirer

	guarded     bool          // the store checks guards
	stamps      bool          // messages carry the time of their Put
	exactLimits bool          // the store keeps limits
	quick       bool          // who publishes or answers calls the store himself
	putLease    time.Duration // what Message.Lease is to be; 0 unless the lease is fixed by the Put
	getLimit    int           // most messages of a Get
	sight       sight

	o   Options
	log *slog.Logger

	volatile sync.Once // the warning that durable queues do not survive a restart of the store

	// ctx ends when the broker may not call the store any more: at the end of Close, or at once in a crash.
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	top       *topology
	committer *committer
	settler   *settler
	janitor   janitor
	serial    atomic.Uint64 // of names this process gives
	waiter    string        // this process's name in parked Gets

	mu       sync.Mutex
	session  string
	holder   string    // the name under which this process holds messages
	beat     time.Time // when the last successful heartbeat was sent
	conns    map[*conn]struct{}
	pumps    map[virtual.QueueRef]*pump
	closing  bool
	ended    bool // no goroutine is started any more
	storeBad bool

	held     chan struct{} // tells the renewer that something is held
	cleaning chan struct{} // tells the janitor that there may be work
	doubted  chan struct{} // tells the heartbeat that the session may have ended
	delaying chan struct{} // tells it that there is an x-delayed-message exchange
	uses     uses

	txProducer onlyOne // one commit at a time
	txName     string
	txSequence uint64
	clock      time.Time // what b.now counts from
	adopted    adoption
	restoring  onlyOne // one restoration at a time
}

// Open makes a process on a store. The store stays the caller's: Close does not close it.
func Open(ctx context.Context, store virtual.Store, o Options) (*Broker, error) {
	b := &Broker{
		store: store, traits: virtual.TraitsOf(store), top: newTopology(),
		conns: map[*conn]struct{}{}, pumps: map[virtual.QueueRef]*pump{},
		held: make(chan struct{}, 1), cleaning: make(chan struct{}, 1), delaying: make(chan struct{}, 1),
		doubted: make(chan struct{}, 1), sight: sight{one: make(onlyOne, 1)}, txProducer: make(onlyOne, 1), restoring: make(onlyOne, 1),
		uses:  uses{last: map[string]time.Time{}, told: map[string]time.Time{}, moved: make(chan struct{}, 1)},
		clock: time.Now(), getLimit: batchLimit,
	}
	if b.traits.MaxBatch > 0 {
		b.getLimit = min(batchLimit, b.traits.MaxBatch)
	}
	b.o = o.withDefaults(b.traits)
	b.log = b.o.Logger
	b.ctx, b.cancel = context.WithCancel(context.Background())
	b.session, b.waiter = newName(), newName()
	b.sight.asked.Store(math.MinInt64 / 2)
	b.equip()
	b.committer = newCommitter(b)
	b.settler = newSettler(b)
	if err := b.start(ctx); err != nil {
		closing, stop := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer stop()
		_ = b.Close(closing) // best effort: the session ends by itself
		return nil, err
	}
	return b, nil
}

// newName makes a name that nobody had before.
func newName() string { return rand.Text() }

func (b *Broker) start(ctx context.Context) error {
	beat := time.Now()
	if err := b.registry.KeepAlive(ctx, b.session, b.o.SessionTTL); err != nil {
		return fmt.Errorf("open broker: start session: %w", err)
	}
	b.beat = beat
	if err := b.refresh(ctx); err != nil {
		return fmt.Errorf("open broker: read registry: %w", err)
	}
	if err := b.bootstrap(ctx); err != nil {
		return fmt.Errorf("open broker: %w", err)
	}
	for _, loop := range []func(){b.watch, b.heartbeat, b.renew, b.clean, b.scanTimeouts} {
		b.spawn(loop)
	}
	if b.notifier == nil {
		return nil
	}
	ready := make(chan struct{})
	b.spawn(func() { b.notify(ready) })
	select {
	case <-ready:
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// Connect opens a connection on the broker for package channel:
//
//	conn, err := channel.Connect(ctx, b.Connect)
func (b *Broker) Connect(ctx context.Context, s channel.ConnectionSink) (channel.Transport, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c := newConn(b, s)
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closing {
		return nil, &channel.Error{Code: channel.ConnectionForced, Op: "connect", Text: "the broker is closed", Connection: true}
	}
	b.conns[c] = struct{}{}
	return c, nil
}

// Close closes all connections and ends the process: what was published is stored, acks are sent, messages nobody
// answered go back. It returns within ctx. With a ctx that has ended it drops everything at once, as SIGKILL does: no
// call of the store is made any more. All goroutines have ended when it returns, but those that wait for a call of the store
// that goes on though its context has ended: Close waits for them until ctx has ended and a second more. The store stays
// open; closing it ends such calls.
func (b *Broker) Close(ctx context.Context) error {
	b.mu.Lock()
	first := !b.closing
	b.closing = true
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	if ctx.Err() != nil {
		b.cancel() // before the connections go: nothing of this is to reach the store
	}
	ended := make(chan error, 1)
	go func() {
		err := b.say(ctx, conns, first)
		b.stop()
		ended <- err
	}()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	b.cancel()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case err := <-ended:
		return err
	case <-t.C:
		return fmt.Errorf("close broker: a call of the store does not return: %w", ctx.Err())
	}
}

// grace is how long Close goes on waiting for calls of the store when its context has ended: they return soon after theirs has.
const grace = time.Second

// say closes the connections and says goodbye to the store.
func (b *Broker) say(ctx context.Context, conns []*conn, first bool) (err error) {
	killed := ctx.Err() != nil
	for _, c := range conns {
		err = errors.Join(err, c.end(ctx, &channel.Error{Code: channel.ConnectionForced, Text: "the broker was closed", Connection: true}))
	}
	switch e := ctx.Err(); {
	case killed: // what is left is for who comes after us
	case e != nil:
		err = errors.Join(err, e)
	case first:
		err = errors.Join(err, b.committer.flush(ctx), b.settler.flush(ctx))
		if e := b.leave(ctx); e != nil {
			err = errors.Join(err, fmt.Errorf("end session: %w", e))
		}
	}
	return err
}

// stop ends all goroutines and waits for them.
func (b *Broker) stop() {
	b.cancel()
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.wg.Wait()
}

// spawn runs f on a goroutine that Close waits for. After the end nothing is started.
func (b *Broker) spawn(f func()) bool {
	if !b.enter() {
		return false
	}
	go func() {
		defer b.wg.Done()
		f()
	}()
	return true
}

// enter is for work on a caller's goroutine that Close waits for, as it does for goroutines: wg.Done ends it.
func (b *Broker) enter() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ended {
		b.wg.Add(1)
	}
	return !b.ended
}

// now is this process's clock, in nanoseconds.
func (b *Broker) now() int64 { return int64(time.Since(b.clock)) }

// pause waits before a try that follows a failure, longer each time up to a second, and returns the next try's number.
func (b *Broker) pause(try int) int { return b.pauseIn(b.ctx, try) }

// pauseIn is pause for who gives up with ctx.
func (b *Broker) pauseIn(ctx context.Context, try int) int {
	t := time.NewTimer(min(time.Second, 5*time.Millisecond<<min(try, 10)))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	case <-b.ctx.Done():
	}
	return try + 1
}

func (b *Broker) allPumps() []*pump {
	b.mu.Lock()
	defer b.mu.Unlock()
	ps := make([]*pump, 0, len(b.pumps))
	for _, p := range b.pumps {
		ps = append(ps, p)
	}
	return ps
}

// notify wakes pumps when the store says that their queue has something.
func (b *Broker) notify(first chan struct{}) {
	var once sync.Once
	for try := 0; b.ctx.Err() == nil; {
		ready, ended := make(chan struct{}), make(chan struct{})
		b.spawn(func() {
			select {
			case <-ready:
				once.Do(func() { close(first) })
				// Whatever was said meanwhile was not heard: look at every queue.
				for _, p := range b.allPumps() {
					p.wake()
				}
			case <-ended:
			}
		})
		err := b.notifier.Notify(b.ctx, b.waiter, ready, b.wakePump)
		close(ended)
		if b.ctx.Err() != nil {
			return
		}
		b.storeFailed(err)
		try = b.pause(try)
	}
}

func (b *Broker) wakePump(q virtual.QueueRef) {
	if p := b.pumpOf(q); p != nil && !b.adopted.take(p) {
		p.wake()
	}
}

func (b *Broker) pumpOf(q virtual.QueueRef) *pump {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.pumps[q]
}

// pump returns the pump of a queue, making it at first.
func (b *Broker) pump(q *queueState) *pump {
	b.mu.Lock()
	defer b.mu.Unlock()
	p := b.pumps[q.ref]
	if p == nil {
		p = newPump(b, q)
		b.pumps[q.ref] = p
	}
	return p
}

// storeFailed and storeAnswered tell connections, once each time, that the store was lost and found.
func (b *Broker) storeFailed(err error) {
	if b.ctx.Err() != nil || err == nil {
		return
	}
	b.tellStore(true, channel.Event{Kind: channel.EventStoreLost, Reason: err.Error()})
}

func (b *Broker) storeAnswered() {
	b.tellStore(false, channel.Event{Kind: channel.EventStoreFound})
}

func (b *Broker) tellStore(bad bool, e channel.Event) {
	b.mu.Lock()
	was := b.storeBad
	b.storeBad = bad
	b.mu.Unlock()
	if was == bad {
		return
	}
	b.log.Warn(string(e.Kind), "reason", e.Reason)
	b.tell(e)
}

// tell gives an event to every connection.
func (b *Broker) tell(e channel.Event) {
	b.mu.Lock()
	conns := make([]*conn, 0, len(b.conns))
	for c := range b.conns {
		conns = append(conns, c)
	}
	b.mu.Unlock()
	for _, c := range conns {
		c.sink.Event(e)
	}
}

// signal leaves a token for a goroutine that waits on c.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
