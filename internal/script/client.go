package script

import (
	"context"
	"errors"
	"sync"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/model"
)

// client is one channel with all that it hears.
type client struct {
	ch       *channel.Channel
	n        *names
	returns  chan channel.Return
	cancels  chan string
	confirms []*channel.Confirmation // not answered yet
	selected bool
	told     bool // that it has ended

	mu         sync.Mutex
	deliveries []model.Delivery // not told yet
	heard      func()           // called at each
	readers    sync.WaitGroup
}

// room is what the chans of notices hold: more than a script can make.
const room = 4096

func newClient(ctx context.Context, conn *channel.Connection, n *names, heard func()) (*client, error) {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return nil, err
	}
	c := &client{ch: ch, n: n, heard: heard}
	c.returns = ch.NotifyReturn(make(chan channel.Return, room))
	c.cancels = ch.NotifyCancel(make(chan string, room))
	return c, nil
}

// code is what an error says; 1 for one that is not AMQP's.
func code(err error) int {
	if err == nil {
		return 0
	}
	if e, ok := errors.AsType[*channel.Error](err); ok {
		return e.Code
	}
	return 1
}

// call makes a synchronous method.
func (c *client) call(ctx context.Context, m channel.Method) (r model.Reply) {
	n, ch := c.n, c.ch
	args := func(t channel.Table) channel.Table { return n.table(t, n.there) }
	var flags []channel.Flag
	if channel.NoAnswer(m) {
		flags = append(flags, channel.NoWait)
	}
	var err error
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		if m.Passive {
			err = ch.ExchangeDeclarePassive(ctx, n.there(m.Name))
		} else {
			err = ch.ExchangeDeclare(ctx, n.there(m.Name), m.Type, channel.ExchangeOptions{
				Durable: m.Durable, AutoDelete: m.AutoDelete, Internal: m.Internal, NoWait: m.NoWait, Args: args(m.Args),
			})
		}
	case *channel.ExchangeDelete:
		err = ch.ExchangeDelete(ctx, n.there(m.Name), channel.DeleteOptions{IfUnused: m.IfUnused, NoWait: m.NoWait})
	case *channel.ExchangeBind:
		if m.Unbind {
			err = ch.ExchangeUnbind(ctx, n.there(m.Destination), n.there(m.Key), n.there(m.Source), args(m.Args), flags...)
		} else {
			err = ch.ExchangeBind(ctx, n.there(m.Destination), n.there(m.Key), n.there(m.Source), args(m.Args), flags...)
		}
	case *channel.QueueDeclare:
		var q channel.Queue
		if m.Passive {
			q, err = ch.QueueDeclarePassive(ctx, n.there(m.Name))
		} else {
			q, err = ch.QueueDeclare(ctx, n.there(m.Name), channel.QueueOptions{
				Durable: m.Durable, AutoDelete: m.AutoDelete, Exclusive: m.Exclusive, NoWait: m.NoWait, Args: args(m.Args),
			})
		}
		if err == nil && !m.NoWait {
			if r.Queue = n.here(q.Name); m.Name == "" && !m.Passive {
				r.Queue = n.chosen(q.Name)
			}
			r.Messages, r.Consumers = q.Messages, q.Consumers
		}
	case *channel.QueueDelete:
		r.Messages, err = ch.QueueDelete(ctx, n.there(m.Name), channel.DeleteOptions{IfUnused: m.IfUnused, IfEmpty: m.IfEmpty, NoWait: m.NoWait})
	case *channel.QueuePurge:
		r.Messages, err = ch.QueuePurge(ctx, n.there(m.Name), flags...)
	case *channel.QueueBind:
		if m.Unbind {
			err = ch.QueueUnbind(ctx, n.there(m.Queue), n.there(m.Key), n.there(m.Exchange), args(m.Args))
		} else {
			err = ch.QueueBind(ctx, n.there(m.Queue), n.there(m.Key), n.there(m.Exchange), args(m.Args), flags...)
		}
	case *channel.Qos:
		err = ch.Qos(ctx, m.Count, 0, m.Global)
	case *channel.Consume:
		err = c.consume(ctx, m)
	case *channel.Cancel:
		err = ch.Cancel(ctx, m.Tag, flags...)
	case *channel.Get:
		d, ok, bad := ch.Get(ctx, n.there(m.Queue), m.NoAck)
		if err = bad; ok {
			got := c.seen(&d)
			r.Got = &got
		}
	case *channel.Recover:
		err = ch.Recover(ctx, m.Requeue)
	case *channel.ConfirmSelect:
		if err = ch.Confirm(ctx); err == nil {
			c.selected = true
		}
	case *channel.TxSelect:
		err = ch.Tx(ctx)
	case *channel.TxCommit:
		err = ch.TxCommit(ctx)
	case *channel.TxRollback:
		err = ch.TxRollback(ctx)
	}
	if r.Code = code(err); r.Code != 0 {
		r = model.Reply{Code: r.Code}
	} else if channel.NoAnswer(m) {
		r = model.Reply{}
	}
	return r
}

func (c *client) consume(ctx context.Context, m *channel.Consume) error {
	ds, err := c.ch.Consume(context.WithoutCancel(ctx), c.n.there(m.Queue), channel.ConsumeOptions{
		Tag: m.Tag, AutoAck: m.NoAck, Exclusive: m.Exclusive, NoWait: m.NoWait, Args: m.Args,
	})
	if err != nil {
		return err
	}
	c.readers.Go(func() {
		for d := range ds {
			c.mu.Lock()
			c.deliveries = append(c.deliveries, c.seen(&d))
			c.mu.Unlock()
			c.heard()
		}
	})
	return nil
}

// seen is a delivery in the names of the script.
func (c *client) seen(d *channel.Delivery) model.Delivery {
	return model.Delivery{
		Tag: d.DeliveryTag, Consumer: d.ConsumerTag, Redelivered: d.Redelivered, Left: d.MessageCount,
		Exchange: c.n.here(d.Exchange), Key: c.n.here(d.RoutingKey),
		Message: channel.Publishing{
			Headers: c.n.table(d.Headers, c.n.here), ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode,
			Priority: d.Priority, CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId,
			Timestamp: d.Timestamp, Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
		},
	}
}

// publish sends messages. An error is that of a channel which has ended, and is told as such.
func (c *client) publish(ctx context.Context, ps []*channel.Publish) (r model.Reply) {
	for i, p := range ps {
		msg := p.Publishing
		msg.Headers = c.n.table(msg.Headers, c.n.there)
		var err error
		if c.selected {
			var f *channel.Confirmation
			if f, err = c.ch.PublishDeferred(ctx, c.n.there(p.Exchange), c.n.there(p.Key), msg); err == nil {
				c.confirms = append(c.confirms, f)
			}
		} else {
			err = c.ch.Publish(ctx, c.n.there(p.Exchange), c.n.there(p.Key), msg)
		}
		if i == 0 {
			r.Code = code(err)
		}
		if err != nil {
			break
		}
	}
	return r
}

func (c *client) settle(s channel.Settle) model.Reply {
	var err error
	switch {
	case s.Kind == channel.Ack:
		err = c.ch.Ack(s.Tag, s.Multiple)
	case s.Method == Nack:
		err = c.ch.Nack(s.Tag, s.Multiple, s.Kind == channel.Requeue)
	default:
		err = c.ch.Reject(s.Tag, s.Kind == channel.Requeue)
	}
	return model.Reply{Code: code(err)}
}

// tell moves what was heard since the last time into h.
func (c *client) tell(h *model.Heard) {
	c.mu.Lock()
	h.Deliveries = append(h.Deliveries, c.deliveries...)
	c.deliveries = nil
	c.mu.Unlock()
	for len(c.returns) > 0 {
		r, ok := <-c.returns
		if !ok {
			break
		}
		r.Headers = c.n.table(r.Headers, c.n.here)
		h.Returns = append(h.Returns, model.Return{Exchange: c.n.here(r.Exchange), Key: c.n.here(r.RoutingKey), Message: r.Publishing})
	}
	for len(c.cancels) > 0 {
		tag, ok := <-c.cancels
		if !ok {
			break
		}
		h.Cancelled = append(h.Cancelled, tag)
	}
	var open []*channel.Confirmation
	for _, f := range c.confirms {
		select {
		case <-f.Done():
			if acked, err := f.Wait(context.Background()); err == nil {
				if h.Confirms == nil {
					h.Confirms = map[uint64]bool{}
				}
				h.Confirms[f.DeliveryTag] = acked
			}
		default:
			open = append(open, f)
		}
	}
	c.confirms = open
	if err := c.ch.Err(); err != nil && !c.told {
		c.told = true
		h.Closed = code(err)
	}
	if h.Closed != 0 {
		h.Deliveries = nil // what came before is void
	}
}
