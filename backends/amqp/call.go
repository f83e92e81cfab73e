package amqp

import (
	"context"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// Call performs one method. What is to have no answer (NoWait) has none here either, with two exceptions, whose answer is
// awaited and not told: Cancel, since the library would drop deliveries that are on their way, and ConfirmSelect, since the
// library waits for an answer whatever it asked for.
func (p *port) Call(ctx context.Context, m channel.Method) (channel.Reply, error) {
	op := opOf(m)
	args, err := toTable(argsOf(m))
	if err != nil {
		return channel.Reply{}, &channel.Error{Code: channel.SyntaxError, Op: op, Text: "arguments: " + err.Error()}
	}
	var reply channel.Reply
	err = p.exchange(ctx, op, !channel.NoAnswer(m), func() error {
		if m, ok := m.(*channel.Consume); ok {
			return p.consume(m, args, &reply)
		}
		r, err := p.call(m, args)
		if err != nil {
			return p.failed(err, op)
		}
		r.Method = m
		if !channel.NoAnswer(m) {
			p.catchUp()
			p.tell(func() { p.sink.Reply(r) })
		}
		reply = r
		return nil
	})
	if err != nil {
		return channel.Reply{}, err
	}
	return reply, nil
}

func (p *port) call(m channel.Method, args amqp091.Table) (r channel.Reply, err error) {
	lib := p.lib
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		if m.Passive {
			err = lib.ExchangeDeclarePassive(m.Name, m.Type, m.Durable, m.AutoDelete, m.Internal, m.NoWait, args)
		} else {
			err = lib.ExchangeDeclare(m.Name, m.Type, m.Durable, m.AutoDelete, m.Internal, m.NoWait, args)
		}
		return r, err
	case *channel.ExchangeDelete:
		return r, lib.ExchangeDelete(m.Name, m.IfUnused, m.NoWait)
	case *channel.ExchangeBind:
		if m.Unbind {
			return r, lib.ExchangeUnbind(m.Destination, m.Key, m.Source, m.NoWait, args)
		}
		return r, lib.ExchangeBind(m.Destination, m.Key, m.Source, m.NoWait, args)
	case *channel.QueueDeclare:
		var q amqp091.Queue
		if m.Passive {
			q, err = lib.QueueDeclarePassive(m.Name, m.Durable, m.AutoDelete, m.Exclusive, m.NoWait, args)
		} else {
			q, err = lib.QueueDeclare(m.Name, m.Durable, m.AutoDelete, m.Exclusive, m.NoWait, args)
		}
		return channel.Reply{Queue: q.Name, Messages: q.Messages, Consumers: q.Consumers}, err
	case *channel.QueueDelete:
		n, err := lib.QueueDelete(m.Name, m.IfUnused, m.IfEmpty, m.NoWait)
		return channel.Reply{Queue: m.Name, Messages: n}, err
	case *channel.QueueBind:
		if m.Unbind { // AMQP has no no-wait form of it
			return r, lib.QueueUnbind(m.Queue, m.Key, m.Exchange, args)
		}
		return r, lib.QueueBind(m.Queue, m.Key, m.Exchange, m.NoWait, args)
	case *channel.QueuePurge:
		n, err := lib.QueuePurge(m.Name, m.NoWait)
		return channel.Reply{Queue: m.Name, Messages: n}, err
	case *channel.Qos:
		return r, lib.Qos(m.Count, m.Size, m.Global)
	case *channel.Cancel:
		if err = lib.Cancel(m.Tag, false); err == nil {
			p.drain(m.Tag)
		}
		return channel.Reply{Tag: m.Tag}, err
	case *channel.Get:
		d, ok, err := lib.Get(m.Queue, m.NoAck)
		if ok {
			ours := fromDelivery(&d)
			r.Delivery = &ours
		}
		return r, err
	case *channel.Recover:
		//lint:ignore SA1019 deprecated or not, it is a method of AMQP, and what the server makes of it is the server's to say
		return r, lib.Recover(m.Requeue)
	case *channel.Flow:
		return r, lib.Flow(m.Active)
	case *channel.ConfirmSelect:
		if err = lib.Confirm(false); err == nil {
			p.mu.Lock()
			p.confirms.selected = true
			p.mu.Unlock()
		}
		return r, err
	case *channel.TxSelect:
		return r, lib.Tx()
	case *channel.TxCommit:
		return r, lib.TxCommit()
	case *channel.TxRollback:
		return r, lib.TxRollback()
	}
	panic("amqp: unknown method " + channel.MethodName(m))
}

func argsOf(m channel.Method) channel.Table {
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		return m.Args
	case *channel.ExchangeBind:
		return m.Args
	case *channel.QueueDeclare:
		return m.Args
	case *channel.QueueBind:
		return m.Args
	case *channel.Consume:
		return m.Args
	}
	return nil
}
