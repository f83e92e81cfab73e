package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/soak"
)

// soakBatch is how many messages a consumer answers together, at most.
const soakBatch = 16

// soakConsumer consumes from all queues, by a channel for each, and answers as the plan says.
type soakConsumer struct {
	cmd      *soakProcessCmd
	plan     soak.Plan
	book     *soak.Book
	stopping <-chan struct{}
	numbers  atomic.Uint64 // of deliveries
	seen     atomic.Uint64 // messages, for what is to go wrong at the tenth
}

func newSoakConsumer(c *soakProcessCmd, p soak.Plan, b *soak.Book, stopping <-chan struct{}) *soakConsumer {
	return &soakConsumer{cmd: c, plan: p, book: b, stopping: stopping}
}

var errLeaseLost = errors.New("messages went to other consumers, since the lease had run out")

func (k *soakConsumer) session(ctx context.Context, conn *dashi.Connection, session int) (finished bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var reading sync.WaitGroup
	events := conn.NotifyEvents(make(chan channel.Event, 64))
	go func() { // ends with the connection
		for e := range events {
			if e.Kind == channel.EventLeaseLost { // which ones is not told: none that has no answer yet counts as answered
				cancel(errLeaseLost)
			}
		}
	}()
	for queue := range k.plan.All() {
		reading.Go(func() {
			q := &soakQueue{soakConsumer: k, queue: queue, number: session, style: rand.New(rand.NewPCG(k.plan.Seed, uint64(k.cmd.Number<<8+queue)))}
			if err := q.consume(ctx, conn); err != nil {
				cancel(err)
			}
		})
	}
	reading.Wait()
	err = context.Cause(ctx)
	return err == nil, err
}

// soakQueue is a consumer of one queue in one session.
type soakQueue struct {
	*soakConsumer
	queue, number int
	style         *rand.Rand
	ch            *channel.Channel
}

// taken is a delivery that is written down under a number.
type taken struct {
	channel.Delivery
	number uint64 // 0: it is no message of ours, and acked
	answer soak.Answer
}

// consume returns nil when the end was asked for, and all that it has seen is answered.
func (q *soakQueue) consume(ctx context.Context, conn *dashi.Connection) error {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return err
	}
	q.ch = ch
	if err := ch.Qos(ctx, 1+q.style.IntN(2*soakBatch), 0, false); err != nil {
		return err
	}
	var cause error
	out, err := ch.Consume(ctx, q.plan.QueueName(q.queue), channel.ConsumeOptions{Ended: func(err error) { cause = err }})
	if err != nil {
		return err
	}
	for {
		batch, open, err := q.gather(ctx, out)
		if err == nil && len(batch) > 0 {
			err = q.answer(ctx, batch)
		}
		switch {
		case err != nil:
			return err
		case !open:
			return orError(cause, channel.ErrCancelled)
		case q.stopped():
			return nil
		}
	}
}

// idle: what it has not answered goes back to the queues without it.
func (k *soakConsumer) idle() bool { return k.stopped() }

func (k *soakConsumer) stopped() bool {
	select {
	case <-k.stopping:
		return true
	default:
		return false
	}
}

// gather waits for a message, takes what more there is, and writes all down.
func (q *soakQueue) gather(ctx context.Context, out <-chan channel.Delivery) (batch []taken, open bool, err error) {
	size := 1 + q.style.IntN(soakBatch)
	var d channel.Delivery
	select {
	case d, open = <-out:
	case <-q.stopping:
		return nil, true, nil
	}
	for open {
		t, err := q.take(ctx, d)
		if err != nil {
			return nil, true, err
		}
		if t.answer != 0 {
			batch = append(batch, t)
		}
		if len(batch) >= size {
			break
		}
		select {
		case d, open = <-out:
			continue
		default:
		}
		break
	}
	return batch, open, nil
}

// take writes a delivery down, and says how to answer it: not at all, if that is what this process does wrong.
func (q *soakQueue) take(ctx context.Context, d channel.Delivery) (taken, error) {
	t := taken{Delivery: d, answer: soak.Ack}
	id, ok := soak.ParseBody(d.Body)
	if !ok || d.MessageId != "" && d.MessageId != id.String() {
		return t, wrote(q.book.Damaged(q.queue))
	}
	if wrong := q.cmd.Wrong; (wrong == wrongDrop || wrong == wrongAckFirst) && q.seen.Add(1) == 10 {
		err := errors.Join(d.AckWait(ctx))
		if err == nil && wrong == wrongAckFirst {
			die()
		}
		return taken{}, err
	}
	t.number = q.numbers.Add(1)
	switch {
	case q.plan.Rejected(id, q.queue):
		t.answer = soak.Reject
	case q.plan.Requeued(id, q.queue) && !d.Redelivered:
		t.answer = soak.Requeue
	}
	return t, wrote(q.book.Got(t.number, q.number, q.queue, id))
}

// answer answers a batch in one of three styles, and waits until the place has all of it.
func (q *soakQueue) answer(ctx context.Context, batch []taken) error {
	q.work(ctx, 100*time.Millisecond)
	style := q.style.IntN(3)
	if style == 0 && allAcked(batch) {
		for _, t := range batch {
			if err := q.answering(t); err != nil {
				return err
			}
		}
		last := &batch[len(batch)-1]
		return q.sure(ctx, last.Ack(true), batch)
	}
	var plain []taken
	for _, t := range batch {
		if err := q.answering(t); err != nil {
			return err
		}
		if style == 1 && t.answer == soak.Ack {
			if err := q.ackWait(ctx, t); err != nil {
				return err
			}
			continue
		}
		if err := t.send(); err != nil {
			return err
		}
		plain = append(plain, t)
	}
	return q.sure(ctx, nil, plain)
}

// work takes a while every third time: a kill shall find messages in hand.
func (q *soakQueue) work(ctx context.Context, most time.Duration) {
	if q.style.IntN(3) == 0 {
		pause(ctx, time.Duration(q.style.Int64N(int64(most))))
	}
}

func allAcked(batch []taken) bool {
	for _, t := range batch {
		if t.answer != soak.Ack {
			return false
		}
	}
	return true
}

func (t *taken) send() error {
	switch t.answer {
	case soak.Reject:
		return t.Reject(false)
	case soak.Requeue:
		return t.Nack(false, true)
	}
	return t.Ack(false)
}

func (q *soakQueue) answering(t taken) error {
	if t.number == 0 {
		return nil
	}
	return wrote(q.book.Answering(t.number, t.answer))
}

// ackWait acks one and is told what became of it.
func (q *soakQueue) ackWait(ctx context.Context, t taken) error {
	ctx, end := context.WithTimeout(ctx, soakFlushLimit)
	defer end()
	asked := soak.Now()
	err := t.AckWait(ctx)
	if err != nil || t.number == 0 {
		return err
	}
	return wrote(q.book.Answered(asked, t.number))
}

// sure waits until the answers have arrived, and writes that down.
func (q *soakQueue) sure(ctx context.Context, err error, batch []taken) error {
	if err != nil || len(batch) == 0 {
		return err
	}
	q.work(ctx, 20*time.Millisecond)
	ctx, end := context.WithTimeout(ctx, soakFlushLimit)
	defer end()
	asked := soak.Now()
	if err := q.ch.Flush(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil { // perhaps since a lease was lost
		return context.Cause(ctx)
	}
	var numbers []uint64
	for _, t := range batch {
		if t.number != 0 {
			numbers = append(numbers, t.number)
		}
	}
	return wrote(q.book.Answered(asked, numbers...))
}
