package model

import (
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// timed is something that happens by itself, at a time within a span.
type timed struct {
	at Span
	do func()
}

// Advance lets time pass up to a span. What must have happened by then has; what may have branches, and so does the order of
// what came at the same time.
func (b *Broker) Advance(to Span) {
	for {
		var may []timed
		must := false
		for _, t := range b.coming() {
			if !t.at.From.After(to.To) {
				may = append(may, t)
				must = must || t.at.To.Before(to.From)
			}
		}
		if len(may) == 0 {
			break
		}
		first := may[0].at.To // nothing that is surely later than another comes before it
		for _, t := range may {
			if t.at.To.Before(first) {
				first = t.at.To
			}
		}
		may = slices.DeleteFunc(may, func(t timed) bool { return t.at.From.After(first) })
		ways := len(may)
		if !must {
			ways++
		}
		i := b.branch(ways)
		if i == len(may) {
			break
		}
		t := may[i]
		if t.at.To.After(to.To) {
			t.at.To = to.To
		}
		if t.at.From.Before(b.now.From) {
			t.at.From = b.now.From
		}
		if t.at.To.Before(t.at.From) {
			t.at.To = t.at.From
		}
		b.now = t.at
		t.do()
		b.deliver()
	}
	b.now = to
	b.deliver()
}

// coming returns what will happen by itself.
func (b *Broker) coming() []timed {
	var all []timed
	late := func(s Span) Span { return Span{s.From, s.To.Add(b.rules.Late)} }
	for _, name := range b.names() {
		q := b.queues[name]
		if len(q.ready) > 0 && q.ready[0].expires != nil {
			all = append(all, timed{late(*q.ready[0].expires), func() { b.expire(q) }})
		}
		if ms, has := number(q.args["x-expires"]); has && len(q.consumers) == 0 {
			all = append(all, timed{late(q.used.Add(time.Duration(ms) * time.Millisecond)), func() { b.removeQueue(q) }})
		}
	}
	for i, h := range b.delayed {
		all = append(all, timed{late(h.due), func() {
			b.delayed = slices.Delete(slices.Clone(b.delayed), i, i+1)
			for _, name := range b.routed(h.m) {
				if q := b.queues[name]; q != nil {
					b.enqueue(q, h.m)
				}
			}
		}})
	}
	for _, ch := range b.dead {
		if ch.leases != nil {
			all = append(all, timed{*ch.leases, func() { ch.leases = nil; b.giveBack(ch) }})
		}
		if ch.sessions != nil {
			all = append(all, timed{*ch.sessions, func() { ch.sessions = nil; b.missed(ch) }})
		}
	}
	return all
}

// Crash ends connections as the death of their process does: at once for the client, and for others when it is missed.
func (b *Broker) Crash(conns []int) {
	for _, conn := range conns {
		ghost := -b.next() // whose exclusive queues are its no more
		for _, q := range b.queues {
			if q.exclusive && q.owner == conn {
				q.owner = ghost
			}
		}
		until := func(d time.Duration) *Span { return &Span{b.now.From, b.now.To.Add(d)} }
		b.dead = append(b.dead, &client{slot: Slot{ghost, 0}, sessions: until(b.rules.Session)})
		for _, ch := range b.ofConnection(conn) {
			for _, q := range b.queues {
				for _, c := range q.consumers {
					if c.slot == ch.slot {
						c.dead, c.slot = true, Slot{ghost, ch.slot.Chan + 1}
					}
				}
			}
			gone := ch.clone()
			gone.slot = Slot{ghost, ch.slot.Chan + 1}
			gone.tx, gone.leases, gone.sessions = nil, until(b.rules.Lease), until(b.rules.Session)
			b.dead = append(b.dead, gone)
			ch.unacked, ch.tx, ch.closed = nil, nil, channel.ChannelErrorCode
			b.run.step.at(ch.slot).Closed = channel.ChannelErrorCode
		}
	}
	b.deliver()
}

// missed ends what a dead channel or connection had in the broker.
func (b *Broker) missed(ch *client) {
	b.dropConsumers(func(c *consumer) bool { return c.slot == ch.slot })
	b.endExclusive(ch.slot.Conn)
}

// Look is what counting all messages does: it finds what has expired at the heads.
func (b *Broker) Look() {
	for _, name := range b.names() {
		if q := b.queues[name]; q != nil {
			b.expireHead(q)
		}
	}
	b.deliver()
}
