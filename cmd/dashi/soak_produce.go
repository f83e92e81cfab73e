package main

import (
	"context"
	"sync"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/soak"
)

// soakWindow is how many messages of a producer may wait for their confirms.
const soakWindow = 64

// soakProducer publishes one message after the other, each until it is confirmed.
type soakProducer struct {
	cmd      *soakProcessCmd
	plan     soak.Plan
	book     *soak.Book
	stopping <-chan struct{}
	last     uint64
	due      time.Time // of the next message

	mu   sync.Mutex
	open []uint64 // nacked or not answered: to be published again under their ids
}

func newSoakProducer(c *soakProcessCmd, p soak.Plan, b *soak.Book, stopping <-chan struct{}) *soakProducer {
	return &soakProducer{cmd: c, plan: p, book: b, stopping: stopping, due: time.Now()}
}

// idle: all that it has published is confirmed.
func (p *soakProducer) idle() bool {
	select {
	case <-p.stopping:
		return len(p.open) == 0
	default:
		return false
	}
}

// unanswered is a message that waits for its confirm.
type unanswered struct {
	seq uint64
	*channel.Confirmation
}

func (p *soakProducer) session(ctx context.Context, conn *dashi.Connection, _ int) (finished bool, err error) {
	ch, err := conn.Channel(ctx)
	if err == nil {
		err = ch.Confirm(ctx)
	}
	if err != nil {
		return false, err
	}
	window := make(chan unanswered, soakWindow)
	collected := make(chan error, 1)
	go func() { collected <- p.collect(ctx, window) }()
	err = p.publish(ctx, ch, window)
	close(window)
	if e := <-collected; err == nil {
		err = e
	}
	return err == nil && len(p.open) == 0, err
}

// publish goes on until the end is asked for and nothing is open, or the channel ends.
func (p *soakProducer) publish(ctx context.Context, ch *channel.Channel, window chan<- unanswered) error {
	for {
		seq, again := p.take()
		if !again {
			if !p.wait(ch) {
				return ch.Err()
			}
			p.last++
			seq = p.last
		}
		if err := wrote(p.book.Published(seq)); err != nil {
			return err
		}
		m := p.plan.Message(soak.ID{Producer: p.cmd.Number, Seq: seq})
		body, err := p.spoil(ctx, ch, &m)
		if err != nil {
			return err
		}
		c, err := ch.PublishDeferred(ctx, p.exchange(m), m.Key, channel.Publishing{
			MessageId: m.ID.String(), DeliveryMode: channel.Persistent, Body: body, NoCopy: true,
		})
		if err != nil {
			p.reopen(seq)
			return err
		}
		window <- unanswered{seq, c}
	}
}

func (p *soakProducer) exchange(m soak.Message) string { return p.plan.Exchange(m.Exchange) }

// wait returns when the next message is due; false when there is to be none.
func (p *soakProducer) wait(ch *channel.Channel) bool {
	p.due = p.due.Add(time.Duration(float64(time.Second) / p.cmd.Rate))
	if now := time.Now(); p.due.Before(now.Add(-time.Second)) {
		p.due = now // after an outage there is no catching up
	}
	select {
	case <-p.stopping:
	case <-ch.Done():
	default:
		select {
		case <-time.After(time.Until(p.due)):
			return true
		case <-p.stopping:
		case <-ch.Done():
		}
	}
	return false
}

// take takes a message that has to be published again.
func (p *soakProducer) take() (seq uint64, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) == 0 {
		return 0, false
	}
	seq, p.open = p.open[0], p.open[1:]
	return seq, true
}

func (p *soakProducer) reopen(seq uint64) {
	p.mu.Lock()
	p.open = append(p.open, seq)
	p.mu.Unlock()
}

// collect writes down what becomes of the messages in the window, and returns the first error.
func (p *soakProducer) collect(ctx context.Context, window <-chan unanswered) (first error) {
	for m := range window {
		acked, err := m.Wait(ctx)
		switch {
		case err != nil:
			p.reopen(m.seq)
		case acked:
			err = wrote(p.book.Confirmed(m.seq))
		default:
			if err = wrote(p.book.Nacked(m.seq)); err == nil {
				time.Sleep(50 * time.Millisecond) // the place cannot, at the moment
				p.reopen(m.seq)
			}
		}
		if first == nil {
			first = err
		}
	}
	return first
}

// spoil makes the body, and does what the producer is told to do wrong.
func (p *soakProducer) spoil(ctx context.Context, ch *channel.Channel, m *soak.Message) (body []byte, err error) {
	body = m.Body()
	tenth := m.Seq%10 == 0
	switch {
	case p.cmd.Wrong == wrongConfirmFirst:
		err = wrote(p.book.Confirmed(m.Seq))
		pause(ctx, 300*time.Millisecond) // which a kill is likely to fall into
	case p.cmd.Wrong == wrongTwice && tenth:
		err = ch.Publish(ctx, p.exchange(*m), m.Key, channel.Publishing{DeliveryMode: channel.Persistent, Body: body})
	case p.cmd.Wrong == wrongMisroute && tenth:
		m.Exchange, m.Key = "direct", p.plan.Bindings()[0].Key
	case p.cmd.Wrong == wrongDamage && tenth:
		body[len(body)-1] ^= 1
	}
	return body, err
}
