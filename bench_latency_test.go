package dashi_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/measure"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// BenchmarkLatency measures how long a lone message takes, at 1,000 a second, beside a bare channel: with a pacer that sleeps,
// which finds the machine at rest, and with one that spins, which keeps a processor busy. Time counts from when a message
// was meant to be sent, so that a publish that blocks counts against those behind it, too, but not from before the pacer woke: a
// late timer is nobody's fault here.
func BenchmarkLatency(b *testing.B) {
	for _, pacer := range []struct {
		name string
		spin bool
	}{{"sleeping", false}, {"spinning", true}} {
		b.Run("bare/"+pacer.name, func(b *testing.B) {
			c := make(chan *bareMessage, 1024)
			l := newLatencies(b.N)
			done := make(chan struct{})
			go func() {
				defer close(done)
				for m := range c {
					l.add(m.body)
				}
			}()
			paced(b, pacer.spin, func(body []byte) { c <- &bareMessage{"api.error.db", body} })
			close(c)
			<-done
			l.report(b)
		})
		b.Run("dashi/"+pacer.name, func(b *testing.B) {
			ctx := b.Context()
			conn, err := dashi.Open(ctx, memory.New().Open(), broker.Options{Fresh: true})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.WithoutCancel(ctx))
			pub, _ := conn.Channel(ctx)
			sub, _ := conn.Channel(ctx)
			q, err := sub.QueueDeclare(ctx, "", channel.QueueOptions{Args: limitedQueue()})
			if err == nil {
				err = sub.QueueBind(ctx, q.Name, "*.error.#", "amq.topic", nil)
			}
			if err != nil {
				b.Fatal(err)
			}
			l := newLatencies(b.N)
			done := make(chan struct{})
			go func() {
				defer close(done)
				byIterator(b, sub, pathQ{q.Name, channel.ConsumeOptions{}, func(d channel.Delivery) bool {
					l.add(d.Body)
					if err := d.Ack(false); err != nil {
						b.Error(err)
					}
					return len(l.ns) < b.N
				}})
			}()
			paced(b, pacer.spin, func(body []byte) {
				if err := pub.Publish(ctx, "amq.topic", "api.error.db", channel.Publishing{Body: body}); err != nil {
					b.Error(err)
				}
			})
			<-done
			l.report(b)
		})
	}
}

// paced sends b.N bodies, 1,000 a second, each with the time it was meant to be sent.
func paced(b *testing.B, spin bool, send func(body []byte)) {
	pace := measure.NewPacer(1000)
	pace.Spin = spin
	for range b.N {
		at, err := pace.Wait(b.Context())
		if err != nil {
			b.Error(err)
			return
		}
		body := make([]byte, pathBody)
		binary.BigEndian.PutUint64(body, uint64(at))
		send(body)
	}
}

type latencies struct{ ns []int64 }

func newLatencies(n int) *latencies { return &latencies{make([]int64, 0, n)} }

func (l *latencies) add(body []byte) {
	l.ns = append(l.ns, measure.Now()-int64(binary.BigEndian.Uint64(body)))
}

func (l *latencies) report(b *testing.B) {
	if len(l.ns) != b.N {
		b.Fatalf("%d of %d messages arrived", len(l.ns), b.N)
	}
	slices.Sort(l.ns)
	b.ReportMetric(float64(l.ns[len(l.ns)/2]), "p50-ns")
	b.ReportMetric(float64(l.ns[len(l.ns)*99/100]), "p99-ns")
}
