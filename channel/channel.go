package channel

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
)

// Channel is an AMQP channel: the place of all work. It is safe for concurrent use. After an error that closes it,
// every call returns that error.
type Channel struct {
	conn *Connection
	port Port
	call *ctxLock // serialises Call and Publish of the port
	done chan struct{}
	err  atomic.Pointer[Error] // the first error; ErrClosed after our own Close

	confirms confirms // guarded by its own lock
	scratch  Publish  // of publish, under the call lock: the port does not keep it

	mu        sync.Mutex // guards what follows; never held while the port is called
	consumers map[string]*consumer

	goroutines crew // of chan consumers
	closes     notifier[*Error]
	returns    notifier[Return]
	cancels    notifier[string]
}

func newChannel(c *Connection) *Channel {
	return &Channel{conn: c, call: newCtxLock(), done: make(chan struct{}), consumers: map[string]*consumer{}}
}

// Connection returns the connection of the channel.
func (ch *Channel) Connection() *Connection { return ch.conn }

// Done is closed when the channel has ended.
func (ch *Channel) Done() <-chan struct{} { return ch.done }

// Err returns nil while the channel is open, then why it ended: ErrClosed after our own Close.
func (ch *Channel) Err() error {
	if e := ch.err.Load(); e != nil {
		return e
	}
	return nil
}

// IsClosed reports whether the channel has ended.
func (ch *Channel) IsClosed() bool { return ch.err.Load() != nil }

// Close closes the channel: what was published is stored, all unanswered messages go back to their queues, an open
// transaction is rolled back. A second Close is harmless.
func (ch *Channel) Close(ctx context.Context) error {
	if ch.err.Load() == nil {
		if err := ch.closePort(ctx); err != nil {
			return err
		}
	}
	ch.goroutines.join()
	return nil
}

// closePort says goodbye. It lets the call lock go before Close waits for the consumers' goroutines, which may want it.
func (ch *Channel) closePort(ctx context.Context) error {
	if ctx.Err() == nil {
		if err := ch.call.lock(ctx); err != nil {
			return contextErr(ctx, "channel.close")
		}
		defer ch.call.unlock()
		ch.giveBackUnseen()
	}
	if err := ch.port.Close(ctx); err != nil && ch.err.Load() == ErrClosed {
		return err
	}
	return nil
}

// NotifyClose registers a chan that gets the error with which the channel ends, if any, and is closed then. Give it
// room for one. After the end it is closed at once.
func (ch *Channel) NotifyClose(receiver chan *Error) chan *Error { return ch.closes.add(receiver) }

// NotifyReturn registers a chan for mandatory messages that reached no queue. A return comes before the confirm
// of its message when the chan has room; a reader that lags loses the oldest beyond 65,536, and holds nothing up.
func (ch *Channel) NotifyReturn(receiver chan Return) chan Return { return ch.returns.add(receiver) }

// NotifyCancel registers a chan for the tags of consumers that the server cancelled because their queue has gone.
func (ch *Channel) NotifyCancel(receiver chan string) chan string { return ch.cancels.add(receiver) }

// do performs one synchronous method under the call lock.
func (ch *Channel) do(ctx context.Context, m Method) (Reply, error) {
	if err := ch.enter(ctx, m.method()); err != nil {
		return Reply{}, err
	}
	defer ch.call.unlock()
	return ch.callLocked(ctx, m)
}

// enter takes the call lock, or says why the channel cannot be used.
func (ch *Channel) enter(ctx context.Context, op string) error {
	if err := ctx.Err(); err != nil {
		return contextErr(ctx, op)
	}
	if e := ch.err.Load(); e != nil {
		return ch.closedError(e, op)
	}
	if err := ch.call.lock(ctx); err != nil {
		return contextErr(ctx, op)
	}
	if e := ch.err.Load(); e != nil {
		ch.call.unlock()
		return ch.closedError(e, op)
	}
	return nil
}

// closedError names the call when it was we who closed; the server's first error stays as it is.
func (ch *Channel) closedError(e *Error, op string) error {
	if e == ErrClosed {
		return &Error{Code: ErrClosed.Code, Text: ErrClosed.Text, Op: op}
	}
	return e
}

func (ch *Channel) callLocked(ctx context.Context, m Method) (Reply, error) {
	r, err := ch.port.Call(ctx, m)
	if err == nil {
		return r, nil
	}
	// The channel's first error wins over what this call happened to see of it.
	if e := ch.err.Load(); e != nil && e != ErrClosed {
		if ctx.Err() != nil && (errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)) {
			return Reply{}, err
		}
		return Reply{}, e
	}
	return Reply{}, err
}

// Qos sets the prefetch window: count messages and size bytes that may be unanswered at a time; 0 is no limit. With
// global it holds for the channel as a whole, else for each consumer started after it
// (https://www.rabbitmq.com/consumer-prefetch.html). RabbitMQ refuses a size with NotImplemented (540); virtual
// transports honour it.
func (ch *Channel) Qos(ctx context.Context, count, size int, global bool) error {
	const op = "basic.qos"
	if count < 0 || count > 65535 {
		return invalid(op, "prefetch count %d is not between 0 and 65535", count)
	}
	if size < 0 {
		return invalid(op, "prefetch size %d is negative", size)
	}
	_, err := ch.do(ctx, &Qos{Count: count, Size: size, Global: global})
	return err
}

// Flow stops (false) and resumes (true) the deliveries of the channel. RabbitMQ refuses false with NotImplemented (540).
func (ch *Channel) Flow(ctx context.Context, active bool) error {
	_, err := ch.do(ctx, &Flow{Active: active})
	return err
}

// Recover requeues all unanswered messages of the channel. Without requeue it is refused with NotImplemented (540),
// as by RabbitMQ.
func (ch *Channel) Recover(ctx context.Context, requeue bool) error {
	_, err := ch.do(ctx, &Recover{Requeue: requeue})
	return err
}

// Tx makes the channel transactional: publishes and answers take effect at TxCommit.
func (ch *Channel) Tx(ctx context.Context) error {
	_, err := ch.do(ctx, &TxSelect{})
	return err
}

// TxCommit makes everything since the last commit or rollback take effect.
func (ch *Channel) TxCommit(ctx context.Context) error {
	_, err := ch.do(ctx, &TxCommit{})
	return err
}

// TxRollback drops everything since the last commit or rollback; the deliveries can be answered again.
func (ch *Channel) TxRollback(ctx context.Context) error {
	_, err := ch.do(ctx, &TxRollback{})
	return err
}

// Ack answers a delivery by its tag; see Delivery.Ack. Tag 0 with multiple answers all there are.
func (ch *Channel) Ack(tag uint64, multiple bool) error {
	return ch.settle(Settle{Tag: tag, Multiple: multiple, Kind: Ack, Method: "basic.ack"})
}

// Nack answers a delivery by its tag; see Delivery.Nack.
func (ch *Channel) Nack(tag uint64, multiple, requeue bool) error {
	return ch.settle(Settle{Tag: tag, Multiple: multiple, Kind: nackKind(requeue), Method: "basic.nack"})
}

// Reject answers one delivery by its tag; see Delivery.Reject.
func (ch *Channel) Reject(tag uint64, requeue bool) error {
	return ch.settle(Settle{Tag: tag, Kind: nackKind(requeue), Method: "basic.reject"})
}

func (ch *Channel) settle(s Settle) error {
	if e := ch.err.Load(); e != nil {
		return ch.closedError(e, s.Method)
	}
	return ch.port.Settle(s)
}

func (ch *Channel) settleWait(ctx context.Context, s Settle) error {
	if err := ctx.Err(); err != nil {
		return contextErr(ctx, s.Method)
	}
	if e := ch.err.Load(); e != nil {
		return ch.closedError(e, s.Method)
	}
	return ch.port.SettleWait(ctx, s)
}

// channelSink keeps the methods of Sink off Channel's own method set.
type channelSink struct{ ch *Channel }

func (s channelSink) Return(r Return) { s.ch.returns.send(r) }

func (s channelSink) Confirm(number uint64, multiple, ack bool) {
	s.ch.confirms.resolve(number, multiple, ack)
}

func (s channelSink) Closed(err *Error) {
	ch := s.ch
	first := err
	if first == nil {
		first = ErrClosed
	}
	if !ch.err.CompareAndSwap(nil, first) {
		return
	}
	ch.confirms.fail(first)
	ch.mu.Lock()
	ended := ch.consumers
	ch.consumers = map[string]*consumer{}
	ch.mu.Unlock()
	close(ch.done)
	for _, c := range ended {
		c.end(first)
	}
	if err != nil {
		ch.closes.send(err)
	}
	ch.closes.close()
	ch.returns.close()
	ch.cancels.close()
	ch.conn.forget(ch)
}
