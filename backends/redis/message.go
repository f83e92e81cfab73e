package redis

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unsafe"

	"github.com/dashi-mq/dashi/virtual"
)

// receipt names a taking: the member of the queue, and what it was taken by. Without a holder the token is a number of the
// queue's own, with one it is the holder's Take.
type receipt struct{ holder, member, token string }

// member is what stands for a message in the keys of its queue.
type member struct {
	level uint8
	put   int64 // microseconds of the server's clock
	ttl   time.Duration
}

// parseMember reads "place:put:size" or "place:put:size:ttl". A place is the number of the message less 2^45 for each
// priority.
func parseMember(s string) (m member, ok bool) {
	place, rest, _ := strings.Cut(s, ":")
	put, rest, ok := strings.Cut(rest, ":")
	if !ok {
		return m, false
	}
	_, ttl, _ := strings.Cut(rest, ":")
	p, err := strconv.ParseInt(place, 10, 64)
	if err != nil {
		return m, false
	}
	m.level = uint8(-(p >> 45))
	if m.put, err = strconv.ParseInt(put, 10, 64); err != nil {
		return m, false
	}
	if ttl != "" {
		n, err := strconv.ParseInt(ttl, 10, 64)
		if err != nil {
			return m, false
		}
		m.ttl = time.Duration(n)
	}
	return m, true
}

// tail is the end of a message's member.
func tail(size int, ttl time.Duration) string {
	s := strconv.Itoa(size)
	if ttl == 0 {
		return s
	}
	return s + ":" + strconv.FormatInt(int64(ttl), 10)
}

// stored is a message that was read, in one piece with its payload.
type stored struct {
	virtual.Message
	body payload
}

// payload is a virtual.Payload of bytes, whose pointer is one without an allocation.
type payload []byte

// Bytes returns the bytes, which are not to be changed.
func (p *payload) Bytes() []byte { return *p }

// Size returns their number.
func (p *payload) Size() int { return len(*p) }

// decoder turns the answers of scripts into messages.
type decoder struct {
	ref    virtual.QueueRef // as the caller has it; zero: of any
	now    int64
	holder string
	take   string
}

// bundle appends the messages of a bundle: { queue, members, values, attempts, first token }.
func (d *decoder) bundle(b any, buf []virtual.Taken) ([]virtual.Taken, error) {
	f := list(b)
	if len(f) == 0 {
		return buf, nil
	}
	if len(f) != 5 {
		return buf, fmt.Errorf("redis: an answer has %d parts, want 5", len(f))
	}
	ref := d.ref
	if ref == (virtual.QueueRef{}) {
		ref = refOf(text(f[0]))
	}
	members, values, attempts := list(f[1]), list(f[2]), list(f[3])
	token := number(f[4])
	if len(values) != len(members) {
		return buf, fmt.Errorf("redis: an answer has %d values for %d members", len(values), len(members))
	}
	messages := make([]stored, len(members))
	for i := range members {
		name, value := text(members[i]), text(values[i])
		m, ok := parseMember(name)
		if !ok || len(value) < len(virtual.ID{}) {
			return buf, fmt.Errorf("redis: %q of queue %q is no message", name, ref.Name)
		}
		x := &messages[i]
		x.Queue, x.Priority, x.TTL = ref, m.level, m.ttl
		copy(x.ID[:], value)
		x.body = bytesOf(value[len(x.ID):])
		x.Payload = &x.body
		t := virtual.Taken{Message: &x.Message, Attempt: 1, Age: time.Duration(max(0, d.now-m.put)) * time.Microsecond}
		if i < len(attempts) {
			t.Attempt += int(number(attempts[i]))
		}
		switch {
		case d.holder != "":
			t.Receipt = receipt{d.holder, name, d.take}
		case token > 0:
			t.Receipt = receipt{"", name, strconv.FormatInt(token+int64(i), 10)}
		}
		buf = append(buf, t)
	}
	return buf, nil
}

// bytesOf returns the bytes of a part of a reply, which the client read into memory of its own, without a copy. They are not
// to be changed, as those of every Payload.
func bytesOf(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

func list(v any) []any { l, _ := v.([]any); return l }

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case int64:
		return strconv.FormatInt(v, 10)
	}
	return ""
}

// number reads what a script has said as a number or as digits; 0 where there is none.
func number(v any) int64 {
	switch v := v.(type) {
	case int64:
		return v
	case string:
		n, _ := strconv.ParseInt(v, 10, 64)
		return n
	}
	return 0
}
