package channel

import (
	"context"
	"fmt"
	"sync"
)

// Publish hands a message to an exchange. It waits only while too much is not yet stored; the message is safe when
// its confirm arrives, or after Flush. An unknown exchange closes the channel with NotFound (404), some time later.
// Body and Headers are the caller's again when it returns, unless msg.NoCopy is set.
func (ch *Channel) Publish(ctx context.Context, exchange, key string, msg Publishing) error {
	_, err := ch.publish(ctx, exchange, key, &msg, false)
	return err
}

// PublishDeferred is Publish on a channel in confirm mode that returns the message's confirmation to come.
func (ch *Channel) PublishDeferred(ctx context.Context, exchange, key string, msg Publishing) (*Confirmation, error) {
	return ch.publish(ctx, exchange, key, &msg, true)
}

func (ch *Channel) publish(ctx context.Context, exchange, key string, msg *Publishing, deferred bool) (*Confirmation, error) {
	const op = "basic.publish"
	if err := checkPublish(exchange, key, msg); err != nil {
		return nil, err
	}
	if err := ch.enter(ctx, op); err != nil {
		return nil, err
	}
	defer ch.call.unlock()
	c, awaited, err := ch.confirms.expect(deferred)
	if err != nil {
		return nil, err
	}
	p := &ch.scratch
	p.Exchange, p.Key, p.Publishing, p.Awaited = exchange, key, *msg, awaited
	p.Headers = CloneTable(p.Headers)
	err = ch.port.Publish(ctx, p)
	p.Body, p.Headers = nil, nil // not to be kept alive from here
	if err != nil {
		ch.confirms.withdraw()
		if e := ch.err.Load(); e != nil && e != ErrClosed {
			return nil, e
		}
		return nil, err
	}
	return c, nil
}

// shortFields names the short strings of a publish, as checkPublish goes through them.
var shortFields = [...]string{
	"exchange", "routing key", "content type", "content encoding", "correlation id", "reply-to", "expiration", "message id", "type", "user id", "app id",
}

// checkPublish refuses what cannot be encoded. Ranges and the like are the broker's to judge.
func checkPublish(exchange, key string, m *Publishing) error {
	const op = "basic.publish"
	for i, f := range [...]string{
		exchange, key, m.ContentType, m.ContentEncoding, m.CorrelationId, m.ReplyTo, m.Expiration, m.MessageId, m.Type, m.UserId, m.AppId,
	} {
		if f == "" {
			continue
		}
		if err := checkShort(shortFields[i], f); err != nil {
			return invalid(op, "%v", err)
		}
	}
	if len(m.Headers) > 0 {
		if err := ValidateTable(m.Headers); err != nil {
			return invalid(op, "headers: %v", err)
		}
	}
	return nil
}

// Confirm puts the channel into confirm mode: from now on every message gets a number, counted from 1, and is acked or
// nacked by it (https://www.rabbitmq.com/confirms.html). Selecting twice is no error.
func (ch *Channel) Confirm(ctx context.Context, flags ...Flag) error {
	const op = "confirm.select"
	if err := ch.enter(ctx, op); err != nil {
		return err
	}
	defer ch.call.unlock()
	_, err := ch.callLocked(ctx, &ConfirmSelect{NoWait: noWait(flags)})
	if err == nil {
		ch.confirms.enable()
	}
	return err
}

// GetNextPublishSeqNo returns the number the next message gets, or 0 when the channel is not in confirm mode.
func (ch *Channel) GetNextPublishSeqNo() uint64 { return ch.confirms.next() }

// Flush returns when all that was published and answered before has reached the store. A *LostError lists the
// messages that were refused since the last Flush.
func (ch *Channel) Flush(ctx context.Context) error {
	const op = "flush"
	if err := ctx.Err(); err != nil {
		return contextErr(ctx, op)
	}
	if e := ch.err.Load(); e != nil {
		return ch.closedError(e, op)
	}
	return ch.port.Flush(ctx)
}

// Confirmation is the answer to one published message, to come.
type Confirmation struct {
	// DeliveryTag is the message's number on its channel, from 1.
	DeliveryTag uint64

	t     *confirms
	state confirmState  // guarded by t.mu
	err   *Error        // with state failed
	done  chan struct{} // made when somebody waits
}

type confirmState uint8

const (
	confirmPending confirmState = iota
	confirmAcked
	confirmNacked
	confirmFailed
)

var closedChan = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Done is closed when the answer is there.
func (c *Confirmation) Done() <-chan struct{} {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.doneLocked()
}

func (c *Confirmation) doneLocked() <-chan struct{} {
	if c.state != confirmPending {
		return closedChan
	}
	if c.done == nil {
		c.done = make(chan struct{})
	}
	return c.done
}

// Acked reports whether the message has been acked: stored in every queue it was routed to.
func (c *Confirmation) Acked() bool {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	return c.state == confirmAcked
}

// Wait returns true when the message was acked and false when it was nacked: the broker could not store it, or a queue
// refused it. When the channel ends before, the error says why, and whether the message was stored is not known.
func (c *Confirmation) Wait(ctx context.Context) (acked bool, err error) {
	done := c.awaited()
	select {
	case <-done:
	default:
		select {
		case <-done:
		case <-ctx.Done():
			return false, contextErr(ctx, fmt.Sprintf("confirm of message %d", c.DeliveryTag))
		}
	}
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.state == confirmFailed {
		return false, c.err
	}
	return c.state == confirmAcked, nil
}

// awaited is Done of who waits for nothing else.
func (c *Confirmation) awaited() <-chan struct{} {
	c.t.mu.Lock()
	defer c.t.mu.Unlock()
	if c.DeliveryTag == c.t.last {
		c.t.awaited = c.t.last
	}
	return c.doneLocked()
}

func (c *Confirmation) set(s confirmState, err *Error) {
	c.state, c.err = s, err
	if c.done != nil {
		close(c.done)
	}
}

// confirms is the window of unanswered numbers: q[head+i] belongs to number base+i, nil once answered.
type confirms struct {
	mu       sync.Mutex
	selected bool
	failed   *Error // set by fail: nothing is expected any more
	last     uint64 // number of the last message
	awaited  uint64 // the last one for which somebody waited when it was the last message
	inTurn   int    // how many were published in a row after the one before had been waited for
	base     uint64
	q        []*Confirmation
	head     int
	plain    Confirmation // stands for messages whose publisher holds no Confirmation
}

func (t *confirms) enable() {
	t.mu.Lock()
	if !t.selected {
		t.selected, t.base = true, 1
	}
	t.mu.Unlock()
}

func (t *confirms) next() uint64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.selected {
		return 0
	}
	return t.last + 1
}

// habit is how many messages in a row have to be waited for, one by one, before it is taken for granted.
const habit = 3

// expect makes room for the answer of the next message before it is sent, since the answer may overtake the
// return of Publish. It also tells whether the publisher is in the habit of waiting for each.
func (t *confirms) expect(deferred bool) (c *Confirmation, awaited bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failed != nil {
		return nil, false, t.failed
	}
	if !t.selected {
		if deferred {
			return nil, false, invalid("basic.publish", "the channel is not in confirm mode: call Confirm first")
		}
		return nil, false, nil
	}
	if deferred && t.awaited == t.last {
		t.inTurn++
	} else {
		t.inTurn = 0
	}
	t.last++
	if !deferred {
		t.q = append(t.q, &t.plain)
		return nil, false, nil
	}
	c = &Confirmation{DeliveryTag: t.last, t: t}
	t.q = append(t.q, c)
	return c, t.inTurn > habit, nil
}

// withdraw takes back the last expect, whose message was not accepted.
func (t *confirms) withdraw() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.selected && len(t.q) > t.head {
		t.last--
		t.q = t.q[:len(t.q)-1]
	}
}

func (t *confirms) resolve(number uint64, multiple, ack bool) {
	state := confirmNacked
	if ack {
		state = confirmAcked
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if number < t.base || number > t.last {
		return
	}
	i := t.head + int(number-t.base)
	first := i
	if multiple {
		first = t.head
	}
	for ; first <= i; first++ {
		if c := t.q[first]; c != nil {
			t.q[first] = nil
			if c != &t.plain {
				c.set(state, nil)
			}
		}
	}
	for t.head < len(t.q) && t.q[t.head] == nil {
		t.head++
		t.base++
	}
	switch {
	case t.head == len(t.q):
		t.q, t.head = t.q[:0], 0
	case t.head > 64 && t.head > len(t.q)/2:
		n := copy(t.q, t.q[t.head:])
		clear(t.q[n:])
		t.q, t.head = t.q[:n], 0
	}
}

// fail ends all that is unanswered with the error that closed the channel.
func (t *confirms) fail(err *Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.q[t.head:] {
		if c != nil && c != &t.plain {
			c.set(confirmFailed, err)
		}
	}
	t.q, t.head, t.failed = nil, 0, err
}
