// Package topicgen makes the topic patterns and routing keys that every measurement of topic matching here is fed: a
// pure function of mix, seed and index, so that any of them can be made again anywhere, in any order.
//
// Level l of a key has a vocabulary of its own, words like "a7" and "b133"; a key has three to six words. Of the
// patterns 60 % are literal keys, 30 % have a "*" (or two, from five words on), 10 % match at several levels:
//
//   - [NATS]: a prefix of two or more words and one or more words after it, "prefix.*.#" in AMQP and "prefix.>" in
//     NATS. The two match exactly the same keys, so matchers of both kinds can be compared.
//   - [AMQP]: "#" at the end, in the middle, at the beginning, twice, or next to "*". NATS cannot say that.
package topicgen

import (
	"strconv"
	"strings"
)

// Mix names a set of patterns.
type Mix string

// The mixes.
const (
	NATS Mix = "nats"
	AMQP Mix = "amqp"
)

// vocabulary is how many words there are for each level.
var vocabulary = [...]uint64{20, 200, 2000, 5000, 5000, 5000}

// Gen makes patterns and keys. Patterns depend on Mix and Seed, keys on Seed and Patterns.
type Gen struct {
	Mix      Mix
	Seed     uint64
	Patterns int // how many there are; keys are made to match some
}

// rng is splitmix64.
type rng uint64

func (r *rng) next() uint64 {
	*r += 0x9e3779b97f4a7c15
	z := uint64(*r)
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}

func (r *rng) below(n int) int { return int(r.next() % uint64(n)) }

// The streams of random numbers.
const (
	ofPatterns = 1
	ofKeys     = 2
)

func (g Gen) rng(stream uint64, index int) *rng {
	r := rng(g.Seed*0x2545f4914f6cdd1d + stream)
	r = rng(r.next() + uint64(index)*0xd1342543de82ef95)
	return &r
}

func words(r *rng) []string {
	w := make([]string, 3+r.below(4))
	for i := range w {
		w[i] = string(rune('a'+i)) + strconv.FormatUint(r.next()%vocabulary[i], 10)
	}
	return w
}

func join(words ...string) string { return strings.Join(words, ".") }

// Pattern returns pattern i as AMQP writes it and as NATS does, which is "" where it cannot.
func (g Gen) Pattern(i int) (amqp, nats string) {
	r := g.rng(ofPatterns, i)
	w := words(r)
	switch kind := r.below(100); {
	case kind < 60:
		amqp = join(w...)
	case kind < 90:
		w[r.below(len(w))] = "*"
		if len(w) >= 5 && r.below(2) == 0 {
			w[r.below(len(w))] = "*"
		}
		amqp = join(w...)
	case g.Mix == NATS:
		prefix := w[:2+r.below(len(w)-2)]
		if len(prefix) >= 3 && r.below(5) == 0 {
			prefix[r.below(len(prefix))] = "*"
		}
		return join(prefix...) + ".*.#", join(prefix...) + ".>"
	default:
		return manyLevels(r, w), ""
	}
	if g.Mix == NATS {
		nats = amqp
	}
	return amqp, nats
}

// manyLevels puts "#" anywhere.
func manyLevels(r *rng, w []string) string {
	n := len(w)
	switch place := r.below(100); {
	case place < 40:
		return join(w[:2+r.below(n-2)]...) + ".#"
	case place < 65:
		return join(w[0], w[1], "#", w[n-1])
	case place < 85:
		return join("#", w[n-2], w[n-1])
	case place < 95:
		return join(w[0], "#", w[2], "#")
	}
	return join(w[0], "*", "#", w[n-1])
}

// Key returns routing key j. The even ones are made of the words of some pattern, the odd ones at random.
func (g Gen) Key(j int) string {
	r := g.rng(ofKeys, j)
	if j%2 == 0 && g.Patterns > 0 {
		r = g.rng(ofPatterns, r.below(g.Patterns))
	}
	return join(words(r)...)
}

// Match is the reference matcher, the definition of AMQP topics said plainly: words of the pattern against words of
// the key, where "*" is one word and "#" zero or more.
func Match(pattern, key []string) bool {
	switch {
	case len(pattern) == 0:
		return len(key) == 0
	case pattern[0] == "#":
		return Match(pattern[1:], key) || len(key) > 0 && Match(pattern, key[1:])
	case len(key) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == key[0]) && Match(pattern[1:], key[1:])
}
