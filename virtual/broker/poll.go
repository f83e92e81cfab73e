package broker

import (
	"context"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Where the store cannot notify, a pump whose consumers have room keeps a Get waiting. Whoever needs the pump, a publish of
// this process among them, cuts it short. A store that does not wait is asked less and less often while nothing comes.

const (
	// getWait is how long a Get waits at most.
	getWait = 20 * time.Second
	// napLeast and napMost bound the pause after a Get that did not wait. All pumps of a process together ask no more
	// often than once in napEach.
	napLeast = 2 * time.Millisecond
	napMost  = 250 * time.Millisecond
	napEach  = 10 * time.Millisecond
)

// pacer paces Gets that come back empty before their time.
type pacer struct{ nap time.Duration }

// after returns the pause after a Get: none when it brought something, or waited its time.
func (p *pacer) after(brought int, waited bool, most time.Duration) time.Duration {
	if brought > 0 || waited {
		p.nap = 0
		return 0
	}
	p.nap = min(max(2*p.nap, napLeast), most)
	return p.nap
}

// napLimit is the longest pause of one pump.
func (b *Broker) napLimit() time.Duration {
	b.mu.Lock()
	defer b.mu.Unlock()
	return max(napMost, time.Duration(len(b.pumps))*napEach)
}

// sleep waits for d, or until ctx ends.
func sleep(ctx context.Context, d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// moveWaiting is the rest of move where Gets wait. It reports true as long as there is room, so that another Get waits.
func (p *pump) moveWaiting(ctx context.Context, room int) bool {
	waiting, stop := context.WithCancel(ctx)
	defer stop()
	p.cut.Store(&stop)
	p.state.CompareAndSwap(again, running) // what it was woken for is looked at now
	p.blocked.Store(true)
	defer p.blocked.Store(false)
	// Whoever came before is seen here, and whoever comes later finds what to cut short.
	look := p.state.Load() == again || p.wanted.Load() > 0 || p.looking.Load()
	shared := p.shared()
	wait := time.Duration(0)
	if !look && !shared {
		wait = getWait
	}
	sent := time.Now()
	taken, from, parked, err := p.fetch(waiting, room, fetchOptions{wait: wait, park: true})
	if err != nil {
		p.unreserve()
		return waiting.Err() != nil && ctx.Err() == nil && !p.gone.Load()
	}
	n := len(taken)
	if p.q.args.singleActive && n > 0 && p.turns[0].c != p.active(p.list()) {
		p.giveBack(taken, from) // the lock went while the Get waited
		p.unreserve()
	} else {
		p.pass(ctx, taken, from, parked, false)
	}
	switch {
	case waiting.Err() != nil:
		p.pace.nap = 0
	case !look:
		sleep(waiting, p.pace.after(n, wait > 0 && time.Since(sent) >= wait/2, p.b.napLimit()))
	}
	return ctx.Err() == nil && !p.gone.Load()
}

// shared reports whether room that is promised to this pump is missed elsewhere: by consumers of other queues in the
// same window. Then no Get waits. getting is held.
func (p *pump) shared() bool {
	for i := range p.turns {
		port := p.turns[i].c.port
		port.mu.Lock()
		shared := port.global > 0 || port.globalSize > 0
		port.mu.Unlock()
		if shared {
			return true
		}
	}
	return false
}

// arrived wakes what waits in this process for messages that have just been put.
func (b *Broker) arrived(messages []*virtual.Message) {
	if b.notifier != nil && b.heads == nil {
		return
	}
	var last virtual.QueueRef
	for _, m := range messages {
		if m.Queue == last || m.Delay > 0 {
			continue
		}
		last = m.Queue
		b.arrivedAt(last, false)
	}
}

// arrivedAt is arrived for one queue; back says that the message is not a new one.
func (b *Broker) arrivedAt(ref virtual.QueueRef, back bool) {
	if b.notifier == nil {
		if p := b.pumpOf(ref); p != nil && p.blocked.Load() {
			p.wake()
			return
		}
	}
	if b.heads != nil {
		if q := b.top.queueOf(ref); q != nil {
			b.heads.nudge(q, back)
		}
	}
}

// cutShort ends a Get that waits.
func (p *pump) cutShort() {
	if stop := p.cut.Load(); stop != nil {
		(*stop)()
	}
}

// interrupt takes the lock getting, ending a Get that waits.
func (p *pump) interrupt(ctx context.Context) error {
	p.wanted.Add(1)
	defer p.wanted.Add(-1)
	p.cutShort()
	return p.hold(ctx)
}
