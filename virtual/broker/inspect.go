package broker

import (
	"cmp"
	"context"
	"slices"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
)

// Explain tells which bindings lead a message to which queues, and why others do not match.
func (c *conn) Explain(ctx context.Context, name, key string, headers channel.Table) (string, error) {
	if err := c.b.refresh(ctx); err != nil {
		return "", unstored("explain", err)
	}
	c.b.top.mu.RLock()
	defer c.b.top.mu.RUnlock()
	return c.b.top.routes.Explain(name, &exchange.Message{Key: key, Headers: headers}).String(), nil
}

// Topology lists what is declared in the vhost.
func (c *conn) Topology(ctx context.Context) (*channel.Topology, error) {
	b := c.b
	if err := b.refresh(ctx); err != nil {
		return nil, unstored("topology", err)
	}
	t := &channel.Topology{}
	var queues []*queueState
	b.top.mu.RLock()
	for name, x := range b.top.exchanges {
		t.Exchanges = append(t.Exchanges, channel.ExchangeInfo{
			Name: name, Type: x.rec.Type, Durable: x.rec.Durable, AutoDelete: x.rec.AutoDelete, Internal: x.rec.Internal, Args: channel.Table(x.rec.Args),
		})
	}
	for name, q := range b.top.queues {
		queues = append(queues, q)
		t.Queues = append(t.Queues, channel.QueueInfo{
			Name: name, Durable: q.rec.Durable, AutoDelete: q.rec.AutoDelete, Exclusive: q.rec.Owner != "", Args: channel.Table(q.rec.Args),
			Consumers: len(q.consumers),
		})
	}
	b.top.routes.Bindings(func(x exchange.Binding) bool {
		t.Bindings = append(t.Bindings, channel.BindingInfo{
			Source: x.Source, Destination: x.Destination, ToExchange: x.ToExchange, Key: x.Key, Args: x.Args,
		})
		return true
	})
	b.top.mu.RUnlock()
	for i, q := range queues {
		n, err := b.ready(ctx, q)
		if err != nil {
			return nil, unstored("topology", err)
		}
		t.Queues[i].Ready = n
		if p := b.pumpOf(q.ref); p != nil {
			if from := p.tenure.Load(); from != nil {
				t.Queues[i].Unacked = int(from.held.Load())
			}
		}
	}
	slices.SortFunc(t.Exchanges, func(a, b channel.ExchangeInfo) int { return cmp.Compare(a.Name, b.Name) })
	slices.SortFunc(t.Queues, func(a, b channel.QueueInfo) int { return cmp.Compare(a.Name, b.Name) })
	return t, nil
}

var _ channel.Inspector = (*conn)(nil)
