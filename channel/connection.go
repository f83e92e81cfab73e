package channel

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Connection is an open AMQP connection: a set of channels that end together. It is safe for concurrent use.
type Connection struct {
	t      Transport
	info   Info
	done   chan struct{}
	err    atomic.Pointer[Error] // the first error; ErrClosed after our own Close
	ending atomic.Bool

	mu       sync.Mutex
	channels map[*Channel]struct{}

	closes notifier[*Error]
	events notifier[Event]
}

// Connect makes a Connection of a Transport that open returns. Dial does this for registered schemes.
func Connect(ctx context.Context, open func(ctx context.Context, s ConnectionSink) (Transport, error)) (*Connection, error) {
	c := &Connection{done: make(chan struct{}), channels: map[*Channel]struct{}{}}
	t, err := open(ctx, connectionSink{c})
	if err != nil {
		return nil, err
	}
	c.t, c.info = t, t.Info()
	return c, nil
}

// Info tells what is known of the connection. It is constant.
func (c *Connection) Info() Info { return c.info }

// Transport returns what the connection stands on, for optional interfaces such as Inspector.
func (c *Connection) Transport() Transport { return c.t }

// Done is closed when the connection has ended.
func (c *Connection) Done() <-chan struct{} { return c.done }

// Err returns nil while the connection is open, then why it ended: ErrClosed after our own Close.
func (c *Connection) Err() error {
	if e := c.err.Load(); e != nil {
		return e
	}
	return nil
}

// IsClosed reports whether the connection has ended or is being closed.
func (c *Connection) IsClosed() bool { return c.ending.Load() || c.err.Load() != nil }

// Channel opens a channel. With more open than the server allows it returns an error with code NotAllowed (530), and
// the connection is unharmed.
func (c *Connection) Channel(ctx context.Context) (*Channel, error) {
	const op = "channel.open"
	if err := ctx.Err(); err != nil {
		return nil, contextErr(ctx, op)
	}
	if c.ending.Load() {
		return nil, c.closedError(op)
	}
	ch := newChannel(c)
	c.mu.Lock()
	c.channels[ch] = struct{}{}
	c.mu.Unlock()
	port, err := c.t.OpenChannel(ctx, channelSink{ch})
	if err != nil {
		c.forget(ch)
		if e := c.err.Load(); e != nil {
			return nil, e
		}
		return nil, err
	}
	ch.port = port
	return ch, nil
}

func (c *Connection) closedError(op string) error {
	if e := c.err.Load(); e != nil {
		return e
	}
	return &Error{Code: ErrClosed.Code, Text: ErrClosed.Text, Op: op}
}

func (c *Connection) forget(ch *Channel) {
	c.mu.Lock()
	delete(c.channels, ch)
	c.mu.Unlock()
}

// Close closes the connection and all its channels: what was published is stored, acks are sent, messages nobody
// answered go back to their queues. It returns within ctx; with a ctx that has ended it drops everything at once,
// as a killed process would. A second Close is harmless.
func (c *Connection) Close(ctx context.Context) error {
	c.ending.Store(true)
	c.mu.Lock()
	open := make([]*Channel, 0, len(c.channels))
	for ch := range c.channels {
		open = append(open, ch)
	}
	c.mu.Unlock()
	if ctx.Err() == nil {
		for _, ch := range open {
			ch.giveBackUnseen()
		}
	}
	lost := c.err.Load() != nil // then there is nobody to say goodbye to
	err := c.t.Close(ctx)
	<-c.done
	for _, ch := range open {
		ch.goroutines.join()
	}
	if err != nil && !lost {
		return fmt.Errorf("connection.close: %w", err)
	}
	return nil
}

// NotifyClose registers a chan that gets the error with which the connection ends, if any, and is closed then. Give it
// room for one. After the end it is closed at once.
func (c *Connection) NotifyClose(receiver chan *Error) chan *Error { return c.closes.add(receiver) }

// NotifyEvents registers a chan for the events of the connection and its consumers. A reader that lags loses the
// oldest beyond 65,536; it never holds anything up. The chan is closed when the connection ends.
func (c *Connection) NotifyEvents(receiver chan Event) chan Event { return c.events.add(receiver) }

// connectionSink keeps the methods of ConnectionSink off Connection's own method set.
type connectionSink struct{ c *Connection }

func (s connectionSink) Event(e Event) { s.c.events.send(e) }

func (s connectionSink) Closed(err *Error) {
	c := s.c
	first := err
	if first == nil {
		first = ErrClosed
	}
	if !c.err.CompareAndSwap(nil, first) {
		return
	}
	c.ending.Store(true)
	if err != nil {
		c.closes.send(err)
	}
	c.closes.close()
	c.events.close()
	close(c.done)
}
