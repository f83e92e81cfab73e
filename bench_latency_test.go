package dashi_test

import (
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// BenchmarkLatency measures how long a lone message takes, at 1,000 a second, beside a bare channel: with a pacer that sleeps,
// which finds the machine at rest, and with one that spins, which keeps a processor busy. Time counts from when the pacer
// woke. A late timer is nobody's fault here.
func BenchmarkLatency(b *testing.B) {
	for _, pacer := range []struct {
		name string
		wait func(until time.Time)
	}{
		{"sleeping", func(until time.Time) { time.Sleep(time.Until(until)) }},
		{"spinning", func(until time.Time) {
			for time.Now().Before(until) {
			}
		}},
	} {
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
			paced(b.N, pacer.wait, func(body []byte) { c <- &bareMessage{"api.error.db", body} })
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
			paced(b.N, pacer.wait, func(body []byte) {
				if err := pub.Publish(ctx, "amq.topic", "api.error.db", channel.Publishing{Body: body}); err != nil {
					b.Error(err)
				}
			})
			<-done
			l.report(b)
		})
	}
}

var latencyEpoch = time.Now()

// paced sends n bodies, 1,000 a second, each with the time it was sent.
func paced(n int, wait func(until time.Time), send func(body []byte)) {
	next := time.Now()
	for range n {
		next = next.Add(time.Millisecond)
		wait(next)
		body := make([]byte, pathBody)
		binary.BigEndian.PutUint64(body, uint64(time.Since(latencyEpoch)))
		send(body)
	}
}

type latencies struct{ ns []time.Duration }

func newLatencies(n int) *latencies { return &latencies{make([]time.Duration, 0, n)} }

func (l *latencies) add(body []byte) {
	l.ns = append(l.ns, time.Since(latencyEpoch)-time.Duration(binary.BigEndian.Uint64(body)))
}

func (l *latencies) report(b *testing.B) {
	if len(l.ns) != b.N {
		b.Fatalf("%d of %d messages arrived", len(l.ns), b.N)
	}
	slices.Sort(l.ns)
	b.ReportMetric(float64(l.ns[len(l.ns)/2]), "p50-ns")
	b.ReportMetric(float64(l.ns[len(l.ns)*99/100]), "p99-ns")
}
