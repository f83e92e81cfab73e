package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"math"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/measure"
)

// benchStall is how long nothing may arrive before the run is given up.
const benchStall = 15 * time.Second

// bench is one run.
type bench struct {
	cmd    *benchCmd
	args   channel.Table
	places []*dashi.Connection // of the admin, the producers, the consumers
	name   string              // of exchange and queue
	route  benchRoute
	stall  time.Duration

	got      atomic.Int64  // deliveries
	all      chan struct{} // closed when all have come
	sent     []padded      // by producer, for the display
	seen     []atomic.Uint64
	consumed []consumed

	begin               int64
	elapsed, publishing time.Duration
	used                used
	latency             histogram
	duplicates          int64
	result              benchResult
}

// padded is a counter that shares its cache line with nobody.
type padded struct {
	atomic.Int64
	_ [56]byte
}

// consumed is what one consumer saw.
type consumed struct {
	latency                                     *histogram
	last                                        []int64 // number of the last message by producer
	duplicates, misplaced, redelivered, damaged int64
	end                                         int64 // when its last acknowledgement was there
}

func newBench(c *benchCmd, args channel.Table, places []*dashi.Connection) *bench {
	b := &bench{
		cmd: c, args: args, places: places, name: "dashi-bench-" + strings.ToLower(rand.Text()[:8]), stall: benchStall,
		all: make(chan struct{}), sent: make([]padded, c.Producers), seen: make([]atomic.Uint64, (c.N+63)/64),
		consumed: make([]consumed, c.Consumers),
	}
	for i := range b.consumed {
		b.consumed[i] = consumed{latency: new(histogram), last: make([]int64, c.Producers)}
		for p := range b.consumed[i].last {
			b.consumed[i].last[p] = -1
		}
	}
	if c.Rate > 0 { // the rate itself may be slow
		b.stall = max(b.stall, time.Duration(min(2e9*float64(c.Producers)/c.Rate, math.MaxInt64/2)))
	}
	return b
}

// run publishes, consumes and measures. Its first error, or the end of ctx, ends all of it.
func (b *bench) run(outer context.Context, progress io.Writer) error {
	ctx, fail := context.WithCancelCause(outer)
	defer fail(nil)
	consuming, stopConsuming := context.WithCancel(ctx)
	defer stopConsuming()
	var producers, consumers sync.WaitGroup
	start := make(chan struct{})
	consume := func() {
		for i := range b.cmd.Consumers {
			consumers.Go(func() {
				if err := b.consumer(ctx, consuming, i); err != nil {
					fail(err)
				}
			})
		}
	}
	for i := range b.cmd.Producers {
		producers.Go(func() {
			<-start
			if err := b.producer(ctx, i); err != nil {
				fail(err)
			}
		})
	}
	if !b.cmd.Drain {
		consume()
		if err := b.subscribed(ctx); err != nil {
			fail(err)
		}
	}
	show := startLive(progress, b.status)
	var watching sync.WaitGroup
	watched, unwatch := context.WithCancel(ctx)
	watching.Go(func() { b.watch(watched, fail) })
	m := startMeter(b.cmd.ServerPID)
	b.begin = measure.Now()
	close(start)
	producers.Wait()
	b.publishing = time.Duration(measure.Now() - b.begin)
	if b.cmd.Drain {
		consume()
	}
	select {
	case <-b.all:
	case <-ctx.Done():
	}
	stopConsuming()
	consumers.Wait()
	b.used = m.stop()
	unwatch()
	watching.Wait()
	show.end()
	for i := range b.consumed {
		c := &b.consumed[i]
		b.latency.merge(c.latency)
		b.duplicates += c.duplicates
		b.elapsed = max(b.elapsed, time.Duration(c.end-b.begin))
	}
	if cause := context.Cause(ctx); cause != nil {
		return fmt.Errorf("%w (%s of %s delivered)", cause, grouped(b.got.Load()), grouped(b.cmd.N))
	}
	return nil
}

// subscribed waits until the consumers are there, so that their start is not measured.
func (b *bench) subscribed(ctx context.Context) error {
	ch, err := b.places[0].Channel(ctx)
	if err != nil {
		return err
	}
	defer ch.Close(ctx)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for {
		q, err := ch.QueueDeclarePassive(ctx, b.name)
		if err != nil || q.Consumers >= b.cmd.Consumers {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// watch ends a run in which nothing arrives any more.
func (b *bench) watch(ctx context.Context, fail context.CancelCauseFunc) {
	tick := time.NewTicker(b.stall / 10)
	defer tick.Stop()
	before, still := int64(-1), 0
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
		n := b.got.Load()
		if b.cmd.Drain {
			n += b.published()
		}
		if still++; n != before {
			before, still = n, 0
		}
		if still == 10 {
			fail(fmt.Errorf("messages are missing: nothing arrived for %v", b.stall))
			return
		}
	}
}

func (b *bench) published() (n int64) {
	for i := range b.sent {
		n += b.sent[i].Load()
	}
	return n
}

func (b *bench) status() []string {
	seconds := max(float64(measure.Now()-b.begin)/1e9, 1e-9)
	n := b.got.Load()
	return []string{fmt.Sprintf("  %3d %%  %12s published  %12s delivered  %10s/s", 100*n/b.cmd.N, grouped(b.published()), grouped(n), grouped(int64(float64(n)/seconds)))}
}
