package registry

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/klauspost/compress/zstd"

	"github.com/dashi-mq/dashi/virtual"
)

// A state is encoded as
//
//	revision, floor, minute, number of ancestors, ancestors, number of records, records
//
// and cut into parts, each with a header of its own:
//
//	version, flags, id of the state, number of the part, how many there are
//
// Numbers are varints, texts have their length before them.
const (
	version  = 1
	flagZstd = 1 << 0 // the parts together are compressed
	flagRoot = 1 << 1 // the state was derived from none

	compressFrom = 4 << 10
	headerRoom   = 1 << 10 // left free in a message below the store's bound
	maxState     = 1 << 30 // decoded
	minRecord    = 9       // a flag, four numbers, four texts
)

// errDamaged is wrapped with the name of the queue.
var errDamaged = errors.New("the registry's state cannot be read: it is damaged")

// codec encodes and decodes states. Its coders are made when needed: a small state needs none.
type codec struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

func (c *codec) compress(b []byte) ([]byte, error) {
	if c.enc == nil {
		enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(1<<20), zstd.WithLowerEncoderMem(true))
		if err != nil {
			return nil, err
		}
		c.enc = enc
	}
	return c.enc.EncodeAll(b, make([]byte, 0, len(b)/2)), nil
}

func (c *codec) expand(b []byte) ([]byte, error) {
	if c.dec == nil {
		dec, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxState), zstd.WithDecoderLowmem(true),
			zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			return nil, err
		}
		c.dec = dec
	}
	// What compress makes says how long it is. Whatever is longer than it says, or than can be meant, is not its work.
	var h zstd.Header
	if err := h.Decode(b); err != nil {
		return nil, err
	}
	if !h.HasFCS || h.FrameContentSize > uint64(maxExpanded(len(b))) {
		return nil, fmt.Errorf("%d bytes that would expand to %d", len(b), h.FrameContentSize)
	}
	return c.dec.DecodeAll(b, make([]byte, 0, h.FrameContentSize))
}

// maxExpanded is how long a state can be of which n bytes are left when it is compressed.
func maxExpanded(n int) int { return min(maxState, 1<<20+1024*n) }

func appendText(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// encode completes a record with its encoding. The texts of the record are then parts of it, so that it keeps nothing
// else alive.
func (r *record) encode() *record {
	b := make([]byte, 0, 32+len(r.key)+len(r.value)+len(r.session)+len(r.writer))
	flags := byte(0)
	if r.deleted {
		flags = 1
	}
	b = appendText(append(b, flags), r.key)
	for _, n := range [...]uint64{r.rev, r.prev, r.attempt, r.minute} {
		b = binary.AppendUvarint(b, n)
	}
	b = appendText(b, r.writer)
	b = appendText(b, r.session)
	b = appendText(b, r.value)
	out := new(record)
	c := cursor{s: string(b)}
	c.record(out)
	return out
}

// encode cuts a state into parts of at most size bytes and their headers; 0 is one part. Every part says whether the
// state was derived from none.
func (c *codec) encode(s *state, size int) ([][]byte, error) {
	n := 64 + len(s.ancestors)*len(virtual.ID{})
	for _, r := range s.recs {
		n += len(r.enc)
	}
	b := make([]byte, 0, n)
	b = binary.AppendUvarint(b, s.rev)
	b = binary.AppendUvarint(b, s.floor)
	b = binary.AppendUvarint(b, s.minute)
	b = binary.AppendUvarint(b, uint64(len(s.ancestors)))
	for _, p := range s.ancestors {
		b = append(b, p[:]...)
	}
	b = binary.AppendUvarint(b, uint64(len(s.recs)))
	for _, r := range s.recs {
		b = append(b, r.enc...)
	}
	flags := byte(0)
	if len(b) > compressFrom {
		z, err := c.compress(b)
		if err != nil {
			return nil, err
		}
		b, flags = z, flagZstd
	}
	if len(s.ancestors) == 0 {
		flags |= flagRoot
	}
	if size <= 0 {
		size = len(b)
	}
	count := (len(b) + size - 1) / size
	parts := make([][]byte, count)
	for i := range parts {
		chunk := b[i*size : min(len(b), (i+1)*size)]
		p := append(make([]byte, 0, 32+len(chunk)), version, flags)
		p = append(p, s.id[:]...)
		p = binary.AppendUvarint(p, uint64(i))
		p = binary.AppendUvarint(p, uint64(count))
		parts[i] = append(p, chunk...)
	}
	return parts, nil
}

// part is one message of a state.
type part struct {
	id    virtual.ID
	flags byte
	i, n  int
	chunk []byte
}

// parsePart reads the header of a message. What it does not know is an error, and stays: a newer process may know it.
func parsePart(q virtual.QueueRef, b []byte) (p part, err error) {
	if len(b) == 0 || b[0] != version {
		v := "no"
		if len(b) > 0 {
			v = fmt.Sprint("the unknown ", b[0])
		}
		return p, fmt.Errorf("queue %q has a message of %s version: it was written by a newer version of this program, or by another one", q.Name, v)
	}
	const fixed = 2 + len(p.id)
	bad := fmt.Errorf("queue %q: %w", q.Name, errDamaged)
	if len(b) < fixed {
		return p, bad
	}
	p.flags = b[1]
	copy(p.id[:], b[2:])
	i, k := binary.Uvarint(b[fixed:])
	if k <= 0 {
		return p, bad
	}
	n, m := binary.Uvarint(b[fixed+k:])
	if m <= 0 || i >= n || n > maxState {
		return p, bad
	}
	p.i, p.n, p.chunk = int(i), int(n), b[fixed+k+m:]
	return p, nil
}

// decode reads a state from its parts, put together.
func (c *codec) decode(q virtual.QueueRef, id virtual.ID, flags byte, b []byte) (*state, error) {
	if flags&flagZstd != 0 {
		var err error
		if b, err = c.expand(b); err != nil {
			return nil, fmt.Errorf("queue %q: %w: %w", q.Name, errDamaged, err)
		}
	}
	in := cursor{s: string(b)}
	s := &state{id: id, rev: in.number(), floor: in.number(), minute: in.number()}
	for range in.count(len(id)) {
		s.ancestors = append(s.ancestors, virtual.ID([]byte(in.bytes(len(id)))))
	}
	all := make([]record, in.count(minRecord))
	recs := make([]*record, len(all))
	for i := range all {
		in.record(&all[i])
		recs[i] = &all[i]
	}
	if in.bad || in.s != "" {
		return nil, fmt.Errorf("queue %q: %w", q.Name, errDamaged)
	}
	s.setRecs(recs)
	return s, nil
}

// cursor reads what was encoded. bad says that it was not.
type cursor struct {
	s   string
	bad bool
}

func (c *cursor) number() (n uint64) {
	for i := 0; i < len(c.s) && i < binary.MaxVarintLen64; i++ {
		n |= uint64(c.s[i]&0x7f) << (7 * i)
		if c.s[i] < 0x80 {
			c.s = c.s[i+1:]
			return n
		}
	}
	c.s, c.bad = "", true
	return 0
}

// count reads how many items of at least size bytes follow.
func (c *cursor) count(size int) int {
	n := c.number()
	if n > uint64(len(c.s)/size) {
		c.s, c.bad = "", true
		return 0
	}
	return int(n)
}

func (c *cursor) bytes(n int) string {
	if n > len(c.s) {
		c.s, c.bad = "", true
		return string(make([]byte, n))
	}
	b := c.s[:n]
	c.s = c.s[n:]
	return b
}

func (c *cursor) text() string {
	n := c.count(1)
	return c.bytes(n)
}

func (c *cursor) record(r *record) {
	all := c.s
	r.deleted = c.bytes(1) == "\x01"
	r.key = c.text()
	r.rev, r.prev, r.attempt, r.minute = c.number(), c.number(), c.number(), c.number()
	r.writer, r.session, r.value = c.text(), c.text(), c.text()
	r.enc = all[:len(all)-len(c.s)]
}
