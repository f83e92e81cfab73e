package dashi_test

import (
	"cmp"
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// How much is under way in BenchmarkPath, whoever is measured: a publisher that is faster than the consumers waits, so that
// what is measured is the path and not the growth of a heap. Publishers take leave for blocks, which costs next to nothing.
const (
	pathBlock  = 256
	pathWindow = 40 * pathBlock
	pathBody   = 256
	pathUnsure = 1000 // most messages without a confirm
)

// path is the main path: publish, route by topic, deliver, ack each.
type path struct {
	name     string
	limits   bool                                      // the queue has a TTL, a dead-letter exchange and a bound
	dress    func(virtual.Store) virtual.Store         // nil: memory as it is
	prefetch int                                       // 0: 100
	confirm  bool                                      // each message's confirm is waited for, pathUnsure behind
	noCopy   bool                                      // at both ends; the publisher allocates the bodies
	consume  func(*testing.B, *channel.Channel, pathQ) // nil: by iterator
}

// pathQ is what a consumer reads.
type pathQ struct {
	name    string
	options channel.ConsumeOptions
	// take is called for each delivery; false: it was the last one of this consumer.
	take func(channel.Delivery) bool
}

// BenchmarkPath measures the main path in memory through the public API, beside a bare Go channel that hands over
// pointers to messages with their freshly allocated bodies. All of it with 1 producer and 1 consumer, and with 4 of each.
func BenchmarkPath(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("bare/%dx%d", n, n), func(b *testing.B) { bareChannel(b, n) })
		for _, p := range []path{
			{name: "limits", limits: true},
			{name: "plain"},
			{name: "confirms", limits: true, confirm: true},
			{name: "prefetch1", limits: true, prefetch: 1},
			{name: "chan", limits: true, consume: byChan},
			{name: "get", limits: true, consume: byGet},
			{name: "nocopy", limits: true, noCopy: true},
			{name: "five", dress: virtual.Only},
		} {
			b.Run(fmt.Sprintf("%s/%dx%d", p.name, n, n), func(b *testing.B) { p.run(b, n) })
		}
	}
}

// limitedQueue are the arguments of a queue that has everything to be looked after.
func limitedQueue() channel.Table {
	return channel.Table{"x-message-ttl": 60000, "x-dead-letter-exchange": "amq.fanout", "x-max-length": 1 << 30}
}

// window lets pathWindow messages be under way.
type window chan struct{}

func newWindow() window { return make(window, pathWindow/pathBlock) }

// enter is called before the i-th message of a publisher.
func (w window) enter(i int) {
	if i%pathBlock == 0 {
		w <- struct{}{}
	}
}

// leave is called after the i-th message of a consumer.
func (w window) leave(i int) {
	if i%pathBlock == pathBlock-1 {
		<-w
	}
}

// share is how many of the messages the i-th of n publishers publishes.
func share(all, n, i int) int { return (all + n - 1 - i) / n }

func perSecond(b *testing.B) { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s") }

type bareMessage struct {
	key  string
	body []byte
}

func bareChannel(b *testing.B, n int) {
	b.ReportAllocs()
	w := newWindow()
	c := make(chan *bareMessage, 1024)
	body := make([]byte, pathBody)
	var publishers, consumers sync.WaitGroup
	counts := make([]int, n)
	for i := range n {
		publishers.Go(func() {
			for j := range share(b.N, n, i) {
				w.enter(j)
				m := &bareMessage{"api.error.db", make([]byte, pathBody)}
				copy(m.body, body)
				c <- m
			}
		})
		consumers.Go(func() {
			count := 0
			for m := range c {
				if len(m.body) == pathBody {
					w.leave(count)
					count++
				}
			}
			counts[i] = count
		})
	}
	publishers.Wait()
	close(c)
	consumers.Wait()
	perSecond(b)
	checkCounts(b, counts)
}

func checkCounts(b *testing.B, counts []int) {
	sum := 0
	for _, n := range counts {
		sum += n
	}
	if sum != b.N {
		b.Fatalf("%d of %d messages arrived", sum, b.N)
	}
}

func (p path) run(b *testing.B, n int) {
	ctx := b.Context()
	var store virtual.Store = memory.New().Open()
	if p.dress != nil {
		store = p.dress(store)
	}
	conn, err := dashi.Open(ctx, store, broker.Options{Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	b.ReportAllocs()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	p.through(b, conn.Connection, n)
	b.StopTimer()
	runtime.ReadMemStats(&after)
	perSecond(b)
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/msg") // allocs/op is rounded down
}

// through sends b.N messages from n publishers to n consumers. An empty message ends a consumer.
func (p path) through(b *testing.B, conn *channel.Connection, n int) {
	ctx := b.Context()
	open := func() *channel.Channel {
		ch, err := conn.Channel(ctx)
		if err != nil {
			b.Fatal(err)
		}
		return ch
	}
	var args channel.Table
	if p.limits {
		args = limitedQueue()
	}
	first := open()
	q, err := first.QueueDeclare(ctx, "", channel.QueueOptions{Args: args})
	if err == nil {
		err = first.QueueBind(ctx, q.Name, "*.error.#", "amq.topic", nil)
	}
	if err != nil {
		b.Fatal(err)
	}
	w := newWindow()
	var publishers, consumers sync.WaitGroup
	counts := make([]int, n)
	consume := p.consume
	if consume == nil {
		consume = byIterator
	}
	for i := range n {
		pub, sub := open(), open()
		publishers.Go(func() { p.publish(b, pub, w, share(b.N, n, i)) })
		consumers.Go(func() {
			if err := sub.Qos(ctx, cmp.Or(p.prefetch, 100), 0, false); err != nil {
				b.Error(err)
			}
			count := 0
			consume(b, sub, pathQ{q.Name, channel.ConsumeOptions{NoCopy: p.noCopy}, func(d channel.Delivery) bool {
				if err := d.Ack(false); err != nil {
					b.Error(err)
				}
				if len(d.Body) == 0 {
					return false
				}
				w.leave(count)
				count++
				return true
			}})
			counts[i] = count
		})
	}
	publishers.Wait()
	for range n {
		if err := first.Publish(ctx, "", q.Name, channel.Publishing{}); err != nil {
			b.Error(err)
		}
	}
	consumers.Wait()
	checkCounts(b, counts)
}

func (p path) publish(b *testing.B, ch *channel.Channel, w window, n int) {
	ctx := b.Context()
	body := make([]byte, pathBody)
	var unsure []*channel.Confirmation
	if p.confirm {
		if err := ch.Confirm(ctx); err != nil {
			b.Error(err)
			return
		}
		unsure = make([]*channel.Confirmation, pathUnsure)
	}
	for i := range n {
		w.enter(i)
		m := channel.Publishing{Body: body}
		if p.noCopy {
			m = channel.Publishing{Body: make([]byte, pathBody), NoCopy: true}
			copy(m.Body, body)
		}
		if !p.confirm {
			if err := ch.Publish(ctx, "amq.topic", "api.error.db", m); err != nil {
				b.Error(err)
				return
			}
			continue
		}
		if c := unsure[i%pathUnsure]; c != nil {
			if ok, err := c.Wait(ctx); !ok {
				b.Error("not confirmed", err)
				return
			}
		}
		c, err := ch.PublishDeferred(ctx, "amq.topic", "api.error.db", m)
		if err != nil {
			b.Error(err)
			return
		}
		unsure[i%pathUnsure] = c
	}
	if err := ch.Flush(ctx); err != nil {
		b.Error(err)
	}
}

func byIterator(b *testing.B, ch *channel.Channel, q pathQ) {
	for d, err := range ch.Deliveries(b.Context(), q.name, q.options) {
		if err != nil {
			b.Error(err)
			return
		}
		if !q.take(d) {
			return
		}
	}
}

func byChan(b *testing.B, ch *channel.Channel, q pathQ) {
	q.options.Tag = "c"
	ds, err := ch.Consume(b.Context(), q.name, q.options)
	if err != nil {
		b.Error(err)
		return
	}
	for d := range ds {
		if !q.take(d) {
			break
		}
	}
	if err := ch.Close(b.Context()); err != nil { // what it holds beyond is the others'
		b.Error(err)
	}
}

func byGet(b *testing.B, ch *channel.Channel, q pathQ) {
	for {
		d, ok, err := ch.Get(b.Context(), q.name, false)
		if err != nil {
			b.Error(err)
			return
		}
		if ok && !q.take(d) {
			return
		}
	}
}
