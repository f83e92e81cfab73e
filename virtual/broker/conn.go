package broker

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/dashi-mq/dashi/channel"
)

// conn is one connection: channel.Transport on a broker.
type conn struct {
	b    *Broker
	id   string
	sink channel.ConnectionSink

	open atomic.Int32 // channels that count: those that are not closed

	mu     sync.Mutex
	ports  map[*port]struct{}
	closed *channel.Error // why no channel can be opened any more
	ended  chan struct{}  // closed when Closed was told
}

func newConn(b *Broker, s channel.ConnectionSink) *conn {
	return &conn{b: b, id: newName(), sink: s, ports: map[*port]struct{}{}, ended: make(chan struct{})}
}

// Info tells what the connection stands on.
func (c *conn) Info() channel.Info {
	return channel.Info{
		Product: "dashi on " + c.b.traits.Name, URL: c.b.o.URL, User: c.b.o.User, Vhost: c.b.o.Vhost,
		ChannelMax: max(0, c.b.o.ChannelMax), Virtual: true,
	}
}

// OpenChannel opens a channel.
func (c *conn) OpenChannel(ctx context.Context, s channel.Sink) (channel.Port, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return nil, c.closed
	}
	if n := int(c.open.Load()); c.b.o.ChannelMax > 0 && n >= c.b.o.ChannelMax {
		return nil, fail(channel.NotAllowed, "channel.open", "%d channels are open, as many as this connection may have", n)
	}
	p := newPort(c, s)
	c.ports[p] = struct{}{}
	c.open.Add(1)
	return p, nil
}

// Close closes the connection.
func (c *conn) Close(ctx context.Context) error {
	return c.end(ctx, nil)
}

// end closes the connection, for a reason that is not its own doing when why is set. With an ended ctx it drops: what
// it leaves behind is cleaned up by the broker, as a server does after a socket broke, unless the broker is gone too.
func (c *conn) end(ctx context.Context, why *channel.Error) error {
	ports, first := c.shut(why)
	if !first {
		select {
		case <-c.ended:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	var err error
	if ctx.Err() == nil && c.b.ctx.Err() == nil {
		for _, p := range ports {
			err = errors.Join(err, p.finish(ctx, why))
		}
		err = errors.Join(err, c.dropExclusive(ctx))
	} else {
		for _, p := range ports {
			p.drop(why)
		}
		if c.b.ctx.Err() == nil {
			c.b.spawn(func() { _ = c.dropExclusive(c.b.ctx) })
		}
	}
	c.tellClosed(why)
	return err
}

// fail closes the connection for an error that one of its channels made, in the background.
func (c *conn) fail(why *channel.Error) {
	ports, first := c.shut(why)
	if !first {
		return
	}
	left := map[*port]leftover{}
	for _, p := range ports {
		if l, open := p.end(why); open {
			left[p] = l
		}
	}
	background := c.b.spawn(func() {
		for p, l := range left {
			l.requeueSoon()
			p.tellClosed(why)
		}
		c.tellClosed(why)
		for _, l := range left {
			_ = l.unregister(c.b.ctx)
		}
		_ = c.dropExclusive(c.b.ctx)
	})
	if !background {
		for p := range left {
			p.tellClosed(why)
		}
		c.tellClosed(why)
	}
}

// shut keeps further channels out and returns those there are; first says whether this was the first time.
func (c *conn) shut(why *channel.Error) (ports []*port, first bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed != nil {
		return nil, false
	}
	c.closed = why
	if why == nil {
		c.closed = channel.ErrClosed
	}
	for p := range c.ports {
		ports = append(ports, p)
	}
	return ports, true
}

func (c *conn) tellClosed(why *channel.Error) {
	c.b.mu.Lock()
	delete(c.b.conns, c)
	c.b.mu.Unlock()
	c.sink.Closed(why)
	close(c.ended)
}

func (c *conn) forget(p *port) {
	c.mu.Lock()
	delete(c.ports, p)
	c.mu.Unlock()
}

// dropExclusive deletes the queues that belong to the connection.
func (c *conn) dropExclusive(ctx context.Context) error {
	b := c.b
	var mine []*queueState
	b.top.mu.RLock()
	for _, q := range b.top.queues {
		if q.rec.Owner == c.id {
			mine = append(mine, q)
		}
	}
	b.top.mu.RUnlock()
	var err error
	for _, q := range mine {
		err = errors.Join(err, b.deleteQueue(ctx, q))
	}
	return err
}
