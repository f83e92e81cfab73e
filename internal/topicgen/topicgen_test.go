package topicgen

import (
	"fmt"
	"hash/fnv"
	"strings"
	"testing"
)

// digest is of the first 1,000 patterns and keys.
func digest(g Gen) uint64 {
	h := fnv.New64a()
	for i := range 1000 {
		amqp, nats := g.Pattern(i)
		fmt.Fprintf(h, "%s\n%s\n%s\n", amqp, nats, g.Key(i))
	}
	return h.Sum64()
}

// Figures are compared with those that others measured on the same data, so it may never change. The digests are
// those of the generator that the other matchers were measured with.
func TestDataIsPinned(t *testing.T) {
	for mix, want := range map[Mix]uint64{NATS: 0xd073c04163853584, AMQP: 0xa92ba9e678a0c816} {
		g := Gen{Mix: mix, Seed: 1, Patterns: 1000}
		if got := digest(g); got != want {
			t.Errorf("mix %s: digest %#x, want %#x", mix, got, want)
		}
		g.Seed = 2
		if digest(g) == want {
			t.Errorf("mix %s: the digest does not see the seed", mix)
		}
		g.Seed, g.Patterns = 1, 999
		if digest(g) == want {
			t.Errorf("mix %s: the digest does not see what keys are made of", mix)
		}
	}
}

func TestEveryOtherKeyMatchesOften(t *testing.T) {
	for _, mix := range []Mix{NATS, AMQP} {
		g := Gen{Mix: mix, Seed: 1, Patterns: 1000}
		matched := [2]int{}
		for j := range 200 {
			key := strings.Split(g.Key(j), ".")
			for i := range g.Patterns {
				pattern, _ := g.Pattern(i)
				if Match(strings.Split(pattern, "."), key) {
					matched[j%2]++
					break
				}
			}
		}
		// A pattern made of the same words nearly always takes the key, except where it asks for one word more.
		if matched[0] < 90 || matched[1] > 60 {
			t.Errorf("mix %s: of 100 keys each, %d of the even and %d of the odd match", mix, matched[0], matched[1])
		}
	}
}

func TestMatch(t *testing.T) {
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.c", false},
		{"a.*", "a.b", true}, {"a.*", "a", false}, {"a.*", "a.b.c", false},
		{"#", "a", true}, {"#", "a.b.c", true},
		{"a.#", "a", true}, {"a.#", "b", false},
		{"#.b", "b", true}, {"#.b", "a.b", true}, {"#.b", "b.a", false},
		{"a.#.z", "a.z", true}, {"a.#.z", "a.b.c.z", true}, {"a.#.z", "a.b", false},
		{"#.b.#", "a.b.c", true}, {"#.b.#", "a.c", false}, {"#.#", "a", true},
		{"a.*.#", "a", false}, {"a.*.#", "a.b", true}, {"*.#.*", "a", false}, {"*.#.*", "a.b", true},
	} {
		if got := Match(strings.Split(c.pattern, "."), strings.Split(c.key, ".")); got != c.want {
			t.Errorf("Match(%s, %s) = %v", c.pattern, c.key, got)
		}
	}
}
