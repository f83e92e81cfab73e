package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// batchLimit bounds the messages of one call of the store.
const batchLimit = 256

// States of a pump.
const (
	idle    = iota // nothing runs
	running        // its goroutine runs
	again          // and is to look once more before it ends
)

// pump moves messages of one queue to this process's consumers. Its goroutine exists only while there is something
// to move.
type pump struct {
	b *Broker
	q *queueState

	state   atomic.Int32
	starved atomic.Bool // the consumers had no room when the pump last looked
	gone    atomic.Bool // the queue is no more
	partial atomic.Bool // not all consumers had room when the pump last looked

	// Where Gets wait, see poll.go.
	cut     atomic.Pointer[context.CancelFunc] // ends the Get that waits
	wanted  atomic.Int32                       // how many wait for getting
	blocked atomic.Bool                        // a Get or a pause is under way
	pace    pacer

	tenure  atomic.Pointer[tenure] // changed under getting; read by the renewer, who must not wait for a Get
	started atomic.Uint64          // steps begun
	looking atomic.Bool            // somebody waits for a step

	returning atomic.Int64 // how many messages are on their way back to the store, unseen

	mu        sync.Mutex // guards looks, and writing consumers
	looks     []look
	consumers atomic.Value // []*consumer, by priority, then in order of registration; never changed in place

	// getting is held from the moment room is reserved until what came is handed over or back: there is one Get in flight
	// per holder. It is a chan, so that who wants it can give up. It guards what follows.
	getting chan struct{}
	repeat  bool      // the answer to the last Get was lost
	parked  time.Time // when the Get was sent that left us waiting; zero: we are not
	left    int       // how many messages the last Get left ready; -1: not known
	told    int       // how much room the last Get recorded

	// Of the goroutine alone.
	buf   []virtual.Taken
	turns []turn
	last  *consumer // who was served last
}

func newPump(b *Broker, q *queueState) *pump {
	p := &pump{b: b, q: q, getting: make(chan struct{}, 1)}
	p.consumers.Store([]*consumer(nil))
	return p
}

func (p *pump) list() []*consumer { return p.consumers.Load().([]*consumer) }

func (p *pump) add(c *consumer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	cs := append(slices.Clone(p.list()), c)
	slices.SortStableFunc(cs, func(a, b *consumer) int { return b.priority - a.priority })
	p.consumers.Store(cs)
}

func (p *pump) remove(c *consumer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.consumers.Store(slices.DeleteFunc(slices.Clone(p.list()), func(x *consumer) bool { return x == c }))
	p.wake() // what was recorded for it must be struck out, or go to the others
}

// dismiss removes a consumer and waits until nothing is on its way to it. Then what was recorded of its room is struck
// out: the limit of the queue would leave that free for it, as it did for what came back before, and consumers of a lower
// priority would wait for it. Going says that the queue is about to go with the consumer.
func (p *pump) dismiss(ctx context.Context, c *consumer, going bool) {
	p.remove(c)
	p.quiesce(ctx)
	limited := p.q.limit != nil
	if going || !limited && !p.q.ranked.Load() {
		return
	}
	p.look(ctx)
	if limited {
		p.b.trim(ctx, p.q)
	}
}

// end is called when the queue is no more.
func (p *pump) end() {
	p.gone.Store(true)
	p.cutShort()
	for _, c := range p.list() {
		c.port.cancelled(c)
	}
}

// wake has the pump look at its queue.
func (p *pump) wake() {
	for {
		switch s := p.state.Load(); s {
		case idle:
			if p.state.CompareAndSwap(idle, running) {
				if !p.b.spawn(p.run) {
					p.state.Store(idle)
				}
				return
			}
		case running:
			if p.state.CompareAndSwap(running, again) {
				p.cutShort()
				return
			}
		default:
			p.cutShort()
			return
		}
	}
}

// fed is called when consumers got room: it wakes the pump if it had stopped for want of it, or if others leave messages
// for what is recorded of its room.
func (p *pump) fed() {
	if p.starved.Load() || p.q.ranked.Load() || p.b.notifier == nil && p.partial.Load() {
		p.wakeHere()
	}
}

// wakeHere is wake for those who may as well look themselves, holding no lock: where the store is quick they make one step,
// which saves a goroutine and two switches. What is left over, and a store that fails, is for the goroutine.
func (p *pump) wakeHere() {
	if !p.b.quick || p.b.notifier == nil || !p.state.CompareAndSwap(idle, running) {
		p.wake()
		return
	}
	if !p.b.enter() {
		p.state.Store(idle)
		return
	}
	defer p.b.wg.Done()
	if !p.step(p.b.ctx, true) && p.state.CompareAndSwap(running, idle) {
		return
	}
	p.state.Store(running)
	if !p.b.spawn(p.run) {
		p.state.Store(idle)
	}
}

func (p *pump) run() {
	for {
		for p.step(p.b.ctx, false) {
		}
		if p.state.CompareAndSwap(running, idle) {
			return
		}
		p.state.Store(running)
	}
}

// look is somebody who waits until a step has ended.
type look struct {
	step uint64
	c    chan struct{}
}

// look waits until the pump has made a step that began after now: then it has recorded with the store what its consumers
// can take, or has handed it over.
func (p *pump) look(ctx context.Context) {
	p.mu.Lock()
	l := look{p.started.Load() + 1, make(chan struct{})}
	p.looks = append(p.looks, l)
	p.looking.Store(true)
	p.mu.Unlock()
	p.wake()
	select {
	case <-l.c:
	case <-ctx.Done():
	case <-p.b.ctx.Done():
	}
}

func (p *pump) looked(step uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	kept := p.looks[:0]
	for _, l := range p.looks {
		if l.step <= step {
			close(l.c)
			continue
		}
		kept = append(kept, l)
	}
	p.looks = kept
	p.looking.Store(len(kept) > 0)
}

// step makes one Get and hands over what it took. It reports whether there may be more to do at once. With brief it waits for
// nothing: what is in its way is more to do.
func (p *pump) step(ctx context.Context, brief bool) bool {
	n := p.started.Add(1)
	more := p.move(ctx, brief)
	if p.looking.Load() {
		p.looked(n)
	}
	return more
}

// hold takes the lock getting.
func (p *pump) hold(ctx context.Context) error {
	select {
	case p.getting <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (p *pump) letGo() { <-p.getting }

// quiesce waits until nothing is on its way to a consumer that was removed before.
func (p *pump) quiesce(ctx context.Context) {
	if p.interrupt(ctx) == nil {
		p.letGo()
	}
}

// move is step with the lock getting.
func (p *pump) move(ctx context.Context, brief bool) bool {
	switch {
	case p.gone.Load():
		return false
	case brief:
		select {
		case p.getting <- struct{}{}:
		default:
			return true
		}
	case p.hold(ctx) != nil:
		return false
	}
	defer p.letGo()
	if p.returning.Load() > 0 { // they come before what stands behind them
		if brief {
			return true
		}
		if p.b.settler.flush(ctx) != nil {
			return false
		}
	}
	room := p.reserve()
	if room == 0 {
		// Say so first and look again: whoever makes room in between wakes us or is seen.
		p.starved.Store(true)
		if room = p.reserve(); room == 0 {
			p.strike(ctx)
			return false
		}
	}
	p.starved.Store(false)
	if p.b.notifier == nil {
		return p.moveWaiting(ctx, room)
	}
	told := p.told
	taken, from, parked, err := p.fetch(ctx, room, fetchOptions{park: true, brief: brief})
	if err != nil {
		p.unreserve()
		return err == errLater
	}
	more := p.pass(ctx, taken, from, parked, brief)
	if p.q.limit != nil && told > room && len(taken) == room { // the limit left room for more than we take now
		p.b.trim(ctx, p.q)
	}
	return more || len(taken) == room
}

// pass hands over what was taken. It reports whether some of it was dead, so that there may be more.
func (p *pump) pass(ctx context.Context, taken []virtual.Taken, from *tenure, parked time.Time, brief bool) (more bool) {
	taken, dead := p.sift(taken, from, parked)
	if len(dead) > 0 {
		more = true
		if brief {
			p.b.burySoon(dead)
		} else {
			p.b.bury(ctx, dead)
		}
	}
	p.handOver(taken, from)
	p.unreserve()
	return more
}

// strike takes back what an earlier Get recorded, since nobody here waits any more. A limit has left room for that.
func (p *pump) strike(ctx context.Context) {
	if p.parked.IsZero() {
		return
	}
	p.parked, p.told = time.Time{}, 0
	if p.b.notifier == nil {
		return
	}
	_, _, _ = p.b.store.Get(ctx, virtual.GetRequest{Queue: p.q.ref, Park: p.b.waiter}, nil)
	if p.q.limit != nil {
		p.b.trim(ctx, p.q)
	}
}

// active returns the queue's single active consumer if it is one of ours, and we may rely on that.
func (p *pump) active(cs []*consumer) *consumer {
	if !p.b.locksHold() {
		return nil
	}
	p.b.top.mu.RLock()
	first := p.q.first()
	p.b.top.mu.RUnlock()
	if first == nil {
		return nil
	}
	for _, c := range cs {
		if c.id == first.id {
			return c
		}
	}
	return nil
}

// fence returns the number that shuts out those who had the queue's lock before.
func (p *pump) fence() uint64 {
	if !p.q.args.singleActive || !p.b.traits.Fences {
		return 0
	}
	p.b.top.mu.RLock()
	defer p.b.top.mu.RUnlock()
	if f := p.q.first(); f != nil {
		return f.rev
	}
	return 0
}

// fetchOptions say how a Get is made.
type fetchOptions struct {
	wait  time.Duration // how long the store may wait for a message
	park  bool          // it is for the consumers: what it took is valid until the next such fetch, else it is the caller's
	brief bool          // asked once: errLater when it was not answered
}

// errLater says that a brief fetch is to be made again.
var errLater = errors.New("the store did not answer")

// fetch makes one Get, again until it is answered; getting is held. parked is when the Get was sent that left the pump
// waiting, if it was.
func (p *pump) fetch(ctx context.Context, room int, o fetchOptions) (taken []virtual.Taken, from *tenure, parked time.Time, err error) {
	var buf []virtual.Taken
	if o.park {
		buf = p.buf[:0]
	}
	for try := 0; ; {
		r := virtual.GetRequest{Queue: p.q.ref, Max: room, Wait: o.wait, Lease: p.b.o.Lease, Need: p.b.needs(p.q)}
		if from = p.tenure.Load(); from == nil || from.lost.Load() {
			from = &tenure{pump: p}
			p.tenure.Store(from)
			p.repeat = false
			if p.b.holders != nil {
				from.holder = p.b.holderName()
			}
		}
		if p.b.holders != nil {
			if !p.repeat {
				from.take++
			}
			r.Holder, r.Take, r.Again = from.holder, from.take, p.repeat
		}
		if o.park {
			r.Fence, r.Rooms = p.fence(), p.rooms()
			if p.b.notifier != nil {
				r.Park = p.b.waiter
			}
		}
		sent := time.Now()
		var res virtual.GetResult
		taken, res, err = p.b.store.Get(ctx, r, buf)
		switch {
		case err == nil:
			if p.repeat {
				p.repeat = false
				if len(taken) == 0 {
					continue // the lost Get took nothing: ask anew
				}
			}
			parked = p.parked
			if o.park {
				p.parked, p.told = time.Time{}, room-len(taken)
				if p.told > 0 {
					p.parked = sent
				}
				p.buf = taken
			}
			p.left = res.Ready
			p.b.complete(taken, p.q)
			if n := int64(len(taken)); n > 0 && from.held.Add(n) == n {
				signal(p.b.held)
			}
			return taken, from, parked, nil
		case errors.Is(err, virtual.ErrHolder):
			p.b.leaseLost(from)
		case errors.Is(err, virtual.ErrNoQueue), errors.Is(err, virtual.ErrFence), errors.Is(err, virtual.ErrClosed):
			return nil, from, parked, err
		default: // nobody knows whether it took anything
			p.repeat = p.b.holders != nil // else it comes back when its lease ends
			if ctx.Err() != nil {
				return nil, from, parked, ctx.Err()
			}
			p.b.storeFailed(err)
			if o.brief {
				return nil, from, parked, errLater
			}
			try = p.b.pause(try)
		}
	}
}

// needs lists the results that the engine looks at: any message may carry a TTL, and redelivered tells of the attempt.
func (b *Broker) needs(*queueState) virtual.Need { return virtual.NeedAge | virtual.NeedAttempt }

// expired reports whether a message is past its TTL. One that found a consumer waiting is not, when it came for the first
// time: a server would have handed it over at once.
func expired(t *virtual.Taken, parked time.Time) bool {
	if t.TTL == 0 || t.Age < max(0, t.TTL) {
		return false
	}
	return parked.IsZero() || t.Attempt > 1 || t.Age > time.Since(parked)
}

// sift parts what is to be delivered from what is dead.
func (p *pump) sift(taken []virtual.Taken, from *tenure, parked time.Time) (alive []virtual.Taken, dead []death) {
	limit := p.q.args.deliveryLimit
	alive = taken[:0]
	for i := range taken {
		t := &taken[i]
		switch {
		case expired(t, parked):
			dead = append(dead, death{taken: *t, q: p.q, from: from, reason: reasonExpired})
		case limit >= 0 && t.Attempt > limit+1:
			dead = append(dead, death{taken: *t, q: p.q, from: from, reason: reasonDeliveryLimit})
		default:
			alive = append(alive, *t)
		}
	}
	return alive, dead
}

func settlementOf(t *virtual.Taken, k virtual.Kind) virtual.Settlement {
	return virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: k}
}
