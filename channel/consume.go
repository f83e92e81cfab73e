package channel

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"sync"
	"time"
)

// defaultCredit bounds the deliveries that wait in this process for a consumer whose options say nothing.
const defaultCredit = 256

// chanBuffer is how many deliveries the chan of Consume holds: enough that reader and writer seldom take turns, and no more,
// since each is of 288 bytes.
const chanBuffer = 48

// cancelTimeout bounds the cancel that ends an iterator whose own context has ended.
const cancelTimeout = 10 * time.Second

// Consume starts a consumer and returns its deliveries. The chan is closed when the consumer ends: by Cancel, when ctx
// ends (which cancels it), when the server cancels it, or with the channel; ConsumeOptions.Ended tells which. A reader
// that stops holds up only this consumer.
func (ch *Channel) Consume(ctx context.Context, queue string, o ConsumeOptions) (<-chan Delivery, error) {
	c, err := ch.subscribe(ctx, queue, o)
	if err != nil {
		return nil, err
	}
	return c.out, nil
}

// Deliveries returns the deliveries of a queue as an iterator. It starts to consume at its first iteration. Breaking out
// of the loop cancels the consumer and gives back what was not seen. The iteration ends with one pair of an empty
// delivery and the cause, unless our own Cancel ended it: ErrCancelled, the channel's error, or the context's.
func (ch *Channel) Deliveries(ctx context.Context, queue string, o ConsumeOptions) iter.Seq2[Delivery, error] {
	return func(yield func(Delivery, error) bool) {
		c, err := ch.start(ctx, queue, o, false)
		if err != nil {
			yield(Delivery{}, err)
			return
		}
		err, broke := c.iterate(ctx, yield)
		switch {
		case broke:
			ch.abandon(ctx, c)
		case err != nil && ctx.Err() != nil:
			ch.abandon(ctx, c)
			yield(Delivery{}, err)
		case err != nil:
			yield(Delivery{}, err)
		}
	}
}

// Cancel ends a consumer: no delivery comes after it returned, but what came before can still be read and
// answered. An unknown tag is no error.
func (ch *Channel) Cancel(ctx context.Context, tag string, flags ...Flag) error {
	m := &Cancel{Tag: tag, NoWait: noWait(flags)}
	if err := checkCall(m, nil, "consumer tag", tag); err != nil {
		return err
	}
	_, err := ch.do(ctx, m)
	if err == nil && m.NoWait {
		ch.finish(tag, nil) // no answer will say so
	}
	return err
}

// Get takes one message of a queue, if there is one. With autoAck it is taken for good.
func (ch *Channel) Get(ctx context.Context, queue string, autoAck bool) (d Delivery, ok bool, err error) {
	m := &Get{Queue: queue, NoAck: autoAck}
	if err := checkCall(m, nil, "queue", queue); err != nil {
		return Delivery{}, false, err
	}
	r, err := ch.do(ctx, m)
	if err != nil || r.Delivery == nil {
		return Delivery{}, false, err
	}
	return r.Delivery.delivery(ch, new(slab)), true, nil
}

func (ch *Channel) subscribe(ctx context.Context, queue string, o ConsumeOptions) (*consumer, error) {
	return ch.start(ctx, queue, o, true)
}

// start registers the consumer before the call, since its first delivery may come before the call returns.
func (ch *Channel) start(ctx context.Context, queue string, o ConsumeOptions, asChan bool) (*consumer, error) {
	m := &Consume{Queue: queue, Tag: o.Tag, NoAck: o.AutoAck, Exclusive: o.Exclusive, NoLocal: o.NoLocal, NoWait: o.NoWait, Args: o.Args, Credit: o.Credit}
	if o.Credit < 0 {
		return nil, invalid("basic.consume", "credit %d is negative", o.Credit)
	}
	if m.Credit == 0 {
		m.Credit = defaultCredit
	}
	if m.Tag == "" {
		m.Tag = "amq.ctag-" + rand.Text()
	}
	if err := checkCall(m, &m.Args, "queue", queue, "consumer tag", m.Tag); err != nil {
		return nil, err
	}
	if err := ch.enter(ctx, "basic.consume"); err != nil {
		return nil, err
	}
	defer ch.call.unlock()
	c := &consumer{ch: ch, tag: m.Tag, autoAck: o.AutoAck, wake: make(chan struct{}, 1), ended: o.Ended}
	if !o.NoCopy {
		c.bodies = new(slab)
	}
	if asChan {
		c.out = make(chan Delivery, min(m.Credit, chanBuffer))
		c.quit = make(chan struct{})
	}
	ch.mu.Lock()
	_, used := ch.consumers[m.Tag]
	if !used {
		ch.consumers[m.Tag] = c
	}
	ch.mu.Unlock()
	// A used tag goes to the server all the same: it is the server's to refuse (530).
	if _, err := ch.callLocked(ctx, m); err != nil {
		if !used {
			ch.remove(c)
		}
		return nil, err
	}
	if used { // with no-wait: the server closes the connection for it, and nobody else would end this one
		c.end(&Error{Code: NotAllowed, Text: "attempt to reuse consumer tag '" + m.Tag + "'", Op: "basic.consume"})
	}
	if asChan && !ch.goroutines.start(func() { c.forward(ctx) }) {
		return nil, ch.closedError(ErrClosed, "basic.consume")
	}
	return c, nil
}

func (ch *Channel) remove(c *consumer) {
	ch.mu.Lock()
	if ch.consumers[c.tag] == c {
		delete(ch.consumers, c.tag)
	}
	ch.mu.Unlock()
}

// abandon cancels a consumer whose reader has gone and gives back what it had not seen.
func (ch *Channel) abandon(ctx context.Context, c *consumer) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer stop()
	if ch.Err() == nil {
		_ = ch.Cancel(ctx, c.tag) // when it fails the channel has ended, and with it the consumer
	}
	c.giveBack()
}

// giveBackUnseen returns to their queues the deliveries that no consumer of the channel has read, uncounted where the
// transport can.
func (ch *Channel) giveBackUnseen() {
	ch.mu.Lock()
	all := make([]*consumer, 0, len(ch.consumers))
	for _, c := range ch.consumers {
		all = append(all, c)
	}
	ch.mu.Unlock()
	for _, c := range all {
		c.giveBack()
	}
}

func (s channelSink) Deliver(ds []Delivered) {
	ch := s.ch
	for len(ds) > 0 {
		tag := ds[0].ConsumerTag
		n := 1
		for n < len(ds) && ds[n].ConsumerTag == tag {
			n++
		}
		ch.mu.Lock()
		c := ch.consumers[tag]
		ch.mu.Unlock()
		if c != nil {
			c.add(ds[:n])
		}
		ds = ds[n:]
	}
}

func (s channelSink) Reply(r Reply) {
	if m, ok := r.Method.(*Cancel); ok {
		s.ch.finish(m.Tag, nil)
	}
}

func (s channelSink) Cancelled(tag string) {
	s.ch.finish(tag, ErrCancelled)
	s.ch.cancels.send(tag)
	s.ch.conn.events.send(Event{Kind: EventCancelled, Consumer: tag})
}

// finish ends a consumer after its last delivery; its tag is free again.
func (ch *Channel) finish(tag string, cause error) {
	ch.mu.Lock()
	c := ch.consumers[tag]
	delete(ch.consumers, tag)
	ch.mu.Unlock()
	if c != nil {
		c.end(cause)
	}
}

// consumer holds the deliveries between the transport, which never waits, and the application. Their number is
// bounded by the credit.
type consumer struct {
	ch      *Channel
	tag     string
	autoAck bool
	ended   func(error)
	out     chan Delivery // with a forwarding goroutine only
	quit    chan struct{} // closed when that goroutine is to stop and give back
	wake    chan struct{}

	// Of the reader alone. Grants are given in halves of a batch: they tell the transport when to fetch more.
	taken  int // and not yet granted
	step   int
	bodies *slab // nil: the application wants no copies

	mu      sync.Mutex
	pending []Delivered // not yet taken by the reader
	held    []Delivered // taken by the reader, not yet seen by the application
	over    bool
	cause   error
	stopped bool // given back: nothing more is kept
}

func (c *consumer) add(ds []Delivered) {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		c.refuse(ds)
		return
	}
	first := len(c.pending) == 0
	c.pending = append(c.pending, ds...)
	c.mu.Unlock()
	if first {
		c.signal()
	}
}

// refuse gives back deliveries that arrived after the reader had gone. It runs on a goroutine of its own, since a
// Sink must not call back into its transport.
func (c *consumer) refuse(ds []Delivered) {
	if c.autoAck {
		return
	}
	tags := make([]uint64, len(ds))
	for i := range ds {
		tags[i] = ds[i].DeliveryTag
	}
	c.ch.goroutines.start(func() {
		for _, tag := range tags {
			_ = c.ch.settle(Settle{Tag: tag, Kind: GiveBack, Method: "basic.nack"})
		}
	})
}

func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}

func (c *consumer) end(cause error) {
	c.mu.Lock()
	if !c.over {
		c.over, c.cause = true, cause
	}
	c.mu.Unlock()
	c.signal()
}

// next swaps the empty buffer of the reader for what has come, waiting for it. An empty result says why there is no
// more.
func (c *consumer) next(ctx context.Context, empty []Delivered) ([]Delivered, error) {
	for {
		c.mu.Lock()
		// What came before the end of the channel is void with it: it went back to its queue.
		void := c.over && c.cause != nil && !errors.Is(c.cause, ErrCancelled)
		if n := len(c.pending); n > 0 && !void && !c.stopped {
			batch := c.pending
			c.pending, c.held = empty, batch
			c.mu.Unlock()
			c.grant()
			c.step = max(1, n/2)
			return batch, nil
		}
		over, cause, stopped := c.over, c.cause, c.stopped
		c.mu.Unlock()
		c.grant()
		if over {
			return nil, cause
		}
		if stopped { // the channel is being closed
			<-c.ch.done
			return nil, c.ch.Err()
		}
		select {
		case <-c.wake:
		case <-ctx.Done():
			return nil, contextErr(ctx, "basic.consume")
		}
	}
}

// grant tells the transport how much the application has taken since the last time.
func (c *consumer) grant() {
	if c.taken > 0 {
		c.ch.port.Grant(c.tag, c.taken)
		c.taken = 0
	}
}

// hand takes the first n of the held deliveries for the application; false when all were given back.
func (c *consumer) hand(n int) bool {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return false
	}
	c.held = c.held[n:]
	c.mu.Unlock()
	if c.taken += n; c.taken >= c.step {
		c.grant()
	}
	return true
}

// unhand is for a delivery that could not be handed over after all.
func (c *consumer) unhand(d *Delivered) {
	c.mu.Lock()
	stopped := c.stopped
	if !stopped {
		c.held = append([]Delivered{*d}, c.held...)
	}
	c.mu.Unlock()
	if stopped && !c.autoAck {
		_ = c.ch.settle(Settle{Tag: d.DeliveryTag, Kind: GiveBack, Method: "basic.nack"})
	}
}

func (c *consumer) iterate(ctx context.Context, yield func(Delivery, error) bool) (err error, broke bool) {
	done := ctx.Done()
	var spare []Delivered
	for {
		batch, err := c.next(ctx, spare[:0])
		if len(batch) == 0 {
			return err, false
		}
		for i := range batch {
			select {
			case <-done:
				return contextErr(ctx, "basic.consume"), false
			default:
			}
			if !c.hand(1) {
				<-c.ch.done
				return c.ch.Err(), false
			}
			if !yield(batch[i].delivery(c.ch, c.bodies), nil) {
				return nil, true
			}
		}
		clear(batch)
		spare = batch
	}
}

// forward moves deliveries to the chan of Consume until the consumer ends.
func (c *consumer) forward(ctx context.Context) {
	cause := c.pump(ctx)
	if ctx.Err() != nil && c.ch.Err() == nil {
		// The program wants no more: cancel, and give back what it has not seen.
		c.ch.abandon(ctx, c)
	}
	if c.ended != nil {
		c.ended(cause)
	}
	close(c.out)
}

func (c *consumer) pump(ctx context.Context) error {
	done := ctx.Done()
	var spare []Delivered
	for {
		batch, cause := c.next(ctx, spare[:0])
		if len(batch) == 0 {
			return cause
		}
		for i := 0; i < len(batch); {
			// What there is room for goes at once, since nobody else writes; else the next one waits.
			room := cap(c.out) - len(c.out)
			n := min(max(1, room), len(batch)-i)
			if ctx.Err() != nil {
				return contextErr(ctx, "basic.consume")
			}
			if !c.hand(n) {
				<-c.ch.done
				return c.ch.Err()
			}
			for ; room > 0 && n > 0; n-- {
				c.out <- batch[i].delivery(c.ch, c.bodies)
				i++
			}
			if n == 0 {
				if c.isStopped() { // while they were written: nobody will see them
					c.giveBackSent()
				}
				continue
			}
			select {
			case c.out <- batch[i].delivery(c.ch, c.bodies):
				i++
			case <-c.quit:
				c.unhand(&batch[i])
				<-c.ch.done
				return c.ch.Err()
			case <-c.ch.done:
				return c.ch.Err()
			case <-done:
				c.unhand(&batch[i])
				return contextErr(ctx, "basic.consume")
			}
		}
		clear(batch)
		spare = batch
	}
}

// giveBack returns to the queue all that the application has not seen.
func (c *consumer) giveBack() {
	c.mu.Lock()
	if c.stopped {
		c.mu.Unlock()
		return
	}
	c.stopped = true
	var unseen []uint64
	for _, ds := range [...][]Delivered{c.held, c.pending} {
		for i := range ds {
			unseen = append(unseen, ds[i].DeliveryTag)
		}
	}
	c.pending, c.held = nil, nil
	quit := c.quit
	c.mu.Unlock()
	c.signal()
	if quit != nil {
		close(quit)
	}
	c.giveBackTags(unseen)
	if quit != nil {
		c.giveBackSent()
	}
}

func (c *consumer) isStopped() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stopped
}

// giveBackSent returns what is in the chan's own buffer, which the application has not seen either.
func (c *consumer) giveBackSent() {
	var unseen []uint64
	for {
		select {
		case d, ok := <-c.out:
			if ok {
				unseen = append(unseen, d.DeliveryTag)
				continue
			}
		default:
		}
		c.giveBackTags(unseen)
		return
	}
}

func (c *consumer) giveBackTags(unseen []uint64) {
	if c.autoAck {
		return
	}
	for _, tag := range unseen {
		if c.ch.settle(Settle{Tag: tag, Kind: GiveBack, Method: "basic.nack"}) != nil {
			return
		}
	}
}
