package conformance

import (
	"context"
	"errors"
	"fmt"

	"github.com/dashi-mq/dashi/channel"
)

// filled opens a channel on queues, with n messages in a, and arms.
func (p *crashProcess) filled(queues map[string]channel.Table, n int, in ...string) (*channel.Channel, error) {
	ch, err := p.open(queues)
	if err != nil {
		return nil, err
	}
	if err := p.fill(ch, "a", n, in...); err != nil {
		return nil, err
	}
	p.arm()
	return ch, nil
}

// flushed waits until all answers have reached the store, and says whether they have.
func (p *crashProcess) flushed(ch *channel.Channel) (bool, error) {
	err := ch.Flush(p.ctx)
	if unanswered(err) && p.ctx.Err() == nil {
		return false, nil
	}
	return err == nil, err
}

// crashAckMultiple acks each third message, with the two before it.
func crashAckMultiple(p *crashProcess) error {
	ch, err := p.filled(map[string]channel.Table{"a": nil}, 9)
	if err != nil {
		return err
	}
	var open []string
	return p.consume(ch, "a", 9, 4, func(d channel.Delivery) error {
		if open = append(open, string(d.Body)); len(open) < 3 {
			return nil
		}
		for _, body := range open {
			p.facts.unknown(body, "a")
		}
		if err := d.Ack(true); err != nil {
			return err
		}
		ok, err := p.flushed(ch)
		if ok {
			for _, body := range open {
				p.facts.answered(body, "a")
			}
		}
		open = nil
		return err
	})
}

// crashNackMultiple gives back three at once, then acks them.
func crashNackMultiple(p *crashProcess) error {
	ch, err := p.filled(map[string]channel.Table{"a": nil}, 3)
	if err != nil {
		return err
	}
	fresh, acked := 0, 0
	return p.consume(ch, "a", 3, 3, func(d channel.Delivery) (err error) {
		if d.Redelivered { // one that comes so for the first time had been lost on its way
			acked++
			err = p.ack(d, "a")
		} else {
			fresh++
			p.facts.givenBack("a", string(d.Body))
			err = errGoOn
		}
		if fresh > 0 && fresh+acked == 3 {
			err = errors.Join(err, ch.Nack(0, true, true)) // all that are unacked
		}
		return err
	})
}

// crashDeliveryLimit gives messages back until they are dead-lettered.
func crashDeliveryLimit(p *crashProcess) error {
	queues := deadLetters()
	queues["a"]["x-delivery-limit"] = int32(2)
	ch, err := p.filled(queues, 2, "dead")
	if err != nil {
		return err
	}
	dead, err := p.conn.Channel(p.ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	ctx, stop := context.WithCancel(p.ctx)
	go func() {
		done <- p.consumeIn(ctx, ch, "a", 1000, 2, func(d channel.Delivery) error { return p.giveBack(d, "a") })
	}()
	err = p.consume(dead, "dead", 2, 2, func(d channel.Delivery) error { return p.ack(d, "dead") })
	stop()
	if failed := <-done; p.ctx.Err() == nil && !errors.Is(failed, context.Canceled) {
		err = errors.Join(err, failed)
	}
	return err
}

// crashGet takes messages one by one, from a with an ack, from b without.
func crashGet(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil, "b": nil})
	if err != nil {
		return err
	}
	if err := errors.Join(p.fill(ch, "a", 3), p.fill(ch, "b", 3)); err != nil {
		return err
	}
	p.arm()
	for range 3 {
		d, ok, err := ch.Get(p.ctx, "a", false)
		if err != nil {
			return err
		}
		if ok {
			p.facts.delivered("a", &d)
			err = p.ack(d, "a")
		}
		if err != nil {
			return err
		}
		p.facts.risk("b", 1) // the reply may be lost with the message
		d, ok, err = ch.Get(p.ctx, "b", true)
		if err != nil {
			return err
		}
		if ok {
			p.facts.delivered("b", &d)
			p.facts.unknown(string(d.Body), "b")
		}
	}
	return nil
}

// some consumes a few messages, acks the first, and leaves the others unanswered.
func (p *crashProcess) some(ch *channel.Channel, queue, tag string, n int) error {
	ds, err := ch.Consume(p.ctx, queue, channel.ConsumeOptions{Tag: tag})
	if err != nil {
		return err
	}
	for i := range n {
		select {
		case d, ok := <-ds:
			if !ok {
				return errors.Join(p.ctx.Err(), ch.Err())
			}
			p.facts.delivered(queue, &d)
			if i > 0 {
				p.facts.givenBack(queue, string(d.Body)) // with its channel
			} else if err := p.ack(d, queue); err != nil {
				return err
			}
		case <-p.ctx.Done():
			return p.ctx.Err()
		}
	}
	return nil
}

func crashCancel(p *crashProcess) error {
	ch, err := p.filled(map[string]channel.Table{"a": nil}, 6)
	if err != nil {
		return err
	}
	if err := errors.Join(ch.Qos(p.ctx, 3, 0, false), p.some(ch, "a", "c", 3)); err != nil {
		return err
	}
	if err := ch.Cancel(p.ctx, "c"); err != nil {
		return err
	}
	sleepFor(p.ctx, 2*p.unit)
	return nil
}

// crashCloseChannel closes a channel with unacked messages; another one goes on.
func crashCloseChannel(p *crashProcess) error {
	ch, err := p.filled(map[string]channel.Table{"a": nil}, 6)
	if err != nil {
		return err
	}
	if err := errors.Join(ch.Qos(p.ctx, 3, 0, false), p.some(ch, "a", "c", 3), ch.Close(p.ctx)); err != nil {
		return err
	}
	next, err := p.conn.Channel(p.ctx)
	if err != nil {
		return err
	}
	return p.consume(next, "a", 5, 2, func(d channel.Delivery) error { return p.ack(d, "a") })
}

// crashTakeOver has a second consumer of a single active one's queue take over when the first one's channel is closed.
func crashTakeOver(p *crashProcess) error {
	ch, err := p.filled(map[string]channel.Table{"a": {"x-single-active-consumer": true}}, 6)
	if err != nil {
		return err
	}
	if err := errors.Join(ch.Qos(p.ctx, 2, 0, false), p.some(ch, "a", "c", 2)); err != nil {
		return err
	}
	next, err := p.conn.Channel(p.ctx)
	if err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		done <- p.consume(next, "a", 5, 2, func(d channel.Delivery) error { return p.ack(d, "a") })
	}()
	sleepFor(p.ctx, p.unit)
	return errors.Join(ch.Close(p.ctx), <-done)
}

// crashRejectPublish publishes more than the queue takes: what was acked is there.
func crashRejectPublish(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": {"x-max-length": int32(2), "x-overflow": "reject-publish"}})
	if err != nil {
		return err
	}
	p.arm()
	for i := range 4 {
		p.facts.published(body(i), "a")
		c, err := ch.PublishDeferred(p.ctx, "", "a", channel.Publishing{Body: []byte(body(i)), DeliveryMode: channel.Persistent})
		if err != nil {
			return err
		}
		acked, err := c.Wait(p.ctx)
		if err != nil {
			return err
		}
		if acked {
			p.facts.confirmed(body(i), "a")
		}
	}
	return nil
}

// crashTxPublish publishes each message to two queues in a transaction: it is in both or in none.
func crashTxPublish(p *crashProcess) error {
	if _, err := p.open(map[string]channel.Table{"a": nil, "b": nil}); err != nil {
		return err
	}
	ch, err := p.tx()
	if err != nil {
		return err
	}
	p.arm()
	for i := range 3 {
		p.facts.whole(body(i), "a", "b")
		for _, q := range []string{"a", "b"} {
			if err := ch.Publish(p.ctx, "", q, channel.Publishing{Body: []byte(body(i)), DeliveryMode: channel.Persistent}); err != nil {
				return err
			}
		}
		if err := ch.TxCommit(p.ctx); err != nil {
			return err
		}
		p.facts.confirmed(body(i), "a")
		p.facts.confirmed(body(i), "b")
	}
	return nil
}

func crashPriorities(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": {"x-max-priority": int32(5)}})
	if err != nil {
		return err
	}
	p.arm()
	for i := range 6 {
		if err := p.publish(ch, "", "a", body(i), channel.Publishing{Priority: uint8(i % 3)}, []string{"a"}); err != nil {
			return err
		}
	}
	return p.consume(ch, "a", 3, 2, func(d channel.Delivery) error { return p.ack(d, "a") })
}

// crashExclusive publishes to a queue that goes with its owner, and to one that does not.
func crashExclusive(p *crashProcess) error {
	ch, err := p.fanout("a")
	if err != nil {
		return err
	}
	p.facts.comes(func(ctx context.Context, ch *channel.Channel) error {
		q, err := ch.QueueDeclare(ctx, "mine", channel.QueueOptions{Exclusive: true})
		if err == nil && q.Messages > 0 {
			err = fmt.Errorf("the next owner finds %d messages in an exclusive queue", q.Messages)
		}
		return err
	})
	p.arm()
	if _, err := ch.QueueDeclare(p.ctx, "mine", channel.QueueOptions{Exclusive: true}); err != nil {
		return err
	}
	if err := ch.QueueBind(p.ctx, "mine", "", "all", nil); err != nil {
		return err
	}
	for i := range 3 {
		if err := p.publish(ch, "all", "", body(i), channel.Publishing{}, []string{"a"}); err != nil {
			return err
		}
	}
	return nil
}

// crashAutoDelete has a queue that goes with its last consumer; nothing else does.
func crashAutoDelete(p *crashProcess) error {
	ch, err := p.fanout("a")
	if err != nil {
		return err
	}
	p.facts.comes(func(ctx context.Context, ch *channel.Channel) error {
		_, err := ch.QueueDeclare(ctx, "passing", channel.QueueOptions{Durable: true})
		return err // 405 as long as it is the old one
	})
	p.arm()
	if _, err := ch.QueueDeclare(p.ctx, "passing", channel.QueueOptions{Exclusive: true, AutoDelete: true}); err != nil {
		return err
	}
	if err := ch.QueueBind(p.ctx, "passing", "", "all", nil); err != nil {
		return err
	}
	for i := range 2 {
		if err := p.publish(ch, "all", "", body(i), channel.Publishing{}, []string{"a"}); err != nil {
			return err
		}
	}
	err = p.consume(ch, "passing", 2, 2, func(d channel.Delivery) error { return p.ack(d, "passing") }) // and is cancelled
	return errors.Join(err, p.publish(ch, "all", "", body(2), channel.Publishing{}, []string{"a"}))
}

// crashDeleteInUse deletes a queue while it is consumed. Its messages are gone; those beside it are not.
func crashDeleteInUse(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil, "b": nil})
	if err != nil {
		return err
	}
	for i := range 6 {
		if err := p.publish(ch, "", "a", body(i), channel.Publishing{}); err != nil {
			return err
		}
	}
	if err := p.publish(ch, "", "b", "<beside>", channel.Publishing{}, []string{"b"}); err != nil {
		return err
	}
	p.arm()
	if err := errors.Join(ch.Qos(p.ctx, 2, 0, false), p.some(ch, "a", "c", 2)); err != nil {
		return err
	}
	if _, err := ch.QueueDelete(p.ctx, "a", channel.DeleteOptions{}); err != nil {
		return err
	}
	for i := range 6 {
		p.facts.answered(body(i), "a")
	}
	return p.publish(ch, "", "b", "<after>", channel.Publishing{}, []string{"b"})
}

// crashPurge purges a queue: what was ready is gone, what comes after it is there.
func crashPurge(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil, "b": nil})
	if err != nil {
		return err
	}
	if err := p.publish(ch, "", "b", "<beside>", channel.Publishing{}, []string{"b"}); err != nil {
		return err
	}
	for i := range 4 {
		if err := p.publish(ch, "", "a", body(i), channel.Publishing{}); err != nil {
			return err
		}
	}
	p.arm()
	if _, err := ch.QueuePurge(p.ctx, "a"); err != nil {
		return err
	}
	for i := range 4 {
		p.facts.answered(body(i), "a")
	}
	return p.publish(ch, "", "a", "<new>", channel.Publishing{}, []string{"a"})
}
