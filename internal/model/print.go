package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// fingerprint is equal for states that behave alike.
func (b *Broker) fingerprint() string {
	var w strings.Builder
	places := map[int][]*entry{} // by incarnation of a queue
	entries := func(q int, e *entry, extra ...any) {
		places[q] = append(places[q], e)
		fmt.Fprintln(&w, e.m, e.level, e.redelivered, e.taken, e.expires, e.step, e.path, extra)
	}
	for _, name := range slices.Sorted(maps.Keys(b.exchanges)) {
		fmt.Fprintln(&w, *b.exchanges[name])
	}
	fmt.Fprintln(&w, b.bindings)
	ids := map[int]string{}
	for _, name := range slices.Sorted(maps.Keys(b.queues)) {
		q := b.queues[name]
		ids[q.id] = name
		fmt.Fprintln(&w, q.name, q.durable, q.autoDelete, q.exclusive, q.owner, q.args, q.used, q.ghost, q.ghostRank, q.woken)
		if b.rules.ExpiresUnattended {
			fmt.Fprintln(&w, q.changed.UnixMicro())
		}
		for _, e := range q.ready {
			entries(q.id, e)
		}
		for _, c := range q.consumers {
			fmt.Fprintln(&w, c.slot, c.tag, c.id == q.active, c.dead)
		}
	}
	all := slices.Collect(maps.Values(b.channels))
	for _, d := range b.dead {
		fmt.Fprintln(&w, d.leases, d.sessions)
		if d.leases != nil {
			all = append(all, d.channels...)
		}
	}
	slices.SortStableFunc(all, func(x, y *client) int { return strings.Compare(x.slot.String(), y.slot.String()) })
	for _, ch := range all {
		fmt.Fprintln(&w, ch.slot, ch.closed, ch.tag, ch.prefetch, ch.all, ch.lastQueue, ch.confirming, ch.published)
		if ch.tx != nil {
			fmt.Fprintln(&w, ch.tx.answers)
			for _, s := range ch.tx.publishes {
				fmt.Fprintln(&w, s.m, s.queues)
			}
		}
		for _, u := range ch.unacked {
			entries(u.id, u.e, u.tag, u.queue, ids[u.id], u.answered)
		}
	}
	for _, l := range b.letters {
		fmt.Fprintln(&w, l.q.name, l.e.m, l.reason, l.at)
	}
	for _, h := range b.delayed {
		fmt.Fprintln(&w, h.m, h.due)
	}
	for _, name := range slices.Sorted(maps.Keys(b.queues)) {
		es := places[b.queues[name].id]
		slices.SortFunc(es, func(x, y *entry) int { return cmp.Compare(x.place, y.place) })
		for _, e := range es {
			fmt.Fprint(&w, e.m, " ")
		}
	}
	return w.String()
}

// String tells a message from others.
func (m *message) String() string {
	return fmt.Sprintf("%s %s %.30s %v %v", m.exchange, m.key, m.p.Body, m.p.Headers["x-death"], m.p.Headers["CC"])
}

// String tells times to the microsecond.
func (s Span) String() string { return fmt.Sprint(s.From.UnixMicro(), "-", s.To.UnixMicro()) }
