package exchange

import (
	"fmt"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/internal/measure"
	"github.com/dashi-mq/dashi/internal/topicgen"
)

// The benchmarks of this file are on the data of internal/topicgen. The module interop measures other matchers on the
// same, under the same names.

const benchQueues = 1000 // the bindings lead to that many queues

func queueNumber(i int) string { return fmt.Sprint("q", i%benchQueues) }

// generated binds the patterns of g to a topic exchange x and returns them.
func generated(b *testing.B, g topicgen.Gen) (*Topology, []string) {
	top := build(b, "topic x")
	for i := range benchQueues {
		top.AddQueue(queueNumber(i))
	}
	patterns := make([]string, g.Patterns)
	for i := range patterns {
		patterns[i], _ = g.Pattern(i)
		if _, err := top.Bind(Binding{Source: "x", Destination: queueNumber(i), Key: patterns[i]}); err != nil {
			b.Fatal(err)
		}
	}
	return top, patterns
}

// verify compares the routes of the first keys with a scan of all patterns.
func verify(b *testing.B, top *Topology, g topicgen.Gen, patterns []string, keys int) {
	want := make([][]string, keys)
	words := make([][]string, keys)
	for j := range words {
		words[j] = strings.Split(g.Key(j), ".")
	}
	for i, pattern := range patterns {
		p := strings.Split(pattern, ".")
		for j, key := range words {
			if topicgen.Match(p, key) && !slices.Contains(want[j], queueNumber(i)) {
				want[j] = append(want[j], queueNumber(i))
			}
		}
	}
	for j := range words {
		slices.Sort(want[j])
		if got := reached(b, top, "x", &Message{Key: g.Key(j)}); got != strings.Join(want[j], " ") {
			b.Fatalf("%s reaches %s, by the reference %s", g.Key(j), got, want[j])
		}
	}
}

func BenchmarkTopicMatch(b *testing.B) {
	for _, mix := range []topicgen.Mix{topicgen.NATS, topicgen.AMQP} {
		for _, n := range []int{1000, 100_000, 1_000_000} {
			b.Run(fmt.Sprintf("mix=%s/bindings=%d", mix, n), func(b *testing.B) {
				g := topicgen.Gen{Mix: mix, Seed: 1, Patterns: n}
				top, patterns := generated(b, g)
				verify(b, top, g, patterns, min(50, 10_000_000/n))
				b.Run("keys=hot", func(b *testing.B) { topicMatch(b, top, g, 256) })
				b.Run("keys=cold", func(b *testing.B) { topicMatch(b, top, g, 100_000) })
				b.Run("keys=cold/trie", func(b *testing.B) { topicTrie(b, top, g, 100_000) })
			})
		}
	}
}

// topicMatch is what a publish does about routing, over that many keys in turn.
func topicMatch(b *testing.B, top *Topology, g topicgen.Gen, n int) {
	eachKey(b, g, n, func(r *Result, m *Message) { top.Route(r, "x", m) })
}

// topicTrie is the trie alone, without a look at the cache.
func topicTrie(b *testing.B, top *Topology, g topicgen.Gen, n int) {
	x := top.Exchange("x")
	eachKey(b, g, n, func(r *Result, m *Message) {
		r.Queues, r.Exchanges, r.Missing = r.queues[:0], r.exchanges[:0], r.missing[:0]
		top.walk(r, x, m)
		r.keep()
	})
}

func eachKey(b *testing.B, g topicgen.Gen, n int, route func(*Result, *Message)) {
	keys := make([]string, n)
	for j := range keys {
		keys[j] = g.Key(j)
	}
	var r Result
	var m Message
	for range 3 { // until the cache holds what it can
		for _, m.Key = range keys {
			route(&r, &m)
		}
	}
	runtime.GC() // of what was built before, not while it is measured
	b.ReportAllocs()
	matches, i := 0, 0
	for b.Loop() {
		m.Key = keys[i]
		if i++; i == len(keys) {
			i = 0
		}
		route(&r, &m)
		matches += len(r.Queues)
	}
	b.ReportMetric(float64(matches)/float64(b.N), "matches/op")
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(matches), "ns/match")
}

// BenchmarkTopicBind inserts and removes a million bindings and says what one takes, its key included.
func BenchmarkTopicBind(b *testing.B) {
	const n = 1_000_000
	for _, mix := range []topicgen.Mix{topicgen.NATS, topicgen.AMQP} {
		b.Run(fmt.Sprintf("mix=%s/bindings=%d", mix, n), func(b *testing.B) {
			g := topicgen.Gen{Mix: mix, Seed: 1, Patterns: n}
			names := make([]string, benchQueues)
			for i := range names {
				names[i] = queueNumber(i)
			}
			var insert, remove, bytes float64
			for b.Loop() {
				top := build(b, "topic x")
				for _, name := range names {
					top.AddQueue(name)
				}
				patterns := make([]string, n)
				before := measure.Heap()
				for i := range patterns {
					patterns[i], _ = g.Pattern(i)
				}
				start := b.Elapsed()
				for i, pattern := range patterns {
					if _, err := top.Bind(Binding{Source: "x", Destination: names[i%benchQueues], Key: pattern}); err != nil {
						b.Fatal(err)
					}
				}
				insert += (b.Elapsed() - start).Seconds()
				bytes = (measure.Heap() - before) / float64(top.Len())
				start = b.Elapsed()
				for i, pattern := range patterns {
					top.Unbind(Binding{Source: "x", Destination: names[i%benchQueues], Key: pattern})
				}
				remove += (b.Elapsed() - start).Seconds()
				if top.Len() != 0 {
					b.Fatal(top.Len(), "bindings are left")
				}
			}
			b.ReportMetric(float64(b.N)*n/insert, "binds/s")
			b.ReportMetric(float64(b.N)*n/remove, "unbinds/s")
			b.ReportMetric(bytes, "B/binding")
		})
	}
}
