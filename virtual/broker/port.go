package broker

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/virtual"
)

// port is the broker's side of one channel. mu guards its state and orders what its sink hears.
type port struct {
	b    *Broker
	conn *conn
	sink channel.Sink

	mu        sync.Mutex
	closed    *channel.Error // the first error; channel.ErrClosed after our own Close
	lastQueue string
	consumers map[string]*consumer
	unacked   unacked
	tag       uint64 // last delivery tag
	out       []channel.Delivered

	// Windows, see window.go.
	prefetch, prefetchSize int // of consumers to come
	global, globalSize     int // of the channel as a whole; 0: none
	count, bytes           int // unacked deliveries of consumers, and their bodies
	reserved               int // room promised to pumps
	stopped                bool

	confirming bool
	numbers    uint64 // publishes accepted, since confirm.select if that was called
	lost       []uint64
	lostCause  error
	tx         *transaction

	result exchange.Result // scratch of Publish, which the caller serialises
}

func newPort(c *conn, s channel.Sink) *port {
	return &port{b: c.b, conn: c, sink: s, consumers: map[string]*consumer{}}
}

// Call performs a method. An error that AMQP answers by closing does that here, whatever found it.
func (p *port) Call(ctx context.Context, m channel.Method) (channel.Reply, error) {
	p.mu.Lock()
	closed := p.closed
	p.mu.Unlock()
	if closed != nil {
		return channel.Reply{}, closed
	}
	err := p.b.settled(ctx)
	var r channel.Reply
	if err == nil {
		r, err = p.call(ctx, m)
	}
	if err == nil {
		return r, nil
	}
	e, isAMQP := err.(*channel.Error)
	switch {
	case !isAMQP || e.Code == channel.InternalError && e.Cause != nil && ctx.Err() != nil:
		if ctx.Err() != nil { // nobody knows what happened
			p.fail(fail(channel.ChannelErrorCode, channel.MethodName(m), "context ended before the answer"))
		}
	case e.Code == channel.InternalError: // the store did not answer: nothing is closed
	default:
		p.raise(e)
		if channel.NoAnswer(m) {
			return channel.Reply{}, nil // told by the closing, as by a server
		}
	}
	if ctx.Err() != nil && (!isAMQP || e.Code == channel.InternalError) {
		return channel.Reply{}, ctx.Err()
	}
	return channel.Reply{}, err
}

// call dispatches. Those whose place in the order matters tell the sink themselves.
func (p *port) call(ctx context.Context, m channel.Method) (r channel.Reply, err error) {
	told := false
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		err = p.exchangeDeclare(ctx, m)
	case *channel.ExchangeDelete:
		err = p.exchangeDelete(ctx, m)
	case *channel.ExchangeBind:
		err = p.exchangeBind(ctx, m)
	case *channel.QueueDeclare:
		r, err = p.queueDeclare(ctx, m)
	case *channel.QueueBind:
		err = p.queueBind(ctx, m)
	case *channel.QueueDelete:
		r.Messages, err = p.queueDelete(ctx, m)
	case *channel.QueuePurge:
		r.Messages, err = p.queuePurge(ctx, m)
	case *channel.Qos:
		p.qos(ctx, m)
	case *channel.Consume:
		told = true
		r, err = p.consume(ctx, m)
	case *channel.Cancel:
		told = true
		r, err = p.cancel(ctx, m)
	case *channel.Get:
		told = true
		r, err = p.get(ctx, m)
	case *channel.Recover:
		told = true
		err = p.recover(ctx, m)
	case *channel.Flow:
		p.flow(ctx, m)
	case *channel.ConfirmSelect:
		err = p.confirmSelect()
	case *channel.TxSelect:
		err = p.txSelect()
	case *channel.TxCommit:
		told = true
		err = p.txCommit(ctx)
	case *channel.TxRollback:
		err = p.txRollback()
	default:
		err = failConn(channel.CommandInvalid, "", "unknown method %T", m)
	}
	if err != nil {
		return channel.Reply{}, err
	}
	p.uses(m)
	r.Method = m
	if !told && !channel.NoAnswer(m) {
		p.reply(r)
	}
	return r, nil
}

func (p *port) reply(r channel.Reply) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed == nil {
		p.sink.Reply(r)
	}
}

// raise closes what the error is about: the channel, or the connection.
func (p *port) raise(e *channel.Error) {
	if e.Connection {
		p.conn.fail(e)
		return
	}
	p.fail(e)
}

// fail closes the channel for an error, in the background: its user hears of it when its messages are on their way back.
func (p *port) fail(why *channel.Error) {
	left, first := p.end(why)
	background := first && p.b.spawn(func() {
		left.requeueSoon()
		p.tellClosed(why)
		_ = left.unregister(p.b.ctx)
	})
	if first && !background {
		p.tellClosed(why)
	}
}

// drop closes the channel at once; what it leaves behind is cleaned up in the background, unless the broker has gone.
func (p *port) drop(why *channel.Error) {
	left, first := p.end(why)
	if !first {
		return
	}
	p.tellClosed(why)
	p.b.spawn(func() {
		left.requeueSoon()
		_ = left.unregister(p.b.ctx)
	})
}

// finish closes the channel within ctx, having stored what was published and settled.
func (p *port) finish(ctx context.Context, why *channel.Error) error {
	flushed := p.b.committer.flush(ctx)
	left, first := p.end(why)
	if !first {
		return nil
	}
	left.requeue(ctx)
	err := errors.Join(flushed, p.b.settler.flush(ctx), left.unregister(ctx))
	p.tellClosed(why)
	return err
}

// Close closes the channel.
func (p *port) Close(ctx context.Context) error {
	if ctx.Err() != nil {
		p.drop(nil)
		return nil
	}
	return p.finish(ctx, nil)
}

// leftover is what a closed channel leaves to be cleaned up.
type leftover struct {
	p         *port
	consumers []*consumer
	unacked   []entry
	kept      []entry // of auto-delete queues that go with these consumers
}

// end closes the channel: no call gets through any more, and the sink hears nothing but its Closed, which the caller
// gives it by tellClosed.
func (p *port) end(why *channel.Error) (left leftover, first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed != nil {
		return leftover{}, false
	}
	p.closed = why
	if why == nil {
		p.closed = channel.ErrClosed
	}
	p.conn.open.Add(-1)
	left.p = p
	for _, c := range p.consumers {
		c.gone = true
		left.consumers = append(left.consumers, c)
	}
	p.consumers = map[string]*consumer{}
	left.unacked = p.unacked.takeAll()
	p.count, p.bytes, p.tx = 0, 0, nil
	return left, true
}

func (p *port) tellClosed(why *channel.Error) {
	p.mu.Lock()
	p.sink.Closed(why)
	p.mu.Unlock()
	p.conn.forget(p)
}

// requeue gives the messages back, before the consumers end: so who takes over gets in order what they had. First it
// waits for what is on its way to them, or a pump could take for them again what was just given back. What belongs to a
// queue that goes with them does not come back: no dead letter may come of it.
func (l *leftover) requeue(ctx context.Context) {
	going := l.going()
	for _, c := range l.consumers {
		c.pump.dismiss(ctx, c, going[c.pump.q.ref])
	}
	if len(going) > 0 {
		l.unacked = slices.DeleteFunc(l.unacked, func(e entry) bool {
			if going[e.msg.Queue] {
				l.kept = append(l.kept, e)
			}
			return going[e.msg.Queue]
		})
	}
	l.p.b.giveBack(l.unacked)
}

// going returns the auto-delete queues that have no other consumers, as far as the view knows.
func (l *leftover) going() map[virtual.QueueRef]bool {
	ours := map[virtual.QueueRef]int{}
	for _, c := range l.consumers {
		if c.pump.q.rec.AutoDelete {
			ours[c.pump.q.ref]++
		}
	}
	if len(ours) == 0 {
		return nil
	}
	going := map[virtual.QueueRef]bool{}
	t := l.p.b.top
	t.mu.RLock()
	defer t.mu.RUnlock()
	for ref, n := range ours {
		if q := t.live[ref.Incarnation]; q != nil && len(q.consumers) == n {
			going[ref] = true
		}
	}
	return going
}

// requeueSoon is requeue that does not wait long for a store that does not answer: the user is to hear of the end.
func (l *leftover) requeueSoon() {
	ctx, stop := context.WithTimeout(l.p.b.ctx, time.Second)
	defer stop()
	l.requeue(ctx)
}

// unregister ends the consumers for the other processes. An auto-delete queue that somebody else has come to meanwhile
// gets back what it had.
func (l *leftover) unregister(ctx context.Context) error {
	err := l.p.b.settler.flush(ctx)
	for _, c := range l.consumers {
		if e := l.p.b.unregister(ctx, c); err == nil {
			err = e
		}
	}
	if len(l.kept) == 0 {
		return err
	}
	l.p.b.top.mu.RLock()
	l.kept = slices.DeleteFunc(l.kept, func(e entry) bool { return l.p.b.top.live[e.msg.Queue.Incarnation] == nil })
	l.p.b.top.mu.RUnlock()
	l.p.b.giveBack(l.kept)
	return errors.Join(err, l.p.b.settler.flush(ctx))
}
