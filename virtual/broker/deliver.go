package broker

import (
	"maps"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// headerRaw marks a payload that is not a message of ours, delivered as it is.
const headerRaw = "x-dashi-raw"

// contentOf returns the message in a payload. One that is foreign or damaged becomes the body of a message that
// says so: it is never dropped. before is one that came before, or nil.
func contentOf(p virtual.Payload, before *content.Message) *content.Message {
	if c, ok := p.(*content.Message); ok {
		return c
	}
	c, err := content.Decode(p.Bytes(), before)
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
	var m *content.Message
	for i := range taken {
		t := &taken[i]
		m = contentOf(t.Payload, m)
		if !c.fits(len(m.Body)) {
			c.choked = true
			break
		}
		p.tag++
		d := delivered(m, t, from.pump.q)
		d.ConsumerTag, d.DeliveryTag = c.tag, p.tag
		out = append(out, d)
		c.took(len(m.Body))
		if !c.noAck {
			p.unacked.put(p.tag, entry{consumer: c, from: from, msg: t.Message, receipt: t.Receipt, at: now, attempt: int32(t.Attempt), size: int32(len(m.Body))})
		}
	}
	if len(out) > 0 {
		p.sink.Deliver(out)
		clear(out)
	}
	p.out = out
	return len(out)
}

// delivered is a message as the channel hears of it.
func delivered(m *content.Message, t *virtual.Taken, q *queueState) channel.Delivered {
	d := channel.Delivered{
		Publishing: m.Publishing, Headers: m.Headers, Body: m.Body, Shared: true,
		Redelivered: t.Attempt > 1, Exchange: m.Exchange, RoutingKey: m.Key,
	}
	if q.args.counted && t.Attempt > 1 {
		d.Headers = maps.Clone(d.Headers)
		if d.Headers == nil {
			d.Headers = channel.Table{}
		}
		d.Headers["x-delivery-count"] = int64(t.Attempt - 1)
	}
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
