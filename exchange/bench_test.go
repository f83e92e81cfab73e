package exchange

import (
	"fmt"
	"runtime"
	"testing"
)

// topicPattern is the i-th of a set of patterns like those of a fleet of devices: nine in ten exact, one in ten with
// a wildcard.
func topicPattern(i int) string {
	switch i % 20 {
	case 0:
		return fmt.Sprintf("dev.%d.*", i)
	case 10:
		return fmt.Sprintf("#.%d.err", i)
	}
	return fmt.Sprintf("dev.%d.temp", i)
}

func topicKey(i int) string {
	if i%20 == 10 {
		return fmt.Sprintf("dev.%d.err", i)
	}
	return fmt.Sprintf("dev.%d.temp", i)
}

func topicBench(b *testing.B, bindings int) *Topology {
	top := build(b, "topic x")
	for i := range bindings {
		name := fmt.Sprint("q", i%1000)
		top.AddQueue(name)
		bind(b, top, Binding{Source: "x", Destination: name, Key: topicPattern(i)})
	}
	return top
}

func BenchmarkTopic(b *testing.B) {
	for _, bindings := range []int{1000, 100_000} {
		top := topicBench(b, bindings)
		keys := make([]string, bindings)
		for i := range keys {
			keys[i] = topicKey(i)
		}
		run := func(name string, keys []string) {
			b.Run(fmt.Sprintf("bindings=%d/%s", bindings, name), func(b *testing.B) {
				b.ReportAllocs()
				var r Result
				m := Message{}
				i := 0
				for b.Loop() {
					m.Key = keys[i]
					if i++; i == len(keys) {
						i = 0
					}
					top.Route(&r, "x", &m)
				}
			})
		}
		run("hot", keys[:16])
		// More keys than the cache has slots, each too far from its last time to be there still.
		if bindings > 2*cacheSlots {
			run("cold", keys)
		}
		b.Run(fmt.Sprintf("bindings=%d/match", bindings), func(b *testing.B) {
			b.ReportAllocs()
			var r Result
			m := Message{}
			x := top.Exchange("x")
			i := 0
			for b.Loop() {
				m.Key = keys[i]
				if i++; i == len(keys) {
					i = 0
				}
				r.Queues, r.Exchanges = r.Queues[:0], r.Exchanges[:0]
				top.walk(&r, x, &m)
			}
		})
	}
}

func BenchmarkTopicManyHashes(b *testing.B) {
	top := build(b, "topic x", "queue q", "x -> q #.a.#.a.#.a.#.a", "x -> q #.a.#.b.#.a.#.b")
	b.ReportAllocs()
	var r Result
	x := top.Exchange("x")
	m := Message{Key: "a.a.a.a.a.a.a.a.a.a"}
	for b.Loop() {
		r.Queues, r.Exchanges = r.Queues[:0], r.Exchanges[:0]
		top.walk(&r, x, &m)
	}
}

func BenchmarkRoute(b *testing.B) {
	run := func(name string, top *Topology, exchange string, m *Message) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			var r Result
			for b.Loop() {
				top.Route(&r, exchange, m)
			}
			if len(r.Queues) == 0 {
				b.Fatal("no queue")
			}
		})
	}
	many := build(b, "direct d", "fanout f", "headers h", "x-consistent-hash c", "topic hop1", "topic hop2",
		"hop1 => hop2 #", "hop2 => f #")
	for i := range 1000 {
		name := fmt.Sprint("q", i)
		many.AddQueue(name)
		bind(b, many, Binding{Source: "d", Destination: name, Key: name})
		bind(b, many, Binding{Source: "h", Destination: name, Args: map[string]any{"format": "pdf", "n": i}})
		if i < 100 {
			bind(b, many, Binding{Source: "f", Destination: name})
			bind(b, many, Binding{Source: "c", Destination: name, Key: fmt.Sprint(i%3 + 1)})
		}
	}
	run("default", many, "", &Message{Key: "q500"})
	run("direct/bindings=1000", many, "d", &Message{Key: "q500"})
	run("direct/bindings=1000/cc", many, "d", &Message{Key: "q500", CC: []string{"q1", "q500", "q2"}})
	run("fanout/queues=100", many, "f", &Message{Key: "k"})
	run("hops=3/queues=100", many, "hop1", &Message{Key: "k"})
	run("headers/bindings=1000", many, "h", &Message{Headers: map[string]any{"format": "pdf", "n": int64(500), "other": true}})
	run("hash/queues=100/hot", many, "c", &Message{Key: "k"})
	run("hash/queues=100/cold", many, "c", &Message{Key: "k", CC: []string{"not cached"}})
}

func BenchmarkRouteParallel(b *testing.B) {
	top := topicBench(b, 1000)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		var r Result
		m := Message{Key: topicKey(7)}
		for pb.Next() {
			top.Route(&r, "x", &m)
		}
	})
}

func BenchmarkTopicBindUnbind(b *testing.B) {
	top := topicBench(b, 100_000)
	extra := Binding{Source: "x", Destination: "q1", Key: "dev.extra.temp"}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := top.Bind(extra); err != nil {
			b.Fatal(err)
		}
		top.Unbind(extra)
	}
}

// BenchmarkTopicMillion inserts and removes a million bindings and says what one takes, its key included.
func BenchmarkTopicMillion(b *testing.B) {
	const n = 1_000_000
	heap := func() float64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return float64(m.HeapAlloc)
	}
	var insert, remove, bytes float64
	for b.Loop() {
		top := build(b, "topic x")
		for i := range 1000 {
			top.AddQueue(fmt.Sprint("q", i))
		}
		names := make([]string, 1000)
		for i := range names {
			names[i] = fmt.Sprint("q", i)
		}
		before := heap()
		keys := make([]string, n)
		for i := range keys {
			keys[i] = topicPattern(i)
		}
		t0 := b.Elapsed()
		for i, key := range keys {
			if _, err := top.Bind(Binding{Source: "x", Destination: names[i%1000], Key: key}); err != nil {
				b.Fatal(err)
			}
		}
		insert += (b.Elapsed() - t0).Seconds()
		bytes = (heap() - before - 16*n) / n // the slice of the keys is the benchmark's
		t0 = b.Elapsed()
		for i, key := range keys {
			top.Unbind(Binding{Source: "x", Destination: names[i%1000], Key: key})
		}
		remove += (b.Elapsed() - t0).Seconds()
	}
	b.ReportMetric(float64(b.N)*n/insert, "binds/s")
	b.ReportMetric(float64(b.N)*n/remove, "unbinds/s")
	b.ReportMetric(bytes, "B/binding")
}
