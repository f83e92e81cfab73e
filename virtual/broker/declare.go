package broker

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// predeclared exists in every vhost (https://www.rabbitmq.com/tutorials/amqp-concepts.html#exchanges).
var predeclared = map[string]exchangeRecord{
	"amq.direct":         {Type: channel.Direct, Durable: true},
	"amq.fanout":         {Type: channel.Fanout, Durable: true},
	"amq.topic":          {Type: channel.Topic, Durable: true},
	"amq.headers":        {Type: channel.Headers, Durable: true},
	"amq.match":          {Type: channel.Headers, Durable: true},
	"amq.rabbitmq.trace": {Type: channel.Topic, Durable: true, Internal: true},
}

// exchangeType returns the type an exchange routes by, or what is wrong.
func exchangeType(op string, m *channel.ExchangeDeclare) (string, *channel.Error) {
	if m.Type != channel.Delayed {
		if !exchange.Known(m.Type) {
			return "", failConn(channel.CommandInvalid, op, "unknown exchange type '%s'", m.Type)
		}
		return m.Type, nil
	}
	kind, _ := m.Args["x-delayed-type"].(string)
	if !exchange.Known(kind) {
		return "", fail(channel.PreconditionFailed, op, "invalid arg 'x-delayed-type': unknown exchange type '%s'", kind)
	}
	return kind, nil
}

func (p *port) exchangeDeclare(ctx context.Context, m *channel.ExchangeDeclare) error {
	op := named("exchange.declare", m.Name)
	b := p.b
	if m.Name == "" {
		return fail(channel.AccessRefused, op, "operation not permitted on the default exchange")
	}
	if m.Passive {
		return b.update(ctx, op, func(t *topology) ([]virtual.Change, error) {
			if t.exchanges[m.Name] == nil {
				return nil, noExchange(op, m.Name, b.o.Vhost)
			}
			return nil, nil
		})
	}
	kind, bad := exchangeType(op, m)
	if bad != nil {
		return bad
	}
	rec := exchangeRecord{Type: m.Type, Durable: m.Durable, AutoDelete: m.AutoDelete, Internal: m.Internal, Args: content.JSON(m.Args)}
	return b.update(ctx, op, func(t *topology) ([]virtual.Change, error) {
		if x := t.exchanges[m.Name]; x != nil {
			return nil, b.sameExchange(op, m.Name, x.rec, rec)
		}
		if reserved(m.Name) {
			return nil, fail(channel.AccessRefused, op, "exchange name '%s' contains reserved prefix 'amq.*'", m.Name)
		}
		if err := exchange.CheckExchange(kind, m.Args); err != nil {
			return nil, fail(channel.PreconditionFailed, op, "%v", err)
		}
		return []virtual.Change{{Key: keyExchange + m.Name, If: virtual.Absent, Value: encode(rec)}}, nil
	})
}

// sameExchange names the first difference between what is and what is declared.
func (b *Broker) sameExchange(op, name string, is, want exchangeRecord) error {
	for _, c := range [...]struct {
		arg      string
		is, want any
	}{
		{"type", is.Type, want.Type}, {"durable", is.Durable, want.Durable}, {"auto_delete", is.AutoDelete, want.AutoDelete},
		{"internal", is.Internal, want.Internal}, {"alternate-exchange", is.Args["alternate-exchange"], want.Args["alternate-exchange"]},
	} {
		if !sameArg(c.is, c.want) {
			return fail(channel.PreconditionFailed, op, "inequivalent arg '%s' for exchange '%s' in vhost '%s': received '%v' but current is '%v'",
				c.arg, name, b.o.Vhost, c.want, c.is)
		}
	}
	return nil
}

func (p *port) exchangeDelete(ctx context.Context, m *channel.ExchangeDelete) error {
	op := named("exchange.delete", m.Name)
	if m.Name == "" {
		return fail(channel.AccessRefused, op, "operation not permitted on the default exchange")
	}
	if reserved(m.Name) {
		return fail(channel.AccessRefused, op, "exchange name '%s' contains reserved prefix 'amq.*'", m.Name)
	}
	return p.b.updateForAll(ctx, op, func(t *topology) ([]virtual.Change, error) {
		if t.exchanges[m.Name] == nil {
			return nil, nil
		}
		if m.IfUnused && len(t.bySource[m.Name]) > 0 {
			return nil, fail(channel.PreconditionFailed, op, "exchange '%s' in vhost '%s' in use", m.Name, p.b.o.Vhost)
		}
		r := newRemoval(t)
		r.exchange(m.Name)
		return r.done(), nil
	})
}

func (p *port) exchangeBind(ctx context.Context, m *channel.ExchangeBind) error {
	op := named(channel.MethodName(m), m.Destination)
	if m.Source == "" || m.Destination == "" {
		return fail(channel.AccessRefused, op, "operation not permitted on the default exchange")
	}
	rec := bindingRecord{Source: m.Source, Destination: m.Destination, ToExchange: true, Key: m.Key, Args: content.JSON(m.Args)}
	return p.bind(ctx, op, rec, m.Unbind)
}

func (p *port) queueBind(ctx context.Context, m *channel.QueueBind) error {
	name, err := p.queueName(m.Queue, channel.MethodName(m))
	if err != nil {
		return err
	}
	key := m.Key
	if m.Queue == "" && key == "" {
		key = name
	}
	op := named(channel.MethodName(m), name)
	if m.Exchange == "" {
		return fail(channel.AccessRefused, op, "operation not permitted on the default exchange")
	}
	rec := bindingRecord{Source: m.Exchange, Destination: name, Key: key, Args: content.JSON(m.Args)}
	return p.bind(ctx, op, rec, m.Unbind)
}

func (p *port) bind(ctx context.Context, op string, rec bindingRecord, unbind bool) error {
	b := p.b
	binding := rec.binding()
	key := keyBinding + binding.ID()
	return b.updateForAll(ctx, op, func(t *topology) ([]virtual.Change, error) {
		src := t.exchanges[rec.Source]
		if unbind {
			if _, bound := t.bindings[key]; !bound {
				return nil, nil
			}
			if q := t.queues[rec.Destination]; !rec.ToExchange && q != nil && q.rec.Owner != "" && q.rec.Owner != p.conn.id {
				return nil, locked(op, rec.Destination, b.o.Vhost)
			}
			r := newRemoval(t)
			r.binding(key)
			return r.done(), nil
		}
		if src == nil {
			return nil, noExchange(op, rec.Source, b.o.Vhost)
		}
		rec := rec
		other, err := p.destination(t, op, &rec)
		if bad := exchange.CheckBinding(string(src.node.Kind), rec.Key, binding.Args); bad != nil && (err == nil || err.Code != channel.NotFound) {
			err = fail(channel.PreconditionFailed, op, "%v", bad)
		}
		if err != nil {
			return nil, err
		}
		if old, bound := t.bindings[key]; bound && old.Incarnation == rec.Incarnation {
			return nil, nil
		}
		return []virtual.Change{
			{Key: src.guard.Key, Op: virtual.Touch, If: virtual.Exists},
			other,
			{Key: key, If: virtual.Any, Value: encode(rec)},
		}, nil
	})
}

// destination checks the far side of a binding and returns the change that holds it there.
func (p *port) destination(t *topology, op string, rec *bindingRecord) (virtual.Change, *channel.Error) {
	if rec.ToExchange {
		x := t.exchanges[rec.Destination]
		if x == nil {
			return virtual.Change{}, noExchange(op, rec.Destination, p.b.o.Vhost)
		}
		return virtual.Change{Key: x.guard.Key, Op: virtual.Check, If: virtual.Exists}, nil
	}
	q, err := t.queue(op, rec.Destination, p.conn.id, p.b.o.Vhost)
	if err != nil {
		return virtual.Change{}, err
	}
	rec.Incarnation = q.ref.Incarnation
	return virtual.Change{Key: q.guard.Key, Op: virtual.Check, If: virtual.Condition(q.guard.Rev)}, nil
}

// queueName resolves "" to the queue declared last on this channel.
func (p *port) queueName(name, method string) (string, error) {
	if name != "" {
		return name, nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.lastQueue == "" {
		return "", fail(channel.NotFound, named(method, ""), "no previously declared queue")
	}
	return p.lastQueue, nil
}

// errUncreated says that the queue must be made in the store first, which a plan cannot.
var errUncreated = errors.New("queue is not created yet")

func (p *port) queueDeclare(ctx context.Context, m *channel.QueueDeclare) (channel.Reply, error) {
	b := p.b
	name := m.Name
	op := named("queue.declare", name)
	if m.Passive {
		if name == "" {
			return channel.Reply{}, noQueue(op, "", b.o.Vhost)
		}
		q, consumers, err := b.lookup(ctx, op, name, p.conn.id)
		if err != nil {
			return channel.Reply{}, err
		}
		return p.declared(ctx, op, q, consumers)
	}
	if name == "" {
		name = "amq.gen-" + rand.Text()
	} else if reserved(name) {
		return channel.Reply{}, fail(channel.AccessRefused, op, "queue name '%s' contains reserved prefix 'amq.*'", name)
	}
	args, bad := parseQueueArgs(m.Args)
	rec := queueRecord{Durable: m.Durable, AutoDelete: m.AutoDelete, Args: content.JSON(m.Args)}
	if m.Exclusive {
		rec.Owner = p.conn.id
	}
	var made virtual.QueueRef // the incarnation we created and would have to remove
	defer func() {
		if made.Name != "" && !b.top.buries {
			_, _ = b.namespace.Delete(b.ctx, made)
		}
	}()
	plan := func(t *topology) ([]virtual.Change, error) {
		if q := t.queues[name]; q != nil {
			if q.ref == made {
				made = virtual.QueueRef{} // an update without an answer had happened
			}
			if q.rec.Owner != "" && q.rec.Owner != p.conn.id {
				return nil, locked(op, name, b.o.Vhost)
			}
			if err := b.sameQueue(op, name, q.rec, rec); err != nil || bad == nil {
				return nil, err
			}
		}
		if bad != nil {
			return nil, fail(channel.PreconditionFailed, op, "%v", bad)
		}
		if why := args.unsupported(b.traits, b.exactLimits); why != "" {
			return nil, fail(channel.NotImplemented, op, "%s", why)
		}
		if made.Name == "" {
			return nil, errUncreated
		}
		rec := rec
		rec.Incarnation = made.Incarnation
		write := virtual.Change{Key: keyQueue + name, If: virtual.Absent, Value: encode(rec)}
		if !m.Exclusive {
			return []virtual.Change{write}, nil
		}
		write.Session = b.sessionName()
		changes := []virtual.Change{write}
		if t.buries { // it may go with its session, and then nobody writes down that it went
			changes = append(changes, virtual.Change{Key: keyGrave + made.Incarnation, If: virtual.Any, Value: encode(name)})
		}
		return changes, nil
	}
	fresh := virtual.QueueRef{Name: name, Incarnation: fmt.Sprintf("%s.%d", b.sessionName(), b.serial.Add(1))}
	if b.top.buries {
		made = fresh // there is nothing to create
	}
	err := b.update(ctx, op, plan)
	if err == errUncreated {
		made = fresh
		if err := b.namespace.Create(ctx, made); err != nil {
			return channel.Reply{}, unstored(op, err)
		}
		err = b.update(ctx, op, plan)
	}
	if err != nil {
		return channel.Reply{}, err
	}
	if m.Durable && !b.traits.Durable {
		b.volatile.Do(func() {
			b.log.Warn("a durable queue is declared on a store that does not survive its own restart", "queue", name, "store", b.traits.Name)
		})
	}
	b.top.mu.RLock()
	q, bad404 := b.top.queue(op, name, p.conn.id, b.o.Vhost)
	consumers := 0
	if q != nil {
		consumers = len(q.consumers)
		if q.ref == made {
			made = virtual.QueueRef{}
		}
	}
	b.top.mu.RUnlock()
	if bad404 != nil { // deleted since
		return channel.Reply{}, bad404
	}
	return p.declared(ctx, op, q, consumers)
}

// sameQueue names the first difference between what is and what is declared.
func (b *Broker) sameQueue(op, name string, is, want queueRecord) error {
	if (is.Owner == "") != (want.Owner == "") {
		return locked(op, name, b.o.Vhost)
	}
	differ := func(arg string, is, want any) error {
		return fail(channel.PreconditionFailed, op, "inequivalent arg '%s' for queue '%s' in vhost '%s': received '%v' but current is '%v'",
			arg, name, b.o.Vhost, want, is)
	}
	if is.Durable != want.Durable && is.Owner == "" {
		return differ("durable", is.Durable, want.Durable)
	}
	if is.AutoDelete != want.AutoDelete {
		return differ("auto_delete", is.AutoDelete, want.AutoDelete)
	}
	for _, k := range known {
		if !sameArg(is.Args[k], want.Args[k]) {
			return differ(k, is.Args[k], want.Args[k])
		}
	}
	return nil
}

// declared answers a declaration, passive or not, with the counts, and makes the queue the channel's last.
func (p *port) declared(ctx context.Context, op string, q *queueState, consumers int) (channel.Reply, error) {
	n, err := p.b.ready(ctx, q)
	if err != nil {
		return channel.Reply{}, unstored(op, err)
	}
	p.b.touch(q)
	p.mu.Lock()
	p.lastQueue = q.name
	p.mu.Unlock()
	return channel.Reply{Queue: q.name, Messages: n, Consumers: consumers}, nil
}

// lookup finds a queue on a fresh view.
func (b *Broker) lookup(ctx context.Context, op, name, owner string) (q *queueState, consumers int, err error) {
	err = b.update(ctx, op, func(t *topology) ([]virtual.Change, error) {
		found, bad := t.queue(op, name, owner, b.o.Vhost)
		if bad != nil {
			return nil, bad
		}
		q, consumers = found, len(found.consumers)
		return nil, nil
	})
	return q, consumers, err
}

// ready counts the ready messages of a queue, without those that have expired at its head.
func (b *Broker) ready(ctx context.Context, q *queueState) (int, error) {
	b.expire(ctx, virtual.ExpireRequest{Queue: q.ref, Max: batchLimit, Lease: b.o.Lease})
	n := 0
	err := b.persist(ctx, func() (err error) {
		n, err = b.store.Size(ctx, q.ref)
		return err
	})
	return n, err
}

func (p *port) queueDelete(ctx context.Context, m *channel.QueueDelete) (int, error) {
	name, err := p.queueName(m.Name, "queue.delete")
	if err != nil {
		return 0, err
	}
	b := p.b
	op := named("queue.delete", name)
	if m.IfEmpty {
		if err := p.checkEmpty(ctx, op, name); err != nil {
			return 0, err
		}
	}
	var deleted *queueState
	err = b.updateForAll(ctx, op, func(t *topology) ([]virtual.Change, error) {
		q := t.queues[name]
		if q == nil {
			return nil, nil
		}
		if _, bad := t.queue(op, name, p.conn.id, b.o.Vhost); bad != nil {
			return nil, bad
		}
		if m.IfUnused && len(q.consumers) > 0 {
			return nil, fail(channel.PreconditionFailed, op, "queue '%s' in vhost '%s' in use", name, b.o.Vhost)
		}
		deleted = q
		r := newRemoval(t)
		r.queue(q)
		return r.done(), nil
	})
	if err != nil || deleted == nil {
		return 0, err
	}
	n, err := b.namespace.Delete(ctx, deleted.ref)
	if err != nil {
		return 0, unstored(op, err)
	}
	return n, nil
}

// checkEmpty refuses to delete a queue that has ready messages. An unknown one has none.
func (p *port) checkEmpty(ctx context.Context, op, name string) error {
	q, _, err := p.b.lookup(ctx, op, name, p.conn.id)
	if errors.Is(err, channel.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if n, err := p.b.ready(ctx, q); err != nil {
		return unstored(op, err)
	} else if n > 0 {
		return fail(channel.PreconditionFailed, op, "queue '%s' in vhost '%s' not empty", name, p.b.o.Vhost)
	}
	return nil
}

func (p *port) queuePurge(ctx context.Context, m *channel.QueuePurge) (int, error) {
	name, err := p.queueName(m.Name, "queue.purge")
	if err != nil {
		return 0, err
	}
	op := named("queue.purge", name)
	q, _, err := p.b.lookup(ctx, op, name, p.conn.id)
	if err != nil {
		return 0, err
	}
	if err := p.b.committer.flush(ctx); err != nil {
		return 0, unstored(op, err)
	}
	n := 0 // of the try that was answered
	err = p.b.persist(ctx, func() (err error) {
		n, err = p.b.store.Purge(ctx, q.ref)
		return err
	})
	if err != nil {
		return 0, unstored(op, err)
	}
	return n, nil
}
