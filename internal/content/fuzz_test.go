package content

import (
	"bytes"
	"runtime"
	"testing"

	"github.com/dashi-mq/dashi/channel"
)

// allocated is how many bytes f allocates, and what other goroutines of the process do in the meantime.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

// bounded is what decoding n bytes may allocate: a table in a table is six bytes, and becomes a map.
func bounded(n int) uint64 { return 1<<20 + 256*uint64(n) }

// FuzzDecodeAllocates has damaged messages decoded, which claim to be larger than they are.
func FuzzDecodeAllocates(f *testing.F) {
	for _, m := range samples() {
		f.Add(m.Bytes())
	}
	f.Add([]byte{version, 0, 0, 0x20, 0, 0xff, 0xff, 0xff, 0xff, 1, 'k', 'A', 0xff, 0xff, 0xff, 0xff})
	f.Add(append([]byte{version, 0, 0, 0x20, 0, 0, 0, 0xff, 0xff}, bytes.Repeat([]byte{0, 'F', 0, 0, 0, 0}, 1000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if n := allocated(func() { _, _ = Decode(b, nil) }); n > bounded(len(b)) {
			t.Fatalf("%d bytes are decoded with %d allocated", len(b), n)
		}
	})
}

// FuzzTable decodes header tables and encodes them again: from then on, nothing changes any more.
func FuzzTable(f *testing.F) {
	f.Add(AppendTable(nil, everyType()))
	f.Add(AppendTable(nil, channel.Table{"x-match": "any-with-x", "x-death": []any{channel.Table{"count": int64(2)}}}))
	f.Add([]byte{0, 0, 0, 4, 0, 'V', 0, 'V'})
	f.Fuzz(func(t *testing.T, b []byte) {
		d := decoder{b: b}
		table := d.table(0)
		if d.err != nil {
			return
		}
		once := AppendTable(nil, table)
		again := decoder{b: once}
		back := again.table(0)
		if again.err != nil || len(again.b) > 0 {
			t.Fatalf("%x was decoded to %v, which is encoded as %x: %v, %d bytes left", b, table, once, again.err, len(again.b))
		}
		if twice := AppendTable(nil, back); !bytes.Equal(once, twice) {
			t.Fatalf("%v is encoded as %x, then as %x", table, once, twice)
		}
	})
}

// What a message claims and does not have would be seen.
func TestAllocationIsSeen(t *testing.T) {
	if n := allocated(func() { _ = make([]byte, 1<<24) }); n < 1<<24 {
		t.Errorf("%d bytes are seen of 16 MiB", n)
	}
}
