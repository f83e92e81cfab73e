package exchange

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
)

// build makes a topology from lines: "direct x" declares an exchange, "direct x alt=y" one with an alternate, "queue q" a
// queue, "x -> q key" and "x => y key" bind a queue and an exchange. A key of "-" is the empty one.
func build(t testing.TB, lines ...string) *Topology {
	t.Helper()
	top := New()
	for _, line := range lines {
		f := strings.Fields(line)
		switch {
		case f[0] == "queue":
			for _, name := range f[1:] {
				top.AddQueue(name)
			}
		case f[1] == "->" || f[1] == "=>":
			key := f[3]
			if key == "-" {
				key = ""
			}
			bind(t, top, Binding{Source: f[0], Destination: f[2], ToExchange: f[1] == "=>", Key: key})
		default:
			args := map[string]any{}
			if len(f) > 2 {
				args[argAlternate] = strings.TrimPrefix(f[2], "alt=")
			}
			if _, err := top.AddExchange(f[1], f[0], args, false); err != nil {
				t.Fatal(err)
			}
		}
	}
	return top
}

func bind(t testing.TB, top *Topology, b Binding) {
	t.Helper()
	if added, err := top.Bind(b); err != nil || !added {
		t.Fatalf("Bind(%s) = %v, %v", b.ID(), added, err)
	}
}

// reached routes m and returns the names of the queues, sorted and joined by spaces. It fails if a queue or exchange
// is there twice, or if a second and third Route, which the cache may answer, say something else.
func reached(t testing.TB, top *Topology, exchange string, m *Message) string {
	t.Helper()
	var r Result
	var first string
	for i := range 3 {
		if !top.Route(&r, exchange, m) {
			t.Fatalf("Route says that exchange %q is unknown", exchange)
		}
		names := queueNames(&r)
		passed := exchangeNames(&r)
		if got := strings.Join(names, " ") + "|" + strings.Join(passed, " "); i == 0 {
			first = got
			if len(slices.Compact(slices.Clone(names))) != len(names) {
				t.Fatalf("a queue is there twice: %v", names)
			}
			slices.Sort(passed)
			if len(slices.Compact(passed)) != len(r.Exchanges) {
				t.Fatalf("an exchange is there twice: %v", exchangeNames(&r))
			}
		} else if got != first {
			t.Fatalf("route %d of the same message: %s, was %s", i+1, got, first)
		}
		if len(r.scan.numbers) > 0 {
			t.Fatal("numbers of # nodes were left")
		}
		for _, word := range append(r.seen, r.scan.seen...) {
			if word != 0 {
				t.Fatal("marks were left in the bit set")
			}
		}
	}
	return strings.Join(queueNames(&r), " ")
}

func queueNames(r *Result) []string {
	var names []string
	for _, q := range r.Queues {
		names = append(names, q.Name)
	}
	slices.Sort(names)
	return names
}

func exchangeNames(r *Result) []string {
	var names []string
	for _, x := range r.Exchanges {
		names = append(names, x.Name)
	}
	return names
}

// newRand is seeded, so that a failure comes again.
func newRand(seed uint64) *rand.Rand { return rand.New(rand.NewPCG(seed, 1)) }

func pick[T any](rnd *rand.Rand, from []T) T { return from[rnd.IntN(len(from))] }

// naiveTopic is the definition of EX-14 written down as it is said: words; "*" is one, "#" is none, or one and then "#".
func naiveTopic(pattern, key string) bool {
	words := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ".")
	}
	var fits func(p, k []string) bool
	fits = func(p, k []string) bool {
		switch {
		case len(p) == 0:
			return len(k) == 0
		case p[0] == "#":
			return fits(p[1:], k) || len(k) > 0 && fits(p, k[1:])
		case len(k) == 0:
			return false
		}
		return (p[0] == "*" || p[0] == k[0]) && fits(p[1:], k[1:])
	}
	return fits(words(pattern), words(key))
}
