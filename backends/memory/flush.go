package memory

import "github.com/dashi-mq/dashi/virtual"

// Flush loses everything that is in the place, as a server does that somebody flushes, or that comes back empty: for tests of what
// a program makes of it. Handles stay open.
func (p *Place) Flush() {
	p.mu.Lock()
	for _, q := range p.queues {
		q.gone = true
		p.due.remove(q)
		p.expiring.remove(q)
		q.wakeGetters()
	}
	p.queues, p.deleted, p.marks = map[virtual.QueueRef]*queue{}, map[virtual.QueueRef]int64{}, map[string]*mark{}
	g, before := newRegistry(), &p.registry
	g.rev = before.rev + 1
	g.first = g.rev
	g.changed = before.changed // nobody is told
	p.registry = g
	p.mu.Unlock()
}
