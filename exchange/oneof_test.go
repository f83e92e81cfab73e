package exchange

import (
	"fmt"
	"math"
	"testing"
	"time"
)

// shares publishes n messages and counts what each queue gets. Every message must reach one queue.
func shares(t *testing.T, top *Topology, n int, message func(i int) *Message) map[string]int {
	t.Helper()
	got := make(map[string]int)
	var r Result
	for i := range n {
		if !top.Route(&r, "x", message(i)) || len(r.Queues) != 1 {
			t.Fatalf("message %d reached %d queues", i, len(r.Queues))
		}
		got[r.Queues[0].Name]++
	}
	return got
}

func wantShares(t *testing.T, got map[string]int, weights map[string]float64) {
	t.Helper()
	sum, n := 0.0, 0
	for _, w := range weights {
		sum += w
	}
	for _, c := range got {
		n += c
	}
	for name, w := range weights {
		want := float64(n) * w / sum
		if off := math.Abs(float64(got[name])-want) / want; off > 0.1 {
			t.Errorf("queue %s got %d of %d, %.1f %% off its share of %.0f", name, got[name], n, 100*off, want)
		}
	}
}

func byNumber(i int) *Message { return &Message{Key: fmt.Sprint(i)} }

// EX-19.
func TestHashSharesFollowTheWeights(t *testing.T) {
	for _, weights := range []map[string]float64{
		{"a": 1, "b": 1},
		{"a": 1, "b": 1, "c": 2, "d": 2},
		{"a": 10, "b": 20, "c": 30},
		{"a": 1, "b": 1, "c": 1, "d": 1, "e": 1},
	} {
		top := build(t, "x-consistent-hash x")
		for name, w := range weights {
			top.AddQueue(name)
			bind(t, top, Binding{Source: "x", Destination: name, Key: fmt.Sprint(w)})
		}
		wantShares(t, shares(t, top, 10_000, byNumber), weights)
		wantShares(t, shares(t, top, 10_000, func(i int) *Message { return &Message{Key: fmt.Sprintf("order.%08d.created", i)} }), weights)
	}
}

// EX-19: the same key goes to the same queue, also in a process that learnt of the bindings in another order.
func TestHashChoiceFollowsFromTheSetOfBindings(t *testing.T) {
	a, b := New(), build(t, "direct y", "queue z")
	names := []string{"q0", "q1", "q2", "q3", "q4", "q5"}
	for i := range names {
		for j, top := range []*Topology{a, b} {
			name := names[i]
			if j == 1 {
				name = names[len(names)-1-i]
			}
			if i == 0 {
				if _, err := top.AddExchange("x", "x-consistent-hash", nil, false); err != nil {
					t.Fatal(err)
				}
			}
			top.AddQueue(name)
			bind(t, top, Binding{Source: "x", Destination: name, Key: string(name[1] + 1)})
		}
	}
	for i := range 1000 {
		if x, y := reached(t, a, "x", byNumber(i)), reached(t, b, "x", byNumber(i)); x != y {
			t.Fatalf("key %d goes to %s here and to %s there", i, x, y)
		}
	}
}

// Processes of different releases share the queues of one exchange, so what a key is mapped to is not ours to change.
func TestHashChoiceStaysAsItIs(t *testing.T) {
	top := build(t, "x-consistent-hash x", "queue a b c d", "x -> a 1", "x -> b 1", "x -> c 2", "x -> d 3")
	var got string
	for i := range 40 {
		got += reached(t, top, "x", byNumber(i))
	}
	if want := "dbdcccddcdddbdccdccddcdcdcdccbdbbcccdada"; got != want {
		t.Errorf("keys 0 to 39 go to %s, want %s", got, want)
	}
}

func TestHashMovesNoMoreKeysThanItMust(t *testing.T) {
	top := build(t, "x-consistent-hash x", "queue a b c d", "x -> a 1", "x -> b 2", "x -> c 3")
	const n = 6000
	where := func() []string {
		list := make([]string, n)
		for i := range list {
			list[i] = reached(t, top, "x", byNumber(i))
		}
		return list
	}
	before := where()
	d := Binding{Source: "x", Destination: "d", Key: "2"}
	bind(t, top, d)
	moved := 0
	for i, q := range where() {
		if q != before[i] {
			moved++
			if q != "d" {
				t.Fatalf("key %d moved from %s to %s when d came", i, before[i], q)
			}
		}
	}
	if want := n * 2 / 8; moved < want*9/10 || moved > want*11/10 {
		t.Errorf("%d keys moved, want about %d", moved, want)
	}
	top.Unbind(d)
	for i, q := range where() {
		if q != before[i] {
			t.Fatalf("key %d is with %s after d went, was with %s", i, q, before[i])
		}
	}
}

// A second binding of a pair does not add to the first: the larger weight counts, and the other again when it goes.
func TestHashBoundTwiceCountsWithTheLargerWeight(t *testing.T) {
	top := build(t, "x-consistent-hash x", "queue a b", "x -> a 1", "x -> b 1")
	heavy := Binding{Source: "x", Destination: "a", Key: "3"}
	bind(t, top, heavy)
	wantShares(t, shares(t, top, 10_000, byNumber), map[string]float64{"a": 3, "b": 1})
	top.Unbind(Binding{Source: "x", Destination: "a", Key: "1"})
	wantShares(t, shares(t, top, 10_000, byNumber), map[string]float64{"a": 3, "b": 1})
	bind(t, top, Binding{Source: "x", Destination: "a", Key: "1"})
	top.Unbind(heavy)
	wantShares(t, shares(t, top, 10_000, byNumber), map[string]float64{"a": 1, "b": 1})
	top.Unbind(Binding{Source: "x", Destination: "a", Key: "1"})
	if got := shares(t, top, 100, byNumber); got["b"] != 100 {
		t.Errorf("with a gone: %v", got)
	}
}

// EX-19.
func TestHashByHeader(t *testing.T) {
	top := New()
	if _, err := top.AddExchange("x", "x-consistent-hash", table{"hash-header": "id"}, false); err != nil {
		t.Fatal(err)
	}
	weights := map[string]float64{"a": 1, "b": 2}
	for name, w := range weights {
		top.AddQueue(name)
		bind(t, top, Binding{Source: "x", Destination: name, Key: fmt.Sprint(w)})
	}
	byHeader := func(v any) *Message { return &Message{Headers: table{"id": v}} }
	for what, value := range map[string]func(i int) any{
		"string":    func(i int) any { return fmt.Sprint(i) },
		"integer":   func(i int) any { return int64(i) },
		"negative":  func(i int) any { return int32(-i) },
		"float":     func(i int) any { return float64(i) + 0.5 },
		"timestamp": func(i int) any { return time.Unix(int64(i), 0) },
		"decimal":   func(i int) any { return decimal{2, int32(i)} },
		"array":     func(i int) any { return []any{"a", i} },
		"table":     func(i int) any { return table{"a": i, "b": "c"} },
	} {
		t.Run(what, func(t *testing.T) {
			wantShares(t, shares(t, top, 10_000, func(i int) *Message { return byHeader(value(i)) }), weights)
			again := shares(t, top, 100, func(int) *Message { return byHeader(value(77)) })
			if len(again) != 1 {
				t.Errorf("the same header went to %v", again)
			}
		})
	}
	for what, m := range map[string]func(i int) *Message{
		"the routing key does not count":           func(i int) *Message { return &Message{Key: fmt.Sprint(i), Headers: table{"id": "same"}} },
		"without the header all go to one queue":   func(i int) *Message { return &Message{Key: fmt.Sprint(i), Headers: table{"other": i}} },
		"without any header all go to one queue":   byNumber,
		"void goes to one queue":                   func(int) *Message { return byHeader(nil) },
		"a value that AMQP has not goes somewhere": func(int) *Message { return byHeader(struct{ f []string }{}) },
	} {
		if got := shares(t, top, 100, m); len(got) != 1 {
			t.Errorf("%s: %v", what, got)
		}
	}
}

// EX-19.
func TestHashByProperty(t *testing.T) {
	for property, message := range map[string]func(s string, at time.Time) *Message{
		"message_id":     func(s string, _ time.Time) *Message { return &Message{MessageID: s} },
		"correlation_id": func(s string, _ time.Time) *Message { return &Message{CorrelationID: s} },
		"timestamp":      func(_ string, at time.Time) *Message { return &Message{Timestamp: at} },
	} {
		t.Run(property, func(t *testing.T) {
			top := build(t, "queue a b c")
			if _, err := top.AddExchange("x", "x-consistent-hash", table{"hash-property": property}, false); err != nil {
				t.Fatal(err)
			}
			weights := map[string]float64{"a": 1, "b": 1, "c": 2}
			for name, w := range weights {
				bind(t, top, Binding{Source: "x", Destination: name, Key: fmt.Sprint(w)})
			}
			of := func(i int) *Message { return message(fmt.Sprint("id-", i), time.Unix(1_700_000_000+int64(i), 0)) }
			wantShares(t, shares(t, top, 10_000, of), weights)
			if got := shares(t, top, 100, func(i int) *Message { m := of(7); m.Key = fmt.Sprint(i); return m }); len(got) != 1 {
				t.Errorf("the same property went to %v", got)
			}
			if got := shares(t, top, 100, byNumber); len(got) != 1 {
				t.Errorf("without the property: %v", got)
			}
		})
	}
}

// EX-22.
func TestHashAndRandomWithoutBindingsRouteNowhere(t *testing.T) {
	for _, kind := range []string{"x-consistent-hash", "x-random", "x-local-random"} {
		top := build(t, kind+" x", "queue q")
		if got := reached(t, top, "x", &Message{Key: "q"}); got != "" {
			t.Errorf("%s reached %q", kind, got)
		}
		if got := top.Explain("x", &Message{Key: "q"}).Queues; len(got) != 0 {
			t.Errorf("%s: Explain says %q", kind, got)
		}
		bind(t, top, Binding{Source: "x", Destination: "q", Key: "1"})
		top.Queue("q").Local.Store(true)
		if got := reached(t, top, "x", &Message{Key: "k"}); got != "q" {
			t.Errorf("%s, bound, reached %q", kind, got)
		}
		top.RemoveQueue("q")
		if got := reached(t, top, "x", &Message{Key: "k"}); got != "" {
			t.Errorf("%s, unbound again, reached %q", kind, got)
		}
	}
}

// EX-21.
func TestRandomChoosesEvenlyAmongQueues(t *testing.T) {
	top := build(t, "x-random x", "queue a b c d", "x -> a -", "x -> b -", "x -> c -", "x -> d -", "x -> a again", "x -> a more")
	same := func(int) *Message { return &Message{Key: "k"} }
	wantShares(t, shares(t, top, 10_000, same), map[string]float64{"a": 1, "b": 1, "c": 1, "d": 1})
	top.Unbind(Binding{Source: "x", Destination: "a", Key: "again"})
	top.Unbind(Binding{Source: "x", Destination: "b"})
	wantShares(t, shares(t, top, 10_000, same), map[string]float64{"a": 1, "c": 1, "d": 1})
}

func TestRandomAfterQueuesWentInAnyOrder(t *testing.T) {
	rnd := newRand(5)
	for range 50 {
		top := build(t, "x-random x", "queue a b c d", "x -> a -", "x -> b -", "x -> c -", "x -> d -")
		names := []string{"a", "b", "c", "d"}
		rnd.Shuffle(len(names), func(i, j int) { names[i], names[j] = names[j], names[i] })
		for i, name := range names[:3] {
			top.RemoveQueue(name)
			if got := shares(t, top, 60, byNumber); len(got) != 3-i || got[name] > 0 {
				t.Fatalf("after %v went: %v", names[:i+1], got)
			}
		}
	}
}

// EX-21.
func TestLocalRandomChoosesEvenlyAmongQueuesWithAConsumerHere(t *testing.T) {
	top := build(t, "x-local-random x", "fanout y", "queue a b c d e", "x -> a -", "x -> b -", "x -> c -", "x -> d -", "x => y -", "y -> e -")
	same := func(int) *Message { return &Message{Key: "k"} }
	if got := reached(t, top, "x", same(0)); got != "" {
		t.Errorf("no consumers, reached %q", got)
	}
	for _, name := range []string{"b", "c", "d"} {
		top.Queue(name).Local.Store(true)
	}
	wantShares(t, shares(t, top, 10_000, same), map[string]float64{"b": 1, "c": 1, "d": 1})
	top.Queue("b").Local.Store(false)
	top.Queue("c").Local.Store(false)
	if got := shares(t, top, 100, same); got["d"] != 100 {
		t.Errorf("only d has a consumer: %v", got)
	}
}

func TestHashAndRandomMayChooseAnExchange(t *testing.T) {
	for _, kind := range []string{"x-consistent-hash", "x-random"} {
		top := build(t, kind+" x", "fanout y", "queue p q", "y -> p -", "y -> q -", "x => y 1")
		if got := reached(t, top, "x", &Message{Key: "k"}); got != "p q" {
			t.Errorf("%s reached %q", kind, got)
		}
	}
}

// A topic exchange may lead to one that decides by more than the key; then no key may be remembered.
func TestRoutesOverRandomAndHeadersAreNotCached(t *testing.T) {
	top := build(t, "topic x", "x-random y", "headers z", "queue a b c", "x => y r.#", "x => z h.#", "y -> a -", "y -> b -")
	bind(t, top, Binding{Source: "z", Destination: "c", Args: table{"n": int8(1)}})
	wantShares(t, shares(t, top, 10_000, func(int) *Message { return &Message{Key: "r.k"} }), map[string]float64{"a": 1, "b": 1})
	for i := range 10 {
		want := ""
		if i%2 == 1 {
			want = "c"
		}
		if got := reached(t, top, "x", &Message{Key: "h.k", Headers: table{"n": i % 2}}); got != want {
			t.Fatalf("header %d reached %q", i%2, got)
		}
	}
}
