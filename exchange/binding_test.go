package exchange

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"
)

type decimal struct {
	Scale uint8
	Value int32
}

func TestKnownKinds(t *testing.T) {
	for _, kind := range []string{"direct", "fanout", "topic", "headers", "x-consistent-hash", "x-random", "x-local-random"} {
		if !Known(kind) || CheckExchange(kind, nil) != nil {
			t.Errorf("%q is not known", kind)
		}
	}
	for _, kind := range []string{"", "Direct", "x-delayed-message", "match"} {
		if Known(kind) || CheckExchange(kind, nil) == nil {
			t.Errorf("%q is known", kind)
		}
	}
}

// EX-19, EX-23.
func TestCheckExchange(t *testing.T) {
	tests := []struct {
		kind string
		args map[string]any
		want string // part of the error; "" for none
	}{
		{"direct", map[string]any{"alternate-exchange": "does-not-exist"}, ""},
		{"direct", map[string]any{"alternate-exchange": ""}, ""},
		{"direct", map[string]any{"alternate-exchange": int32(1)}, "int32"},
		{"direct", map[string]any{"alternate-exchange": nil}, "void"},
		{"direct", map[string]any{"alternate-exchange": []byte("x")}, "expected a string"},
		{"direct", map[string]any{"hash-header": "a", "hash-property": "b", "other": 1}, ""},
		{"x-consistent-hash", map[string]any{"hash-header": "a"}, ""},
		{"x-consistent-hash", map[string]any{"hash-property": "message_id"}, ""},
		{"x-consistent-hash", map[string]any{"hash-property": "correlation_id"}, ""},
		{"x-consistent-hash", map[string]any{"hash-property": "timestamp"}, ""},
		{"x-consistent-hash", map[string]any{"hash-property": "app_id"}, "unsupported"},
		{"x-consistent-hash", map[string]any{"hash-property": ""}, "unsupported"},
		{"x-consistent-hash", map[string]any{"hash-property": true}, "bool"},
		{"x-consistent-hash", map[string]any{"hash-header": 7}, "int"},
		{"x-consistent-hash", map[string]any{"hash-header": "a", "hash-property": "message_id"}, "mutually exclusive"},
		{"x-consistent-hash", map[string]any{"alternate-exchange": 1}, "alternate-exchange"},
	}
	for _, tt := range tests {
		err := CheckExchange(tt.kind, tt.args)
		if (err == nil) != (tt.want == "") || err != nil && !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s %v: %v, want %q", tt.kind, tt.args, err, tt.want)
		}
		_, err = New().AddExchange("x", tt.kind, tt.args, false)
		if (err == nil) != (tt.want == "") {
			t.Errorf("AddExchange %s %v: %v", tt.kind, tt.args, err)
		}
	}
}

// EX-16, EX-19.
func TestCheckBinding(t *testing.T) {
	args := func(match any) map[string]any { return map[string]any{"x-match": match} }
	tests := []struct {
		kind, key string
		args      map[string]any
		ok        bool
	}{
		{"headers", "", nil, true},
		{"headers", "", args("all"), true},
		{"headers", "", args("any"), true},
		{"headers", "", args("all-with-x"), true},
		{"headers", "", args("any-with-x"), true},
		{"headers", "", args("All"), false},
		{"headers", "", args(""), false},
		{"headers", "", args(int32(1)), false},
		{"headers", "", args(nil), false},
		{"topic", "", args("some"), true},
		{"x-consistent-hash", "1", nil, true},
		{"x-consistent-hash", "100", nil, true},
		{"x-consistent-hash", "0", nil, false},
		{"x-consistent-hash", "-1", nil, false},
		{"x-consistent-hash", "", nil, false},
		{"x-consistent-hash", "1.5", nil, false},
		{"x-consistent-hash", " 1", nil, false},
		{"x-consistent-hash", "a", nil, false},
		{"x-random", "anything", nil, true},
	}
	for _, tt := range tests {
		if err := CheckBinding(tt.kind, tt.key, tt.args); (err == nil) != tt.ok {
			t.Errorf("%s %q %v: %v", tt.kind, tt.key, tt.args, err)
		}
		top := build(t, tt.kind+" x", "queue q")
		if added, err := top.Bind(Binding{Source: "x", Destination: "q", Key: tt.key, Args: tt.args}); added != tt.ok || (err == nil) != tt.ok {
			t.Errorf("Bind to %s by %q %v: %v, %v", tt.kind, tt.key, tt.args, added, err)
		}
		if top.HasBindings("x") != tt.ok {
			t.Errorf("%s %q %v: HasBindings is %v", tt.kind, tt.key, tt.args, !tt.ok)
		}
	}
}

func TestAddAndLookUp(t *testing.T) {
	top := New()
	x, err := top.AddExchange("x", "topic", map[string]any{"alternate-exchange": "y"}, true)
	if err != nil || x.Name != "x" || x.Kind != "topic" || x.Alternate != "y" || !x.Internal || top.Exchange("x") != x {
		t.Errorf("%+v, %v", x, err)
	}
	if _, err := top.AddExchange("x", "topic", nil, true); err == nil {
		t.Error("an exchange was replaced")
	}
	if top.Exchange("y") != nil || top.Queue("x") != nil {
		t.Error("found what is not there")
	}
	q := top.AddQueue("x") // exchanges and queues have names of their own
	q.Data = 1
	if top.AddQueue("x") != q || top.Queue("x") != q {
		t.Error("a queue was replaced")
	}
}

// EX-17: an unknown side is 404, the source before the destination.
func TestBindNamesTheUnknownSide(t *testing.T) {
	top := build(t, "direct x", "queue q")
	tests := []struct {
		b    Binding
		want NotFoundError
	}{
		{Binding{Source: "no", Destination: "q"}, NotFoundError{"exchange", "no"}},
		{Binding{Source: "x", Destination: "no"}, NotFoundError{"queue", "no"}},
		{Binding{Source: "x", Destination: "no", ToExchange: true}, NotFoundError{"exchange", "no"}},
		{Binding{Source: "no", Destination: "neither"}, NotFoundError{"exchange", "no"}},
		{Binding{Source: "x", Destination: "x"}, NotFoundError{"queue", "x"}},
		{Binding{Source: "x", Destination: "q", ToExchange: true}, NotFoundError{"exchange", "q"}},
	}
	for _, tt := range tests {
		added, err := top.Bind(tt.b)
		var e *NotFoundError
		if added || !errors.As(err, &e) || *e != tt.want {
			t.Errorf("Bind(%s): %v, %v", tt.b.ID(), added, err)
		}
		if top.Unbind(tt.b) {
			t.Errorf("Unbind(%s) removed something", tt.b.ID())
		}
	}
}

// Bindings whose identities all differ.
var different = []Binding{
	{Source: "x", Destination: "x"},
	{Source: "x", Destination: "x", ToExchange: true},
	{Source: "y", Destination: "x"},
	{Source: "x", Destination: "y"},
	{Source: "x", Destination: "x", Key: "k"},
	{Source: "x", Destination: "x", Key: "k "},
	{Source: "x", Destination: "x", Key: `" by "`},
	{Source: "x", Destination: "x", Key: "\xff"},
	{Source: "x", Destination: "x", Key: "\ufffd"},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": nil}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": ""}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []byte{}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": "5"}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []byte("5")}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": int8(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": uint8(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": int16(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": uint16(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": int32(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": int32(-5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": uint32(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": int64(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": int64(math.MinInt64)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": uint64(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": uint(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": float32(5)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": 5.0}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": time.Unix(5, 0)}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": decimal{0, 5}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": decimal{1, 50}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": true}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": false}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []any{}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []any{int32(5)}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []any{int64(5)}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []any{"5", "6"}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": []any{`5" S"6`}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": map[string]any{}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": map[string]any{"b": true}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": map[string]any{"b": "true"}}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": "1", "b": "2"}},
	{Source: "x", Destination: "x", Key: "k", Args: map[string]any{"a": `1" "b"=S"2`}},
}

// QU-23, EX-17.
func TestBindingsThatDifferInAnythingAreDifferent(t *testing.T) {
	top := build(t, "direct x", "direct y", "queue x y")
	ids := make(map[string]bool)
	for i, b := range different {
		if id := b.ID(); ids[id] {
			t.Errorf("%d: %s is there already", i, id)
		} else {
			ids[id] = true
		}
		bind(t, top, b)
	}
	for _, b := range different {
		if added, err := top.Bind(b); added || err != nil {
			t.Errorf("%s was added twice: %v", b.ID(), err)
		}
	}
	if top.Len() != len(different) {
		t.Errorf("%d bindings, want %d", top.Len(), len(different))
	}
	for i, b := range different {
		if !top.Unbind(b) {
			t.Errorf("%s is not there", b.ID())
		}
		if top.Unbind(b) {
			t.Errorf("%s was there twice", b.ID())
		}
		if top.Len() != len(different)-i-1 {
			t.Errorf("%d bindings after %d were removed", top.Len(), i+1)
		}
	}
}

func TestEqualBindingsAreOne(t *testing.T) {
	same := [][2]map[string]any{
		{nil, {}},
		{{"a": int(5)}, {"a": int32(5)}}, // an int is sent as 32 bits
		{{"a": math.MaxInt32 + 1}, {"a": int64(math.MaxInt32 + 1)}},
		{{"a": time.Unix(5, 0)}, {"a": time.Unix(5, 999).UTC()}}, // AMQP timestamps are seconds
		{{"a": "1", "b": "2", "c": "3"}, {"c": "3", "b": "2", "a": "1"}},
		{{"a": map[string]any{"x": []any{nil, true}, "y": int8(1)}}, {"a": map[string]any{"y": int8(1), "x": []any{nil, true}}}},
	}
	for _, args := range same {
		a := Binding{Source: "x", Destination: "q", Key: "k", Args: args[0]}
		b := Binding{Source: "x", Destination: "q", Key: "k", Args: args[1]}
		if a.ID() != b.ID() {
			t.Errorf("%s is not %s", a.ID(), b.ID())
		}
		top := build(t, "direct x", "queue q")
		bind(t, top, a)
		if added, err := top.Bind(b); added || err != nil {
			t.Errorf("%s was added to %s: %v", b.ID(), a.ID(), err)
		}
		if !top.Unbind(b) {
			t.Errorf("%s did not remove %s", b.ID(), a.ID())
		}
	}
}

// The ID is a record key that outlives processes and releases.
func TestBindingIDStaysAsItIs(t *testing.T) {
	tests := map[string]Binding{
		`"logs" to queue "errors" by "*.error.#"`: {Source: "logs", Destination: "errors", Key: "*.error.#"},
		`"a" to exchange "b" by ""`:               {Source: "a", Destination: "b", ToExchange: true},
		`"a\"b" to queue "ä\n" by "\xff" {"b"=I-5 "n"=V "t"=T7 "x-match"=S"any"}`: {Source: `a"b`, Destination: "ä\n", Key: "\xff",
			Args: map[string]any{"x-match": "any", "b": int32(-5), "n": nil, "t": time.Unix(7, 0)}},
		`"a" to queue "q" by "" {"f"=d1.5 "l"=A[ttrue x"\x00"] "m"=F{"k"=L18446744073709551615}}`: {Source: "a", Destination: "q",
			Args: map[string]any{"f": 1.5, "l": []any{true, []byte{0}}, "m": map[string]any{"k": uint64(math.MaxUint64)}}},
	}
	for want, b := range tests {
		for range 5 { // whatever order the map has
			if got := b.ID(); got != want {
				t.Errorf("%s, want %s", got, want)
			}
		}
	}
}

func TestBindKeepsACopyOfTheArguments(t *testing.T) {
	args := map[string]any{"a": []byte("x"), "b": []any{"y"}, "c": map[string]any{"d": "z"}}
	top := build(t, "headers x", "queue q")
	b := Binding{Source: "x", Destination: "q", Args: args}
	id := b.ID()
	bind(t, top, b)
	args["a"].([]byte)[0] = '!'
	args["b"].([]any)[0] = "!"
	args["c"].(map[string]any)["d"] = "!"
	args["e"] = 1
	got := top.BindingsOf("x")[0]
	if got.ID() != id {
		t.Errorf("the caller changed the binding into %s", got.ID())
	}
	delete(got.Args, "a")
	if got := top.BindingsOf("x")[0]; got.ID() != id {
		t.Errorf("the caller changed the binding that it was given into %s", got.ID())
	}
	if got := reached(t, top, "x", &Message{Headers: map[string]any{"a": "x", "b": []any{"y"}, "c": map[string]any{"d": "z"}}}); got != "q" {
		t.Error("the binding does not match what it was made for")
	}
}

// EX-09.
func TestRemoveExchangeTakesTheBindingsOnBothSides(t *testing.T) {
	top := build(t, "topic a", "topic b", "topic c", "queue p q",
		"a => b #", "b => c #", "b => b #", "c => b x", "b -> p #", "b -> q #", "a -> p k", "c -> q k")
	if got := reached(t, top, "a", &Message{Key: "k"}); got != "p q" {
		t.Fatalf("reached %q", got)
	}
	top.RemoveExchange("b")
	if got := ids(top); got != "\"a\" to queue \"p\" by \"k\"\n\"c\" to queue \"q\" by \"k\"" {
		t.Errorf("left:\n%s", got)
	}
	if got := reached(t, top, "a", &Message{Key: "k"}); got != "p" {
		t.Errorf("reached %q", got)
	}
	if top.Queue("q") == nil {
		t.Error("a queue is gone")
	}
	// A new one of the name has nothing of the old.
	if _, err := top.AddExchange("b", "topic", nil, false); err != nil {
		t.Fatal(err)
	}
	if got := reached(t, top, "b", &Message{Key: "k"}); got != "" || top.HasBindings("b") {
		t.Errorf("the new one reaches %q", got)
	}
	top.RemoveExchange("unknown")
}

func TestRemoveQueueTakesItsBindings(t *testing.T) {
	top := build(t, "topic a", "fanout b", "queue p q", "a -> p #", "a -> p k", "b -> p -", "a -> q #")
	top.RemoveQueue("p")
	top.RemoveQueue("unknown")
	if got := ids(top); got != `"a" to queue "q" by "#"` {
		t.Errorf("left:\n%s", got)
	}
	// The next node may take the place of the old one in the bit set.
	top.AddQueue("r")
	bind(t, top, Binding{Source: "b", Destination: "r"})
	if a, b := reached(t, top, "a", &Message{Key: "k"}), reached(t, top, "b", &Message{Key: "k"}); a != "q" || b != "r" {
		t.Errorf("reached %q and %q", a, b)
	}
}

func ids(top *Topology) string {
	var list []string
	for b := range top.Bindings {
		list = append(list, b.ID())
	}
	return strings.Join(list, "\n")
}

func TestListingsAreOrderedWhateverTheHistory(t *testing.T) {
	rnd := newRand(3)
	var want string
	for i := range 10 {
		top := build(t, "direct x", "direct y", "queue x y")
		list := slices.Clone(different)
		rnd.Shuffle(len(list), func(i, j int) { list[i], list[j] = list[j], list[i] })
		for _, b := range list {
			bind(t, top, b)
		}
		got := ids(top)
		if i == 0 {
			want = got
		}
		if got != want {
			t.Fatalf("got\n%s\nwant\n%s", got, want)
		}
	}
	if n := strings.Count(want, "\n") + 1; n != len(different) {
		t.Errorf("%d bindings, want %d", n, len(different))
	}
	top := build(t, "direct x", "queue p q", "x -> q b", "x -> q a", "x -> p c", "x => x a")
	if got := ids(top); got != `"x" to queue "p" by "c"
"x" to queue "q" by "a"
"x" to queue "q" by "b"
"x" to exchange "x" by "a"` {
		t.Errorf("got\n%s", got)
	}
	for range top.Bindings {
		break // must be possible
	}
	if got := fmt.Sprint(len(top.BindingsOf("x")), len(top.BindingsOf("y")), len(top.BindingsTo("q", false)),
		len(top.BindingsTo("q", true)), len(top.BindingsTo("x", true)), len(top.BindingsTo("x", false))); got != "4 0 2 0 1 0" {
		t.Errorf("lists of %s", got)
	}
}
