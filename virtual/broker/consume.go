package broker

import (
	"context"
	"errors"
	"math"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

func (p *port) consume(ctx context.Context, m *channel.Consume) (channel.Reply, error) {
	b := p.b
	name, err := p.queueName(m.Queue, "basic.consume")
	if err != nil {
		return channel.Reply{}, err
	}
	op := named("basic.consume", name)
	c := &consumer{port: p, id: newName(), tag: m.Tag, noAck: m.NoAck, exclusive: m.Exclusive, credit: m.Credit}
	p.mu.Lock()
	_, used := p.consumers[m.Tag]
	c.prefetch, c.prefetchSize = p.prefetch, p.prefetchSize
	p.mu.Unlock()
	if used {
		return channel.Reply{}, failConn(channel.NotAllowed, op, "attempt to reuse consumer tag '%s'", m.Tag)
	}
	if v, ok := m.Args["x-priority"]; ok {
		n, isInt := integer(v)
		if !isInt || n > math.MaxInt32 || n < math.MinInt32 {
			return channel.Reply{}, fail(channel.PreconditionFailed, op, "invalid arg 'x-priority' for queue '%s': not an integer", name)
		}
		c.priority = int(n)
	}
	q, _, err := b.lookup(ctx, op, name, p.conn.id)
	if err != nil {
		return channel.Reply{}, err
	}
	if q.args.singleActive && m.Exclusive {
		return channel.Reply{}, fail(channel.AccessRefused, op, "queue '%s' in vhost '%s' in exclusive use", name, b.o.Vhost)
	}
	c.pump = b.pump(q)
	if err := b.register(ctx, c); err != nil {
		return channel.Reply{}, err
	}
	r := channel.Reply{Method: m, Tag: m.Tag}
	p.mu.Lock()
	if p.closed != nil {
		closed := p.closed
		p.mu.Unlock()
		return channel.Reply{}, errors.Join(closed, b.unregister(ctx, c))
	}
	p.consumers[m.Tag] = c
	if !m.NoWait {
		p.sink.Reply(r)
	}
	p.mu.Unlock()
	c.pump.add(c)
	// As on a server, a consumer that was told OK is ready: a message that only a waiting consumer gets will find it.
	c.pump.look(ctx)
	if c.pump.gone.Load() { // deleted since it was looked up
		p.cancelled(c)
	}
	return r, nil
}

// register writes the consumer's record.
func (b *Broker) register(ctx context.Context, c *consumer) error {
	want := c.pump.q
	op := named("basic.consume", want.name)
	rec := encode(consumerRecord{Tag: c.tag, Exclusive: c.exclusive, Priority: c.priority})
	err := b.update(ctx, op, func(t *topology) ([]virtual.Change, error) {
		q := t.live[want.ref.Incarnation]
		if q == nil {
			return nil, noQueue(op, want.name, b.o.Vhost)
		}
		if q.consumers[c.id] != nil && (!c.exclusive || len(q.consumers) == 1) {
			return nil, nil // an update without an answer had happened
		}
		for id, other := range q.consumers {
			if id != c.id && (other.rec.Exclusive || c.exclusive) {
				return nil, fail(channel.AccessRefused, op, "queue '%s' in vhost '%s' in exclusive use", q.name, b.o.Vhost)
			}
		}
		return []virtual.Change{
			{Key: q.guard.Key, Op: virtual.Check, If: virtual.Condition(q.guard.Rev)},
			{Key: q.useKey(), If: virtual.Condition(q.used), Value: encode(c.id)},
			{Key: q.consumerKey(c.id), If: virtual.Absent, Value: rec, Session: b.sessionName()},
		}, nil
	})
	if err != nil && b.knowsConsumer(want, c.id) {
		// Written after a pause, beside somebody who was faster: what is refused is not to stand there.
		_ = b.unregister(ctx, c)
	}
	return err
}

// knowsConsumer reports whether the view has a record of a consumer.
func (b *Broker) knowsConsumer(q *queueState, id string) bool {
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	live := b.top.live[q.ref.Incarnation]
	return live != nil && live.consumers[id] != nil
}

// unregister removes the consumer's record, and an auto-delete queue with its last.
func (b *Broker) unregister(ctx context.Context, c *consumer) error {
	want := c.pump.q
	var deleted bool
	err := b.update(ctx, named("basic.cancel", want.name), func(t *topology) ([]virtual.Change, error) {
		deleted = false
		q := t.live[want.ref.Incarnation]
		if q == nil {
			return nil, nil
		}
		r := newRemoval(t)
		r.consumers(q, c.id)
		deleted = q.rec.AutoDelete && len(q.consumers) == 1 && q.consumers[c.id] != nil
		return r.done(), nil
	})
	if err == nil && deleted {
		if err = b.barrier(ctx); err != nil {
			return err
		}
		_, err = b.namespace.Delete(ctx, want.ref)
	}
	return err
}

func (p *port) cancel(ctx context.Context, m *channel.Cancel) (channel.Reply, error) {
	p.mu.Lock()
	c := p.consumers[m.Tag]
	if c != nil {
		c.gone = true // nothing is delivered to it any more
		delete(p.consumers, m.Tag)
	}
	p.mu.Unlock()
	if c != nil {
		c.pump.dismiss(ctx, c, (&leftover{p: p, consumers: []*consumer{c}}).going()[c.pump.q.ref])
		if err := p.b.unregister(ctx, c); err != nil {
			return channel.Reply{}, err
		}
	}
	r := channel.Reply{Method: m, Tag: m.Tag}
	if !m.NoWait {
		p.reply(r)
	}
	return r, nil
}

// get is basic.get.
func (p *port) get(ctx context.Context, m *channel.Get) (channel.Reply, error) {
	b := p.b
	name, err := p.queueName(m.Queue, "basic.get")
	if err != nil {
		return channel.Reply{}, err
	}
	if err := b.look(ctx); err != nil {
		return channel.Reply{}, unstored(named("basic.get", name), err)
	}
	b.top.mu.RLock()
	q, bad := b.top.queue("basic.get", name, p.conn.id, b.o.Vhost)
	b.top.mu.RUnlock()
	for {
		if bad != nil { // not on this view: perhaps on a fresh one
			if q, _, err = b.lookup(ctx, named("basic.get", name), name, p.conn.id); err != nil {
				return channel.Reply{}, err
			}
		}
		b.touch(q)
		r, err := p.getFrom(ctx, m, q)
		if !errors.Is(err, virtual.ErrNoQueue) {
			return r, err
		}
		bad = noQueue("basic.get", name, b.o.Vhost)
	}
}

func (p *port) getFrom(ctx context.Context, m *channel.Get, q *queueState) (channel.Reply, error) {
	b := p.b
	for looks := 1; ; {
		began := time.Now()
		taken, from, left, err := b.pump(q).fetchOne(ctx)
		if err != nil {
			if errors.Is(err, virtual.ErrNoQueue) || ctx.Err() != nil {
				return channel.Reply{}, err
			}
			return channel.Reply{}, unstored(named("basic.get", q.name), err)
		}
		if len(taken) == 0 && looks < 3 && b.heads != nil && b.top.unattended(q) {
			// The janitor of another process may just be looking whether the head has expired.
			sleep(ctx, time.Duration(looks)*max(2*time.Millisecond, 2*time.Since(began)))
			looks++
			continue
		}
		if len(taken) == 0 {
			r := channel.Reply{Method: m, Queue: q.name}
			p.reply(r)
			return r, nil
		}
		alive, dead := from.pump.sift(taken, from, time.Time{})
		b.bury(ctx, dead)
		if len(alive) == 0 {
			continue
		}
		if left != 0 { // what has expired behind it is not counted, as by a server
			if left, err = b.ready(ctx, q); err != nil {
				left = 0 // the message is here: only the count is not known
			}
		}
		r, ok := p.gotten(m, &alive[0], from, left)
		from.pump.giveBack(alive[1:], from)
		if !ok {
			from.pump.giveBack(alive[:1], from)
			return channel.Reply{}, p.closed
		}
		if m.NoAck {
			b.settler.add1(settleItem{msg: alive[0].Message, receipt: alive[0].Receipt, from: from})
		}
		return r, nil
	}
}

// fetchOne takes one message for basic.get, and says how many it left ready, -1 where the store does not.
func (p *pump) fetchOne(ctx context.Context) (taken []virtual.Taken, from *tenure, left int, err error) {
	if err := p.interrupt(ctx); err != nil {
		return nil, nil, 0, err
	}
	defer p.letGo()
	taken, from, _, err = p.fetch(ctx, 1, fetchOptions{})
	return taken, from, p.left, err
}

// gotten makes the reply of a Get at its place in the order.
func (p *port) gotten(m *channel.Get, t *virtual.Taken, from *tenure, left int) (channel.Reply, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return channel.Reply{}, false
	}
	d := delivered(contentOf(t.Payload, nil), t, from.pump.q)
	p.tag++
	d.DeliveryTag, d.MessageCount = p.tag, left
	if !m.NoAck {
		p.unacked.put(p.tag, entry{from: from, msg: t.Message, receipt: t.Receipt, at: p.b.now(), attempt: int32(t.Attempt)})
	}
	r := channel.Reply{Method: m, Queue: from.pump.q.name, Messages: left, Delivery: &d}
	p.sink.Reply(r)
	return r, true
}
