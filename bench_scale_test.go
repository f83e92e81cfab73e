package dashi_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/measure"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

func openMemory(b *testing.B, store virtual.Store) *dashi.Connection {
	conn, err := dashi.Open(b.Context(), store, broker.Options{Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func openChannel(b *testing.B, conn *channel.Connection) *channel.Channel {
	ch, err := conn.Channel(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	return ch
}

func declare(b *testing.B, ch *channel.Channel, name string) {
	if _, err := ch.QueueDeclare(b.Context(), name, channel.QueueOptions{}); err != nil {
		b.Fatal(err)
	}
}

// inUse is what the program's heap and stacks take after a collection.
func inUse() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc + m.StackInuse)
}

// BenchmarkFanout publishes to 100 queues, each with its consumer that acks each: what one copy costs, and what it
// allocates, of which 256 bytes are the body that its receiver gets.
func BenchmarkFanout(b *testing.B) {
	for _, noCopy := range []bool{false, true} {
		b.Run(fmt.Sprintf("queues=100/nocopy=%v", noCopy), func(b *testing.B) { fanout(b, 100, noCopy) })
	}
}

func fanout(b *testing.B, queues int, noCopy bool) {
	ctx := b.Context()
	conn := openMemory(b, memory.New().Open())
	pub := openChannel(b, conn.Connection)
	underWay := make(chan struct{}, 64)
	var left atomic.Int64
	var consumers sync.WaitGroup
	for i := range queues {
		ch, name := openChannel(b, conn.Connection), fmt.Sprint("q", i)
		declare(b, ch, name)
		if err := ch.QueueBind(ctx, name, "", "amq.fanout", nil); err != nil {
			b.Fatal(err)
		}
		if err := ch.Qos(ctx, 100, 0, false); err != nil {
			b.Fatal(err)
		}
		n := 0
		consumers.Go(func() {
			byIterator(b, ch, pathQ{name, channel.ConsumeOptions{NoCopy: noCopy}, func(d channel.Delivery) bool {
				if err := d.Ack(false); err != nil {
					b.Error(err)
				}
				if left.Add(-1)%int64(queues) == 0 {
					<-underWay
				}
				n++
				return n < b.N
			}})
		})
	}
	left.Store(int64(b.N * queues))
	body := make([]byte, pathBody)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	for range b.N {
		underWay <- struct{}{}
		if err := pub.Publish(ctx, "amq.fanout", "", channel.Publishing{Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	consumers.Wait()
	b.StopTimer()
	runtime.ReadMemStats(&after)
	copies := float64(b.N * queues)
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/copies, "ns/copy")
	b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/copies, "B/copy")
}

// BenchmarkIdle has 10,000 queues with a consumer each, of which nothing happens: what they hold of memory, and use of the
// processor and of the store in a second.
func BenchmarkIdle(b *testing.B) {
	const queues = 10_000
	ctx := b.Context()
	for range b.N {
		var calls atomic.Int64
		store := virtual.Intercept(memory.New().Open(), func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
			calls.Add(1)
			return next(ctx)
		})
		before := inUse()
		conn := openMemory(b, store)
		for i := range queues / 10 {
			ch := openChannel(b, conn.Connection)
			for j := range 10 {
				name := fmt.Sprint("q", 10*i+j)
				declare(b, ch, name)
				if _, err := ch.Consume(ctx, name, channel.ConsumeOptions{}); err != nil {
					b.Fatal(err)
				}
			}
		}
		b.ReportMetric((inUse()-before)/1e6, "MB")
		calls.Store(0)
		cpu := measure.OwnCPU()
		const watched = 3 * time.Second
		time.Sleep(watched)
		b.ReportMetric((measure.OwnCPU()-cpu)/watched.Seconds()*100, "cpu-%")
		b.ReportMetric(float64(calls.Load())/watched.Seconds(), "calls/s")
		if err := conn.Close(ctx); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkUnacked has a million messages delivered and not answered: what each takes beyond what it took when it was ready.
func BenchmarkUnacked(b *testing.B) {
	const messages = 1_000_000
	for range b.N {
		conn := openMemory(b, memory.New().Open())
		ch := openChannel(b, conn.Connection)
		declare(b, ch, "q")
		empty := inUse()
		fill(b, ch, messages)
		ready := inUse()
		n := 0
		unacked := 0.0
		byIterator(b, ch, pathQ{"q", channel.ConsumeOptions{}, func(channel.Delivery) bool {
			if n++; n == messages {
				unacked = inUse()
			}
			return n < messages
		}})
		b.ReportMetric((ready-empty)/messages, "B/ready")
		b.ReportMetric((unacked-ready)/messages, "B/unacked")
		if err := conn.Close(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
}

// fill publishes messages to the queue q.
func fill(b *testing.B, ch *channel.Channel, n int) {
	body := make([]byte, pathBody)
	for range n {
		if err := ch.Publish(b.Context(), "", "q", channel.Publishing{Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	if err := ch.Flush(b.Context()); err != nil {
		b.Fatal(err)
	}
}

// BenchmarkBacklog takes the first message and gives it back, with ten waiting and with a million.
func BenchmarkBacklog(b *testing.B) {
	for _, n := range []int{10, 1_000_000} {
		b.Run(fmt.Sprintf("waiting=%d", n), func(b *testing.B) {
			conn := openMemory(b, memory.New().Open())
			ch := openChannel(b, conn.Connection)
			declare(b, ch, "q")
			fill(b, ch, n)
			runtime.GC()
			took := make([]time.Duration, b.N)
			for i := range took {
				begin := time.Now()
				d, ok, err := ch.Get(b.Context(), "q", false)
				took[i] = time.Since(begin)
				if err == nil && ok {
					err = d.Reject(true)
				}
				if !ok || err != nil {
					b.Fatal(ok, err)
				}
			}
			slices.Sort(took)
			b.ReportMetric(float64(took[len(took)/2]), "p50-ns")
		})
	}
}

// BenchmarkChannels publishes on 10 channels of each of 1,000 connections, in turns: what a channel takes, and how fast it is.
func BenchmarkChannels(b *testing.B) {
	const connections, each = 1000, 10
	ctx := b.Context()
	store := memory.New().Open()
	process, err := broker.Open(ctx, store, broker.Options{Fresh: true})
	if err != nil {
		b.Fatal(err)
	}
	defer process.Close(context.Background())
	before := inUse()
	var channels []*channel.Channel
	for range connections {
		conn, err := channel.Connect(ctx, process.Connect)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close(context.Background())
		for range each {
			channels = append(channels, openChannel(b, conn))
		}
	}
	perChannel := (inUse() - before) / (connections * each)
	declare(b, channels[0], "q")
	w := newWindow()
	var consumer sync.WaitGroup
	consumer.Go(func() {
		n := 0
		byIterator(b, channels[0], pathQ{"q", channel.ConsumeOptions{}, func(d channel.Delivery) bool {
			if err := d.Ack(false); err != nil {
				b.Error(err)
			}
			w.leave(n)
			n++
			return n < b.N
		}})
	})
	body := make([]byte, pathBody)
	b.ResetTimer()
	for i := range b.N {
		w.enter(i)
		if err := channels[i%len(channels)].Publish(ctx, "", "q", channel.Publishing{Body: body}); err != nil {
			b.Fatal(err)
		}
	}
	consumer.Wait()
	b.StopTimer()
	perSecond(b)
	b.ReportMetric(perChannel, "B/channel")
}
