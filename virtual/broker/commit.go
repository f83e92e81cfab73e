package broker

import (
	"context"
	"errors"
	"slices"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/virtual"
)

// committer brings publications to the store in batches. One request is in flight at a time, so the order of every
// channel survives retries.
type committer struct {
	combiner[*publication]
	producer string
	sequence uint64
	builds   uint64

	// Scratch of run.
	messages []*virtual.Message
	owner    []int // index of the publication of each message
	guards   []virtual.Revision
	limits   []virtual.Limit
	evicted  []virtual.Taken
	failed   []error // by publication
	result   exchange.Result
}

// maxPending bounds the publications that wait for the store; then Publish waits.
const maxPending = 4096

func newCommitter(b *Broker) *committer {
	c := &committer{producer: newName()}
	c.combiner = combiner[*publication]{b: b, run: c.commit, inline: b.quick, batch: batchLimit, bound: maxPending}
	return c
}

// commit stores a batch and tells the channels. While the store does not answer it is tried again under the same number;
// after too many tries it is given up, and its number is never used again, so that it cannot be stored later by mistake.
func (c *committer) commit(ctx context.Context, pubs []*publication, try int) bool {
	if try == 0 {
		c.build(pubs)
		c.sequence++
	}
	if c.inline && len(c.messages) == 1 {
		c.b.adopted.begin()
		defer c.b.adopted.end()
	}
	err := c.put(ctx)
	for errors.Is(err, virtual.ErrGuard) {
		// Somebody changed the bindings since we routed: nothing was stored. Route again on what is there now.
		if err = c.b.outdated(ctx, err, c.guards); err != nil {
			break
		}
		for i := range pubs {
			pubs[i].bad = c.b.route(pubs[i], &c.result)
		}
		c.build(pubs)
		c.sequence++
		if len(c.limits) > 0 && ctx != c.b.ctx {
			return false // a caller does not wait for what limits push out: see limited
		}
		err = c.put(ctx)
	}
	if err != nil && !told(err) {
		if c.b.ctx.Err() == nil && ctx.Err() != nil {
			return false // it was the caller who gave up
		}
		c.b.storeFailed(err)
		if try+1 < tries && c.b.ctx.Err() == nil && !errors.Is(err, virtual.ErrClosed) {
			return false
		}
	}
	c.judge(pubs, err)
	c.b.arrived(c.messages)
	if len(c.evicted) > 0 {
		c.buryEvicted()
	}
	c.tell(pubs)
	clear(c.messages)
	clear(c.failed)
	for _, p := range pubs {
		p.free()
	}
	return true
}

// build lists the messages, guards and limits of a batch.
func (c *committer) build(pubs []*publication) {
	c.messages, c.owner, c.guards, c.limits = c.messages[:0], c.owner[:0], c.guards[:0], c.limits[:0]
	c.builds++
	for i := range pubs {
		p := pubs[i]
		c.guard(p.guard)
		for _, g := range p.guards {
			c.guard(g)
		}
		if !p.routed || p.tooLarge != nil {
			continue
		}
		c.target(i, p.first)
		for _, t := range p.more {
			c.target(i, t)
		}
	}
}

func (c *committer) guard(g virtual.Revision) {
	if c.b.guarded && g.Key != "" && !slices.Contains(c.guards, g) {
		c.guards = append(c.guards, g)
	}
}

func (c *committer) target(pub int, t target) {
	c.messages = append(c.messages, t.m)
	c.owner = append(c.owner, pub)
	if t.q != nil && t.q.limit != nil && t.q.build != c.builds {
		t.q.build = c.builds
		c.limits = append(c.limits, c.b.limitOf(t.q))
	}
}

// limitOf is the limit of a queue that has one. What it evicts comes back leased where it is to be dead-lettered.
func (b *Broker) limitOf(q *queueState) virtual.Limit {
	l := *q.limit
	if q.args.hasDLX {
		l.Holder, l.Lease = b.waiter, b.o.Lease
	}
	return l
}

// addLimit adds the limit of a queue to a request, once.
func (b *Broker) addLimit(limits []virtual.Limit, q *queueState) []virtual.Limit {
	for i := range limits {
		if limits[i].Queue == q.ref {
			return limits
		}
	}
	return append(limits, b.limitOf(q))
}

// put asks the store once.
func (c *committer) put(ctx context.Context) (err error) {
	c.evicted = c.evicted[:0]
	if len(c.messages) == 0 {
		return nil
	}
	r := virtual.PutRequest{Messages: c.messages, Producer: c.producer, Sequence: c.sequence, Guard: c.guards}
	if len(c.limits) > 0 {
		c.evicted, err = c.b.bounded.PutBounded(ctx, r, c.limits, c.evicted)
		return err
	}
	return c.b.store.Put(ctx, r)
}

// judge decides what became of each publication.
func (c *committer) judge(pubs []*publication, err error) {
	c.failed = slices.Grow(c.failed[:0], len(pubs))[:len(pubs)]
	for i := range pubs {
		c.failed[i] = pubs[i].tooLarge
	}
	if err == nil {
		return
	}
	for k, i := range c.owner {
		itemErr := virtual.ItemErr(err, k)
		switch {
		case itemErr == nil:
		case errors.Is(itemErr, virtual.ErrNoQueue): // deleted since: a copy nobody can have
		case errors.Is(itemErr, virtual.ErrFull):
			c.failed[i] = itemErr
			c.refused(pubs, i, c.messages[k])
		default:
			c.failed[i] = itemErr
		}
	}
}

// refused dead-letters what a queue at its limit did not take, if it is of that kind.
func (c *committer) refused(pubs []*publication, i int, m *virtual.Message) {
	p := pubs[i]
	for _, t := range append([]target{p.first}, p.more...) {
		if t.m == m && t.q != nil && t.q.args.rejectDLX && t.q.args.hasDLX {
			c.b.burySoon([]death{{taken: virtual.Taken{Message: m, Attempt: 1}, q: t.q, reason: reasonMaxLen}})
		}
	}
}

// buryEvicted dead-letters what limits pushed out.
func (c *committer) buryEvicted() {
	b := c.b
	b.burySoon(b.evictions(c.evicted))
	clear(c.evicted)
	c.evicted = c.evicted[:0]
}

// evictions makes deaths of evicted messages that came back leased; the others are gone.
func (b *Broker) evictions(evicted []virtual.Taken) []death {
	var dead []death
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	for _, t := range evicted {
		if q := b.top.live[t.Queue.Incarnation]; q != nil && t.Receipt != nil {
			dead = append(dead, death{taken: t, q: q, reason: reasonMaxLen})
		}
	}
	return dead
}

// tell gives the channels their returns and confirms, in the order of publishing.
func (c *committer) tell(pubs []*publication) {
	for i := 0; i < len(pubs); {
		p := pubs[i].port
		p.mu.Lock()
		for i < len(pubs) && pubs[i].port == p {
			i += p.tellOne(pubs[i:], c.failed[i:])
		}
		p.mu.Unlock()
	}
	for i := range pubs {
		if e := pubs[i].bad; e != nil {
			pubs[i].port.raise(e)
		}
	}
}

// tellOne tells of the first publication, and with it of those that follow and were stored, too. p.mu is held.
func (p *port) tellOne(pubs []*publication, failed []error) int {
	first := pubs[0]
	if p.closed != nil || first.bad != nil {
		return 1
	}
	if first.mandatory && !first.routed {
		p.sink.Return(returned(first))
	}
	if failed[0] != nil {
		p.lost = append(p.lost, first.number)
		if p.lostCause == nil {
			p.lostCause = failed[0]
		}
	}
	if !first.confirm {
		return 1
	}
	if failed[0] != nil {
		p.sink.Confirm(first.number, false, false)
		return 1
	}
	n := 1
	for n < len(pubs) && pubs[n].port == p && pubs[n].confirm && failed[n] == nil && pubs[n].bad == nil && !(pubs[n].mandatory && !pubs[n].routed) {
		n++
	}
	// All earlier numbers have been answered: multiple says no more than that.
	p.sink.Confirm(pubs[n-1].number, n > 1, true)
	return n
}

func returned(pub *publication) channel.Return {
	c := pub.content
	r := channel.Return{ReplyCode: channel.NoRoute, ReplyText: "NO_ROUTE", Exchange: c.Exchange, RoutingKey: c.Key, Publishing: *c.Publishing}
	r.Body = c.Body
	r.Headers = channel.CloneTable(c.Headers)
	return r
}
