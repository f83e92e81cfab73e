package broker

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// A store may lose what it held while processes use it: somebody flushes it, or a replica takes over that had not heard of it. The
// registry says so (virtual.ErrLost), and it is not what a process sees that was away for too long: there the others are right, and
// nothing that somebody deleted comes back.
//
// Every process declares again what it declared or used, as its view has it, and what hangs together with that: an exchange comes
// back in the same step as its bindings and the queues they lead to, so that nobody routes on half of them. Records are written if
// they are absent, and queues keep their incarnation, so that processes do each other no harm and their consumers go on where they
// were. Guards keep publishers from the store until it has what they route on. Messages are lost, as is what nobody used.

// use notes that this process uses an exchange or a queue.
func use(ours *atomic.Bool) {
	if !ours.Load() {
		ours.Store(true)
	}
}

// uses notes what a method declares or uses.
func (p *port) uses(m channel.Method) {
	var exchanges []string
	queue := ""
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		exchanges = []string{m.Name}
	case *channel.ExchangeBind:
		exchanges = []string{m.Source, m.Destination}
	case *channel.QueueBind:
		exchanges = []string{m.Exchange}
		queue, _ = p.queueName(m.Queue, "")
	case *channel.QueueDeclare:
		queue, _ = p.queueName("", "") // the last one, since it has been declared
	case *channel.Consume:
		queue, _ = p.queueName(m.Queue, "")
	case *channel.Get:
		queue, _ = p.queueName(m.Queue, "")
	default:
		return
	}
	t := p.b.top
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, name := range exchanges {
		if x := t.exchanges[name]; x != nil {
			use(&x.ours)
		}
	}
	if q := t.queues[queue]; q != nil {
		use(&q.ours)
	}
}

// restore declares again what the registry has lost since revision since, and brings the view to what it has then.
func (b *Broker) restore(ctx context.Context, since uint64) error {
	if err := b.restoring.take(ctx); err != nil {
		return err
	}
	defer b.restoring.give()
	if b.revision() != since {
		return nil // somebody else did it meanwhile
	}
	alive := true
	switch err := b.registry.KeepAlive(ctx, b.sessionName(), b.o.SessionTTL); {
	case errors.Is(err, virtual.ErrSession): // taken for dead since then: the others are right
		alive = false
		signal(b.doubted)
	case err != nil:
		return err
	}
	restored, try := 0, 0
	dead := map[virtual.QueueRef]bool{}
	for {
		records, rev, _, err := b.registry.Changes(ctx, 0, 0)
		if err != nil {
			return err
		}
		var r restoration
		if alive {
			r = b.vanished(records, dead)
		}
		if len(r.changes) == 0 {
			b.react(b.top.apply(records, rev, true, b.sessionName()))
			break
		}
		if err := b.makeAgain(ctx, r.queues, dead); err != nil {
			return err
		}
		if slices.ContainsFunc(r.queues, func(q virtual.QueueRef) bool { return dead[q] }) {
			continue
		}
		_, err = b.registry.Update(ctx, b.sessionName(), r.changes)
		switch {
		case err == nil:
			restored += r.records
		case errors.Is(err, virtual.ErrConflict): // another process declares the same
		default: // the registry shows whether it was done
			if try = b.again(ctx, try, err); try == 0 {
				return err
			}
		}
	}
	if !alive {
		return nil
	}
	b.log.Warn("the store has lost what it held, messages too: declared again what this process used", "vhost", b.o.Vhost, "url", b.o.URL, "records", restored)
	b.top.mu.Lock()
	clear(b.top.dead) // the store has nothing of them; or others, who come later, declare them again
	b.top.mu.Unlock()
	signal(b.cleaning)
	b.spawn(b.registerAgain)
	return nil
}

// makeAgain makes queues in the store. It notes those that cannot be had: somebody took them for leftovers and removed them. Their
// consumers are cancelled.
func (b *Broker) makeAgain(ctx context.Context, queues []virtual.QueueRef, dead map[virtual.QueueRef]bool) error {
	for _, q := range queues {
		err := b.namespace.Create(ctx, q)
		if errors.Is(err, virtual.ErrNoQueue) {
			b.log.Warn("a queue that the store has lost cannot be declared again", "queue", q.Name, "vhost", b.o.Vhost)
			dead[q] = true
		} else if err != nil {
			return err
		}
	}
	return nil
}

// outdated brings the view up to date when a guard that was sent did not hold. When that does not change what the store disagrees
// with, the store has gone back behind the view.
func (b *Broker) outdated(ctx context.Context, err error, sent []virtual.Revision) error {
	if e := b.refresh(ctx); e != nil {
		return e
	}
	guard, ok := errors.AsType[*virtual.GuardError](err)
	if !ok {
		return nil
	}
	for _, d := range guard.Differ {
		for _, g := range sent {
			if g.Key == d.Key && g.Rev != d.Rev && g.Rev != 0 && b.top.revisionOf(g.Key) == g.Rev {
				return b.restore(ctx, b.revision())
			}
		}
	}
	return nil
}

// revisionOf returns the revision that an exchange or a queue has in the view; 0 where there is none.
func (t *topology) revisionOf(key string) uint64 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	name := key[len(keyExchange):]
	if x := t.exchanges[name]; x != nil && x.guard.Key == key {
		return x.guard.Rev
	}
	if q := t.queues[name]; q != nil && q.guard.Key == key {
		return q.guard.Rev
	}
	return 0
}

// restoration is what is to be written of what has vanished.
type restoration struct {
	changes []virtual.Change
	records int                // of them, without those that only get a new revision
	queues  []virtual.QueueRef // to be made
}

// vanished compares what this process uses with what the registry has.
func (b *Broker) vanished(records []virtual.Record, dead map[virtual.QueueRef]bool) restoration {
	has := make(map[string]virtual.Record, len(records))
	for _, r := range records {
		has[r.Key] = r
	}
	owners := map[string]bool{}
	b.mu.Lock()
	for c := range b.conns {
		owners[c.id] = true
	}
	b.mu.Unlock()
	t := b.top
	t.mu.RLock()
	defer t.mu.RUnlock()
	u := usage{t: t, dead: dead, owners: owners, exchanges: map[string]bool{}, queues: map[string]bool{}, bindings: map[string]bool{}}
	u.follow()
	return u.missing(has, b.sessionName())
}

// usage is what this process uses, with all that hangs together with it. t.mu is held.
type usage struct {
	t         *topology
	owners    map[string]bool           // connections of this process that are open
	dead      map[virtual.QueueRef]bool // cannot be had any more
	exchanges map[string]bool
	queues    map[string]bool
	bindings  map[string]bool
}

func (u *usage) follow() {
	for name, x := range u.t.exchanges {
		if x.ours.Load() {
			u.exchange(name)
		}
	}
	for name, q := range u.t.queues {
		if q.ours.Load() {
			u.queue(name)
		}
	}
}

func (u *usage) exchange(name string) {
	x := u.t.exchanges[name]
	if x == nil || u.exchanges[name] {
		return
	}
	u.exchanges[name] = true
	if alternate, ok := x.rec.Args["alternate-exchange"].(string); ok {
		u.exchange(alternate)
	}
	u.bound(u.t.bySource[name])
	u.bound(u.t.byDest[x.guard.Key])
}

func (u *usage) queue(name string) {
	q := u.t.queues[name]
	if q == nil || u.queues[name] || !u.ours(q) {
		return
	}
	u.queues[name] = true
	if q.args.hasDLX {
		u.exchange(q.args.dlx)
		if q.args.dlx == "" {
			u.queue(q.args.dlKey)
		}
	}
	u.bound(u.t.byDest[q.guard.Key])
}

// ours reports whether a queue is for this process to declare: exclusive ones of others are theirs.
func (u *usage) ours(q *queueState) bool {
	return !u.dead[q.ref] && (q.rec.Owner == "" || u.owners[q.rec.Owner])
}

func (u *usage) bound(keys map[string]struct{}) {
	for key := range keys {
		rec := u.t.bindings[key]
		if u.bindings[key] || u.t.stale(rec) {
			continue
		}
		if !rec.ToExchange && !u.ours(u.t.queues[rec.Destination]) {
			continue
		}
		u.bindings[key] = true
		u.exchange(rec.Source)
		if rec.ToExchange {
			u.exchange(rec.Destination)
		} else {
			u.queue(rec.Destination)
		}
	}
}

// missing returns what of the usage is not there. What somebody has declared otherwise meanwhile stays as it is.
func (u *usage) missing(has map[string]virtual.Record, session string) (r restoration) {
	write := func(key, session string, rec any) {
		r.changes = append(r.changes, virtual.Change{Key: key, If: virtual.Absent, Value: encode(rec), Session: session})
		r.records++
	}
	absent := func(key string) bool { return has[key].Key == "" }
	for name, rec := range predeclared {
		if absent(keyExchange + name) {
			write(keyExchange+name, "", rec)
		}
	}
	for name := range u.exchanges {
		if _, ok := predeclared[name]; !ok && absent(keyExchange+name) {
			write(keyExchange+name, "", u.t.exchanges[name].rec)
		}
	}
	for name := range u.queues {
		if q := u.t.queues[name]; absent(q.guard.Key) {
			with := ""
			if q.rec.Owner != "" {
				with = session
			}
			write(q.guard.Key, with, q.rec)
			r.queues = append(r.queues, q.ref)
		}
	}
	touched := map[string]bool{}
	for key := range u.bindings {
		rec := u.t.bindings[key]
		if !absent(key) || !rec.ToExchange && !u.same(has, rec) {
			continue
		}
		write(key, "", rec)
		if source := keyExchange + rec.Source; !absent(source) && !touched[source] { // guards are to notice
			touched[source] = true
			r.changes = append(r.changes, virtual.Change{Key: source, Op: virtual.Touch, If: virtual.Exists})
		}
	}
	return r
}

// same reports whether the queue of a binding is the one that the view has, or will be.
func (u *usage) same(has map[string]virtual.Record, rec bindingRecord) bool {
	r, ok := has[keyQueue+rec.Destination]
	if !ok {
		return true
	}
	q, ok := decode[queueRecord](r)
	return ok && q.Incarnation == rec.Incarnation
}
