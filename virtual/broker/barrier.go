package broker

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Where the store cannot check in the step of a Put that the bindings are still those the message was routed by (trait
// Guards), two rules make it exact that nothing published after a bind returned is missed:
//
//   - Whoever routes does so on a view that was asked for less than D (Options.Barrier) before, or after the call began;
//     and it has said in the registry that it routes, before it took the view.
//   - A bind, an unbind or a deletion returns when D has passed since it was written; at once when, after that, the
//     registry names no other process that routes.
//
// So a view that does not have the change is either too old to be used once the call has returned, or belongs to a process
// that says so before it looks, and then looks again. Clocks are each process's own and monotonic.

// sight is how fresh this process's view is.
type sight struct {
	asked     atomic.Int64 // by b.now: when the newest answer was asked for
	used      atomic.Int64 // when the view was last routed on
	announced atomic.Bool  // the registry says that this process routes
	one       onlyOne      // one refresh at a time
	ahead     atomic.Bool  // one is under way in the background
}

// onlyOne is a lock that is held over calls of the store, so that who waits for it can give up.
type onlyOne chan struct{}

func (t onlyOne) take(ctx context.Context) error {
	select {
	case t <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (t onlyOne) give() { <-t }

// look makes the view good to route on.
func (b *Broker) look(ctx context.Context) error {
	if b.guarded {
		return nil
	}
	began := b.now()
	d := int64(b.o.Barrier)
	s := &b.sight
	s.used.Store(began)
	if s.announced.Load() {
		switch age := began - s.asked.Load(); {
		case age < d/2:
			return nil
		case age < d: // still good: ask in the background, so that publishing does not stop for it
			if s.ahead.CompareAndSwap(false, true) && !b.spawn(func() {
				defer s.ahead.Store(false)
				_ = b.refresh(b.ctx)
			}) {
				s.ahead.Store(false)
			}
			return nil
		}
	}
	if err := s.one.take(ctx); err != nil {
		return err
	}
	defer s.one.give()
	if s.announced.Load() && s.asked.Load() > began-d {
		return nil // somebody else asked meanwhile
	}
	for try := 0; !s.announced.Load(); {
		err := b.announce(ctx)
		if err == nil {
			break
		}
		if try = b.again(ctx, try, err); try == 0 {
			return err
		}
	}
	return b.refresh(ctx)
}

// announce says that this process routes on what it knows.
func (b *Broker) announce(ctx context.Context) error {
	session := b.sessionName()
	_, err := b.registry.Update(ctx, session, []virtual.Change{{Key: keyRoutes + session, If: virtual.Any, Session: session}})
	if err == nil {
		b.sight.announced.Store(true)
	}
	return err
}

// retire takes the announcement back when nothing has been routed for a while.
func (b *Broker) retire() {
	s := &b.sight
	if b.guarded || !s.announced.Load() || b.now()-s.used.Load() < int64(max(b.o.SessionTTL/3, 2*b.o.Barrier)) {
		return
	}
	if s.one.take(b.ctx) != nil {
		return
	}
	defer s.one.give()
	s.announced.Store(false)
	session := b.sessionName()
	_, _ = b.registry.Update(b.ctx, session, []virtual.Change{{Key: keyRoutes + session, Op: virtual.Delete, If: virtual.Any}})
}

// barrier waits until no other process routes on what it knew before a change that has just been written.
func (b *Broker) barrier(ctx context.Context) error {
	if b.guarded || !b.top.othersRoute(b.sessionName()) {
		return nil
	}
	t := time.NewTimer(b.o.Barrier)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	case <-b.ctx.Done():
		return b.ctx.Err()
	}
}

// othersRoute reports whether another process has said that it routes.
func (t *topology) othersRoute(session string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for s := range t.routing {
		if s != session {
			return true
		}
	}
	return false
}
