package interop

import (
	"fmt"
	"runtime"
	"strings"
	"sync"
	"testing"

	"github.com/dashi-mq/dashi/internal/measure"
	"github.com/dashi-mq/dashi/internal/topicgen"
)

// matcher is an index of topic patterns under test. The number of a pattern says what it is bound to.
type matcher interface {
	insert(i int, pattern string)
	remove(i int, pattern string)
	match(key string) int // how many were found
}

// matchers are those that are compared. All take the mix of which both AMQP and NATS have a form.
var matchers = []struct {
	name string
	amqp bool // the form of the patterns
	make func(patterns []string) matcher
}{
	{"dashi", true, newDashi},
	{"nats-sublist", false, newSublistNoCache},
	{"nats-sublist-cache", false, newSublistWithCache},
	{"nats-gsl", false, newGSL},
}

func patterns(g topicgen.Gen, amqp bool) []string {
	list := make([]string, g.Patterns)
	for i := range list {
		a, n := g.Pattern(i)
		if list[i] = n; amqp {
			list[i] = a
		}
	}
	return list
}

func keys(g topicgen.Gen, n int) []string {
	list := make([]string, n)
	for j := range list {
		list[j] = g.Key(j)
	}
	return list
}

// verify compares what a matcher finds for the first keys with a scan of all patterns.
func verify(m matcher, g topicgen.Gen, n int) error {
	first := keys(g, n)
	words := make([][]string, n)
	want := make([]int, n)
	for j, key := range first {
		words[j] = strings.Split(key, ".")
	}
	for _, pattern := range patterns(g, true) {
		p := strings.Split(pattern, ".")
		for j := range words {
			if topicgen.Match(p, words[j]) {
				want[j]++
			}
		}
	}
	for j, key := range first {
		if got := m.match(key); got != want[j] {
			return fmt.Errorf("it finds %d matches for %s, a scan %d", got, key, want[j])
		}
	}
	return nil
}

// forgetful is a matcher that does not find what has a wildcard at the end.
type forgetful struct{ matcher }

func (f forgetful) insert(i int, pattern string) {
	if !strings.HasSuffix(pattern, ">") {
		f.matcher.insert(i, pattern)
	}
}

// stale is a matcher from which nothing can be removed.
type stale struct{ matcher }

func (stale) remove(int, string) {}

// agrees fills a matcher, empties it, and compares it with a scan each time.
func agrees(amqp bool, make func([]string) matcher) error {
	g := topicgen.Gen{Mix: topicgen.NATS, Seed: 1, Patterns: 20_000}
	list := patterns(g, amqp)
	m := make(list)
	for i, pattern := range list {
		m.insert(i, pattern)
	}
	if err := verify(m, g, 500); err != nil {
		return fmt.Errorf("full: %w", err)
	}
	for i, pattern := range list {
		m.remove(i, pattern)
	}
	keys := g
	keys.Patterns = 0
	if err := verify(m, keys, 500); err != nil {
		return fmt.Errorf("empty: %w", err)
	}
	return nil
}

// Figures of matchers that do not find the same would compare nothing.
func TestMatchersAgree(t *testing.T) {
	for _, c := range matchers {
		if err := agrees(c.amqp, c.make); err != nil {
			t.Errorf("%s, %v", c.name, err)
		}
	}
	for name, broken := range map[string]func([]string) matcher{
		"forgetful": func(list []string) matcher { return forgetful{newGSL(list)} },
		"stale":     func(list []string) matcher { return stale{newGSL(list)} },
	} {
		if agrees(false, broken) == nil {
			t.Errorf("a %s matcher passes", name)
		}
	}
}

func BenchmarkTopicMatch(b *testing.B) {
	for _, n := range []int{1000, 100_000, 1_000_000} {
		g := topicgen.Gen{Mix: topicgen.NATS, Seed: 1, Patterns: n}
		for _, c := range matchers {
			filled := sync.OnceValue(func() matcher {
				list := patterns(g, c.amqp)
				m := c.make(list)
				for i, pattern := range list {
					m.insert(i, pattern)
				}
				must(verify(m, g, min(50, 10_000_000/n)))
				return m
			})
			for _, k := range []struct {
				name string
				n    int
			}{{"hot", 256}, {"cold", 100_000}} {
				b.Run(fmt.Sprintf("mix=nats/bindings=%d/keys=%s/matcher=%s", n, k.name, c.name), func(b *testing.B) {
					topicMatch(b, filled(), keys(g, k.n))
				})
			}
		}
	}
}

func topicMatch(b *testing.B, m matcher, keys []string) {
	for range 3 { // until caches hold what they can
		for _, key := range keys {
			m.match(key)
		}
	}
	runtime.GC() // of what was built before, not while it is measured
	b.ReportAllocs()
	matches, i := 0, 0
	for b.Loop() {
		matches += m.match(keys[i])
		if i++; i == len(keys) {
			i = 0
		}
	}
	b.ReportMetric(float64(matches)/float64(b.N), "matches/op")
}

// BenchmarkTopicBind inserts and removes a million patterns and says what one takes of the heap: the pattern, what the
// matcher wants to have for it, and its share of the index.
func BenchmarkTopicBind(b *testing.B) {
	const n = 1_000_000
	g := topicgen.Gen{Mix: topicgen.NATS, Seed: 1, Patterns: n}
	for _, c := range matchers {
		b.Run(fmt.Sprintf("mix=nats/bindings=%d/matcher=%s", n, c.name), func(b *testing.B) {
			var insert, remove, bytes float64
			for b.Loop() {
				before := measure.Heap()
				list := patterns(g, c.amqp)
				m := c.make(list)
				start := b.Elapsed()
				for i, pattern := range list {
					m.insert(i, pattern)
				}
				insert += (b.Elapsed() - start).Seconds()
				bytes = (measure.Heap()-before)/n - 16 // less the list of the patterns, which is the benchmark's
				start = b.Elapsed()
				for i, pattern := range list {
					m.remove(i, pattern)
				}
				remove += (b.Elapsed() - start).Seconds()
			}
			b.ReportMetric(float64(b.N)*n/insert, "binds/s")
			b.ReportMetric(float64(b.N)*n/remove, "unbinds/s")
			b.ReportMetric(bytes, "B/binding")
		})
	}
}
