package exchange

import (
	"bytes"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"time"
)

// Values of AMQP tables are Go values: bool, the integers and floats, string, []byte, time.Time, nil, []any,
// map[string]any, and a decimal, which is a comparable struct of the caller's.

// number is a number of any type, so that equal numbers are == here. What is an integer is kept as one: as
// floats, large ones that differ would become equal.
type number struct {
	negative  bool
	magnitude uint64
	float     float64 // only where it is no integer
}

func intNumber(i int64) number {
	if i < 0 {
		return number{negative: true, magnitude: -uint64(i)}
	}
	return number{magnitude: uint64(i)}
}

func floatNumber(f float64) number {
	if a := math.Abs(f); a == math.Trunc(a) && a < 1<<64 {
		return number{negative: f < 0, magnitude: uint64(a)}
	}
	return number{float: f} // NaN equals nothing, as it should be
}

// numberOf returns the value of v if it is a number. A timestamp is one: its seconds, which is what AMQP sends.
func numberOf(v any) (number, bool) {
	switch v := v.(type) {
	case int:
		return intNumber(int64(v)), true
	case int8:
		return intNumber(int64(v)), true
	case int16:
		return intNumber(int64(v)), true
	case int32:
		return intNumber(int64(v)), true
	case int64:
		return intNumber(v), true
	case uint:
		return number{magnitude: uint64(v)}, true
	case uint8:
		return number{magnitude: uint64(v)}, true
	case uint16:
		return number{magnitude: uint64(v)}, true
	case uint32:
		return number{magnitude: uint64(v)}, true
	case uint64:
		return number{magnitude: v}, true
	case float32:
		return floatNumber(float64(v)), true
	case float64:
		return floatNumber(v), true
	case time.Time:
		return intNumber(v.Unix()), true
	}
	return number{}, false
}

// tag is the letter of a value's type in a field table as RabbitMQ reads it
// (https://www.rabbitmq.com/amqp-0-9-1-errata), 'U' and 'L' for the two that have none, 0 for a type of the caller's.
func tag(v any) byte {
	switch v := v.(type) {
	case nil:
		return 'V'
	case bool:
		return 't'
	case int8:
		return 'b'
	case uint8:
		return 'B'
	case int16:
		return 's'
	case uint16:
		return 'u'
	case int32:
		return 'I'
	case uint32:
		return 'i'
	case int64:
		return 'l'
	case int:
		// An int is sent as 'I'; only what does not fit into it goes as 'l'.
		if v == int(int32(v)) {
			return 'I'
		}
		return 'l'
	case uint:
		return 'U'
	case uint64:
		return 'L'
	case float32:
		return 'f'
	case float64:
		return 'd'
	case string:
		return 'S'
	case []byte:
		return 'x'
	case time.Time:
		return 'T'
	case []any:
		return 'A'
	case map[string]any:
		return 'F'
	}
	return 0
}

// equal compares an argument of a headers binding with the header of that name. Numbers are compared by value
// whatever their types, texts whatever theirs; nothing else crosses types.
func equal(a, b any) bool {
	if x, ok := numberOf(a); ok {
		y, ok := numberOf(b)
		return ok && x == y
	}
	switch x := a.(type) {
	case string:
		switch y := b.(type) {
		case string:
			return x == y
		case []byte:
			return x == string(y)
		}
		return false
	case []byte:
		switch y := b.(type) {
		case string:
			return string(x) == y
		case []byte:
			return bytes.Equal(x, y)
		}
		return false
	}
	return same(a, b)
}

// same compares including the types. This is how values inside a table or an array are compared: RabbitMQ's
// values carry their types there, while at the top only the value itself is looked at.
func same(a, b any) bool {
	ta := tag(a)
	if ta != tag(b) {
		return false
	}
	if x, ok := numberOf(a); ok {
		y, _ := numberOf(b)
		return x == y
	}
	switch x := a.(type) {
	case nil:
		return true
	case []byte:
		return bytes.Equal(x, b.([]byte))
	case []any:
		return slices.EqualFunc(x, b.([]any), same)
	case map[string]any:
		return maps.EqualFunc(x, b.(map[string]any), same)
	}
	return reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}

// canonical returns a text that is equal for tables with the same keys, types and values, and no others. It is ""
// for none.
func canonical(table map[string]any) string {
	if len(table) == 0 {
		return ""
	}
	return string(appendTable(nil, table))
}

func appendTable(text []byte, table map[string]any) []byte {
	text = append(text, '{')
	for i, key := range slices.Sorted(maps.Keys(table)) {
		if i > 0 {
			text = append(text, ' ')
		}
		text = strconv.AppendQuote(text, key)
		text = append(text, '=')
		text = appendValue(text, table[key])
	}
	return append(text, '}')
}

// appendValue writes the letter of the type and the value. Texts are quoted, so nothing can imitate a delimiter.
func appendValue(text []byte, v any) []byte {
	letter := tag(v)
	if letter != 0 {
		text = append(text, letter)
	}
	switch v := v.(type) {
	case nil:
		return text
	case bool:
		return strconv.AppendBool(text, v)
	case float32:
		return strconv.AppendFloat(text, float64(v), 'g', -1, 32)
	case float64:
		return strconv.AppendFloat(text, v, 'g', -1, 64)
	case string:
		return strconv.AppendQuote(text, v)
	case []byte:
		return strconv.AppendQuote(text, string(v))
	case []any:
		text = append(text, '[')
		for i, e := range v {
			if i > 0 {
				text = append(text, ' ')
			}
			text = appendValue(text, e)
		}
		return append(text, ']')
	case map[string]any:
		return appendTable(text, v)
	}
	if n, ok := numberOf(v); ok {
		if n.negative {
			text = append(text, '-')
		}
		return strconv.AppendUint(text, n.magnitude, 10)
	}
	return strconv.AppendQuote(text, fmt.Sprintf("%#v", v))
}

func cloneTable(table map[string]any) map[string]any {
	c := make(map[string]any, len(table))
	for k, v := range table {
		c[k] = cloneValue(v)
	}
	return c
}

func cloneValue(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return cloneTable(v)
	case []any:
		c := make([]any, len(v))
		for i, e := range v {
			c[i] = cloneValue(e)
		}
		return c
	case []byte:
		return bytes.Clone(v)
	}
	return v
}

// The hashes below are the same in every process and release: a consistent-hash exchange sends a key to the same
// queue wherever and whenever it is published.

const fnvOffset, fnvPrime = 14695981039346656037, 1099511628211

// hashText is FNV-1a of 64 bits, continued from h. Its result is to be mixed before its bits are used.
func hashText[T string | []byte](h uint64, s T) uint64 {
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * fnvPrime
	}
	return h
}

// mix spreads every bit of h over all of them (the finaliser of splitmix64).
func mix(h uint64) uint64 {
	h = (h ^ h>>30) * 0xbf58476d1ce4e5b9
	h = (h ^ h>>27) * 0x94d049bb133111eb
	return h ^ h>>31
}

// hashValue agrees with equal: equal values have equal hashes. It allocates nothing.
func hashValue(v any) uint64 {
	if n, ok := numberOf(v); ok {
		h := mix(n.magnitude ^ math.Float64bits(n.float))
		if n.negative {
			h = ^h
		}
		return mix(h ^ 'n')
	}
	switch v := v.(type) {
	case nil:
		return mix('V')
	case bool:
		if v {
			return mix('t' << 8)
		}
		return mix('t')
	case string:
		return mix(hashText(fnvOffset, v))
	case []byte:
		return mix(hashText(fnvOffset, v))
	case []any:
		h := uint64('A')
		for _, e := range v {
			h = mix(h ^ hashValue(e))
		}
		return h
	case map[string]any:
		h := uint64('F')
		for k, e := range v {
			h += mix(hashText(fnvOffset, k) ^ hashValue(e)) // a sum: the order of a map is none
		}
		return mix(h)
	}
	return mix(hashText(fnvOffset, reflect.TypeOf(v).String()))
}
