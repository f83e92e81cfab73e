package exchange

import (
	"fmt"
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
