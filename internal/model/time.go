package model

import (
	"math"
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
		if ways > 1 {
			b.met("advance", to, b.now.From.Unix(), b.now.To.Unix())
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
		if t.at.To.Before(b.now.To) {
			t.at.To = b.now.To
		}
		b.now = t.at
		t.do()
		b.spread() // the rest when all has come that comes now
	}
	b.now = to
	for _, q := range b.queues {
		if q.woken != nil && to.From.After(q.woken.Add(b.rules.Grace)) {
			q.ghost, q.woken = 0, nil
		}
	}
	b.deliver()
}

// coming returns what will happen by itself.
func (b *Broker) coming() []timed {
	var all []timed
	late := func(s Span) Span {
		to := s.To.Add(b.rules.Late)
		if to.Before(b.relieved) {
			to = b.relieved
		}
		return Span{s.From, to}
	}
	for _, name := range b.names() {
		q := b.queues[name]
		for _, e := range q.heads() {
			if e.expires == nil || b.leftAlone(q) {
				continue
			}
			at := late(*e.expires)
			if to := q.changed.Add(b.rules.Late); b.rules.ExpiresUnattended && at.To.Before(to) {
				at.To = to
			}
			if q.ghost > 0 {
				at.To = at.To.Add(b.rules.Grace)
			}
			if len(q.heads()) > 1 { // another may be the head, and keep it for any time
				at.To = at.To.Add(time.Hour)
			}
			all = append(all, timed{at, func() { b.expire(q, e) }})
		}
		if ms, has := number(q.args["x-expires"]); has && len(q.consumers) == 0 {
			at := late(q.used.Add(time.Duration(ms) * time.Millisecond))
			at.To = at.To.Add(time.Duration(b.rules.Unused*ms) * time.Millisecond)
			all = append(all, timed{at, func() { b.removeQueue(q) }})
		}
	}
	if len(b.delayed) > 0 { // in the order in which they are due
		h := slices.MinFunc(b.delayed, func(x, y held) int { return x.due.From.Compare(y.due.From) })
		i := slices.Index(b.delayed, h)
		all = append(all, timed{late(h.due), func() {
			b.delayed = slices.Delete(slices.Clone(b.delayed), i, i+1)
			for _, name := range b.routed(h.m) {
				if q := b.queues[name]; q != nil {
					b.enqueue(q, h.m)
				}
			}
		}})
	}
	for _, d := range b.dead {
		if d.leases != nil {
			all = append(all, timed{*d.leases, func() {
				d.leases = nil
				for _, ch := range d.channels {
					b.requeue(ch.unacked, false)
					ch.unacked = nil
				}
			}})
		}
		if d.sessions != nil {
			all = append(all, timed{*d.sessions, func() { d.sessions = nil; b.missed(d) }})
		}
	}
	return all
}

// Crash ends connections as the death of their process does: at once for the client, and for others when it is missed.
func (b *Broker) Crash(conns []int) {
	ghost := -b.next() // who has what the process had
	// Leases end before sessions, and neither right away.
	d := &ghosts{
		conn:     ghost,
		leases:   &Span{b.now.From, b.now.To.Add(b.rules.Lease)},
		sessions: &Span{b.now.From.Add(b.rules.Lease), b.now.To.Add(b.rules.Session)},
	}
	b.relieved = d.sessions.To
	for _, q := range b.queues { // who watches over their time may have to be replaced, and counts anew
		q.used.To = d.sessions.To
	}
	for _, conn := range conns {
		for _, q := range b.queues {
			if q.exclusive && q.owner == conn {
				q.owner = ghost
			}
			if n := b.takes(q); n > 0 && !b.rules.TrimsLate && slices.ContainsFunc(q.consumers, func(c *consumer) bool { return c.slot.Conn == conn }) {
				q.ghost, q.ghostRank, q.woken = n, q.topOf(conn), nil
			}
			for _, c := range q.consumers {
				if c.slot.Conn == conn {
					c.dead, c.slot = true, Slot{ghost, 0}
				}
			}
		}
		for _, ch := range b.ofConnection(conn) {
			gone := ch.clone()
			gone.tx = nil
			d.channels = append(d.channels, gone)
			ch.unacked, ch.tx, ch.closed = nil, nil, b.lastWord(ch.slot)
			b.run.step.at(ch.slot).Closed = ch.closed
		}
	}
	b.dead = append(b.dead, d)
	b.deliver()
}

// topOf returns the highest priority of a connection's consumers of a queue.
func (q *queue) topOf(conn int) int {
	top := math.MinInt
	for _, c := range q.consumers {
		if c.slot.Conn == conn {
			top = max(top, c.priority)
		}
	}
	return top
}

// missed ends what a dead process had in the broker.
func (b *Broker) missed(d *ghosts) {
	b.dropConsumers(func(c *consumer) bool { return c.slot.Conn == d.conn })
	b.endExclusive(d.conn)
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

// lastWord is the error that a killed process gives itself for a channel: any will do.
func (b *Broker) lastWord(s Slot) int {
	if seen := b.run.seen; seen != nil && seen.Heard[s] != nil && seen.Heard[s].Closed != 0 {
		return seen.Heard[s].Closed
	}
	return channel.ChannelErrorCode
}
