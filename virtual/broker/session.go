package broker

import (
	"errors"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

func (b *Broker) sessionName() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.session
}

// locksHold reports whether this process may still rely on what it has locked: whether it was heard of lately enough
// that nobody can have taken it for dead.
func (b *Broker) locksHold() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return time.Since(b.beat) < b.o.SessionTTL*8/10
}

// heartbeat keeps the session alive, and starts a new one when it was lost.
func (b *Broker) heartbeat() {
	t := time.NewTicker(b.o.SessionTTL / 3)
	defer t.Stop()
	for try := 0; ; {
		select {
		case <-t.C:
		case <-b.doubted:
		case <-b.ctx.Done():
			return
		}
		for {
			sent := time.Now()
			err := b.registry.KeepAlive(b.ctx, b.sessionName(), b.o.SessionTTL)
			if err == nil {
				b.mu.Lock()
				b.beat = sent
				b.mu.Unlock()
				b.storeAnswered()
				try = 0
				break
			}
			if errors.Is(err, virtual.ErrSession) {
				b.sessionLost()
				continue
			}
			b.storeFailed(err)
			if try = b.pause(try); b.ctx.Err() != nil {
				return
			}
		}
		b.wakeFenced()
		b.retire()
	}
}

// sessionLost starts anew after the store took this process for dead: its exclusive queues are gone, its consumers are
// registered again, behind those that came in the meantime.
func (b *Broker) sessionLost() {
	b.sight.announced.Store(false)
	b.log.Warn("session lost: this process was away for longer than its session lasts", "ttl", b.o.SessionTTL)
	b.mu.Lock()
	b.session = newName()
	b.mu.Unlock()
	_ = b.registry.KeepAlive(b.ctx, b.sessionName(), b.o.SessionTTL) // else the heartbeat does
	b.spawn(b.registerAgain)
}

// registerAgain writes the records of all consumers of this process anew. One that is refused, since its queue is gone or in exclusive
// use by now, ends.
func (b *Broker) registerAgain() {
	for _, p := range b.allPumps() {
		for _, c := range p.list() {
			for try := 0; b.ctx.Err() == nil && c.wanted(); {
				err := b.register(b.ctx, c)
				if err == nil {
					if !c.wanted() { // cancelled meanwhile
						_ = b.unregister(b.ctx, c)
					}
					break
				}
				if e, ok := err.(*channel.Error); ok && e.Code != channel.InternalError {
					c.port.cancelled(c)
					p.remove(c)
					break
				}
				try = b.pause(try)
			}
		}
		p.wake() // it may have stopped for want of a lock, and the store may know nothing of what waits
	}
}

// wanted reports whether the consumer has not been cancelled.
func (c *consumer) wanted() bool {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	return !c.gone
}

// wakeFenced wakes pumps that stopped because the locks did not hold.
func (b *Broker) wakeFenced() {
	for _, p := range b.allPumps() {
		if p.q.args.singleActive {
			p.wake()
		}
	}
}
