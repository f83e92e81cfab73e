package amqp

import (
	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// consumer is one consumer. The library keeps its deliveries in a queue of its own; forward hands them to the sink while there is
// credit.
type consumer struct {
	tag     string
	bounded bool
	wake    chan struct{} // there may be credit again
	ended   chan struct{} // closed when forward has handed over the last delivery

	// Guarded by port.mu.
	credit    int
	all       bool // no more will come: hand over what there is, whatever the credit
	cancelled bool // by the server
	drained   bool // the last delivery has been handed over
}

func (p *port) consume(m *channel.Consume, args amqp091.Table, reply *channel.Reply) error {
	c := &consumer{
		tag: m.Tag, bounded: m.Credit > 0, credit: m.Credit, wake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	p.catchUp() // with a cancel by the server that came before
	p.mu.Lock()
	old := p.consumers[m.Tag]
	waitOld := old != nil && old.cancelled
	p.mu.Unlock()
	if waitOld {
		<-old.ended // the server took its tag away, and it is on its last deliveries
	}
	p.mu.Lock()
	p.consumers[m.Tag] = c // a tag in use is the server's to refuse, with the whole connection
	p.mu.Unlock()
	in, err := p.lib.Consume(m.Queue, m.Tag, m.NoAck, m.Exclusive, m.NoLocal, m.NoWait, args)
	if err != nil {
		p.forget(c)
		return p.failed(err, opOf(m))
	}
	*reply = channel.Reply{Method: m, Tag: m.Tag}
	if !m.NoWait {
		p.catchUp()
		p.tell(func() { p.sink.Reply(*reply) })
	}
	p.mu.Lock()
	if p.ended {
		p.mu.Unlock()
		return p.endError()
	}
	p.forwarders.Go(func() { p.forward(c, in) })
	p.mu.Unlock()
	return nil
}

// forward hands the deliveries of a consumer to the sink until the library has closed their chan.
func (p *port) forward(c *consumer, in <-chan amqp091.Delivery) {
	defer close(c.ended)
	var one [1]channel.Delivered
	for d := range in {
		if !p.awaitCredit(c) {
			continue // the channel has ended: the server has put it back
		}
		one[0] = fromDelivery(&d)
		p.tell(func() { p.sink.Deliver(one[:]) })
	}
	p.mu.Lock()
	c.drained = true
	last := c.cancelled
	p.mu.Unlock()
	if last {
		p.tellCancelled(c)
	}
}

// awaitCredit uses one of the consumer's credit; false: the channel has ended.
func (p *port) awaitCredit(c *consumer) bool {
	for {
		p.mu.Lock()
		if !c.bounded || c.all || c.credit > 0 {
			c.credit--
			p.mu.Unlock()
			return true
		}
		p.mu.Unlock()
		select {
		case <-c.wake:
		case <-p.ending:
			return false
		}
	}
}

// cancelled hears that the server ended a consumer; its last deliveries may still be on their way to the sink.
func (p *port) cancelled(tag string) {
	p.mu.Lock()
	c := p.consumers[tag]
	last := false
	if c != nil {
		c.cancelled, c.all = true, true
		last = c.drained
	}
	p.mu.Unlock()
	if c != nil {
		c.signal()
	}
	if last {
		p.tellCancelled(c)
	}
}

func (p *port) tellCancelled(c *consumer) {
	p.forget(c)
	p.tell(func() { p.sink.Cancelled(c.tag) })
}

// drain hands over what is left of a consumer that we have cancelled.
func (p *port) drain(tag string) {
	p.mu.Lock()
	c := p.consumers[tag]
	if c != nil {
		c.all = true
	}
	p.mu.Unlock()
	if c != nil {
		c.signal()
		<-c.ended
		p.forget(c)
	}
}

func (p *port) forget(c *consumer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.consumers[c.tag] == c {
		delete(p.consumers, c.tag)
	}
}

// Grant says that the application took n deliveries of a consumer.
func (p *port) Grant(tag string, n int) {
	p.mu.Lock()
	c := p.consumers[tag]
	if c != nil {
		c.credit += n
	}
	p.mu.Unlock()
	if c != nil {
		c.signal()
	}
}

func (c *consumer) signal() {
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
