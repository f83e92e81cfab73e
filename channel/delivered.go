package channel

import "bytes"

// delivery makes what the application gets. Headers and body are its own from then on, or with bodies nil only lent.
func (m *Delivered) delivery(ch *Channel, bodies *slab) Delivery {
	p := m.Publishing
	d := Delivery{
		ch: ch, Headers: m.Headers, Body: m.Body,
		ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageId,
		Timestamp: p.Timestamp, Type: p.Type, UserId: p.UserId, AppId: p.AppId,
		ConsumerTag: m.ConsumerTag, MessageCount: m.MessageCount, DeliveryTag: m.DeliveryTag, Redelivered: m.Redelivered,
		Exchange: m.Exchange, RoutingKey: m.RoutingKey,
	}
	if m.Shared && bodies != nil {
		d.Headers, d.Body = CloneTable(m.Headers), bodies.copy(m.Body)
	}
	return d
}

// slab copies small bodies into shared blocks, since one allocation per body is what a fast consumer would feel most. The
// zero value is ready.
type slab struct {
	free  []byte
	block int // size of the last block
}

// Bounds of what shares a block: a body that is kept keeps its block. Blocks grow, so that a slow consumer's are small.
const (
	slabBody  = 1 << 10
	slabBlock = 8 << 10
)

func (s *slab) copy(b []byte) []byte {
	n := len(b)
	if n > slabBody {
		return bytes.Clone(b)
	}
	if n > len(s.free) {
		s.block = max(n, min(2*s.block, slabBlock))
		s.free = make([]byte, s.block)
	}
	d := s.free[:n:n]
	s.free = s.free[n:]
	copy(d, b)
	return d
}
