package broker

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// publication is a message on its way to the store.
type publication struct {
	port      *port
	number    uint64 // on its channel
	confirm   bool
	mandatory bool
	content   *content.Message
	cc        []string // further keys, of the headers CC and BCC
	ttl       int64    // ms, of the expiration property; -1: none

	// Where it goes, made by route. The first target is kept apart, since most messages have one.
	first  target
	more   []target
	room   []virtual.Message // for more copies
	guard  virtual.Revision
	guards []virtual.Revision
	routed bool // to a queue

	bad      *channel.Error // its exchange was deleted after it was accepted: the channel closes
	tooLarge error          // the store would not take it: refused without asking
}

// publications are used again: they hold no more than where a message goes.
var publications = sync.Pool{New: func() any { return new(publication) }}

// limited reports whether it goes to a queue with a limit: what is pushed out there has to be dead-lettered, which may take long.
func (pub *publication) limited() bool {
	is := func(t target) bool { return t.q != nil && t.q.limit != nil }
	return is(pub.first) || slices.ContainsFunc(pub.more, is)
}

// free makes the publication ready for another message.
func (pub *publication) free() {
	clear(pub.more)
	pub.more, pub.guards, pub.cc = pub.more[:0], pub.guards[:0], pub.cc[:0]
	pub.port, pub.content, pub.first, pub.room = nil, nil, target{}, nil
	pub.number, pub.confirm, pub.bad, pub.tooLarge = 0, false, nil, nil
	publications.Put(pub)
}

// target is one copy of a message. q is nil for the engine's own queues.
type target struct {
	m *virtual.Message
	q *queueState
}

// stored is a message with room for its first copy: one allocation for both.
type stored struct {
	content content.Message
	message virtual.Message
}

// smallBody is the size of bodies that share the allocation of their message.
const smallBody = 256

type storedSmall struct {
	stored
	body [smallBody]byte
}

// newStored returns room for a message and a copy of its body, or the body itself where that may be kept.
func newStored(body []byte, keep bool) (*stored, []byte) {
	switch {
	case keep || len(body) == 0:
		return new(stored), body
	case len(body) <= smallBody:
		s := new(storedSmall)
		n := copy(s.body[:], body)
		return &s.stored, s.body[:n:n]
	}
	return new(stored), bytes.Clone(body)
}

// Publish takes a message.
func (p *port) Publish(ctx context.Context, m *channel.Publish) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	pub := publications.Get().(*publication)
	pub.port, pub.mandatory = p, m.Mandatory
	if bad := p.accept(m, pub); bad != nil {
		return p.refuse(ctx, p.b.firstFault(ctx, m.Exchange, bad))
	}
	pub.tooLarge = p.b.tooLarge(pub.content)
	// In a transaction, too: an unknown exchange fails at once. The commit routes again.
	err := p.b.routeFresh(ctx, pub, &p.result)
	if err == nil {
		err = p.b.noteExpiring(ctx, pub)
	}
	if err != nil {
		return p.refuse(ctx, err)
	}
	p.mu.Lock()
	if p.closed != nil {
		defer p.mu.Unlock()
		return p.closed
	}
	if p.tx != nil {
		p.tx.publications = append(p.tx.publications, pub)
		p.mu.Unlock()
		return nil
	}
	p.numbers++
	pub.number, pub.confirm = p.numbers, p.confirming
	p.mu.Unlock()
	if err = p.b.committer.add(ctx, pub, m.Awaited && !pub.limited()); err != nil { // not accepted: the number is the next message's
		p.mu.Lock()
		p.numbers--
		p.mu.Unlock()
	}
	return err
}

// tooLarge refuses a message that the store would not take.
func (b *Broker) tooLarge(c *content.Message) error {
	limit := b.traits.MaxBody
	if limit == 0 || len(c.Body)+1<<16 < limit { // properties are no larger than that
		return nil
	}
	if n := len(c.Bytes()); n > limit {
		return fmt.Errorf("%w: %d bytes encoded, and %s takes %d", virtual.ErrTooLarge, n, b.traits.Name, limit)
	}
	return nil
}

// refuse answers an error of AMQP by closing, as a server does some time later, and passes on one of the store or of
// ctx.
func (p *port) refuse(ctx context.Context, err error) error {
	if e, ok := err.(*channel.Error); ok && e.Code != channel.InternalError {
		p.raise(e)
		return nil
	} else if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// accept judges a message and takes what it keeps of it.
func (p *port) accept(m *channel.Publish, pub *publication) *channel.Error {
	const op = "basic.publish"
	if m.Immediate {
		return failConn(channel.NotImplemented, op, "immediate=true")
	}
	if (m.UserId != "" || m.UserIdSet) && m.UserId != p.b.o.User {
		return fail(channel.PreconditionFailed, op, "user_id property set to '%s' but authenticated user was '%s'", m.UserId, p.b.o.User)
	}
	if m.DeliveryMode > 2 {
		return fail(channel.PreconditionFailed, op, "invalid delivery mode %d", m.DeliveryMode)
	}
	pub.ttl = -1
	if m.Expiration != "" {
		n, ok := parseExpiration(m.Expiration)
		if !ok {
			return fail(channel.PreconditionFailed, op, "invalid expiration '%s'", m.Expiration)
		}
		pub.ttl = n
	}
	s, body := newStored(m.Body, m.NoCopy)
	c := &s.content
	c.Exchange, c.Key = m.Exchange, m.Key
	c.Set(&m.Publishing, body)
	pub.content, pub.first.m = c, &s.message
	if len(m.Headers) > 0 {
		if err := carbonCopies(op, pub); err != nil {
			return err
		}
	}
	p.b.stamp(c)
	return nil
}

// carbonCopies takes the keys of the headers CC and BCC (https://www.rabbitmq.com/sender-selected.html). BCC is
// not delivered.
func carbonCopies(op string, pub *publication) *channel.Error {
	c := pub.content
	for _, name := range [...]string{"CC", "BCC"} {
		v, ok := c.Headers[name]
		if !ok {
			continue
		}
		keys, ok := v.([]any)
		if !ok {
			return fail(channel.PreconditionFailed, op, "invalid '%s' header: not an array", name)
		}
		for _, k := range keys {
			if s, ok := k.(string); ok {
				pub.cc = append(pub.cc, s)
				if name == "BCC" {
					c.BCC = append(c.BCC, s)
				}
			}
		}
	}
	if _, ok := c.Headers["BCC"]; ok {
		c.Headers = maps.Clone(c.Headers)
		delete(c.Headers, "BCC")
	}
	return nil
}

// firstFault returns which of two faults of a message is told, as by RabbitMQ: that of its exchange.
func (b *Broker) firstFault(ctx context.Context, exchange string, bad *channel.Error) error {
	if bad.Code != channel.PreconditionFailed {
		return bad
	}
	if err := b.refresh(ctx); err != nil {
		return unstored("basic.publish", err)
	}
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	if _, other := b.openTo(exchange); other != nil {
		return other
	}
	return bad
}

// openTo returns the exchange that clients publish to, nil for "", or says why they cannot. top.mu is held.
func (b *Broker) openTo(name string) (*exchangeState, *channel.Error) {
	if name == "" {
		return nil, nil
	}
	x := b.top.exchanges[name]
	if x == nil {
		return nil, noExchange("basic.publish", name, b.o.Vhost)
	}
	if x.rec.Internal {
		return nil, fail(channel.AccessRefused, "basic.publish", "cannot publish to internal exchange '%s' in vhost '%s'", name, b.o.Vhost)
	}
	return x, nil
}

// routeFresh routes a publication; what leads nowhere is routed again on a fresh view before it is said.
func (b *Broker) routeFresh(ctx context.Context, pub *publication, r *exchange.Result) error {
	if err := b.look(ctx); err != nil {
		return unstored("basic.publish", err)
	}
	bad := b.route(pub, r)
	if bad == nil && pub.routed {
		return nil
	}
	if err := b.refresh(ctx); err != nil {
		return unstored("basic.publish", err)
	}
	if bad = b.route(pub, r); bad != nil {
		return bad
	}
	return nil
}

// route finds the queues of a publication on the present view, and makes a copy for each.
func (b *Broker) route(pub *publication, r *exchange.Result) *channel.Error {
	c := pub.content
	pub.more, pub.guards, pub.guard, pub.routed = pub.more[:0], pub.guards[:0], virtual.Revision{}, false
	t := b.top
	t.mu.RLock()
	defer t.mu.RUnlock()
	x, bad := b.openTo(c.Exchange)
	if bad != nil {
		return bad
	}
	if x != nil {
		use(&x.ours)
	}
	if x != nil && x.delayed() {
		if d := delayOf(c.Headers); d > 0 {
			b.aim(pub, nil, d)
			pub.guard = x.guard
			return nil
		}
	}
	m := exchange.Message{Key: c.Key, CC: pub.cc, Headers: c.Headers, MessageID: c.MessageId, CorrelationID: c.CorrelationId, Timestamp: c.Timestamp}
	t.routes.Route(r, c.Exchange, &m)
	for _, x := range r.Exchanges {
		pub.addGuard(x.Data.(*exchangeState).guard)
	}
	for _, name := range r.Missing {
		pub.addGuard(virtual.Revision{Key: keyExchange + name})
	}
	for _, q := range r.Queues {
		qs := q.Data.(*queueState)
		if c.Exchange == "" {
			use(&qs.ours)
			pub.addGuard(qs.guard)
		}
		b.aim(pub, qs, 0)
	}
	return nil
}

func (pub *publication) addGuard(g virtual.Revision) {
	if pub.guard.Key == "" {
		pub.guard = g
		return
	}
	pub.guards = append(pub.guards, g)
}

// aim adds a copy of the message for a queue, or for the delayed queue when q is nil.
func (b *Broker) aim(pub *publication, q *queueState, delay time.Duration) {
	m := pub.first.m
	if pub.routed || m.Payload != nil { // the latter when it is routed again: the store may have the first one
		m = pub.copy()
	}
	*m = virtual.Message{ID: b.newID(), Delay: b.delayAtPut(delay), Lease: b.putLease, Payload: pub.content}
	if q == nil {
		m.Queue = delayedQueue
	} else {
		m.Queue, m.Priority, m.TTL = q.ref, q.args.priority(pub.content.Priority), b.ttlAtPut(q.args.ttl, pub.ttl)
	}
	if pub.routed {
		pub.more = append(pub.more, target{m, q})
		return
	}
	pub.first = target{m, q}
	pub.routed = true
}

// copiesAtOnce bounds the copies that share an allocation: one that stays longer than the others keeps it.
const copiesAtOnce = 8

// copy makes room for one more copy.
func (pub *publication) copy() *virtual.Message {
	if len(pub.room) == 0 {
		pub.room = make([]virtual.Message, min(1+len(pub.more), copiesAtOnce))
	}
	m := &pub.room[0]
	pub.room = pub.room[1:]
	return m
}

// ids makes message ids: eight random bytes of the process and a count.
type ids struct {
	process [8]byte
	count   atomic.Uint64
}

var processIDs = func() *ids {
	g := &ids{}
	_, _ = rand.Read(g.process[:]) // never fails
	return g
}()

func (b *Broker) newID() (id virtual.ID) {
	copy(id[:8], processIDs.process[:])
	binary.BigEndian.PutUint64(id[8:], processIDs.count.Add(1))
	return id
}

func (p *port) confirmSelect() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tx != nil {
		return fail(channel.PreconditionFailed, "confirm.select", "cannot switch from tx to confirm mode")
	}
	if !p.confirming {
		p.confirming, p.numbers = true, 0
	}
	return nil
}

// Flush waits until all that was published and answered has reached the store.
func (p *port) Flush(ctx context.Context) error {
	if err := p.b.settled(ctx); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return p.closed
	}
	if len(p.lost) > 0 {
		err := &channel.LostError{Numbers: p.lost, Cause: p.lostCause}
		p.lost, p.lostCause = nil, nil
		return err
	}
	return nil
}
