package broker

import (
	"bytes"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// headerRaw marks a payload that is not a message of ours, delivered as it is.
const headerRaw = "x-dashi-raw"

// contentOf returns the message in a payload. One that is foreign or damaged becomes the body of a message that
// says so: it is never dropped.
func contentOf(p virtual.Payload) *content.Message {
	if c, ok := p.(*content.Message); ok {
		return c
	}
	c, err := content.Decode(p.Bytes())
	if err != nil {
		c = content.New("", "", channel.Publishing{
			ContentType: "application/octet-stream", Headers: channel.Table{headerRaw: true}, Body: p.Bytes(),
		})
	}
	return c
}

// deliver hands messages to a consumer, as many as it may still have, and returns how many.
func (p *port) deliver(c *consumer, taken []virtual.Taken, from *tenure) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	c.promise(-len(taken))
	if c.gone || p.closed != nil {
		return 0
	}
	out := p.out[:0]
	now := p.b.now()
	var bodies slab
	n := 0
	for i := range taken {
		t := &taken[i]
		m := contentOf(t.Payload)
		if !c.fits(len(m.Body)) {
			c.choked = true
			break
		}
		p.tag++
		out = append(out, channel.Delivery{})
		fill(&out[len(out)-1], m, t, from.pump.q, &bodies, len(taken)-i)
		out[len(out)-1].ConsumerTag, out[len(out)-1].DeliveryTag = c.tag, p.tag
		c.took(len(m.Body))
		if !c.noAck {
			p.unacked.put(p.tag, entry{consumer: c, from: from, msg: t.Message, receipt: t.Receipt, at: now, attempt: int32(t.Attempt), size: int32(len(m.Body))})
		}
		n++
	}
	if len(out) > 0 {
		p.sink.Deliver(out)
		clear(out)
	}
	p.out = out
	return n
}

// fill makes a delivery of a message. Its headers and body are copies: they are the receiver's to change.
func fill(d *channel.Delivery, m *content.Message, t *virtual.Taken, q *queueState, bodies *slab, coming int) {
	d.Headers = channel.CloneTable(m.Headers)
	if q.args.counted && t.Attempt > 1 {
		if d.Headers == nil {
			d.Headers = channel.Table{}
		}
		d.Headers["x-delivery-count"] = int64(t.Attempt - 1)
	}
	d.ContentType, d.ContentEncoding = m.ContentType, m.ContentEncoding
	d.DeliveryMode, d.Priority = m.DeliveryMode, m.Priority
	d.CorrelationId, d.ReplyTo, d.Expiration, d.MessageId = m.CorrelationId, m.ReplyTo, m.Expiration, m.MessageId
	d.Timestamp, d.Type, d.UserId, d.AppId = m.Timestamp, m.Type, m.UserId, m.AppId
	d.Redelivered = t.Attempt > 1
	d.Exchange, d.RoutingKey = m.Exchange, m.Key
	d.Body = bodies.copy(m.Body, coming)
}

// slab copies small bodies into shared blocks, since one allocation per body is what a fast consumer would feel most.
type slab struct{ free []byte }

// Bounds of what shares a block: a body that is kept keeps its block.
const (
	slabBody  = 1 << 10
	slabBlock = 8 << 10
)

func (s *slab) copy(b []byte, coming int) []byte {
	n := len(b)
	if n > slabBody {
		return bytes.Clone(b)
	}
	if n > len(s.free) {
		s.free = make([]byte, max(n, min(n*coming, slabBlock)))
	}
	d := s.free[:n:n]
	s.free = s.free[n:]
	copy(d, b)
	return d
}

// cancelled ends a consumer because its queue has gone.
func (p *port) cancelled(c *consumer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if c.gone || p.closed != nil {
		return
	}
	c.gone = true
	delete(p.consumers, c.tag)
	p.sink.Cancelled(c.tag)
}
