package model

import (
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/channel"
)

// Settle is basic.ack, basic.nack or basic.reject.
func (b *Broker) Settle(s Slot, a channel.Settle) {
	ch := b.enter(s)
	if ch == nil {
		return
	}
	if !ch.knows(a) {
		b.fail(ch, channel.PreconditionFailed)
	} else if ch.tx != nil {
		ch.stage(a)
	} else {
		b.apply(b.answer(ch, a), a.Kind)
	}
	b.deliver()
}

// knows reports whether a tag may be answered.
func (ch *client) knows(a channel.Settle) bool {
	if a.Tag == 0 {
		return a.Multiple
	}
	return slices.ContainsFunc(ch.unacked, func(u unacked) bool { return u.tag == a.Tag && !u.answered })
}

func (a *unacked) meant(s channel.Settle) bool {
	return !a.answered && (a.tag == s.Tag || s.Multiple && (s.Tag == 0 || a.tag < s.Tag))
}

// answer takes out what is answered.
func (b *Broker) answer(ch *client, s channel.Settle) []unacked {
	var taken, left []unacked
	for _, u := range ch.unacked {
		if u.meant(s) {
			taken = append(taken, u)
		} else {
			left = append(left, u)
		}
	}
	ch.unacked = left
	return taken
}

// stage notes an answer in the transaction: its message stays in the window.
func (ch *client) stage(s channel.Settle) {
	for i := range ch.unacked {
		if u := &ch.unacked[i]; u.meant(s) {
			u.answered = true
			ch.tx.answers = append(ch.tx.answers, channel.Settle{Tag: u.tag, Kind: s.Kind})
		}
	}
}

// apply does to messages what their answer asks for.
func (b *Broker) apply(us []unacked, kind channel.SettleKind) {
	switch kind {
	case channel.Requeue, channel.GiveBack:
		b.requeue(us, true)
	case channel.Nack:
		for _, u := range us {
			if q := b.queues[u.queue]; q != nil && q.id == u.id {
				b.bury(q, u.e, "rejected")
			}
		}
	}
}

// requeue puts messages back into their old places. With counting, one that has been handed over too often dies.
func (b *Broker) requeue(us []unacked, counting bool) {
	var touched []*queue
	died := false
	one := false // whether they come back one by one, or together
	if b.rules.TakesFirst && slices.ContainsFunc(us, func(u unacked) bool {
		q := b.queues[u.queue]
		return q != nil && (q.bounded() || several(us, u.queue) && q.args["x-max-priority"] != nil)
	}) {
		one = len(us) > 1 && b.branch(2) == 1
	}
	for i, u := range us {
		if died && b.branch(2) == 1 { // they come back in two parts, and what died arrives in between
			died = false
			b.sendAll()
			for b.deliverOne(b.names(), false) {
			}
		}
		q := b.queues[u.queue]
		if q == nil || q.id != u.id {
			continue
		}
		if u.unseen { // it comes back as if it had never been taken
			u.e.taken--
		} else {
			u.e.redelivered = true
		}
		if several(us, u.queue) && b.rules.TakesFirst {
			u.e.step, u.e.path = b.steps, fmt.Sprint("back", i)
		}
		if limit, has := number(q.args["x-delivery-limit"]); has && counting && u.e.taken > int(limit) {
			b.bury(q, u.e, "delivery_limit")
			died = true
			continue
		}
		q.insert(u.e)
		q.change(b.now.To.Add(b.rules.LooksAgain))
		if !counting {
			continue // the store takes them back by itself: the limit is looked at when something comes
		}
		if one {
			for b.seenToTake(q) && b.deliverOne([]string{q.name}, false) { // whatever comes behind it
			}
			b.settleDown(q)
			if b.expired(q) && b.branch(2) == 1 { // it is found out before the next one comes
				b.expireAtOnce(q)
			}
		}
		if !slices.Contains(touched, q) {
			touched = append(touched, q)
		}
	}
	for _, q := range touched {
		b.settleDown(q)
		goes := q.exclusive && b.run.closing != nil && *b.run.closing == q.owner
		if b.rules.DropsExpired && goes && b.branch(2) == 0 {
			continue
		}
		b.expireAtOnce(q)
	}
}

// several reports whether messages of a queue come back that went to several consumers: they come back in the order in which
// the channel got them, one by one, so that who waits may get them in that order and not in their old one.
func several(us []unacked, queue string) bool {
	from := map[int]bool{}
	for _, u := range us {
		if u.queue == queue {
			from[u.consumer] = true
		}
	}
	return len(from) > 1
}

// settleDown has a queue keep its limit after something came back.
func (b *Broker) settleDown(q *queue) {
	for b.rules.TakesFirst && q.over(0) && (b.run.seen == nil || b.seenToTake(q)) && b.deliverOne([]string{q.name}, false) {
	}
	b.trim(q)
}

// seenToTake reports whether the head of a queue was seen to go to a consumer that waits.
func (b *Broker) seenToTake(q *queue) bool {
	heads := q.heads()
	return len(heads) > 0 && slices.ContainsFunc(b.takers(q), func(c *consumer) bool {
		d := b.following(c)
		return d != nil && slices.ContainsFunc(heads, func(e *entry) bool { return d.is(q, e) })
	})
}

func (b *Broker) rollback(ch *client) int {
	if ch.tx == nil {
		return channel.PreconditionFailed
	}
	ch.tx = &tx{}
	for i := range ch.unacked {
		ch.unacked[i].answered = false
	}
	return 0
}

// commit makes everything of a transaction take effect: its messages first, then its answers.
func (b *Broker) commit(ch *client) int {
	if ch.tx == nil {
		return channel.PreconditionFailed
	}
	t := ch.tx
	ch.tx = &tx{}
	if b.rules.TxRoutesLate {
		for i, s := range t.publishes {
			t.publishes[i] = &staged{s.m, s.pub, b.routed(s.m)}
		}
	}
	if b.rules.TxWhole && b.refuses(t) {
		return channel.PreconditionFailed
	}
	ok := true
	publish := func() {
		for _, s := range t.publishes {
			ok = b.accept(ch, s) && ok
		}
	}
	if !b.rules.TxWhole {
		publish()
	}
	for _, a := range t.answers {
		i := slices.IndexFunc(ch.unacked, func(u unacked) bool { return u.tag == a.Tag })
		u := ch.unacked[i]
		ch.unacked = slices.Delete(slices.Clone(ch.unacked), i, i+1)
		b.apply([]unacked{u}, a.Kind)
	}
	if b.rules.TxWhole {
		b.run.whole, b.run.admitted = true, true
		publish()
		if len(b.letters) > 0 && b.branch(2) == 1 { // they come before what is there is looked at
			b.sendAll()
		}
		b.run.whole = false
		for _, name := range b.names() {
			q := b.queues[name]
			for n := b.takes(q); n > 0 && b.seenToTake(q); n-- {
				for _, e := range q.heads() {
					e.owed = true
				}
				b.deliverOne([]string{name}, false)
			}
			b.trim(q)
			b.expireAtOnce(q)
		}
	}
	if !ok {
		return channel.PreconditionFailed
	}
	return 0
}

// refuses reports whether a queue would refuse a message of a transaction.
func (b *Broker) refuses(t *tx) bool {
	for _, name := range b.names() {
		b.kept(b.queues[name]) // what that is, is decided here
	}
	probe := b.clone()
	probe.run = newRun()
	probe.run.keeps = b.run.keeps
	probe.run.whole = true
	for _, s := range t.publishes {
		ch := &client{}
		if !probe.accept(ch, s) {
			return true
		}
	}
	return false
}
