package broker

import (
	"context"
	"math"
	"slices"

	"github.com/dashi-mq/dashi/channel"
)

// consumer is a consumer of this process. What counts is guarded by port.mu.
type consumer struct {
	port      *port
	pump      *pump
	id, tag   string
	noAck     bool
	exclusive bool
	priority  int

	prefetch, prefetchSize int // its window; 0: none
	credit                 int // deliveries the application may have waiting; 0: no bound

	unacked, bytes int
	reserved       int // room promised to the pump
	waiting        int // delivered, not yet taken by the application
	choked         bool
	gone           bool
}

// room returns how many messages the consumer could take. port.mu is held.
func (c *consumer) room() int {
	p := c.port
	if c.gone || p.closed != nil || p.stopped {
		return 0
	}
	n := math.MaxInt32
	if c.credit > 0 {
		n = c.credit - c.waiting - c.reserved
	}
	if c.noAck {
		return max(0, n)
	}
	if c.prefetch > 0 {
		n = min(n, c.prefetch-c.unacked-c.reserved)
	}
	if p.global > 0 {
		n = min(n, p.global-p.count-p.reserved)
	}
	if c.prefetchSize > 0 || p.globalSize > 0 {
		// How large the next message is nobody knows: take one at a time.
		full := c.choked || c.prefetchSize > 0 && c.bytes >= c.prefetchSize && c.unacked > 0 ||
			p.globalSize > 0 && p.bytes >= p.globalSize && p.count > 0
		if full || c.reserved > 0 {
			return 0
		}
		n = min(n, 1)
	}
	return max(0, n)
}

// hungry reports whether a message is worth fetching for the consumer at once. While its application still has messages
// to take, the pump may wait until half of the window is free, and fetch many together. port.mu is held.
func (c *consumer) hungry() bool {
	window := c.prefetch
	if window == 0 || c.credit > 0 && c.credit < window {
		window = c.credit
	}
	return c.waiting == 0 || 2*c.room() >= window
}

// reserve promises the pump room for up to most messages.
func (c *consumer) reserve(most int) int {
	c.port.mu.Lock()
	defer c.port.mu.Unlock()
	n := min(most, c.room())
	c.promise(n)
	return n
}

func (c *consumer) promise(n int) {
	c.reserved += n
	if !c.noAck {
		c.port.reserved += n
	}
}

// unreserve gives back room that was not needed.
func (c *consumer) unreserve(n int) {
	if n == 0 {
		return
	}
	p := c.port
	p.mu.Lock()
	c.promise(-n)
	shared := p.global > 0 || p.globalSize > 0
	p.mu.Unlock()
	if !shared {
		return
	}
	for _, pm := range p.pumps() {
		if pm.starved.Load() { // it stopped for want of just this; to wake any other would have it wake us, and so on
			pm.wake()
		}
	}
}

// fits reports whether a message fits the size windows; one always does. port.mu is held.
func (c *consumer) fits(size int) bool {
	p := c.port
	return !(c.prefetchSize > 0 && c.unacked > 0 && c.bytes+size > c.prefetchSize ||
		p.globalSize > 0 && p.count > 0 && p.bytes+size > p.globalSize)
}

// took counts a delivery. port.mu is held.
func (c *consumer) took(size int) {
	c.waiting++
	if c.noAck {
		return
	}
	c.unacked++
	c.bytes += size
	c.port.count++
	c.port.bytes += size
}

// answered takes a delivery out of the windows. port.mu is held.
func (c *consumer) answered(size int) {
	c.unacked--
	c.bytes -= size
	c.port.count--
	c.port.bytes -= size
	c.choked = false
	if c.port.globalSize > 0 {
		for _, other := range c.port.consumers {
			other.choked = false
		}
	}
}

// Grant notes that the application took n deliveries.
func (p *port) Grant(tag string, n int) {
	p.mu.Lock()
	c := p.consumers[tag]
	if c != nil {
		c.waiting = max(0, c.waiting-n)
	}
	p.mu.Unlock()
	if c != nil {
		c.pump.fed()
	}
}

// qos sets the window of consumers to come, and lifts that of the channel; or, with global, sets that of the channel.
func (p *port) qos(ctx context.Context, m *channel.Qos) {
	p.mu.Lock()
	if m.Global {
		p.global, p.globalSize = m.Count, m.Size
	} else {
		p.prefetch, p.prefetchSize = m.Count, m.Size
		p.global, p.globalSize = 0, 0 // lifted, as by RabbitMQ
	}
	p.mu.Unlock()
	p.resize(ctx)
}

func (p *port) flow(ctx context.Context, m *channel.Flow) {
	p.mu.Lock()
	p.stopped = !m.Active
	p.mu.Unlock()
	p.resize(ctx)
}

// resize has the pumps go by the channel's new windows. A Get that waits has room of the old ones: it ends first.
func (p *port) resize(ctx context.Context) {
	if p.b.notifier == nil {
		for _, pm := range p.pumps() {
			pm.quiesce(ctx)
		}
	}
	p.feedAll()
}

// pumps are those of the channel's consumers.
func (p *port) pumps() []*pump {
	p.mu.Lock()
	defer p.mu.Unlock()
	var pumps []*pump
	for _, c := range p.consumers {
		if !slices.Contains(pumps, c.pump) {
			pumps = append(pumps, c.pump)
		}
	}
	return pumps
}

// feedAll lets the pumps of all consumers look again.
func (p *port) feedAll() {
	for _, pm := range p.pumps() {
		pm.fed()
	}
}
