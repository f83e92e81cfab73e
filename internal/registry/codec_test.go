package registry

import (
	"bytes"
	"errors"
	"runtime"
	"slices"
	"testing"

	"github.com/klauspost/compress/zstd"

	"github.com/dashi-mq/dashi/virtual"
)

var testQueue = virtual.QueueRef{Name: "!registry", Incarnation: "1"}

// bomb is a small message that expands to n bytes, and says so or not.
func bomb(t testing.TB, n int, says bool) []byte {
	t.Helper()
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(1<<20), zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if says {
		return w.EncodeAll(make([]byte, n), nil)
	}
	for range n >> 20 {
		if _, err := w.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestASmallMessageDoesNotExpandToMuch(t *testing.T) {
	half := bomb(t, 1<<24, true)
	small := bomb(t, 1000, true)
	for name, b := range map[string][]byte{
		"that says so":           bomb(t, 1<<28, true),
		"that says nothing":      bomb(t, 1<<28, false),
		"behind one that is not": slices.Concat(small, half, half, half, half),
		"several, one that lies": slices.Concat(small, bomb(t, 1<<28, false)),
	} {
		var c codec
		var err error
		n := allocated(func() { _, err = c.decode(testQueue, virtual.ID{}, flagZstd, b) })
		if !errors.Is(err, errDamaged) {
			t.Errorf("a bomb %s of %d bytes: %v", name, len(b), err)
		}
		if most := uint64(2*maxExpanded(len(b)) + 1<<22); n > most {
			t.Errorf("a bomb %s of %d bytes had %d allocated, at most %d", name, len(b), n, most)
		}
	}
}

func TestStatesThatCompressWellAreRead(t *testing.T) {
	s := &state{rev: 9}
	var recs []*record
	for i := range 20000 {
		r := &record{key: "b/x/q/" + string(rune('a'+i%26)) + string(rune('a'+i/26%26)) + string(rune('a'+i/676)), rev: 9, value: "null"}
		recs = append(recs, r.encode())
	}
	slices.SortFunc(recs, func(a, b *record) int { return bytes.Compare([]byte(a.key), []byte(b.key)) })
	s.setRecs(recs)
	var c codec
	parts, err := c.encode(s, 0)
	if err != nil {
		t.Fatal(err)
	}
	p, err := parsePart(testQueue, parts[0])
	if err != nil || p.flags&flagZstd == 0 {
		t.Fatalf("%v, flags %b", err, p.flags)
	}
	got, err := c.decode(testQueue, p.id, p.flags, p.chunk)
	if err != nil || len(got.recs) != len(recs) {
		t.Fatalf("%d bytes of 20,000 records: %v", len(p.chunk), err)
	}
}

// FuzzState has damaged states decoded: they are refused, or encoded and decoded as before; nothing takes much memory.
func FuzzState(f *testing.F) {
	s := &state{rev: 3, floor: 1, minute: 2, ancestors: []virtual.ID{{1}}}
	s.setRecs([]*record{(&record{key: "a", value: "x", rev: 3, writer: "w"}).encode(), (&record{key: "b", deleted: true, rev: 2}).encode()})
	var c codec
	parts, err := c.encode(s, 0)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(parts[0])
	head := parts[0][:2+len(virtual.ID{})+2]
	f.Add(slices.Concat(head, []byte{0, 0, 0, 0, 0xff, 0xff, 3}, make([]byte, 1<<16)))
	packed := slices.Clone(head)
	packed[1] |= flagZstd
	f.Add(slices.Concat(packed, bomb(f, 1<<24, true)))
	f.Add(slices.Concat(packed, bomb(f, 1<<24, false)))
	f.Fuzz(func(t *testing.T, b []byte) {
		var c codec
		p, err := parsePart(testQueue, b)
		if err != nil {
			return
		}
		var s *state
		n := allocated(func() { s, err = c.decode(testQueue, p.id, p.flags, p.chunk) })
		size := len(p.chunk)
		if p.flags&flagZstd != 0 {
			size = maxExpanded(size)
		}
		if most := uint64(1<<23 + 64*size); n > most { // a decoder has its own tables
			t.Fatalf("%d bytes had %d allocated, at most %d", len(p.chunk), n, most)
		}
		if err != nil {
			return
		}
		parts, err := c.encode(s, 0)
		if err != nil {
			t.Fatal(err)
		}
		q, err := parsePart(testQueue, parts[0])
		if err != nil {
			t.Fatal(err)
		}
		again, err := c.decode(testQueue, q.id, q.flags, q.chunk)
		if err != nil || len(again.recs) != len(s.recs) || again.rev != s.rev {
			t.Fatalf("a state of %d records came back otherwise: %v", len(s.recs), err)
		}
	})
}
