package content

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// maxNesting bounds the depth of tables and arrays.
const maxNesting = 66

func appendShort(b []byte, s string) []byte {
	s = s[:min(len(s), 255)] // the channel refuses longer ones
	return append(append(b, byte(len(s))), s...)
}

// AppendTable appends a field table (section 4.2.5.5), its keys in order, so that equal tables are equal bytes.
func AppendTable(b []byte, t channel.Table) []byte { return appendTable(b, t) }

func appendTable(b []byte, t channel.Table) []byte {
	at := len(b)
	b = append(b, 0, 0, 0, 0)
	for _, k := range slices.Sorted(maps.Keys(t)) {
		b = appendShort(b, k)
		b = appendValue(b, t[k])
	}
	binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	return b
}

// appendValue writes a value with RabbitMQ's type letters (https://www.rabbitmq.com/amqp-0-9-1-errata.html).
func appendValue(b []byte, v any) []byte {
	be := binary.BigEndian
	switch v := v.(type) {
	case nil:
		return append(b, 'V')
	case bool:
		if v {
			return append(b, 't', 1)
		}
		return append(b, 't', 0)
	case int8:
		return append(b, 'b', byte(v))
	case uint8:
		return append(b, 'B', v)
	case int16:
		return be.AppendUint16(append(b, 's'), uint16(v))
	case uint16:
		return be.AppendUint16(append(b, 'u'), v)
	case int32:
		return be.AppendUint32(append(b, 'I'), uint32(v))
	case uint32:
		return be.AppendUint32(append(b, 'i'), v)
	case int64:
		return be.AppendUint64(append(b, 'l'), uint64(v))
	case int:
		return be.AppendUint64(append(b, 'l'), uint64(v))
	case float32:
		return be.AppendUint32(append(b, 'f'), math.Float32bits(v))
	case float64:
		return be.AppendUint64(append(b, 'd'), math.Float64bits(v))
	case channel.Decimal:
		return be.AppendUint32(append(b, 'D', v.Scale), uint32(v.Value))
	case string:
		b = be.AppendUint32(append(b, 'S'), uint32(len(v)))
		return append(b, v...)
	case []byte:
		b = be.AppendUint32(append(b, 'x'), uint32(len(v)))
		return append(b, v...)
	case time.Time:
		return be.AppendUint64(append(b, 'T'), uint64(v.Unix()))
	case channel.Table:
		return appendTable(append(b, 'F'), v)
	case []any:
		b = append(b, 'A')
		at := len(b)
		b = append(b, 0, 0, 0, 0)
		for _, e := range v {
			b = appendValue(b, e)
		}
		be.PutUint32(b[at:], uint32(len(b)-at-4))
		return b
	}
	panic(fmt.Sprintf("content: value of type %T: not validated", v))
}

// decoder reads from b; after the first error everything it returns is zero.
type decoder struct {
	b   []byte
	err error
}

func (d *decoder) take(n int) []byte {
	if d.err != nil || n < 0 || n > len(d.b) {
		d.err = ErrForeign
		return nil
	}
	t := d.b[:n:n]
	d.b = d.b[n:]
	return t
}

func (d *decoder) byte() byte {
	if t := d.take(1); t != nil {
		return t[0]
	}
	return 0
}

func (d *decoder) uint16() uint16 {
	if t := d.take(2); t != nil {
		return binary.BigEndian.Uint16(t)
	}
	return 0
}

func (d *decoder) uint32() uint32 {
	if t := d.take(4); t != nil {
		return binary.BigEndian.Uint32(t)
	}
	return 0
}

func (d *decoder) uint64() uint64 {
	if t := d.take(8); t != nil {
		return binary.BigEndian.Uint64(t)
	}
	return 0
}

func (d *decoder) short() string { return string(d.take(int(d.byte()))) }

// shortLike returns s itself where it is that.
func (d *decoder) shortLike(s string) string {
	b := d.take(int(d.byte()))
	if string(b) == s {
		return s
	}
	return string(b)
}

func (d *decoder) table(depth int) channel.Table {
	in := decoder{b: d.take(int(d.uint32()))}
	if depth > maxNesting {
		d.err = ErrForeign
	}
	if d.err != nil {
		return nil
	}
	t := channel.Table{}
	for len(in.b) > 0 && in.err == nil {
		k := in.short()
		t[k] = in.value(depth + 1)
	}
	d.err = in.err
	return t
}

func (d *decoder) value(depth int) any {
	switch d.byte() {
	case 't':
		return d.byte() != 0
	case 'b':
		return int8(d.byte())
	case 'B':
		return d.byte()
	case 's':
		return int16(d.uint16())
	case 'u':
		return d.uint16()
	case 'I':
		return int32(d.uint32())
	case 'i':
		return d.uint32()
	case 'l':
		return int64(d.uint64())
	case 'f':
		return math.Float32frombits(d.uint32())
	case 'd':
		return math.Float64frombits(d.uint64())
	case 'D':
		scale := d.byte()
		return channel.Decimal{Scale: scale, Value: int32(d.uint32())}
	case 'S':
		return string(d.take(int(d.uint32())))
	case 'x':
		return append([]byte{}, d.take(int(d.uint32()))...)
	case 'T':
		return time.Unix(int64(d.uint64()), 0).UTC()
	case 'F':
		return d.table(depth)
	case 'A':
		in := decoder{b: d.take(int(d.uint32()))}
		if depth > maxNesting {
			d.err = ErrForeign
		}
		if d.err != nil {
			return nil
		}
		a := []any{}
		for len(in.b) > 0 && in.err == nil {
			a = append(a, in.value(depth+1))
		}
		d.err = in.err
		return a
	case 'V':
		return nil
	}
	d.err = ErrForeign
	return nil
}

// JSON is a field table as JSON that keeps the types: every value is {"type letter": value}. Records of the registry
// use it, so that a person can read them.
type JSON channel.Table

// MarshalJSON writes the table.
func (t JSON) MarshalJSON() ([]byte, error) {
	m := make(map[string]typed, len(t))
	for k, v := range t {
		m[k] = typed{v}
	}
	return json.Marshal(m)
}

// UnmarshalJSON reads the table.
func (t *JSON) UnmarshalJSON(b []byte) error {
	var m map[string]typed
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	*t = make(JSON, len(m))
	for k, v := range m {
		(*t)[k] = v.v
	}
	return nil
}

type typed struct{ v any }

func (t typed) MarshalJSON() ([]byte, error) {
	letter := string(appendValue(nil, t.v)[:1])
	v := t.v
	switch x := v.(type) {
	case channel.Table:
		v = JSON(x)
	case []any:
		a := make([]typed, len(x))
		for i := range x {
			a[i] = typed{x[i]}
		}
		v = a
	case time.Time:
		v = x.Unix()
	case float32:
		v = strconv.FormatUint(uint64(math.Float32bits(x)), 16) // NaN and the infinities have no JSON
	case float64:
		v = strconv.FormatUint(math.Float64bits(x), 16)
	case string:
		v = []byte(x) // need not be UTF-8
		if valid(x) {
			v = x
		} else {
			letter = "S64"
		}
	}
	return json.Marshal(map[string]any{letter: v})
}

// valid reports whether JSON keeps the string as it is.
func valid(s string) bool {
	for _, r := range s {
		if r == '\uFFFD' {
			return false
		}
	}
	return true
}

func (t *typed) UnmarshalJSON(b []byte) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	for letter, raw := range m {
		return t.read(letter, raw)
	}
	return fmt.Errorf("typed value without a type")
}

func (t *typed) read(letter string, raw json.RawMessage) error {
	switch letter {
	case "V":
		t.v = nil
		return nil
	case "t":
		return into[bool](t, raw)
	case "b":
		return into[int8](t, raw)
	case "B":
		return into[uint8](t, raw)
	case "s":
		return into[int16](t, raw)
	case "u":
		return into[uint16](t, raw)
	case "I":
		return into[int32](t, raw)
	case "i":
		return into[uint32](t, raw)
	case "l":
		return into[int64](t, raw)
	case "D":
		return into[channel.Decimal](t, raw)
	case "S":
		return into[string](t, raw)
	case "x":
		return into[[]byte](t, raw)
	case "S64", "f", "d", "T", "F", "A":
		return t.convert(letter, raw)
	}
	return fmt.Errorf("unknown type letter %q", letter)
}

func (t *typed) convert(letter string, raw json.RawMessage) error {
	var x typed
	var err error
	switch letter {
	case "S64":
		if err = into[[]byte](&x, raw); err == nil {
			t.v = string(x.v.([]byte))
		}
	case "f", "d":
		if err = into[string](&x, raw); err != nil {
			return err
		}
		bits, err := strconv.ParseUint(x.v.(string), 16, 64)
		if err != nil {
			return err
		}
		if t.v = math.Float64frombits(bits); letter == "f" {
			t.v = math.Float32frombits(uint32(bits))
		}
	case "T":
		if err = into[int64](&x, raw); err == nil {
			t.v = time.Unix(x.v.(int64), 0).UTC()
		}
	case "F":
		if err = into[JSON](&x, raw); err == nil {
			t.v = channel.Table(x.v.(JSON))
		}
	case "A":
		if err = into[[]typed](&x, raw); err == nil {
			a := make([]any, len(x.v.([]typed)))
			for i, e := range x.v.([]typed) {
				a[i] = e.v
			}
			t.v = a
		}
	}
	return err
}

func into[T any](t *typed, raw json.RawMessage) error {
	var v T
	if err := json.Unmarshal(raw, &v); err != nil {
		return err
	}
	t.v = v
	return nil
}
