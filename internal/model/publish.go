package model

import (
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Publish is basic.publish, several times in a row.
func (b *Broker) Publish(s Slot, ps []*channel.Publish) {
	ch := b.enter(s)
	if ch == nil {
		return
	}
	b.run.burst = len(ps) > 1
	for i, p := range ps {
		if i > 0 {
			b.met("publish", i)
			b.endBatch()
			if len(b.letters) > 0 && b.branch(2) == 1 { // they come before what is published next
				b.sendAll()
			}
		}
		if bad := b.publish(ch, p); bad != 0 {
			b.fail(ch, bad)
			break
		}
	}
	b.run.burst = false
	for _, name := range b.names() {
		if q := b.queues[name]; len(ps) > 1 && q != nil {
			b.expireAtOnce(q)
		}
	}
	b.deliver()
}

// endBatch lets what expires as it comes do so, or wait for what is published next.
func (b *Broker) endBatch() {
	wait := func(q *queue) bool {
		return slices.ContainsFunc(q.ready, func(e *entry) bool { return e.instant && !e.owed })
	}
	for _, name := range b.names() {
		if wait(b.queues[name]) && b.branch(2) == 0 {
			return
		}
	}
	b.run.burst = false
	for _, name := range b.names() {
		b.expireAtOnce(b.queues[name])
	}
	b.run.burst = true
}

func (b *Broker) publish(ch *client, p *channel.Publish) int {
	if p.Immediate {
		return channel.NotImplemented
	}
	x := b.exchanges[p.Exchange]
	switch { // with two faults, that of the exchange is told
	case p.Exchange != "" && x == nil:
		return channel.NotFound
	case x != nil && x.internal:
		return channel.AccessRefused
	case !goodExpiration(p.Expiration) || p.DeliveryMode > 2 || p.UserId != "" && p.UserId != "guest":
		return channel.PreconditionFailed
	}
	m := &message{exchange: p.Exchange, key: p.Key, p: p.Publishing}
	m.p.Headers = maps.Clone(p.Headers)
	for _, name := range []string{"CC", "BCC"} {
		if v, has := p.Headers[name]; has {
			if _, list := v.([]any); !list {
				return channel.PreconditionFailed
			}
		}
	}
	m.bcc = texts(p.Headers["BCC"])
	delete(m.p.Headers, "BCC")
	s := &staged{m: m, pub: p}
	if ch.tx != nil {
		if !b.rules.TxRoutesLate {
			s.queues = b.routed(m)
		}
		ch.tx.publishes = append(ch.tx.publishes, s)
		return 0
	}
	number := uint64(0)
	if ch.confirming {
		ch.published++
		number = ch.published
	}
	s.queues = b.routed(m)
	accepted := b.accept(ch, s)
	if number > 0 {
		h := b.run.step.at(ch.slot)
		if h.Confirms == nil {
			h.Confirms = map[uint64]bool{}
		}
		h.Confirms[number] = accepted
	}
	return 0
}

func goodExpiration(s string) bool {
	if s == "" {
		return true
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return err == nil && n >= 0 && n <= 315360000000
}

func texts(v any) []string {
	list, _ := v.([]any)
	var all []string
	for _, e := range list {
		if s, ok := e.(string); ok {
			all = append(all, s)
		}
	}
	return all
}

// routed returns where a message goes now.
func (b *Broker) routed(m *message) []string {
	keys := slices.Concat([]string{m.key}, texts(m.p.Headers["CC"]), m.bcc)
	return b.route(m.exchange, keys, m.p.Headers)
}

// delay is how long the message's exchange keeps it.
func (b *Broker) delay(m *message) time.Duration {
	x := b.exchanges[m.exchange]
	if x == nil || x.kind != channel.Delayed {
		return 0
	}
	ms, _ := number(m.p.Headers["x-delay"])
	return time.Duration(max(0, ms)) * time.Millisecond
}

// accept puts a message where it goes. It is false when one of its queues refuses.
func (b *Broker) accept(ch *client, s *staged) bool {
	if d := b.delay(s.m); d > 0 {
		b.delayed = append(b.delayed, held{s.m, b.now.Add(d)})
		return true
	}
	to := slices.DeleteFunc(slices.Clone(s.queues), func(q string) bool { return b.queues[q] == nil })
	if len(to) == 0 && s.pub.Mandatory {
		h := b.run.step.at(ch.slot)
		h.Returns = append(h.Returns, Return{Exchange: s.m.exchange, Key: s.m.key, Message: s.m.p})
	}
	ok := true
	for _, name := range to {
		ok = b.enqueue(b.queues[name], s.m) && ok
	}
	return ok
}

// enqueue puts a message into a queue, unless that refuses it. A consumer that waits gets it before any limit is looked at.
func (b *Broker) enqueue(q *queue, m *message) bool {
	e := &entry{m: m, place: b.next(), step: b.steps, path: b.run.path}
	if top, ok := number(q.args["x-max-priority"]); ok {
		e.level = min(int(m.p.Priority), int(top))
	}
	b.cameTo(q)
	waiting := q.unowed() == 0 && b.takes(q) > len(q.ready)
	for b.rules.TakesFirst && !b.run.whole && b.seenToTake(q) {
		b.deliverOne([]string{q.name}, false)
		waiting = q.unowed() == 0 && b.takes(q) > len(q.ready)
	}
	if q.ghost > 0 && q.woken == nil {
		t := b.now.To
		q.woken = &t
	}
	room := b.kept(q)
	if waiting && b.rules.TakesFirst || b.run.whole {
		room += b.takes(q)
	}
	if q.refusesMore() && b.refusesNow(q, e, room) {
		if q.args["x-overflow"] == "reject-publish-dlx" {
			b.bury(q, e, "maxlen")
		}
		return false
	}
	if ttl, has := ttl(q, m); has {
		t := b.now.Add(ttl)
		e.expires, e.instant = &t, ttl == 0
	}
	q.insert(e)
	q.change(b.now.To)
	b.cameFirst(q, e)
	if b.run.whole && b.takes(q) >= len(q.ready) { // what comes of it is seen when all is there
		e.owed = e.instant // and does not expire on its way
		return true
	}
	if b.rules.TrimsLate {
		b.run.late[q.id] = true
		if top, has := number(q.args["x-max-length"]); has {
			b.run.excess[q.id] = max(b.run.excess[q.id], len(q.ready)-int(top))
		}
	}
	if waiting {
		b.await(q, e)
		return true
	}
	b.trim(q)
	b.expireAtOnce(q)
	return true
}

// await gives a message to a consumer that waits for it, or lets it wait itself for one that was seen to come before it by
// another way. It does not expire meanwhile, whatever its time, and no limit counts it.
func (b *Broker) await(q *queue, e *entry) {
	e.owed = true
	if b.run.seen == nil || b.seenToTake(q) {
		b.deliverOne([]string{q.name}, false)
	}
}

func ttl(q *queue, m *message) (time.Duration, bool) {
	ms, has := number(q.args["x-message-ttl"])
	if m.p.Expiration != "" {
		own, _ := strconv.ParseFloat(m.p.Expiration, 64)
		if !has || own < ms {
			ms, has = own, true
		}
	}
	return time.Duration(ms) * time.Millisecond, has
}

// insert puts an entry in its place: by priority, then by arrival.
func (q *queue) insert(e *entry) {
	q.ready = append(q.ready, e)
	slices.SortStableFunc(q.ready, func(x, y *entry) int {
		if x.level != y.level {
			return y.level - x.level
		}
		return x.place - y.place
	})
}

func (q *queue) bounded() bool {
	return q.args["x-max-length"] != nil || q.args["x-max-length-bytes"] != nil
}

// unowed returns how many messages wait that no consumer waited for.
func (q *queue) unowed() (n int) {
	for _, e := range q.ready {
		if !e.owed {
			n++
		}
	}
	return n
}

// over reports whether a queue is over its limits, with one more. Room is how many messages do not count, being on their way.
func (q *queue) over(room int, more ...*entry) bool {
	all, bytes := 0, 0
	for _, e := range slices.Concat(q.ready, more) {
		if !e.owed {
			all++
			bytes += len(e.m.p.Body)
		}
	}
	n, hasN := number(q.args["x-max-length"])
	size, hasSize := number(q.args["x-max-length-bytes"])
	return hasN && all > int(n)+room || hasSize && room == 0 && bytes > int(size)
}

// kept returns how many messages more than it should a queue keeps in this step for a process that has been killed.
func (b *Broker) kept(q *queue) int {
	if q.ghost == 0 {
		return 0
	}
	keeps, decided := b.run.keeps[q.id]
	if !decided {
		keeps = b.branch(2) == 1
		b.run.keeps[q.id] = keeps
	}
	if keeps {
		return q.ghost
	}
	return 0
}

// refusesMore reports whether a queue at its limit refuses what comes, where others drop their head.
func (q *queue) refusesMore() bool {
	o := q.args["x-overflow"]
	return o != nil && o != "drop-head"
}

// refusesNow reports whether a queue at its limit refuses one more.
func (b *Broker) refusesNow(q *queue, e *entry, room int) bool {
	if !b.rules.TrimsLate {
		return q.over(room, e)
	}
	top, has := number(q.args["x-max-length"])
	if b.run.whole {
		return !b.run.admitted && has && len(q.ready) >= int(top)
	}
	switch { // what consumers take in this step may still have been there, or gone already
	case !has || len(q.ready)+b.run.given[q.id] < int(top):
		return false
	case len(q.ready) < int(top), b.takes(q) > 0:
		return b.branch(2) == 1
	}
	return true
}

// trimLate drops a head of the queues that something was put into and that are too long still, or, at the end of a step, that
// were: then somebody dropped it before a consumer took what was behind.
func (b *Broker) trimLate(end bool) bool {
	for _, name := range b.names() {
		q := b.queues[name]
		top, has := number(q.args["x-max-length"])
		if !b.run.late[q.id] || !has || q.refusesMore() || len(q.ready) == 0 {
			continue
		}
		if over := len(q.ready) > int(top); !over && !(end && b.run.excess[q.id] > 0 && len(b.takers(q)) > 0) {
			continue
		}
		b.run.excess[q.id]--
		e := b.someHead(q)
		q.remove(e)
		b.bury(q, e, "maxlen")
		return true
	}
	return false
}

// trim drops heads while the queue is too long.
func (b *Broker) trim(q *queue) {
	if b.rules.TrimsLate {
		b.run.late[q.id] = true
		return
	}
	if q.refusesMore() {
		return
	}
	for len(q.ready) > 0 && q.over(b.kept(q)) {
		e := b.someHead(q)
		q.remove(e)
		b.bury(q, e, "maxlen")
	}
}
