package model

import (
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// bury is the end of a message in a queue by a rule: dropped, or sent on to the dead-letter exchange.
func (b *Broker) bury(q *queue, e *entry, reason string) {
	if dlx, has := q.args["x-dead-letter-exchange"].(string); has {
		b.letters = append(b.letters, letter{q, e, dlx, reason, b.now, b.run.path + "/" + q.name})
	}
}

// send lets the first dead letter arrive.
func (b *Broker) send() {
	first, path := b.letters[0], b.run.path
	b.letters, b.run.path = b.letters[1:], first.path
	b.deadLetter(first)
	b.run.path = path
}

// sendAll lets all dead letters arrive, and those that they lead to.
func (b *Broker) sendAll() {
	for len(b.letters) > 0 {
		b.send()
	}
}

func (b *Broker) deadLetter(l letter) {
	q, dlx, reason, old := l.q, l.dlx, l.reason, l.e.m
	m := &message{exchange: dlx, key: old.key, bcc: old.bcc, p: old.p}
	m.p.Expiration = ""
	h := channel.Table{}
	for k, v := range old.p.Headers {
		h[k] = v
	}
	m.p.Headers = h
	keys := []any{old.key}
	for _, k := range texts(old.p.Headers["CC"]) {
		keys = append(keys, k)
	}
	death := channel.Table{
		"count": int64(1), "reason": reason, "queue": q.name, "time": l.at, "exchange": old.exchange, "routing-keys": keys,
	}
	if old.p.Expiration != "" {
		death["original-expiration"] = old.p.Expiration
	}
	before, died := h["x-death"].([]any)
	if !died {
		h["x-first-death-reason"], h["x-first-death-queue"], h["x-first-death-exchange"] = reason, q.name, old.exchange
	}
	deaths := []any{death}
	for _, v := range before {
		d := v.(channel.Table)
		if d["queue"] != q.name || d["reason"] != reason {
			deaths = append(deaths, d)
			continue
		}
		again := channel.Table{}
		for k, v := range d {
			again[k] = v
		}
		again["count"] = d["count"].(int64) + 1
		deaths[0] = again
	}
	h["x-death"] = deaths
	if key, has := q.args["x-dead-letter-routing-key"].(string); has {
		m.key, m.bcc = key, nil
		delete(h, "CC")
	}
	if m.exchange != "" && b.exchanges[m.exchange] == nil {
		return
	}
	if d := b.delay(m); d > 0 {
		b.delayed = append(b.delayed, held{m, b.now.Add(d)})
		return
	}
	for _, name := range b.routed(m) {
		if to := b.queues[name]; to != nil && !cycle(deaths, name, reason) {
			b.enqueue(to, m)
		}
	}
}

// cycle reports whether a message died in a queue before and came round to it by itself.
func cycle(deaths []any, queue, reason string) bool {
	i := slices.IndexFunc(deaths, func(v any) bool { return v.(channel.Table)["queue"] == queue })
	if i < 0 || reason == "rejected" {
		return false
	}
	return !slices.ContainsFunc(deaths[:i+1], func(v any) bool { return v.(channel.Table)["reason"] == "rejected" })
}

// expireHead removes what has expired from the head of a queue, if anybody looks.
func (b *Broker) expireHead(q *queue) {
	if !b.leftAlone(q) {
		b.takeExpired(q)
	}
}

// expireAtOnce removes what has expired as it came to the head of a queue.
func (b *Broker) expireAtOnce(q *queue) {
	if !b.rules.ExpiresUnattended {
		b.takeExpired(q)
	}
}

// expired reports whether what may be the head of a queue has expired, surely.
func (b *Broker) expired(q *queue) bool {
	return slices.ContainsFunc(q.heads(), func(e *entry) bool { return e.expires != nil && !e.expires.To.After(b.now.From) })
}

// leftAlone reports whether nobody but consumers looks for what has expired in a queue.
func (b *Broker) leftAlone(q *queue) bool { return b.rules.ExpiresUnattended && len(q.consumers) > 0 }

// takeExpired removes what has expired from the head of a queue, as whoever takes from it does.
func (b *Broker) takeExpired(q *queue) {
	for {
		e := b.someHead(q)
		if e == nil || e.expires == nil || e.owed || e.expires.From.After(b.now.To) || b.kept(q) > 0 {
			return
		}
		if !e.instant && e.expires.To.After(b.now.From) && b.branch(2) == 0 {
			return
		}
		if e.instant && b.run.burst && b.rules.TakesFirst {
			return // it is looked at when all of its batch are there
		}
		b.expire(q, e)
	}
}

// clearHead is takeExpired for who takes a message: one that came back from a killed process more often than its queue
// allows is found out then.
func (b *Broker) clearHead(q *queue) {
	limit, has := number(q.args["x-delivery-limit"])
	for {
		b.takeExpired(q)
		e := b.someHead(q)
		if !has || e == nil || e.taken <= int(limit) {
			return
		}
		q.remove(e)
		b.bury(q, e, "delivery_limit")
	}
}

func (b *Broker) expire(q *queue, e *entry) {
	q.remove(e)
	q.change(b.now.To)
	b.bury(q, e, "expired")
}

// heads returns the messages of which any may be the first of a queue. What came in one step by different ways came in no
// known order; what came by the same way came in order.
func (q *queue) heads() (all []*entry) {
	for _, e := range q.ready {
		if len(all) > 0 && (e.level != all[0].level || e.step != all[0].step) {
			break
		}
		if !slices.ContainsFunc(all, func(f *entry) bool { return f.path == e.path }) {
			all = append(all, e)
		}
	}
	return all
}

// someHead returns the head of a queue where nobody can see which it is; nil: there is none.
func (b *Broker) someHead(q *queue) *entry {
	heads := q.heads()
	if len(heads) == 0 {
		return nil
	}
	if len(heads) > 1 {
		b.met("head", q.name, b.serial)
	}
	return heads[b.branch(len(heads))]
}

// change notes that a queue has another head, or other consumers.
func (q *queue) change(at time.Time) {
	if q.changed.Before(at) {
		q.changed = at
	}
}

func (q *queue) remove(e *entry) {
	q.ready = slices.DeleteFunc(slices.Clone(q.ready), func(f *entry) bool { return f == e })
}
