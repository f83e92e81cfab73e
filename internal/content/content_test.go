package content

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

var update = flag.Bool("update", false, "write the golden files anew; what is stored must stay readable")

var _ virtual.Payload = (*Message)(nil)

// everyType has a value of every field type, at the edges of its range, and of every kind of nesting.
func everyType() channel.Table {
	return channel.Table{
		"t true": true, "t false": false, "b": int8(-128), "B": uint8(255), "s": int16(-32768), "u": uint16(65535),
		"I": int32(math.MinInt32), "i": uint32(math.MaxUint32), "l": int64(math.MinInt64), "f": float32(-1.5), "d": 0.1,
		"D": channel.Decimal{Scale: 2, Value: -31415}, "S": "text with é, \x00 and \n", "S empty": "", "S binary": "\xff\xfe",
		"A": []any{true, int64(7), "x", []any{}, []byte{1}, nil, channel.Table{"in": int8(1)}}, "A empty": []any{},
		"T": time.Unix(1700000000, 0).UTC(), "T zero": time.Unix(0, 0).UTC(), "V": nil, "x": []byte{0, 1, 255}, "x empty": []byte{},
		"F": channel.Table{"a": int32(1), "deep": channel.Table{"list": []any{channel.Table{}}}}, "F empty": channel.Table{}, "": "empty key",
	}
}

// full has all 14 properties of class basic but cluster-id, which AMQP has reserved and no one sends.
func full() channel.Publishing {
	return channel.Publishing{
		Headers: everyType(), ContentType: "text/plain", ContentEncoding: "gzip", DeliveryMode: channel.Persistent, Priority: 9,
		CorrelationId: "correlation", ReplyTo: "reply.to", Expiration: "60000", MessageId: "message-1", Timestamp: time.Unix(1700000000, 0).UTC(),
		Type: "type", UserId: "guest", AppId: "app", UserIdSet: true, Body: []byte("body \x00\xff"),
	}
}

func samples() map[string]*Message {
	long := strings.Repeat("k", 255)
	bcc := New("x", "k", channel.Publishing{Body: []byte("body")})
	bcc.BCC = []string{"b1", "", "é"}
	stamped := New("x", "k", channel.Publishing{Body: []byte("body")})
	stamped.Stamp(time.UnixMicro(1700000000123456))
	return map[string]*Message{
		"empty":         New("", "", channel.Publishing{}),
		"body":          New("amq.topic", "a.b.c", channel.Publishing{Body: []byte("hello")}),
		"full":          New("exchange é", "key", full()),
		"empty-headers": New("", long, channel.Publishing{Headers: channel.Table{}, Body: []byte{0}}),
		"bcc":           bcc,
		"empty-user":    New("", "", channel.Publishing{UserIdSet: true}),
		"stamped":       stamped,
	}
}

// TestStoredFormatStaysAsItIs compares with bytes that earlier versions have stored.
func TestStoredFormatStaysAsItIs(t *testing.T) {
	for _, name := range slices.Sorted(maps.Keys(samples())) {
		m := samples()[name]
		t.Run(name, func(t *testing.T) {
			file := filepath.Join("testdata", name+".hex")
			if *update {
				if err := os.WriteFile(file, []byte(wrap(hex.EncodeToString(m.Bytes()))), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			want, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(m.Bytes(), want) {
				t.Errorf("the format has changed:\n got %x\nwant %x", m.Bytes(), want)
			}
			same(t, decode(t, want), m)
		})
	}
}

func TestStampComesBackAndIsNotKeptByAClone(t *testing.T) {
	at := time.UnixMicro(1700000000123456)
	m := New("x", "k", channel.Publishing{Body: []byte("body")})
	if _, ok := m.Stamped(); ok {
		t.Error("stamped before it was")
	}
	m.Stamp(at)
	got := decode(t, m.Bytes())
	if is, ok := got.Stamped(); !ok || !is.Equal(at) {
		t.Errorf("stamped %v, %v; want %v", is, ok, at)
	}
	same(t, got, m)
	if _, ok := got.Clone().Stamped(); ok {
		t.Error("a clone is put at another time")
	}
}

func wrap(s string) string {
	var b strings.Builder
	for line := range slices.Chunk([]byte(s), 96) {
		fmt.Fprintf(&b, "%s\n", line)
	}
	return b.String()
}

func decode(t *testing.T, b []byte) *Message {
	t.Helper()
	m, err := Decode(b, nil)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// same compares messages as a receiver sees them: an empty body may be nil.
func same(t *testing.T, got, want *Message) {
	t.Helper()
	g, w := *got.Publishing, *want.Publishing
	w.UserIdSet = w.UserIdSet || w.UserId != ""
	g.Body, w.Body = append([]byte{}, got.Body...), append([]byte{}, want.Body...)
	if got.Exchange != want.Exchange || got.Key != want.Key || !slices.Equal(got.BCC, want.BCC) || !reflect.DeepEqual(g, w) {
		t.Errorf("got  %q %q %+v\nwant %q %q %+v", got.Exchange, got.Key, g, want.Exchange, want.Key, w)
	}
}

func TestWhatIsReadSharesWhatIsTheSameInTheOneBefore(t *testing.T) {
	read := func(exchange, key string, p channel.Publishing, before *Message) *Message {
		t.Helper()
		m, err := Decode(New(exchange, key, p).Bytes(), before)
		if err != nil {
			t.Fatal(err)
		}
		if m.Exchange != exchange || m.Key != key || m.DeliveryMode != p.DeliveryMode || m.MessageId != p.MessageId || string(m.Body) != string(p.Body) {
			t.Errorf("read %q %q %v %q, want %q %q %v", m.Exchange, m.Key, *m.Publishing, m.Body, exchange, key, p)
		}
		return m
	}
	var m *Message
	for _, p := range []channel.Publishing{{}, {DeliveryMode: 1}, {DeliveryMode: 2}, {DeliveryMode: 9}, {MessageId: "1"}, {DeliveryMode: 2, MessageId: "2"}} {
		p.Body = []byte("body")
		for _, at := range [][2]string{{"x", "k"}, {"x", "k"}, {"x", "l"}, {"", "l"}, {"longer", ""}} {
			m = read(at[0], at[1], p, m)
		}
	}
	wire := New("exchange", "key", channel.Publishing{DeliveryMode: 2, Body: []byte("b")}).Bytes()
	if n := testing.AllocsPerRun(100, func() { m, _ = Decode(wire, m) }); n > 1 {
		t.Errorf("%v allocations for a message like the one before, want the message alone", n)
	}
}

func TestAppendAppendsWhatBytesReturns(t *testing.T) {
	stamped := New("x", "k", full())
	stamped.Stamp(time.UnixMicro(1_234_567))
	encoded := New("x", "k", full())
	_ = encoded.Bytes()
	for name, m := range map[string]*Message{
		"plain": New("", "q", channel.Publishing{Body: []byte("b")}), "with all properties": New("x", "k", full()), "encoded before": encoded, "stamped": stamped,
	} {
		got := m.Append([]byte("before"))
		if want := append([]byte("before"), m.Bytes()...); !bytes.Equal(got, want) {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
}

func TestEachPropertyComesBackByItself(t *testing.T) {
	all := reflect.ValueOf(full())
	for i := range all.NumField() {
		f := all.Type().Field(i)
		var p channel.Publishing
		switch f.Name {
		case "Mandatory", "Immediate", "NoCopy":
			continue // how it is published, not what
		}
		reflect.ValueOf(&p).Elem().Field(i).Set(all.Field(i))
		t.Run(f.Name, func(t *testing.T) {
			m := New("x", "k", p)
			same(t, decode(t, m.Bytes()), m)
		})
	}
}

func TestHeadersNilAndEmptyAreKeptApart(t *testing.T) {
	if h := decode(t, New("", "", channel.Publishing{}).Bytes()).Headers; h != nil {
		t.Errorf("no headers came back as %v", h)
	}
	if h := decode(t, New("", "", channel.Publishing{Headers: channel.Table{}}).Bytes()).Headers; h == nil || len(h) != 0 {
		t.Errorf("empty headers came back as %v", h)
	}
}

func TestEachFieldTypeComesBack(t *testing.T) {
	for _, k := range slices.Sorted(maps.Keys(everyType())) {
		v := everyType()[k]
		t.Run(fmt.Sprintf("%s as %T", k, v), func(t *testing.T) {
			m := decode(t, New("", "", channel.Publishing{Headers: channel.Table{"v": v}}).Bytes())
			if !reflect.DeepEqual(m.Headers["v"], v) {
				t.Errorf("%#v came back as %#v", v, m.Headers["v"])
			}
		})
	}
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64} {
		h := decode(t, New("", "", channel.Publishing{Headers: channel.Table{"d": f, "f": float32(f)}}).Bytes()).Headers
		if math.Float64bits(h["d"].(float64)) != math.Float64bits(f) || math.Float32bits(h["f"].(float32)) != math.Float32bits(float32(f)) {
			t.Errorf("%v came back as %v and %v", f, h["d"], h["f"])
		}
	}
}

func TestEqualTablesAreEqualBytes(t *testing.T) {
	first := AppendTable(nil, everyType())
	for range 20 {
		if !bytes.Equal(AppendTable(nil, everyType()), first) {
			t.Fatal("a table is encoded in different ways")
		}
	}
	if got := AppendTable([]byte("before"), channel.Table{}); string(got) != "before\x00\x00\x00\x00" {
		t.Errorf("an empty table behind others is %q", got)
	}
}

func TestTablesAsJSONKeepTheirTypes(t *testing.T) {
	want := everyType()
	b, err := JSON(want).MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	var got JSON
	if err := got.UnmarshalJSON(b); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(channel.Table(got), want) {
		for _, k := range slices.Sorted(maps.Keys(want)) {
			if !reflect.DeepEqual(got[k], want[k]) {
				t.Errorf("%s: %#v came back as %#v", k, want[k], got[k])
			}
		}
		t.Errorf("of %d values %d came back:\n%s", len(want), len(got), b)
	}
	for _, s := range []string{"", "é", "\x00", "\xff", "a\xc3", "\uFFFD", "<&>\u2028", strings.Repeat("x", 1000)} {
		b, err := JSON{"s": s, s: "key"}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got JSON
		if err := got.UnmarshalJSON(b); err != nil || got["s"] != s {
			t.Errorf("%q came back as %q, %v", s, got["s"], err)
		}
	}
	for _, f := range []float64{math.Inf(1), math.Inf(-1), math.Copysign(0, -1), 1e300} {
		b, err := JSON{"d": f}.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var got JSON
		if err := got.UnmarshalJSON(b); err != nil || math.Float64bits(got["d"].(float64)) != math.Float64bits(f) {
			t.Errorf("%v came back as %v, %v", f, got["d"], err)
		}
	}
}

func TestBadJSONTablesAreRefused(t *testing.T) {
	for _, text := range []string{
		`[]`, `{"k":1}`, `{"k":{}}`, `{"k":{"?":1}}`, `{"k":{"b":300}}`, `{"k":{"S":1}}`, `{"k":{"x":"not base64!"}}`, `{"k":{"d":"xyz"}}`,
		`{"k":{"f":1}}`, `{"k":{"T":"soon"}}`, `{"k":{"F":{"k":{"?":1}}}}`, `{"k":{"A":[{}]}}`, `{"k":{"S64":"*"}}`,
	} {
		var got JSON
		if err := got.UnmarshalJSON([]byte(text)); err == nil {
			t.Errorf("%s was read as %v", text, got)
		}
	}
}

func TestDamagedMessagesAreForeign(t *testing.T) {
	whole := New("x", "k", full()).Bytes()
	body := len(full().Body)
	for n := range len(whole) - body { // cut within the header
		if _, err := Decode(whole[:n], nil); !errors.Is(err, ErrForeign) {
			t.Fatalf("the first %d bytes of a message: %v, want %v", n, err, ErrForeign)
		}
	}
	for _, b := range [][]byte{nil, {}, {0}, {2, 0, 0, 0, 0}, []byte("hello"), {version, 0, 0, 0, 1}, {version, 255, 'x'}} {
		if _, err := Decode(b, nil); !errors.Is(err, ErrForeign) {
			t.Errorf("%q: %v, want %v", b, err, ErrForeign)
		}
	}
	deep := channel.Table{}
	for range maxNesting + 3 {
		deep = channel.Table{"F": deep}
	}
	if _, err := Decode(New("", "", channel.Publishing{Headers: deep}).Bytes(), nil); !errors.Is(err, ErrForeign) {
		t.Errorf("tables nested without end: %v", err)
	}
}

func TestErrorsShowNoBody(t *testing.T) {
	_, err := Decode([]byte("\x01secret body of somebody"), nil)
	if err == nil || strings.Contains(err.Error(), "secret") {
		t.Errorf("%v", err)
	}
}

func TestEncodingIsKeptAndTheSameForAllWhoAskAtOnce(t *testing.T) {
	m := New("", "", full())
	all := make(chan []byte, 8)
	for range cap(all) {
		go func() { all <- m.Bytes() }()
	}
	first := <-all
	for range cap(all) - 1 {
		if b := <-all; !bytes.Equal(b, first) {
			t.Fatalf("two who asked at once have %x and %x", first, b)
		}
	}
	b := m.Bytes()
	if &m.Bytes()[0] != &b[0] {
		t.Error("a message that was encoded is encoded anew")
	}
	if d := decode(t, b); &d.Bytes()[0] != &b[0] {
		t.Error("a message that was decoded is encoded anew")
	}
	if m.Size() != len(m.Body) {
		t.Errorf("Size is %d, want that of the body, %d", m.Size(), len(m.Body))
	}
}

func FuzzDecode(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.Bytes())
	}
	f.Add([]byte{version, 0, 0, 0x20, 0, 0, 0, 0, 5, 1, 'k', 'A', 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b, nil)
		if err != nil {
			if m != nil || !errors.Is(err, ErrForeign) {
				t.Fatalf("%v, %v", m, err)
			}
			return
		}
		again := m.Clone()
		d, err := Decode(again.Bytes(), nil)
		if err != nil {
			t.Fatalf("what was decoded does not decode when it is encoded: %v", err)
		}
		if !bytes.Equal(d.encode([]byte{version}), again.Bytes()) {
			t.Fatalf("what was decoded is encoded as\n%x, and then as\n%x", again.Bytes(), d.encode([]byte{version}))
		}
	})
}

func FuzzJSON(f *testing.F) {
	b, _ := JSON(everyType()).MarshalJSON()
	f.Add(b)
	f.Fuzz(func(t *testing.T, b []byte) {
		var got JSON
		if got.UnmarshalJSON(b) != nil {
			return
		}
		text, err := got.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		var again JSON
		if err := again.UnmarshalJSON(text); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		if !bytes.Equal(AppendTable(nil, channel.Table(again)), AppendTable(nil, channel.Table(got))) {
			t.Fatalf("%s came back as another table", text)
		}
	})
}

func TestPlainMessagesShareTheirProperties(t *testing.T) {
	for _, mode := range []uint8{0, channel.Transient, channel.Persistent} {
		a, b := New("", "q", channel.Publishing{DeliveryMode: mode, Body: []byte("a")}), New("", "q", channel.Publishing{DeliveryMode: mode})
		if a.Publishing != b.Publishing || a.DeliveryMode != mode {
			t.Errorf("mode %d is %d, shared: %v", mode, a.DeliveryMode, a.Publishing == b.Publishing)
		}
		c := a.Clone()
		c.Expiration = "1"
		if a.Expiration != "" || string(c.Body) != "a" {
			t.Error("a clone shares what may be changed in it")
		}
	}
	named := channel.Publishing{AppId: "x"}
	a, b := New("", "", named), New("", "", named)
	if a.Publishing == b.Publishing {
		t.Error("properties are shared that are not plain")
	}
}
