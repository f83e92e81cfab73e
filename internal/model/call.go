package model

import (
	"slices"

	"github.com/dashi-mq/dashi/channel"
)

// OpenChannel opens a channel where none is.
func (b *Broker) OpenChannel(s Slot) {
	if !b.Open(s) {
		b.channels[s] = &client{slot: s}
	}
}

// enter returns the channel that a call is made on; a call on one that has ended gets the error with which it ended.
func (b *Broker) enter(s Slot) *client {
	ch := b.channels[s]
	if ch.closed != 0 {
		b.run.step.Reply.Code = ch.closed
		return nil
	}
	return ch
}

// Call performs a synchronous method.
func (b *Broker) Call(s Slot, m channel.Method) {
	ch := b.enter(s)
	if ch == nil {
		return
	}
	r := &b.run.step.Reply
	_, b.run.declares = m.(*channel.QueueDeclare)
	if bad := b.call(ch, m, r); bad != 0 {
		*r = Reply{}
		if !channel.NoAnswer(m) {
			r.Code = bad
		}
		b.fail(ch, bad)
	}
	b.deliver()
}

func (b *Broker) call(ch *client, m channel.Method, r *Reply) int {
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		return b.exchangeDeclare(m)
	case *channel.ExchangeDelete:
		return b.exchangeDelete(m)
	case *channel.ExchangeBind:
		return b.bind(binding{source: m.Source, destination: m.Destination, toExchange: true, key: m.Key, args: m.Args}, m.Unbind, ch.slot.Conn)
	case *channel.QueueDeclare:
		if b.rules.Refuses != nil && !m.Passive && b.queues[m.Name] == nil && !badArgs(m.Args) && !reserved(m.Name) && b.rules.Refuses(m.Args) {
			return channel.NotImplemented
		}
		return b.queueDeclare(ch, m, r)
	case *channel.QueueDelete:
		return b.queueDelete(ch, m, r)
	case *channel.QueueBind:
		name, key := m.Queue, m.Key
		if name == "" {
			if name = ch.lastQueue; key == "" {
				key = name
			}
		}
		if name == "" {
			return channel.NotFound
		}
		return b.bind(binding{source: m.Exchange, destination: name, key: key, args: m.Args}, m.Unbind, ch.slot.Conn)
	case *channel.QueuePurge:
		return b.queuePurge(ch, m, r)
	case *channel.Qos:
		if m.Global {
			ch.all = m.Count
		} else {
			ch.prefetch, ch.all = m.Count, 0
		}
	case *channel.Consume:
		return b.consume(ch, m)
	case *channel.Cancel:
		b.cancel(ch, m.Tag)
	case *channel.Get:
		return b.get(ch, m, r)
	case *channel.Recover:
		if !m.Requeue {
			return channel.NotImplemented
		}
		b.requeue(b.answer(ch, channel.Settle{Multiple: true}), true)
	case *channel.ConfirmSelect:
		if ch.tx != nil {
			return channel.PreconditionFailed
		}
		ch.confirming = true
	case *channel.TxSelect:
		if ch.confirming {
			return channel.PreconditionFailed
		}
		if ch.tx == nil {
			ch.tx = &tx{}
		}
	case *channel.TxCommit:
		return b.commit(ch)
	case *channel.TxRollback:
		return b.rollback(ch)
	}
	return 0
}

// fail ends a channel, or its connection, with an error.
func (b *Broker) fail(ch *client, code int) {
	if code == channel.CommandInvalid || code == channel.NotAllowed || code == channel.NotImplemented && !b.run.declares {
		b.endConnection(ch.slot.Conn, code)
		return
	}
	b.end([]*client{ch}, code)
}

func (b *Broker) ofConnection(conn int) []*client {
	var all []*client
	for _, ch := range b.channels {
		if ch.slot.Conn == conn && ch.closed == 0 {
			all = append(all, ch)
		}
	}
	slices.SortFunc(all, func(x, y *client) int { return x.slot.Chan - y.slot.Chan })
	return all
}

// Close closes a channel.
func (b *Broker) Close(s Slot) {
	if ch := b.channels[s]; ch.closed == 0 {
		b.end([]*client{ch}, channel.ChannelErrorCode)
	}
	b.deliver()
}

// CloseConnection closes a connection with its channels and its exclusive queues.
func (b *Broker) CloseConnection(conn int) {
	b.endConnection(conn, channel.ChannelErrorCode)
	b.deliver()
}

func (b *Broker) endConnection(conn, code int) {
	b.run.closing = &conn
	b.end(b.ofConnection(conn), code)
	b.run.closing = nil
	b.endExclusive(conn)
}

func (b *Broker) endExclusive(conn int) {
	for _, name := range b.names() {
		if q := b.queues[name]; q.exclusive && q.owner == conn {
			b.removeQueue(q)
		}
	}
}

// end ends channels with a code. Those of one connection end together on RabbitMQ; elsewhere one may end before the other, which
// takes meanwhile what comes back.
func (b *Broker) end(all []*client, code int) {
	for _, ch := range all {
		ch.doomed = true
		h := b.run.step.at(ch.slot)
		h.Closed, h.Deliveries = code, nil // what came before is void
		delete(b.run.tags, ch.slot)
	}
	way := 0
	if b.rules.TakesFirst && b.holding(all) > 1 {
		way = b.branch(3)
	}
	if way == 0 {
		b.endTogether(all, code)
		return
	}
	if way == 2 {
		slices.Reverse(all)
	}
	for _, ch := range all {
		b.endTogether([]*client{ch}, code)
		b.spread()
	}
}

// holding returns how many of the channels have consumers or unacked messages.
func (b *Broker) holding(all []*client) (n int) {
	for _, ch := range all {
		if len(ch.unacked) > 0 || b.consumes(ch) {
			n++
		}
	}
	return n
}

// consumes reports whether a channel has consumers.
func (b *Broker) consumes(ch *client) bool {
	for _, q := range b.queues {
		if slices.ContainsFunc(q.consumers, func(c *consumer) bool { return c.slot == ch.slot }) {
			return true
		}
	}
	return false
}

// endTogether ends channels: their messages go back first, then their consumers go. Those of a queue that goes with its last
// consumer go with it.
func (b *Broker) endTogether(all []*client, code int) {
	for _, ch := range all {
		ch.closed, ch.tx = code, nil
		for _, q := range b.queues {
			for _, c := range q.consumers {
				if c.slot == ch.slot {
					c.dead = true
				}
			}
		}
	}
	for _, name := range b.names() { // an auto-delete queue goes with what it had: nothing comes back to it
		q := b.queues[name]
		stays := func(c *consumer) bool {
			return !slices.ContainsFunc(all, func(ch *client) bool { return ch.slot == c.slot })
		}
		if q.autoDelete && len(q.consumers) > 0 && !slices.ContainsFunc(q.consumers, stays) {
			b.removeQueue(q)
		}
	}
	b.comeBack(all)
	for _, ch := range all {
		b.giveBack(ch)
	}
	b.ended(all)
	for _, ch := range all {
		b.dropConsumers(func(c *consumer) bool { return c.slot == ch.slot && c.dead })
	}
}

// giveBack requeues all that a channel holds.
func (b *Broker) giveBack(ch *client) {
	us := ch.unacked
	ch.unacked = nil
	b.requeue(us, true)
}

// dropConsumers ends consumers, and with its last an auto-delete queue.
func (b *Broker) dropConsumers(which func(c *consumer) bool) {
	for _, name := range b.names() {
		q := b.queues[name]
		n := len(q.consumers)
		q.consumers = slices.DeleteFunc(q.consumers, which)
		if len(q.consumers) == n {
			continue
		}
		b.elect(q)
		if len(q.consumers) == 0 {
			q.used = b.now
			q.change(b.now.To)
			if q.autoDelete {
				b.removeQueue(q)
			}
		}
	}
}

// names returns the queues in order, since a map has none.
func (b *Broker) names() []string {
	names := make([]string, 0, len(b.queues))
	for name := range b.queues {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
