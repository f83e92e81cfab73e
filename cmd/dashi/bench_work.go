package main

import (
	"bytes"
	"context"
	"fmt"
	"strings"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/measure"
)

// producer sends every Producers-th message, beginning with its own number.
func (b *bench) producer(ctx context.Context, me int) error {
	c := b.cmd
	ch, err := b.places[1+me].Channel(ctx)
	if err != nil {
		return err
	}
	var window []*channel.Confirmation
	if c.Confirm > 0 {
		if err := ch.Confirm(ctx); err != nil {
			return err
		}
		window = make([]*channel.Confirmation, c.Confirm)
	}
	key := strings.ReplaceAll(b.route.key, "%d", fmt.Sprint(me))
	msg := channel.Publishing{ContentType: "application/octet-stream", DeliveryMode: channel.Transient, Headers: b.route.headers, NoCopy: true}
	if c.Persistent {
		msg.DeliveryMode = channel.Persistent
	}
	filler := newFiller(c.Body)
	pace := measure.NewPacer(c.Rate / float64(c.Producers))
	k := int64(0)
	defer func() { b.sent[me].Store(k) }()
	for number := int64(me); number < c.N; number += int64(c.Producers) {
		at, err := pace.Wait(ctx)
		if err != nil {
			return err
		}
		msg.Body = stamped(filler, number, at)
		if window == nil {
			err = ch.Publish(ctx, b.route.exchange, key, msg)
		} else {
			slot := &window[k%int64(len(window))]
			if err = confirmed(ctx, *slot); err == nil {
				*slot, err = ch.PublishDeferred(ctx, b.route.exchange, key, msg)
			}
		}
		if err != nil {
			return fmt.Errorf("publish: %w", err)
		}
		if k++; k%64 == 0 {
			b.sent[me].Store(k)
		}
	}
	for _, w := range window {
		if err := confirmed(ctx, w); err != nil {
			return fmt.Errorf("publish: %w", err)
		}
	}
	return nil
}

func confirmed(ctx context.Context, c *channel.Confirmation) error {
	if c == nil {
		return nil
	}
	acked, err := c.Wait(ctx)
	if err == nil && !acked {
		err = fmt.Errorf("message %d was refused", c.DeliveryTag)
	}
	return err
}

// consumer takes and acknowledges until consuming ends. Its acknowledgements have arrived when it returns.
func (b *bench) consumer(ctx, consuming context.Context, me int) error {
	c, mine := b.cmd, &b.consumed[me]
	ch, err := b.places[1+c.Producers+me].Channel(ctx)
	if err == nil {
		err = ch.Qos(ctx, c.Prefetch, 0, false)
	}
	if err != nil {
		return err
	}
	filler := newFiller(c.Body)
	last, unacked := uint64(0), 0
	settle := func() error {
		if unacked > 0 {
			unacked = 0
			if err := ch.Ack(last, true); err != nil {
				return err
			}
		}
		if err := ch.Flush(ctx); err != nil {
			return err
		}
		mine.end = measure.Now()
		return nil
	}
	for d, err := range ch.Deliveries(consuming, b.name, channel.ConsumeOptions{Credit: max(256, c.Prefetch)}) {
		if err != nil {
			if consuming.Err() != nil {
				break
			}
			return fmt.Errorf("consume: %w", err)
		}
		b.take(mine, filler, &d)
		if c.Ack == "each" {
			err = d.Ack(false)
		} else if last, unacked = d.DeliveryTag, unacked+1; unacked == c.AckEvery {
			unacked = 0
			err = d.Ack(true)
		}
		if err != nil {
			return fmt.Errorf("ack: %w", err)
		}
		if b.got.Add(1) == c.N {
			if err := settle(); err != nil {
				return err
			}
			close(b.all)
			return nil
		}
	}
	if ctx.Err() != nil {
		return nil // the run has failed, and says why
	}
	return settle()
}

// take checks a delivery and counts its latency.
func (b *bench) take(mine *consumed, filler []byte, d *channel.Delivery) {
	t := measure.Now()
	if d.Redelivered {
		mine.redelivered++
	}
	if len(d.Body) != len(filler) {
		mine.damaged++
		return
	}
	number, at := stampOf(d.Body)
	if number < 0 || number >= b.cmd.N || (number%64 == 0 && !bytes.Equal(d.Body[minBody:], filler[minBody:])) {
		mine.damaged++
		return
	}
	mine.latency.add(t - at)
	if len(b.consumed) == 1 {
		p := &mine.last[number%int64(len(mine.last))]
		if number < *p {
			mine.misplaced++
		}
		*p = number
	}
	if bit := uint64(1) << (number % 64); b.seen[number/64].Or(bit)&bit != 0 {
		mine.duplicates++
	}
}
