package amqp

import (
	"context"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

var _ channel.Port = (*port)(nil)

// confirmBuffer is how many confirms may wait for run; they are told in runs of equal answers.
const confirmBuffer = 1024

// maxNacked bounds how many refused messages wait for a Flush to report them; the oldest are forgotten first.
const maxNacked = 65536

// port is one channel.
//
// The library sends its notices from the connection's reader, which waits until each is received. run receives them, so
// it may not wait for anything but the sink, which never blocks. Returns are received one by one, so a Return has been told when the
// reader comes to the Confirm behind it.
//
// Locks: sinkMu is held during calls of the sink, mu for moments; neither is held while the other is taken, nor while the
// library is called. sem is taken before either.
type port struct {
	t    *transport
	lib  *amqp091.Channel
	sink channel.Sink

	// sem is held during a synchronous method or a publish: the library knows one of them at a time.
	sem  chan struct{}
	sync chan chan struct{}     // asks run to have told all that it has received
	op   atomic.Pointer[string] // the method in progress, or the last without an answer, for errors

	closing atomic.Bool // our own Close has begun

	sinkMu sync.Mutex
	closed bool           // the sink has got Closed; guarded by sinkMu
	err    *channel.Error // with it; nil after our own Close
	done   chan struct{}  // closed with it: then err may be read

	ending     chan struct{} // closed when the library has closed the channel
	forwarders sync.WaitGroup

	mu        sync.Mutex // guards what follows
	ended     bool       // no forwarder starts any more
	consumers map[string]*consumer
	confirms  confirms
}

// confirms counts messages in confirm mode, for Flush.
type confirms struct {
	selected  bool
	published uint64 // number of the last message
	answered  uint64 // number of the last answer; they come in order
	nacked    []uint64
	waiters   []confirmWaiter
}

type confirmWaiter struct {
	number uint64
	c      chan struct{}
}

func newPort(t *transport, lib *amqp091.Channel, s channel.Sink) *port {
	return &port{
		t: t, lib: lib, sink: s, sem: make(chan struct{}, 1), sync: make(chan chan struct{}), done: make(chan struct{}), ending: make(chan struct{}),
		consumers: map[string]*consumer{},
	}
}

// notices are what the library tells of a channel.
type notices struct {
	closes    chan *amqp091.Error
	returns   chan amqp091.Return
	cancels   chan string
	confirmed chan amqp091.Confirmation
}

// listen registers for all notices. It comes before anything can happen on the channel: a listener that the library
// gets after the channel's end is closed without the reason.
func (p *port) listen() notices {
	return notices{
		closes:    p.lib.NotifyClose(make(chan *amqp091.Error, 1)),
		returns:   p.lib.NotifyReturn(make(chan amqp091.Return)),
		cancels:   p.lib.NotifyCancel(make(chan string)),
		confirmed: p.lib.NotifyPublish(make(chan amqp091.Confirmation, confirmBuffer)),
	}
}

// run hears the channel until it has ended.
func (p *port) run(n notices) {
	defer p.t.ports.Done()
	closes, returns, cancels, confirmed := n.closes, n.returns, n.cancels, n.confirmed
	var why *amqp091.Error
	for closes != nil || returns != nil || cancels != nil || confirmed != nil {
		select {
		case e, ok := <-closes:
			if !ok {
				closes = nil
			} else {
				why = e
			}
		case r, ok := <-returns:
			if !ok {
				returns = nil
			} else {
				p.tell(func() { p.sink.Return(fromReturn(&r)) })
			}
		case tag, ok := <-cancels:
			if !ok {
				cancels = nil
			} else {
				p.cancelled(tag)
			}
		case c, ok := <-confirmed:
			if !ok || !p.confirm(c, confirmed) {
				confirmed = nil
			}
		case told := <-p.sync:
			for len(confirmed) > 0 {
				if c, ok := <-confirmed; !ok || !p.confirm(c, confirmed) {
					confirmed = nil
				}
			}
			close(told)
		}
	}
	close(p.ending)
	p.mu.Lock()
	p.ended = true
	p.mu.Unlock()
	p.forwarders.Wait()
	p.finish(p.whyEnded(why))
}

// catchUp returns when the sink has been told all notices that came before an answer that is here.
func (p *port) catchUp() {
	told := make(chan struct{})
	select {
	case p.sync <- told:
		<-told
	case <-p.ending:
	}
}

// tell calls the sink, unless it has got its Closed.
func (p *port) tell(f func()) {
	p.sinkMu.Lock()
	defer p.sinkMu.Unlock()
	if !p.closed {
		f()
	}
}

// confirm tells an answer, and those that wait behind it, in runs of equal ones. False: there will be no more.
func (p *port) confirm(c amqp091.Confirmation, more <-chan amqp091.Confirmation) bool {
	first, last := c.DeliveryTag, c
	for range confirmBuffer {
		select {
		case c, ok := <-more:
			if ok && c.Ack == last.Ack {
				last = c
				continue
			}
			p.answered(first, last.DeliveryTag, last.Ack)
			if !ok {
				return false
			}
			first, last = c.DeliveryTag, c
			continue
		default:
		}
		break
	}
	p.answered(first, last.DeliveryTag, last.Ack)
	return true
}

func (p *port) answered(first, last uint64, ack bool) {
	p.tell(func() { p.sink.Confirm(last, last > first, ack) })
	p.mu.Lock()
	defer p.mu.Unlock()
	c := &p.confirms
	c.answered = last
	if !ack {
		for n := first; n <= last; n++ {
			c.nacked = append(c.nacked, n)
		}
		if over := len(c.nacked) - maxNacked; over > 0 {
			c.nacked = append(c.nacked[:0], c.nacked[over:]...)
		}
	}
	waiting := c.waiters[:0]
	for _, w := range c.waiters {
		if w.number <= last {
			close(w.c)
		} else {
			waiting = append(waiting, w)
		}
	}
	c.waiters = waiting
}

// whyEnded makes our error of the one with which the library closed the channel.
func (p *port) whyEnded(e *amqp091.Error) *channel.Error {
	t := p.t
	if p.closing.Load() && (e == nil || !e.Server) {
		return nil
	}
	if t.conn.IsClosed() {
		<-t.lost // comes at once: the connection is told before its channels
		if e == nil || e == t.lostErr {
			if t.reason == nil {
				return nil
			}
			own := *t.reason // the same end, seen from here
			own.Op = p.opFor(own.Op)
			return &own
		}
	}
	if e == nil {
		return nil
	}
	return &channel.Error{
		Code: e.Code, Text: plainText(e.Code, e.Reason), Op: p.opFor(t.wire.closes.method(e.Code, e.Reason)), Server: e.Server,
	}
}

// opFor names the entity too where the method at fault is the one in progress here.
func (p *port) opFor(method string) string {
	if op := p.op.Load(); op != nil && (method == "" || *op == method || strings.HasPrefix(*op, method+" ")) {
		return *op
	}
	return method
}

// finish tells the sink that the channel has ended, once.
func (p *port) finish(err *channel.Error) {
	p.sinkMu.Lock()
	defer p.sinkMu.Unlock()
	if p.closed {
		return
	}
	p.closed, p.err = true, err
	p.sink.Closed(err)
	close(p.done)
}

// giveUp ends the channel here and now, and on the server as soon as what is in progress there has been answered.
func (p *port) giveUp(err *channel.Error) {
	p.finish(err)
	p.t.spawn(func() {
		p.sem <- struct{}{} // the call in progress ends with an answer, or with the connection
		_ = p.lib.Close()
		<-p.sem
	})
}

// endError is what calls return once the channel has ended. It may be called only when it is ending.
func (p *port) endError() error {
	<-p.done
	if p.err != nil {
		return p.err
	}
	return channel.ErrClosed
}

// failed makes the error to return of one of the library's: that of the channel's end, if it was one.
func (p *port) failed(err error, op string) error {
	if p.lib.IsClosed() || p.t.conn.IsClosed() || p.t.wire.ended() {
		return p.endError()
	}
	return fromError(err, op)
}

// lock takes sem, or says why the channel cannot be used.
func (p *port) lock(ctx context.Context, op string) error {
	select {
	case p.sem <- struct{}{}:
	default:
		select {
		case p.sem <- struct{}{}:
		case <-ctx.Done():
			return contextError(ctx, op)
		case <-p.done:
			return p.endError()
		}
	}
	select {
	case <-p.done:
		<-p.sem
		return p.endError()
	default:
		return nil
	}
}

// exchange runs f, which asks the server something and waits for its answer, under sem. When ctx ends first, the
// channel is given up. Without answered, f waits for none, and an error of the server may still come.
func (p *port) exchange(ctx context.Context, op string, answered bool, f func() error) error {
	if ctx.Err() != nil {
		return contextError(ctx, op)
	}
	if err := p.lock(ctx, op); err != nil {
		return err
	}
	run := func() error {
		p.op.Store(&op)
		err := f()
		if err == nil && answered {
			p.op.Store(nil)
		}
		<-p.sem
		return err
	}
	if ctx.Done() == nil {
		return run()
	}
	result := make(chan error, 1)
	started := p.t.spawn(func() { result <- run() })
	if !started {
		<-p.sem
		return p.endError()
	}
	select {
	case err := <-result:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-result: // both at once
		return err
	default:
	}
	err := contextError(ctx, op)
	if p.closing.Load() {
		p.giveUp(nil)
	} else {
		p.giveUp(&channel.Error{Code: channel.ChannelErrorCode, Op: op, Text: "given up before its answer came", Cause: context.Cause(ctx)})
	}
	return err
}

// Publish writes the message into the wire's buffer.
func (p *port) Publish(ctx context.Context, m *channel.Publish) error {
	const op = "basic.publish"
	if ctx.Err() != nil {
		return contextError(ctx, op)
	}
	out, err := toPublishing(&m.Publishing)
	if err != nil {
		return &channel.Error{Code: channel.SyntaxError, Op: op, Text: err.Error()}
	}
	if err := p.lock(ctx, op); err != nil {
		return err
	}
	defer func() { <-p.sem }()
	if p.t.wire.waitRoom(ctx) != nil {
		return contextError(ctx, op)
	}
	if err := p.lib.Publish(m.Exchange, m.Key, m.Mandatory, m.Immediate, out); err != nil {
		return p.failed(err, op)
	}
	p.mu.Lock()
	if p.confirms.selected {
		p.confirms.published++
	}
	p.mu.Unlock()
	return nil
}

// Settle writes the answer into the wire's buffer.
func (p *port) Settle(s channel.Settle) error {
	select {
	case <-p.done:
		return p.endError()
	default:
	}
	var err error
	switch {
	case s.Kind == channel.Ack:
		err = p.lib.Ack(s.Tag, s.Multiple)
	case s.Method == "basic.reject" && !s.Multiple:
		err = p.lib.Reject(s.Tag, s.Kind != channel.Nack)
	default:
		err = p.lib.Nack(s.Tag, s.Multiple, s.Kind != channel.Nack)
	}
	if err != nil {
		return p.failed(err, s.Method)
	}
	return nil
}

// roundTrip returns when the server has processed all that was sent on this channel: it answers methods in order, and
// turning the flow on, which it never is off, changes nothing.
func (p *port) roundTrip() error {
	if err := p.lib.Flow(true); err != nil {
		return p.failed(err, "channel.flow")
	}
	p.catchUp()
	return nil
}

func (p *port) SettleWait(ctx context.Context, s channel.Settle) error {
	return p.exchange(ctx, s.Method, true, func() error {
		if err := p.Settle(s); err != nil {
			return err
		}
		return p.roundTrip()
	})
}

func (p *port) Flush(ctx context.Context) error {
	const op = "flush"
	var wait chan struct{}
	err := p.exchange(ctx, op, true, func() error {
		p.mu.Lock()
		if c := &p.confirms; c.answered < c.published {
			wait = make(chan struct{})
			c.waiters = append(c.waiters, confirmWaiter{c.published, wait})
		}
		p.mu.Unlock()
		return p.roundTrip()
	})
	if err != nil {
		return err
	}
	if wait != nil {
		select {
		case <-wait:
		case <-p.done:
			return p.endError()
		case <-ctx.Done():
			return contextError(ctx, op)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if lost := p.confirms.nacked; len(lost) > 0 {
		p.confirms.nacked = nil
		return &channel.LostError{Numbers: lost}
	}
	return nil
}

func (p *port) Close(ctx context.Context) error {
	const op = "channel.close"
	p.closing.Store(true)
	if ctx.Err() != nil {
		p.giveUp(nil)
		return nil
	}
	err := p.exchange(ctx, op, true, func() error {
		_ = p.lib.Close() // how it ended, run says
		<-p.done
		return nil
	})
	if err != nil && ctx.Err() != nil {
		return err
	}
	<-p.done
	if p.err != nil {
		return p.err
	}
	return nil
}

func itoa(n int) string { return strconv.Itoa(n) }
