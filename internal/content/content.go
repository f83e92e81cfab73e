// Package content is the stored format of a message: what the engine puts into a store and gets out again.
//
// The first byte is the format's version. In version 2 the time of the Put follows, in microseconds since 1970, signed, 64 bits. Then come the exchange and the routing key the message was published with, as
// short strings; the keys of its BCC header, which nobody gets to see, as a 16-bit count and short strings; the AMQP 0-9-1 content header's property flags and properties (section 4.2.6 of the specification);
// and the body, to the end. All integers are big-endian, as in AMQP.
package content

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// The first byte of the stored format. A stamped message carries, next, when it was put, in microseconds since 1970: for
// stores that keep no time themselves.
const (
	version        = 1
	versionStamped = 2
)

// Property flags of class basic, in the order of the specification.
const (
	flagContentType = 1 << (15 - iota)
	flagContentEncoding
	flagHeaders
	flagDeliveryMode
	flagPriority
	flagCorrelationID
	flagReplyTo
	flagExpiration
	flagMessageID
	flagTimestamp
	flagType
	flagUserID
	flagAppID
)

// Message is a published message with the exchange and key it was published to. It is immutable, and a virtual.Payload
// that encodes itself when first asked to.
type Message struct {
	Exchange, Key string
	BCC           []string

	// The properties: shared by all messages that have none but a delivery mode, which are most. Its Body is not used.
	*channel.Publishing
	Body []byte

	encoded atomic.Pointer[[]byte]
	decoded []byte // what encoded points to, of a message that was read
}

// Size returns the size of the body in bytes: what queue limits count.
func (m *Message) Size() int { return len(m.Body) }

// Bytes returns the encoded message.
func (m *Message) Bytes() []byte {
	if b := m.encoded.Load(); b != nil {
		return *b
	}
	b := m.encode(append(m.room(), version)) // by two callers at once, perhaps, to the same bytes
	m.encoded.Store(&b)
	return b
}

// Append appends the encoded message to b. It is a virtual.Appender by that: the message need not be encoded apart.
func (m *Message) Append(b []byte) []byte {
	if e := m.encoded.Load(); e != nil {
		return append(b, *e...)
	}
	return m.encode(append(b, version))
}

// Stamp writes down when the message is put, by this machine's clock. It is called once, before anybody else has the
// message.
func (m *Message) Stamp(at time.Time) {
	b := m.encode(binary.BigEndian.AppendUint64(append(m.room(), versionStamped), uint64(at.UnixMicro())))
	m.encoded.Store(&b)
}

// Stamped returns when the message was put, by the clock of the machine that did, where it was written down.
func (m *Message) Stamped() (at time.Time, ok bool) {
	b := m.encoded.Load()
	if b == nil || (*b)[0] != versionStamped {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(binary.BigEndian.Uint64((*b)[1:]))), true
}

// room is for the encoded message, mostly.
func (m *Message) room() []byte { return make([]byte, 0, len(m.Body)+len(m.Exchange)+len(m.Key)+32) }

// encode appends all that is behind the version, and a time, to b.
func (m *Message) encode(b []byte) []byte {
	b = appendShort(b, m.Exchange)
	b = appendShort(b, m.Key)
	bcc := m.BCC[:min(len(m.BCC), math.MaxUint16)]
	b = binary.BigEndian.AppendUint16(b, uint16(len(bcc)))
	for _, k := range bcc {
		b = appendShort(b, k)
	}
	at := len(b)
	b = append(b, 0, 0)
	var flags uint16
	short := func(flag uint16, s string, set bool) {
		if set {
			flags |= flag
			b = appendShort(b, s)
		}
	}
	short(flagContentType, m.ContentType, m.ContentType != "")
	short(flagContentEncoding, m.ContentEncoding, m.ContentEncoding != "")
	if m.Headers != nil {
		flags |= flagHeaders
		b = appendTable(b, m.Headers)
	}
	if m.DeliveryMode != 0 {
		flags |= flagDeliveryMode
		b = append(b, m.DeliveryMode)
	}
	if m.Priority != 0 {
		flags |= flagPriority
		b = append(b, m.Priority)
	}
	short(flagCorrelationID, m.CorrelationId, m.CorrelationId != "")
	short(flagReplyTo, m.ReplyTo, m.ReplyTo != "")
	short(flagExpiration, m.Expiration, m.Expiration != "")
	short(flagMessageID, m.MessageId, m.MessageId != "")
	if !m.Timestamp.IsZero() {
		flags |= flagTimestamp
		b = binary.BigEndian.AppendUint64(b, uint64(m.Timestamp.Unix()))
	}
	short(flagType, m.Type, m.Type != "")
	short(flagUserID, m.UserId, m.UserId != "" || m.UserIdSet)
	short(flagAppID, m.AppId, m.AppId != "")
	binary.BigEndian.PutUint16(b[at:], flags)
	return append(b, m.Body...)
}

// plain are the properties of messages that have none, by delivery mode.
var plain = [3]channel.Publishing{{}, {DeliveryMode: 1}, {DeliveryMode: 2}}

// Set gives a new message its properties and its body. It keeps body and the headers, and nothing else of p.
func (m *Message) Set(p *channel.Publishing, body []byte) {
	m.Body = body
	if isPlain(p) {
		m.Publishing = &plain[p.DeliveryMode]
		return
	}
	own := *p
	own.Body, own.Mandatory, own.Immediate, own.NoCopy = nil, false, false, false
	m.Publishing = &own
}

func isPlain(p *channel.Publishing) bool {
	return p.Headers == nil && int(p.DeliveryMode) < len(plain) && p.Priority == 0 && p.ContentType == "" && p.ContentEncoding == "" &&
		p.CorrelationId == "" && p.ReplyTo == "" && p.Expiration == "" && p.MessageId == "" && p.Timestamp.IsZero() &&
		p.Type == "" && p.UserId == "" && !p.UserIdSet && p.AppId == ""
}

// New returns a message with the properties and the body of p.
func New(exchange, key string, p channel.Publishing) *Message {
	m := &Message{Exchange: exchange, Key: key}
	m.Set(&p, p.Body)
	return m
}

// Clone returns a message of the same properties and body, to be changed before it is used.
func (m *Message) Clone() *Message {
	own := *m.Publishing
	return &Message{Exchange: m.Exchange, Key: m.Key, BCC: m.BCC, Publishing: &own, Body: m.Body}
}

// ErrForeign says that bytes are not a message of this format, or a damaged one.
var ErrForeign = errors.New("not a stored message, or a damaged one")

// Decode reads a message. It never panics, and allocates no more than a small multiple of the input. before is one that was
// read before, or nil: what is the same there is shared with it, which exchange and key mostly are.
func Decode(b []byte, before *Message) (*Message, error) {
	if before == nil {
		before = new(Message)
	}
	d := decoder{b: b}
	switch d.byte() {
	case version:
	case versionStamped:
		d.uint64()
	default:
		return nil, ErrForeign
	}
	m := &Message{decoded: b}
	m.Exchange = d.shortLike(before.Exchange)
	m.Key = d.shortLike(before.Key)
	for n := d.uint16(); n > 0 && d.err == nil; n-- {
		m.BCC = append(m.BCC, d.short())
	}
	m.decodeProperties(&d)
	if d.err != nil {
		return nil, fmt.Errorf("%w: %d bytes", ErrForeign, len(b))
	}
	m.Body = d.b
	m.encoded.Store(&m.decoded)
	return m, nil
}

func (m *Message) decodeProperties(d *decoder) {
	flags := d.uint16()
	if flags&^flagDeliveryMode == 0 {
		var mode byte
		if flags != 0 {
			mode = d.byte()
		}
		if int(mode) < len(plain) {
			m.Publishing = &plain[mode]
			return
		}
		m.Publishing = &channel.Publishing{DeliveryMode: mode}
		return
	}
	m.Publishing = new(channel.Publishing)
	short := func(flag uint16, s *string) {
		if flags&flag != 0 {
			*s = d.short()
		}
	}
	short(flagContentType, &m.ContentType)
	short(flagContentEncoding, &m.ContentEncoding)
	if flags&flagHeaders != 0 {
		m.Headers = d.table(0)
	}
	if flags&flagDeliveryMode != 0 {
		m.DeliveryMode = d.byte()
	}
	if flags&flagPriority != 0 {
		m.Priority = d.byte()
	}
	short(flagCorrelationID, &m.CorrelationId)
	short(flagReplyTo, &m.ReplyTo)
	short(flagExpiration, &m.Expiration)
	short(flagMessageID, &m.MessageId)
	if flags&flagTimestamp != 0 {
		m.Timestamp = time.Unix(int64(d.uint64()), 0).UTC()
	}
	short(flagType, &m.Type)
	short(flagUserID, &m.UserId)
	m.UserIdSet = flags&flagUserID != 0
	short(flagAppID, &m.AppId)
	if flags&7 != 0 {
		d.err = ErrForeign
	}
}
