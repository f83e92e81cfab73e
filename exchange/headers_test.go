package exchange

import (
	"fmt"
	"math"
	"math/big"
	"reflect"
	"strings"
	"testing"
	"time"
)

type table = map[string]any

// EX-16.
func TestHeadersMatching(t *testing.T) {
	tests := []struct {
		name          string
		args, headers table
		want          bool
	}{
		{"all is the default", table{"a": "1", "b": "2"}, table{"a": "1", "b": "2"}, true},
		{"all is the default, one differs", table{"a": "1", "b": "2"}, table{"a": "1", "b": "3"}, false},
		{"all, one is missing", table{"x-match": "all", "a": "1", "b": "2"}, table{"a": "1"}, false},
		{"all, more headers than asked for", table{"x-match": "all", "a": "1"}, table{"a": "1", "z": true}, true},
		{"all of nothing matches everything", table{"x-match": "all"}, table{"a": "1"}, true},
		{"all of nothing matches no headers", table{"x-match": "all"}, nil, true},
		{"no arguments match everything", nil, table{"a": "1"}, true},
		{"no arguments match no headers", nil, nil, true},
		{"all, no headers", table{"a": "1"}, nil, false},
		{"any, one of two", table{"x-match": "any", "a": "1", "b": "2"}, table{"a": "1", "b": "3"}, true},
		{"any, the other of two", table{"x-match": "any", "a": "1", "b": "2"}, table{"b": "2"}, true},
		{"any, none", table{"x-match": "any", "a": "1", "b": "2"}, table{"a": "2", "b": "1"}, false},
		{"any of nothing matches nothing", table{"x-match": "any"}, table{"a": "1"}, false},
		{"any of nothing matches no headers either", table{"x-match": "any"}, nil, false},
		{"all ignores x- keys", table{"x-match": "all", "a": "1", "x-b": "2"}, table{"a": "1"}, true},
		{"all with only x- keys is all of nothing", table{"x-match": "all", "x-b": "2"}, table{"x-b": "3"}, true},
		{"any ignores x- keys", table{"x-match": "any", "a": "1", "x-b": "2"}, table{"x-b": "2"}, false},
		{"all-with-x compares x- keys", table{"x-match": "all-with-x", "a": "1", "x-b": "2"}, table{"a": "1"}, false},
		{"all-with-x matches x- keys", table{"x-match": "all-with-x", "a": "1", "x-b": "2"}, table{"a": "1", "x-b": "2"}, true},
		{"all-with-x does not compare x-match", table{"x-match": "all-with-x"}, table{"x-match": "other"}, true},
		{"any-with-x matches x- keys", table{"x-match": "any-with-x", "a": "1", "x-b": "2"}, table{"x-b": "2"}, true},
		{"any-with-x does not compare x-match", table{"x-match": "any-with-x"}, table{"x-match": "any-with-x"}, false},
		{"X- is no x-", table{"X-b": "2"}, table{"X-b": "3"}, false},
		{"x without a hyphen counts", table{"x": "2"}, table{"x": "3"}, false},
		{"names are case-sensitive", table{"a": "1"}, table{"A": "1"}, false},
		{"void asks for presence", table{"a": nil}, table{"a": "anything"}, true},
		{"void asks for presence, of void too", table{"a": nil}, table{"a": nil}, true},
		{"void, absent", table{"a": nil}, table{"b": "1"}, false},
		{"void in any", table{"x-match": "any", "a": nil, "b": "2"}, table{"a": int8(0)}, true},
		{"a value is not equal to void", table{"a": "1"}, table{"a": nil}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			top := build(t, "headers x", "queue q")
			bind(t, top, Binding{Source: "x", Destination: "q", Args: tt.args})
			want := ""
			if tt.want {
				want = "q"
			}
			if got := reached(t, top, "x", &Message{Key: "ignored", Headers: tt.headers}); got != want {
				t.Errorf("reached %q, want %q", got, want)
			}
			if match, why := top.Exchange("x").judge(&Message{Headers: tt.headers}, nil)(top.Exchange("x").out[0]); match != tt.want || why == "" {
				t.Errorf("Explain says %v, %s", match, why)
			}
			if naiveHeaders(tt.args, tt.headers) != tt.want {
				t.Error("the naive matcher of the fuzz test is wrong here")
			}
		})
	}
}

// EX-16: the values in one class are equal to each other and to none of another class.
var valueClasses = [][]any{
	{int(5), int8(5), int16(5), int32(5), int64(5), uint(5), uint8(5), uint16(5), uint32(5), uint64(5), float32(5), 5.0, time.Unix(5, 0), time.Unix(5, 7).UTC()},
	{int(-5), int8(-5), int16(-5), int32(-5), int64(-5), float32(-5), -5.0, time.Unix(-5, 0)},
	{int8(0), uint64(0), 0.0, math.Copysign(0, -1), float32(0)},
	{5.5, float32(5.5)},
	{float32(0.1)}, // not the double of that name
	{0.1},
	{int64(1) << 53, uint64(1) << 53, float64(1 << 53)},
	{int64(1)<<53 + 1}, // the double next to it is the one above
	{int64(math.MaxInt64), uint64(math.MaxInt64)},
	{uint64(1) << 63, float64(1 << 63)},
	{uint64(math.MaxUint64)},
	{float64(1 << 64), float32(1 << 64)},
	{int64(math.MinInt64), -float64(1 << 63)},
	{math.Inf(1), float32(math.Inf(1))},
	{math.Inf(-1)},
	{true},
	{false},
	{"5", []byte("5")},
	{"", []byte{}, []byte(nil)},
	{"true"},
	{decimal{0, 5}, decimal{0, 5}},
	{decimal{1, 50}},
	{struct{ Scale, Value int }{0, 5}},
	{[]any{}, []any(nil)},
	{[]any{int32(5), "a"}, []any{int(5), "a"}},
	{[]any{int64(5), "a"}}, // inside, types count
	{[]any{"a", int32(5)}},
	{[]any{int32(5)}},
	{[]any{[]byte("a")}},
	{[]any{"a"}},
	{table{}, table(nil)},
	{table{"a": int8(1), "b": nil}, table{"b": nil, "a": int8(1)}},
	{table{"a": int8(1)}},
	{table{"a": int8(1), "c": nil}},
	{table{"a": int8(1), "b": false}},
	{table{"a": table{"a": []any{true}}}, table{"a": table{"a": []any{true}}}},
	{table{"a": table{"a": []any{false}}}},
	{table{"a": decimal{1, 2}}},
	{table{"a": decimal{2, 2}}},
	{[]string{"a"}}, // no AMQP value, and not comparable: equal to nothing, itself included, but no panic
}

func TestHeaderValuesAreEqualWithinAClassAndNotAcross(t *testing.T) {
	for i, class := range valueClasses {
		for _, a := range class {
			for j, other := range valueClasses {
				for _, b := range other {
					want := i == j && i != len(valueClasses)-1
					if got := equal(a, b); got != want {
						t.Errorf("%T(%v) and %T(%v): %v, want %v", a, a, b, b, got, want)
					}
					if want && hashValue(a) != hashValue(b) {
						t.Errorf("%T(%v) and %T(%v) are equal, but not their hashes", a, a, b, b)
					}
					top := build(t, "headers x", "queue q")
					bind(t, top, Binding{Source: "x", Destination: "q", Args: table{"k": a}})
					if got := reached(t, top, "x", &Message{Headers: table{"k": b}}) == "q"; got != want {
						t.Errorf("bound with %T(%v), header %T(%v): %v, want %v", a, a, b, b, got, want)
					}
				}
			}
		}
	}
	if equal(math.NaN(), math.NaN()) {
		t.Error("NaN equals NaN")
	}
}

func TestHeadersBindingsToOneQueueAreOneCopy(t *testing.T) {
	top := build(t, "headers x", "queue p q")
	for _, b := range []Binding{
		{Destination: "p", Args: table{"a": "1"}},
		{Destination: "p", Args: table{"x-match": "any", "a": "1", "b": "2"}},
		{Destination: "p"},
		{Destination: "q", Args: table{"b": "2", "a": "1"}},
		{Destination: "q", Key: "another", Args: table{"b": "2", "a": "1"}},
	} {
		b.Source = "x"
		bind(t, top, b)
	}
	if got := reached(t, top, "x", &Message{Headers: table{"a": "1", "b": "2"}}); got != "p q" {
		t.Errorf("reached %q", got)
	}
}

// What many bindings ask for in common must not make each message look at all of them.
func TestHeadersIndexUsesWhatTellsMost(t *testing.T) {
	top := build(t, "headers x", "queue q")
	for i := range 100 {
		bind(t, top, Binding{Source: "x", Destination: "q", Args: table{"format": "pdf", "n": i, "z": nil}})
	}
	for _, list := range top.Exchange("x").router.(*headersRouter).index {
		if len(list) > 2 {
			t.Errorf("%d bindings in one place", len(list))
		}
	}
}

// naiveHeaders is EX-16 written down with other means: exact rationals, printed texts.
func naiveHeaders(args, headers table) bool {
	mode, ok := args["x-match"].(string)
	if !ok {
		mode = "all"
	}
	compared, fitting := 0, 0
	for name, want := range args {
		if name == "x-match" || strings.HasPrefix(name, "x-") && !strings.HasSuffix(mode, "-with-x") {
			continue
		}
		compared++
		if have, ok := headers[name]; ok && (want == nil || naiveEqual(want, have)) {
			fitting++
		}
	}
	if strings.HasPrefix(mode, "any") {
		return fitting > 0
	}
	return fitting == compared
}

func naiveEqual(a, b any) bool {
	rational := func(v any) *big.Rat {
		if at, ok := v.(time.Time); ok {
			v = at.Unix()
		}
		switch r := reflect.ValueOf(v); {
		case !r.IsValid():
			return nil
		case r.CanInt():
			return new(big.Rat).SetInt64(r.Int())
		case r.CanUint():
			return new(big.Rat).SetUint64(r.Uint())
		case r.CanFloat():
			return new(big.Rat).SetFloat64(r.Float())
		}
		return nil
	}
	if x, y := rational(a), rational(b); x != nil || y != nil {
		return x != nil && y != nil && x.Cmp(y) == 0
	}
	if x, ok := a.([]byte); ok {
		a = string(x)
	}
	if x, ok := b.([]byte); ok {
		b = string(x)
	}
	return reflect.DeepEqual(a, b)
}

// fuzzTable makes a table of what bytes say, out of values that are often equal across types.
func fuzzTable(data []byte) (table, []byte) {
	values := []any{nil, int8(5), 5.0, float32(5), uint64(5), time.Unix(5, 0), "5", []byte("5"), true, false, decimal{0, 5}, 5.5,
		[]any{int8(5)}, []any{"5"}, table{"a": nil}, int64(-1)}
	names := []string{"a", "b", "c", "x-a", "x-b", "X-a", ""}
	tab := table{}
	for len(data) > 0 {
		b := data[0]
		data = data[1:]
		if b>>4 >= byte(len(names)) {
			break
		}
		tab[names[b>>4]] = values[b&15]
	}
	return tab, data
}

// FuzzHeaders compares the index with the definition, before and after half of the bindings were removed. Every byte
// is a pair of a binding, one of 0x70 and above ends it and says its x-match; the last table is the message.
func FuzzHeaders(f *testing.F) {
	f.Add([]byte{0x01, 0x70, 0x02, 0x16, 0x71, 0x01, 0x17})
	f.Add([]byte{0x31, 0x72, 0x00, 0x73, 0x71, 0x34, 0x06})
	f.Add([]byte{0x06, 0x70, 0x07, 0x71, 0x18, 0x70, 0x00, 0x72, 0x06, 0x18})
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > 200 {
			t.Skip("long")
		}
		modes := []any{nil, "any", "all-with-x", "any-with-x"}
		top := build(t, "headers x")
		var args []table
		var bound []Binding
		headers, rest := fuzzTable(data)
		for len(rest) > 0 {
			end := data[len(data)-len(rest)-1]
			if mode := modes[end&3]; mode != nil {
				headers["x-match"] = mode
			}
			b := Binding{Source: "x", Destination: fmt.Sprint(len(args)), Args: headers}
			top.AddQueue(b.Destination)
			bind(t, top, b)
			args, bound = append(args, headers), append(bound, b)
			data = rest
			headers, rest = fuzzTable(data)
		}
		var r Result
		check := func(from int) {
			t.Helper()
			got := make(map[string]bool)
			top.Route(&r, "x", &Message{Headers: headers})
			for _, q := range r.Queues {
				if got[q.Name] {
					t.Fatalf("%s is there twice", q.Name)
				}
				got[q.Name] = true
			}
			for i, a := range args[from:] {
				name := fmt.Sprint(from + i)
				if want := naiveHeaders(a, headers); got[name] != want {
					t.Fatalf("args %v, headers %v: %v, want %v", a, headers, got[name], want)
				}
				delete(got, name)
			}
			if len(got) > 0 {
				t.Fatalf("reached what is not bound: %v", got)
			}
		}
		check(0)
		for _, b := range bound[:len(bound)/2] {
			if !top.Unbind(b) {
				t.Fatal("a binding is lost")
			}
		}
		check(len(bound) / 2)
		for _, b := range bound {
			top.RemoveQueue(b.Destination)
		}
		if router := top.Exchange("x").router.(*headersRouter); len(router.index) > 0 || len(router.always) > 0 {
			t.Fatal("bindings are left in the index")
		}
	})
}
