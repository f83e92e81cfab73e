package model

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

func (b *Broker) consume(ch *client, m *channel.Consume) int {
	if m.Queue == "" && ch.lastQueue == "" {
		return channel.NotFound
	}
	for _, q := range b.queues {
		for _, c := range q.consumers {
			if c.slot == ch.slot && c.tag == m.Tag && !c.dead {
				return channel.NotAllowed
			}
		}
	}
	priority, isNumber := number(m.Args["x-priority"])
	if m.Args["x-priority"] != nil && !isNumber {
		return channel.PreconditionFailed
	}
	q, bad := b.find(ch, m.Queue)
	if bad != 0 {
		return bad
	}
	if m.Exclusive && (q.single() || len(q.consumers) > 0) || slices.ContainsFunc(q.consumers, func(c *consumer) bool { return c.exclusive }) {
		return channel.AccessRefused
	}
	q.consumers = append(q.consumers, &consumer{
		id: b.next(), slot: ch.slot, tag: m.Tag, queue: q.name, noAck: m.NoAck, exclusive: m.Exclusive, priority: int(priority), window: ch.prefetch,
	})
	b.elect(q)
	return 0
}

func (q *queue) single() bool { return q.args["x-single-active-consumer"] == true }

// elect lets the first in order, of priority and then of registration, be the active one, when there is none.
func (b *Broker) elect(q *queue) {
	if !q.single() || slices.ContainsFunc(q.consumers, func(c *consumer) bool { return c.id == q.active }) {
		return
	}
	q.active = 0
	if len(q.consumers) > 0 {
		next := q.consumers[0]
		for _, c := range q.consumers {
			if !b.rules.InOrder && c.priority > next.priority {
				next = c
			}
		}
		q.active = next.id
	}
}

func (b *Broker) cancel(ch *client, tag string) {
	b.dropConsumers(func(c *consumer) bool { return c.slot == ch.slot && c.tag == tag && !c.dead })
}

func (b *Broker) get(ch *client, m *channel.Get, r *Reply) int {
	q, bad := b.find(ch, m.Queue)
	if bad != 0 {
		return bad
	}
	if len(q.consumers) == 0 {
		q.used = b.now
	}
	for b.clearHead(q); len(b.letters) > 0; b.clearHead(q) {
		b.send() // one may come back here
	}
	if len(q.ready) == 0 {
		return 0
	}
	var seen *Delivery
	if b.run.seen != nil {
		seen = b.run.seen.Reply.Got
	}
	e := q.ready[0]
	for _, h := range q.heads() {
		if seen != nil && seen.is(q, h) {
			e = h
		}
	}
	b.take(q, e)
	q.changed = b.now.To.Add(b.rules.LooksAgain)
	r.Got = delivery(q, e)
	r.Got.Tag = b.number(ch, seen)
	if !m.NoAck {
		ch.unacked = append(ch.unacked, unacked{tag: r.Got.Tag, queue: q.name, id: q.id, e: e})
	}
	b.expireHead(q)
	r.Got.Left = len(q.ready)
	return 0
}

func (b *Broker) take(q *queue, e *entry) {
	q.remove(e)
	e.owed = false
	e.taken++
}

// delivery is an entry as a client sees it.
func delivery(q *queue, e *entry) *Delivery {
	p := e.m.p
	if counted(q.args) && e.taken > 1 {
		h := maps.Clone(p.Headers)
		if h == nil {
			h = channel.Table{}
		}
		h["x-delivery-count"] = int64(e.taken - 1)
		p.Headers = h
	}
	return &Delivery{Redelivered: e.redelivered, Exchange: e.m.exchange, Key: e.m.key, Message: p}
}

func counted(args channel.Table) bool {
	_, limited := args["x-delivery-limit"]
	return limited || args["x-queue-type"] == "quorum"
}

// takers returns the consumers that the next message of a queue may go to.
func (b *Broker) takers(q *queue) []*consumer {
	var free []*consumer
	for _, c := range q.consumers {
		if b.hasRoom(q, c) {
			free = append(free, c)
		}
	}
	waitsBehind := func(c *consumer) bool { return q.ghost > 0 && c.priority < q.ghostRank && b.kept(q) > 0 }
	return slices.DeleteFunc(slices.Clone(free), func(c *consumer) bool {
		return waitsBehind(c) || slices.ContainsFunc(free, func(o *consumer) bool { return o.priority > c.priority && b.rules.ranks(o.slot.Conn, c.slot.Conn) })
	})
}

func (b *Broker) hasRoom(q *queue, c *consumer) bool {
	if c.dead || q.single() && c.id != q.active {
		return false
	}
	ch := b.channels[c.slot]
	if ch == nil || ch.closed != 0 {
		return false
	}
	if c.noAck {
		return true
	}
	mine, all := b.windows(c)
	return (c.window == 0 || mine < c.window) && (ch.all == 0 || all < ch.all)
}

// takes returns how many messages the consumers of a queue could take.
func (b *Broker) takes(q *queue) (n int) {
	for _, c := range b.takers(q) {
		room := 256
		mine, all := b.windows(c)
		if c.window > 0 && !c.noAck {
			room = min(room, c.window-mine)
		}
		if g := b.channels[c.slot].all; g > 0 && !c.noAck {
			room = min(room, g-all)
		}
		n += room
	}
	return n
}

// windows returns how many messages a consumer and its channel have that were not answered.
func (b *Broker) windows(c *consumer) (mine, all int) {
	for _, u := range b.channels[c.slot].unacked {
		if u.consumer == c.id {
			mine++
		}
		if u.consumer != 0 {
			all++
		}
	}
	return mine, all
}

// deliver hands out all that can be handed out.
func (b *Broker) deliver() {
	for more := true; more; {
		b.spread()
		more = b.trimLate(true) || b.deliverOne(b.names(), true) || len(b.letters) > 0
	}
}

// spread lets dead letters arrive and hands out what was seen to be handed out, until that is all.
func (b *Broker) spread() {
	for more := true; more; {
		b.sendAll()
		more = b.deliverOne(b.names(), false) || b.trimLate(false) || len(b.letters) > 0
	}
}

// deliverOne hands one message to a consumer: one that was seen to get it, where the step follows. A message that could
// be handed over and was not seen to be is not allowed.
func (b *Broker) deliverOne(queues []string, end bool) bool {
	var first, doomed func()
	var possible []string
	for _, name := range queues {
		q := b.queues[name]
		if q == nil || len(q.ready) == 0 || len(b.takers(q)) == 0 {
			continue
		}
		b.clearHead(q)
		if b.queues[name] != q || len(q.ready) == 0 {
			continue
		}
		for _, e := range q.heads() {
			for _, c := range b.takers(q) {
				if first == nil {
					first = func() { b.give(q, e, c, nil) }
				}
				possible = append(possible, fmt.Sprintf("%s of %s to %s on %v", e.m.p.Body, q.name, c.tag, c.slot))
				if doomed == nil && b.channels[c.slot].doomed {
					doomed = func() { b.give(q, e, c, nil) }
				} else if d := b.following(c); d != nil && d.is(q, e) {
					b.give(q, e, c, d)
					return true
				}
			}
		}
	}
	if first == nil {
		return false
	}
	if doomed != nil {
		doomed()
		return true
	}
	if b.run.seen != nil && !end {
		return false
	}
	if b.run.seen != nil {
		panic(stray{"not delivered: " + strings.Join(possible, ", or ")})
	}
	first()
	return true
}

// is reports whether what was seen is an entry of a queue: it came the same way, with the same deaths.
func (d *Delivery) is(q *queue, e *entry) bool {
	if string(d.Message.Body) != string(e.m.p.Body) || d.Exchange != e.m.exchange || d.Key != e.m.key || d.Redelivered != e.redelivered {
		return false
	}
	next := *e
	next.taken++
	return diffMessage(&delivery(q, &next).Message, &d.Message) == ""
}

// give hands an entry to a consumer.
func (b *Broker) give(q *queue, e *entry, c *consumer, seen *Delivery) {
	ch := b.channels[c.slot]
	b.take(q, e)
	b.run.given[q.id]++
	if ch.doomed {
		if !c.noAck {
			ch.unacked = append(ch.unacked, unacked{queue: q.name, id: q.id, e: e, consumer: c.id, unseen: true})
		}
		return
	}
	b.wentTo(ch, q)
	d := delivery(q, e)
	d.Consumer = c.tag
	h := b.run.step.at(c.slot)
	d.Tag = b.number(ch, seen)
	h.Deliveries = append(h.Deliveries, *d)
	b.run.read[reader{c.slot, c.tag}]++
	if !c.noAck {
		ch.unacked = append(ch.unacked, unacked{tag: d.Tag, queue: q.name, id: q.id, e: e, consumer: c.id})
	}
}

// number gives a delivery its tag: the one that was seen, or the channel's next.
func (b *Broker) number(ch *client, seen *Delivery) uint64 {
	tags := b.run.tags[ch.slot]
	tag := ch.tag + uint64(len(tags)) + 1
	if seen != nil {
		tag = seen.Tag
	}
	b.run.tags[ch.slot] = append(tags, tag)
	return tag
}

// checkTags is the end of every step: each channel's tags have risen one by one, and each consumer's in order.
func (b *Broker) checkTags() {
	for slot, tags := range b.run.tags {
		ch := b.channels[slot]
		last := map[string]uint64{}
		for _, d := range b.run.step.at(slot).Deliveries {
			if d.Tag <= last[d.Consumer] {
				panic(stray{fmt.Sprintf("consumer %s on %v got tag %d after %d", d.Consumer, slot, d.Tag, last[d.Consumer])})
			}
			last[d.Consumer] = d.Tag
		}
		slices.Sort(tags)
		for _, t := range tags {
			if ch.tag++; t != ch.tag {
				panic(stray{fmt.Sprintf("channel %v got delivery tags %v, want them to go on at %d", slot, tags, ch.tag)})
			}
		}
		slices.SortFunc(ch.unacked, func(x, y unacked) int { return int(x.tag) - int(y.tag) })
	}
}
