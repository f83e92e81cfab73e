package amqp

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

var _ channel.Transport = (*transport)(nil)

// transport is one connection. Its goroutines: the library's reader and heartbeats, the wire's writer, watch, one run for
// each port with one forward for each of its consumers, and one for each call whose context can end.
type transport struct {
	conn *amqp091.Connection
	wire *wire
	sink channel.ConnectionSink
	info channel.Info

	dropped atomic.Bool   // we end without goodbye
	closing atomic.Bool   // our own Close has begun
	closed  chan struct{} // closed when the first Close has done its work

	lost    chan struct{}  // closed when the library has said how the connection ended
	lostErr *amqp091.Error // what it said; nil after an orderly close
	reason  *channel.Error // the same as ours, nil when we wanted it
	done    chan struct{}  // closed after the sink's Closed

	mu    sync.Mutex // guards what follows
	ended bool       // no port is added any more
	over  bool       // no call is started any more
	ports sync.WaitGroup
	calls sync.WaitGroup
}

func newTransport(conn *amqp091.Connection, w *wire, info channel.Info, s channel.ConnectionSink) *transport {
	t := &transport{
		conn: conn, wire: w, sink: s, info: info,
		closed: make(chan struct{}), lost: make(chan struct{}), done: make(chan struct{}),
	}
	closes := conn.NotifyClose(make(chan *amqp091.Error, 1))
	blocks := conn.NotifyBlocked(make(chan amqp091.Blocking, 16))
	go t.watch(closes, blocks)
	return t
}

func (t *transport) Info() channel.Info { return t.info }

// watch hears what concerns the whole connection until it has ended.
func (t *transport) watch(closes <-chan *amqp091.Error, blocks <-chan amqp091.Blocking) {
	told := false
	for closes != nil || blocks != nil {
		select {
		case e, ok := <-closes:
			if ok {
				t.lostErr = e
			} else {
				closes = nil
			}
			if !told {
				told = true
				t.reason = t.whyEnded()
				close(t.lost)
			}
		case b, ok := <-blocks:
			switch {
			case !ok:
				blocks = nil
			case b.Active:
				t.sink.Event(channel.Event{Kind: channel.EventBlocked, Reason: b.Reason})
			default:
				t.sink.Event(channel.Event{Kind: channel.EventUnblocked})
			}
		}
	}
	t.mu.Lock()
	t.ended = true
	t.mu.Unlock()
	t.ports.Wait()
	t.sink.Closed(t.reason)
	close(t.done)
}

// whyEnded makes our error of the library's. An end that we asked for is none, however the network took it.
func (t *transport) whyEnded() *channel.Error {
	e := t.lostErr
	if t.dropped.Load() || t.closing.Load() && (e == nil || !e.Server) {
		return nil
	}
	if e != nil && e.Server {
		return &channel.Error{
			Code: e.Code, Text: plainText(e.Code, e.Reason), Op: t.wire.closes.method(e.Code, e.Reason), Server: true, Connection: true,
		}
	}
	out := &channel.Error{Code: channel.ConnectionForced, Text: "connection lost", Connection: true, Cause: t.wire.failure()}
	if out.Cause == nil && e != nil { // it is the client that was not content
		out.Code, out.Text = e.Code, e.Reason
	}
	return out
}

// endError is what calls return once the connection has ended.
func (t *transport) endError() error {
	<-t.done
	if t.reason != nil {
		return t.reason
	}
	return channel.ErrClosed
}

// spawn runs f on a goroutine that Close joins; false: the connection is over.
func (t *transport) spawn(f func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.over {
		return false
	}
	t.calls.Go(f)
	return true
}

func (t *transport) OpenChannel(ctx context.Context, s channel.Sink) (channel.Port, error) {
	const op = "channel.open"
	if ctx.Err() != nil {
		return nil, contextError(ctx, op)
	}
	if t.closing.Load() {
		return nil, channel.ErrClosed
	}
	type opened struct {
		port *port
		err  error
	}
	result := make(chan opened)
	started := t.spawn(func() {
		p, err := t.openPort(s)
		select {
		case result <- opened{p, err}:
		case <-ctx.Done(): // nobody waits: the channel is closed again
			if err == nil {
				p.giveUp(nil)
			}
		}
	})
	if !started {
		return nil, t.endError()
	}
	select {
	case r := <-result:
		if r.err != nil {
			return nil, r.err
		}
		return r.port, nil
	case <-ctx.Done():
		return nil, contextError(ctx, op)
	}
}

func (t *transport) openPort(s channel.Sink) (*port, error) {
	lib, err := t.conn.Channel()
	switch {
	case errors.Is(err, amqp091.ErrChannelMax):
		return nil, &channel.Error{Code: channel.NotAllowed, Op: "channel.open", Text: "all " + itoa(t.info.ChannelMax) + " channels of the connection are open"}
	case err != nil && (t.conn.IsClosed() || t.wire.ended()):
		return nil, t.endError()
	case err != nil:
		return nil, fromError(err, "channel.open")
	}
	p := newPort(t, lib, s)
	t.mu.Lock()
	if t.ended {
		t.mu.Unlock()
		return nil, t.endError()
	}
	t.ports.Add(1)
	t.mu.Unlock()
	go p.run(p.listen()) // the argument is evaluated here, before the goroutine starts
	return p, nil
}

// drop ends the connection without goodbye.
func (t *transport) drop() {
	t.dropped.Store(true)
	t.wire.drop()
}

// Close says goodbye: the server has processed all that was sent on every channel before it answers.
func (t *transport) Close(ctx context.Context) error {
	if !t.closing.CompareAndSwap(false, true) {
		if ctx.Err() != nil {
			t.drop()
		}
		<-t.closed
		return nil
	}
	defer close(t.closed)
	var err error
	if ctx.Err() != nil {
		t.drop()
	} else {
		stop := context.AfterFunc(ctx, t.drop)
		err = t.conn.Close()
		if !stop() && err != nil {
			err = context.Cause(ctx)
		}
	}
	<-t.done
	t.mu.Lock()
	t.over = true
	t.mu.Unlock()
	t.calls.Wait()
	t.wire.join()
	switch {
	case err == nil, errors.Is(err, amqp091.ErrClosed): // closed before: why is known
		return nil
	case t.reason != nil:
		return t.reason
	case ctx.Err() != nil:
		return err
	}
	return nil // the peer hung up on our goodbye
}
