package dashi_test

import (
	"context"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// BenchmarkTopic is the main path: publish, route by topic, deliver, ack each; 256 bytes, one producer, one consumer,
// prefetch 100, in memory.
func BenchmarkTopic(b *testing.B) {
	benchmarkTopic(b, func(s virtual.Store) virtual.Store { return s })
}

// BenchmarkTopicFive is the same on a store that shows the five methods only: what the engine's fallbacks cost.
func BenchmarkTopicFive(b *testing.B) { benchmarkTopic(b, virtual.Only) }

func benchmarkTopic(b *testing.B, dress func(virtual.Store) virtual.Store) {
	for _, c := range []struct {
		name string
		args channel.Table
		run  func(*testing.B, *channel.Channel, string)
	}{
		{"iterator", nil, iterate},
		{"chan", nil, receive},
		{"get", nil, get},
		{"limits", channel.Table{"x-message-ttl": 60000, "x-dead-letter-exchange": "amq.fanout", "x-max-length": 1 << 30}, iterate},
	} {
		b.Run(c.name, func(b *testing.B) {
			ctx := b.Context()
			conn, err := dashi.Open(ctx, dress(memory.New().Open()), broker.Options{Fresh: true})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(ctx))
			pub, _ := conn.Channel(ctx)
			sub, _ := conn.Channel(ctx)
			q, err := sub.QueueDeclare(ctx, "", channel.QueueOptions{Args: c.args})
			if err != nil {
				b.Fatal(err)
			}
			if err := sub.QueueBind(ctx, q.Name, "*.error.#", "amq.topic", nil); err != nil {
				b.Fatal(err)
			}
			_ = sub.Qos(ctx, 100, 0, false)
			body := make([]byte, 256)
			b.ReportAllocs()
			b.ResetTimer()
			go func() {
				for range b.N {
					if err := pub.Publish(ctx, "amq.topic", "api.error.db", channel.Publishing{Body: body}); err != nil {
						b.Error(err)
						return
					}
				}
			}()
			c.run(b, sub, q.Name)
			b.StopTimer()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
		})
	}
}

func iterate(b *testing.B, ch *channel.Channel, queue string) {
	n := 0
	for d, err := range ch.Deliveries(b.Context(), queue, channel.ConsumeOptions{}) {
		if err != nil {
			b.Fatal(err)
		}
		if err := d.Ack(false); err != nil {
			b.Fatal(err)
		}
		if n++; n == b.N {
			break
		}
	}
}

func receive(b *testing.B, ch *channel.Channel, queue string) {
	ds, err := ch.Consume(b.Context(), queue, channel.ConsumeOptions{})
	if err != nil {
		b.Fatal(err)
	}
	for range b.N {
		d := <-ds
		if err := d.Ack(false); err != nil {
			b.Fatal(err)
		}
	}
}

func get(b *testing.B, ch *channel.Channel, queue string) {
	for n := 0; n < b.N; {
		d, ok, err := ch.Get(b.Context(), queue, false)
		if err != nil {
			b.Fatal(err)
		}
		if ok {
			_ = d.Ack(false)
			n++
		}
	}
}
