package exchange

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// EX-01.
func TestDefaultExchangeLeadsToEveryQueueByItsName(t *testing.T) {
	top := New()
	var r Result
	if !top.Route(&r, "", &Message{Key: "q"}) || len(r.Queues) != 0 {
		t.Error("the default exchange is not there before any queue is")
	}
	top.AddQueue("q")
	if got := reached(t, top, "", &Message{Key: "q"}); got != "q" {
		t.Errorf("key q reached %q", got)
	}
	for _, key := range []string{"", "Q", "q.", "other"} {
		if got := reached(t, top, "", &Message{Key: key}); got != "" {
			t.Errorf("key %q reached %q", key, got)
		}
	}
	top.Route(&r, "", &Message{Key: "q"})
	if len(r.Exchanges) != 0 {
		t.Error("the default exchange is among the exchanges passed")
	}
	top.RemoveQueue("q")
	if got := reached(t, top, "", &Message{Key: "q"}); got != "" {
		t.Errorf("a removed queue was reached: %q", got)
	}
	// Even a queue that a caller names so: "" on the wire means the last queue declared.
	top.AddQueue("")
	for _, cc := range [][]string{nil, {""}} {
		if top.Route(&r, "", &Message{Key: "", CC: cc}); len(r.Queues) != 0 {
			t.Errorf("the empty key reached %d queues, CC %q", len(r.Queues), cc)
		}
	}
}

// EX-02.
func TestDefaultExchangeCannotBeDeclaredOrBound(t *testing.T) {
	top := build(t, "direct x", "queue q")
	if _, err := top.AddExchange("", "direct", nil, false); err != ErrDefault {
		t.Errorf("AddExchange: %v", err)
	}
	for _, b := range []Binding{
		{Source: "", Destination: "q", Key: "q"},
		{Source: "", Destination: "unknown", Key: "q"},
		{Source: "x", Destination: "", ToExchange: true},
		{Source: "unknown", Destination: "", ToExchange: true},
	} {
		if added, err := top.Bind(b); added || err != ErrDefault {
			t.Errorf("Bind(%s): %v, %v; it is to win over not found", b.ID(), added, err)
		}
		if top.Unbind(b) {
			t.Errorf("Unbind(%s) removed something", b.ID())
		}
	}
	top.RemoveExchange("")
	if top.Exchange("") != nil {
		t.Error("the default exchange is a node")
	}
	if got := reached(t, top, "", &Message{Key: "q"}); got != "q" {
		t.Errorf("after it was removed: %q", got)
	}
}

// EX-08.
func TestRouteTellsAnUnknownExchange(t *testing.T) {
	top := build(t, "direct x", "queue q", "x -> q k")
	var r Result
	if !top.Route(&r, "x", &Message{Key: "k"}) || len(r.Queues) != 1 {
		t.Fatal("the known one")
	}
	if top.Route(&r, "y", &Message{Key: "k"}) {
		t.Error("exchange y is known")
	}
	if len(r.Queues)+len(r.Exchanges) != 0 {
		t.Error("the result is that of the route before")
	}
	top.RemoveExchange("x")
	if top.Route(&r, "x", &Message{Key: "k"}) {
		t.Error("exchange x is known after it was removed")
	}
}

// EX-12.
func TestDirectReachesEachQueueBoundByTheKeyOnce(t *testing.T) {
	top := build(t, "direct x", "queue a b c", "x -> a k", "x -> b k", "x -> c l", "x -> c -")
	bind(t, top, Binding{Source: "x", Destination: "a", Key: "k", Args: map[string]any{"n": int32(1)}})
	for key, want := range map[string]string{"k": "a b", "l": "c", "": "c", "K": "", "a": "", "#": ""} {
		if got := reached(t, top, "x", &Message{Key: key}); got != want {
			t.Errorf("key %q reached %q, want %q", key, got, want)
		}
	}
}

// EX-13.
func TestFanoutReachesEveryQueueWhateverTheKey(t *testing.T) {
	top := build(t, "fanout x", "queue a b c", "x -> a k", "x -> a l", "x -> b -")
	for _, key := range []string{"", "k", "z"} {
		if got := reached(t, top, "x", &Message{Key: key}); got != "a b" {
			t.Errorf("key %q reached %q", key, got)
		}
	}
	top.Unbind(Binding{Source: "x", Destination: "a", Key: "k"})
	if got := reached(t, top, "x", &Message{}); got != "a b" {
		t.Errorf("one of two bindings gone: %q", got)
	}
	top.Unbind(Binding{Source: "x", Destination: "a", Key: "l"})
	if got := reached(t, top, "x", &Message{}); got != "b" {
		t.Errorf("both bindings gone: %q", got)
	}
}

// EX-17.
func TestExchangeToExchange(t *testing.T) {
	tests := []struct {
		name     string
		topology string
		key      string
		want     string
		passed   string
	}{
		{"several hops", "direct a; topic b; fanout c; queue q; a => b k; b => c *; c -> q -", "k", "q", "a b c"},
		{"a hop compares again with the same key", "fanout a; direct b; queue q r; a => b -; b -> q k; b -> r l", "k", "q", "a b"},
		{"a queue that two ways lead to is reached once", "fanout a; fanout b; fanout c; queue q; a => b -; a => c -; b -> q -; c -> q -; a -> q -", "", "q", "a b c"},
		{"an exchange that two ways lead to routes once", "fanout a; fanout b; fanout c; fanout d; queue q; a => b -; a => c -; b => d -; c => d -; d -> q -", "", "q", "a b c d"},
		{"a cycle ends", "fanout a; fanout b; fanout c; queue p q r; a => b -; b => c -; c => a -; a -> p -; b -> q -; c -> r -", "", "p q r", "a b c"},
		{"a cycle entered in its middle is passed whole", "fanout a; fanout b; fanout c; queue p q r; a => b -; b => c -; c => a -; a -> p -; b -> q -; c -> r -", "b", "p q r", "b c a"},
		{"an exchange bound to itself ends", "topic a; queue q; a => a #; a -> q k", "k", "q", "a"},
		{"only an exchange bound to itself leads nowhere", "fanout a; a => a -", "", "", "a"},
		{"no match, no hop", "direct a; fanout b; queue q; a => b k; b -> q -", "l", "", "a"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top := build(t, strings.Split(tt.topology, "; ")...)
			first := strings.Fields(tt.passed)[0]
			if got := reached(t, top, first, &Message{Key: tt.key}); got != tt.want {
				t.Errorf("reached %q, want %q", got, tt.want)
			}
			var r Result
			top.Route(&r, first, &Message{Key: tt.key})
			if got := strings.Join(exchangeNames(&r), " "); got != tt.passed {
				t.Errorf("passed %q, want %q", got, tt.passed)
			}
			if got := strings.Join(top.Explain(first, &Message{Key: tt.key}).Queues, " "); got != tt.want {
				t.Errorf("Explain reached %q, want %q", got, tt.want)
			}
		})
	}
}

// EX-18, EX-23.
func TestAlternateExchange(t *testing.T) {
	tests := []struct {
		name     string
		topology string
		m        Message
		want     string
		passed   string
		missing  string
	}{
		{"is not used when a binding matches", "direct a alt=b; fanout b; queue q r; a -> q k; b -> r -", Message{Key: "k"}, "q", "a", ""},
		{"is used when none matches", "direct a alt=b; fanout b; queue q r; a -> q k; b -> r -", Message{Key: "l"}, "r", "a b", ""},
		{"is used when there are no bindings", "fanout a alt=b; fanout b; queue r; b -> r -", Message{}, "r", "a b", ""},
		{"is not used when the exchange selected leads nowhere", "direct a alt=b; fanout b; fanout dead; queue r; a => dead k; b -> r -", Message{Key: "k"}, "", "a dead", ""},
		{"each exchange on the path applies its own", "direct a alt=x; direct b alt=y; fanout x; fanout y; queue p q; a => b k; x -> p -; y -> q -", Message{Key: "k"}, "q", "a b y", ""},
		{"applies beside what other bindings reached", "fanout a; direct b alt=y; fanout y; queue p q; a => b -; a -> p -; y -> q -", Message{Key: "k"}, "p q", "a b y", ""},
		{"an alternate has its own alternate", "direct a alt=b; direct b alt=c; fanout c; queue q; c -> q -", Message{Key: "k"}, "q", "a b c", ""},
		{"a cycle of alternates ends", "direct a alt=b; direct b alt=c; direct c alt=a", Message{Key: "k"}, "", "a b c", ""},
		{"an exchange as its own alternate ends", "direct a alt=a", Message{Key: "k"}, "", "a", ""},
		{"a cycle of a binding and an alternate ends", "direct a alt=b; fanout b; b => a -", Message{Key: "k"}, "", "a b", ""},
		{"a selected exchange that was passed before counts as selected", "fanout a; direct b alt=x; fanout x; queue q; a => b -; b => a k; x -> q -", Message{Key: "k"}, "", "a b", ""},
		{"a selected queue that was reached before counts as selected", "fanout a; direct b alt=x; fanout x; queue q r; a => b -; a -> q -; b -> q k; x -> r -", Message{Key: "k"}, "q", "a b", ""},
		{"one that does not exist is named", "direct a alt=gone", Message{Key: "k"}, "", "a", "gone"},
		{"one that does not exist is named once", "fanout a; direct b alt=gone; direct c alt=gone; a => b -; a => c -", Message{Key: "k"}, "", "a b c", "gone"},
		{"one that does not exist is not named unless needed", "direct a alt=gone; queue q; a -> q k", Message{Key: "k"}, "q", "a", ""},
		{"the empty name is none", "direct a alt=; queue k", Message{Key: "k"}, "", "a", ""},
		{"is not used when a CC key matches", "direct a alt=b; fanout b; queue q r; a -> q cc; b -> r -", Message{Key: "k", CC: []string{"cc"}}, "q", "a", ""},
		{"is not used when the main key alone matches", "topic a alt=b; fanout b; queue q r; a -> q k; b -> r -", Message{Key: "k", CC: []string{"cc"}}, "q", "a", ""},
		{"is used when no key of several matches, with them all", "direct a alt=b; direct b; queue q r; b -> q k; b -> r cc", Message{Key: "k", CC: []string{"cc"}}, "q r", "a b", ""},
		{"of a headers exchange that matches by nothing to compare", "headers a alt=b; fanout b; queue p q; a -> p -; b -> q -", Message{}, "p", "a", ""},
		{"of a headers exchange", "headers a alt=b; fanout b; queue q; b -> q -", Message{}, "q", "a b", ""},
		{"of a hash exchange without bindings", "x-consistent-hash a alt=b; fanout b; queue q; b -> q -", Message{}, "q", "a b", ""},
		{"of a local random exchange without a local queue", "x-local-random a alt=b; fanout b; queue p q; a -> p -; b -> q -", Message{}, "q", "a b", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top := build(t, strings.Split(tt.topology, "; ")...)
			if got := reached(t, top, "a", &tt.m); got != tt.want {
				t.Errorf("reached %q, want %q", got, tt.want)
			}
			var r Result
			for range 3 { // the last from the cache, where it may
				top.Route(&r, "a", &tt.m)
				if got := strings.Join(exchangeNames(&r), " "); got != tt.passed {
					t.Errorf("passed %q, want %q", got, tt.passed)
				}
				if got := strings.Join(r.Missing, " "); got != tt.missing {
					t.Errorf("missing %q, want %q", got, tt.missing)
				}
			}
			e := top.Explain("a", &tt.m)
			if got := strings.Join(e.Queues, " "); got != tt.want {
				t.Errorf("Explain reached %q, want %q", got, tt.want)
			}
			if got := strings.Join(e.Missing, " "); got != tt.missing {
				t.Errorf("Explain: missing %q, want %q", got, tt.missing)
			}
		})
	}
}

func TestAlternateExchangeIsUsedFromItsDeclarationOn(t *testing.T) {
	top := build(t, "topic a alt=b", "queue q")
	if got := reached(t, top, "a", &Message{Key: "k"}); got != "" {
		t.Fatalf("reached %q", got)
	}
	if _, err := top.AddExchange("b", "fanout", nil, false); err != nil {
		t.Fatal(err)
	}
	bind(t, top, Binding{Source: "b", Destination: "q"})
	if got := reached(t, top, "a", &Message{Key: "k"}); got != "q" {
		t.Errorf("after its declaration: %q", got)
	}
	top.RemoveExchange("b")
	if got := reached(t, top, "a", &Message{Key: "k"}); got != "" {
		t.Errorf("after its removal: %q", got)
	}
}

// PB-07.
func TestCCKeysAreRoutedTogetherWithTheMainOne(t *testing.T) {
	top := build(t, "direct d", "topic t", "fanout f", "x-consistent-hash h", "queue a b c",
		"d -> a a", "d -> b b", "d -> b c", "t -> a a.#", "t -> b b.*", "t -> c c", "f => d -",
		"h -> a 1", "h -> b 1", "h -> c 1")
	tests := []struct {
		name, exchange string
		m              Message
		want           string
	}{
		{"direct", "d", Message{Key: "a", CC: []string{"b"}}, "a b"},
		{"direct, a queue by two keys once", "d", Message{Key: "b", CC: []string{"c", "b"}}, "b"},
		{"direct, the main key matches nothing", "d", Message{Key: "z", CC: []string{"a"}}, "a"},
		{"topic", "t", Message{Key: "a.x", CC: []string{"b.x", "c"}}, "a b c"},
		{"default", "", Message{Key: "a", CC: []string{"c", "", "a", "none"}}, "a c"},
		{"default, the main key matches nothing", "", Message{Key: "", CC: []string{"c"}}, "c"},
		{"over a hop, which carries all keys", "f", Message{Key: "z", CC: []string{"a", "b"}}, "a b"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := reached(t, top, tt.exchange, &tt.m); got != tt.want {
				t.Errorf("reached %q, want %q", got, tt.want)
			}
			if got := strings.Join(top.Explain(tt.exchange, &tt.m).Queues, " "); got != tt.want {
				t.Errorf("Explain reached %q, want %q", got, tt.want)
			}
		})
	}
	alone := reached(t, top, "h", &Message{Key: "a"})
	if got := reached(t, top, "h", &Message{Key: "a", CC: []string{"x", "y", "z"}}); got != alone {
		t.Errorf("a hash exchange chose %q by the main key alone and %q with CC", alone, got)
	}
}

func TestCachedRouteWithoutCCIsNotUsedForOneWithCC(t *testing.T) {
	top := build(t, "topic x", "queue a b", "x -> a a", "x -> b b")
	for range 3 {
		if got := reached(t, top, "x", &Message{Key: "a"}); got != "a" {
			t.Fatalf("reached %q", got)
		}
		if got := reached(t, top, "x", &Message{Key: "a", CC: []string{"b"}}); got != "a b" {
			t.Fatalf("with CC reached %q", got)
		}
	}
}

func TestCacheEntryIsForOneExchangeAndKey(t *testing.T) {
	top := build(t, "topic x", "topic y", "queue a b", "x -> a #", "y -> b #")
	x, y := top.Exchange("x"), top.Exchange("y")
	var r Result
	for range 2 { // the second time it is stored
		top.Route(&r, "x", &Message{Key: "k"})
	}
	slot := top.cache.slot(top.seed, x, "k")
	for _, tt := range []struct {
		x    *Exchange
		key  string
		want bool
	}{{x, "k", true}, {x, "l", false}, {y, "k", false}} {
		r = Result{}
		if got := top.cache.load(slot, top, tt.x, tt.key, &r); got != tt.want || len(r.Queues) > 0 != tt.want {
			t.Errorf("exchange %s, key %s: %v", tt.x.Name, tt.key, got)
		}
	}
}

func TestResultMayBeUsedForOneTopologyAfterAnother(t *testing.T) {
	small := build(t, "fanout x", "queue q", "x -> q -")
	large := build(t, "topic x", "x => x #.a")
	for i := range 200 {
		name := fmt.Sprint(i)
		large.AddQueue(name)
		bind(t, large, Binding{Source: "x", Destination: name, Key: fmt.Sprintf("#.%d.#", i)})
		bind(t, large, Binding{Source: "x", Destination: name, Key: "all"})
	}
	var r Result
	for range 3 {
		small.Route(&r, "x", &Message{Key: "all"})
		if len(r.Queues) != 1 {
			t.Fatalf("%d queues of the small one", len(r.Queues))
		}
		r.Queues = r.Queues[:0] // what a caller does with its result must not leave marks
		large.Route(&r, "x", &Message{Key: "all"})
		if len(r.Queues) != 200 {
			t.Fatalf("%d queues of the large one", len(r.Queues))
		}
		large.Route(&r, "x", &Message{Key: "a.7.b.8.9"})
		if got := queueNames(&r); !slices.Equal(got, []string{"7", "8", "9"}) {
			t.Fatalf("reached %q", got)
		}
	}
}

func TestRouteAllocatesNothing(t *testing.T) {
	top := build(t, "direct d", "topic t", "fanout f", "headers h", "x-consistent-hash c", "x-random r", "direct a alt=f",
		"queue p q", "d -> p k", "d -> q k", "t -> p #.k", "t => d *", "f -> p -", "f -> q -", "c -> p 1", "c -> q 3", "r -> p -", "r -> q -")
	bind(t, top, Binding{Source: "h", Destination: "p", Args: map[string]any{"a": "x", "b": int32(5)}})
	for _, exchange := range []string{"", "d", "t", "f", "h", "c", "r", "a"} {
		for _, cc := range [][]string{nil, {"p", "k", "q"}} {
			var r Result
			headers := map[string]any{"a": "x", "b": int64(5), "c": []any{"x"}}
			key := "k"
			if exchange == "" {
				key = "p"
			}
			route := func() { top.Route(&r, exchange, &Message{Key: key, CC: cc, Headers: headers}) }
			for range 10 {
				route()
			}
			if len(r.Queues) == 0 {
				t.Errorf("exchange %q reaches nothing", exchange)
			}
			if n := testing.AllocsPerRun(100, route); n != 0 {
				t.Errorf("exchange %q, CC %q: %v allocations", exchange, cc, n)
			}
		}
	}
}

// Keys that come once must not fill memory through the cache.
func TestKeysThatComeOnceAllocateNothing(t *testing.T) {
	top := build(t, "topic x", "queue q", "x -> q #")
	keys := make([]string, 3000)
	for i := range keys {
		keys[i] = fmt.Sprint(i)
	}
	var r Result
	top.Route(&r, "x", &Message{Key: "grow"})
	i := 0
	if n := testing.AllocsPerRun(len(keys)-2, func() {
		i++
		top.Route(&r, "x", &Message{Key: keys[i]})
	}); n != 0 {
		t.Errorf("%v allocations a key", n)
	}
}
