package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// handler does what a consumer does with a delivery. ended says that the message is at its end: it will not come again.
type handler func(ctx context.Context, ch *channel.Channel, m *channel.Delivery) (ended bool, err error)

// demoConsumers are the consumers of a run, each on a channel of its own.
type demoConsumers struct {
	wait   sync.WaitGroup
	cancel context.CancelFunc
}

// consumers starts one consumer for each queue that has one. Their first error ends the run.
func (d *demo) consumers(work context.Context) (*demoConsumers, error) {
	ctx, cancel := context.WithCancel(work)
	c := &demoConsumers{cancel: cancel}
	for _, start := range []struct {
		at       *station
		prefetch int
		handle   handler
	}{
		{d.plan.archive, 500, d.archivist()},
		{d.plan.alerts, 100, acker},
		{d.plan.dashboard, 5, d.painter},
		{d.plan.overflow, 500, acker},
		{d.plan.work, 50, d.worker},
	} {
		ch, err := d.conn.Channel(work)
		if err == nil {
			err = ch.Qos(work, start.prefetch, 0, false)
		}
		if err == nil && start.at == d.plan.work {
			err = ch.Confirm(work)
		}
		if err != nil {
			cancel()
			c.wait.Wait()
			return nil, err
		}
		c.wait.Go(func() {
			if err := d.consume(ctx, ch, start.at, start.handle); err != nil && ctx.Err() == nil {
				d.stop(fmt.Errorf("consumer of %s: %w", start.at.name, err))
			}
		})
	}
	return c, nil
}

func (d *demo) consume(ctx context.Context, ch *channel.Channel, s *station, handle handler) error {
	for m, err := range ch.Deliveries(ctx, s.queue, channel.ConsumeOptions{}) {
		if err != nil {
			return err
		}
		t := int64(time.Since(d.begin))
		if s.given.Add(1) == 1 {
			s.first.Store(t)
		}
		s.last.Store(t)
		if m.Redelivered {
			d.redelivered.Add(1)
		}
		size := len(m.Body)
		ended, err := handle(ctx, ch, &m)
		if err != nil {
			return err
		}
		if ended {
			d.load.end(size)
		}
	}
	return ctx.Err()
}

// archivist takes everything, and checks that it is everything, in order and unchanged.
func (d *demo) archivist() handler {
	last := int64(0)
	return func(_ context.Context, _ *channel.Channel, m *channel.Delivery) (bool, error) {
		if n := number(m); n != last+1 {
			d.misplaced++
		}
		last++
		d.received = sum(d.received, m.Body)
		return true, m.Ack(false)
	}
}

// acker only acks.
func acker(_ context.Context, _ *channel.Channel, m *channel.Delivery) (bool, error) {
	return true, m.Ack(false)
}

// painter is slow.
func (d *demo) painter(ctx context.Context, _ *channel.Channel, m *channel.Delivery) (bool, error) {
	t := time.NewTimer(d.slow)
	defer t.Stop()
	select {
	case <-t.C:
		return true, m.Ack(false)
	case <-ctx.Done():
		return false, context.Cause(ctx)
	}
}

// worker fails now and then. What it refuses is dead-lettered to the retry queue and comes back after a while; what fails
// at the last attempt is parked for a person to look at.
func (d *demo) worker(ctx context.Context, ch *channel.Channel, m *channel.Delivery) (bool, error) {
	attempt := 1 + refusals(m, d.plan.work.queue)
	if !fails(number(m), attempt) {
		return true, m.Ack(false)
	}
	if attempt < attempts {
		d.failed.Add(1)
		return false, m.Reject(false)
	}
	// Stored in the parking queue first, acked then: a crash in between parks it twice, and never loses it.
	c, err := ch.PublishDeferred(ctx, d.plan.dead, deadKey(d.plan, d.plan.parking), channel.Publishing{
		MessageId: m.MessageId, Headers: m.Headers, Body: m.Body,
	})
	if err != nil {
		return false, err
	}
	stored, err := c.Wait(ctx)
	if err != nil {
		return false, err
	}
	if !stored {
		return false, errors.New("the parking queue refused a message")
	}
	d.parked.Add(1)
	return true, m.Ack(false)
}

// fails is the worker's luck: one line in eleven fails at first, one in 97 always.
func fails(n int64, attempt int) bool {
	return n%97 == 5 || (n%11 == 3 && attempt == 1)
}

// number is a line's, from 1.
func number(m *channel.Delivery) int64 {
	n, _ := strconv.ParseInt(m.MessageId, 10, 64)
	return n
}

// refusals tells from the header x-death how often a queue's consumers refused the message.
func refusals(m *channel.Delivery, queue string) int {
	deaths, _ := m.Headers["x-death"].([]any)
	for _, death := range deaths {
		t, _ := death.(channel.Table)
		if t["queue"] == queue && t["reason"] == "rejected" {
			n, _ := t["count"].(int64)
			return int(n)
		}
	}
	return 0
}
