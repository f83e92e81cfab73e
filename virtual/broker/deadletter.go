package broker

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// Reasons of a death, as x-death names them (https://www.rabbitmq.com/dlx.html).
const (
	reasonRejected      = "rejected"
	reasonExpired       = "expired"
	reasonMaxLen        = "maxlen"
	reasonDeliveryLimit = "delivery_limit"
)

// death is a message that leaves its queue by a rule. taken.Receipt is nil when the queue never had it; from is nil
// when no pump holds it.
type death struct {
	taken  virtual.Taken
	q      *queueState
	from   *tenure
	reason string
}

// bury drops or dead-letters messages, in order. What that pushes out of full queues is buried with them. While the store
// fails it is tried again, until ctx ends.
func (b *Broker) bury(ctx context.Context, dead []death) {
	for try := 0; len(dead) > 0 && ctx.Err() == nil; {
		pushed, err := b.buryOne(ctx, &dead[0])
		if err != nil {
			b.storeFailed(err)
			try = b.pause(try)
			continue
		}
		try = 0
		dead = append(dead[1:], pushed...)
	}
	b.unhold(dead)
}

// burySoon is bury on the goroutine of a publisher, who is not to wait for a store that fails: then it goes on in the
// background.
func (b *Broker) burySoon(dead []death) {
	for len(dead) > 0 {
		pushed, err := b.buryOne(b.ctx, &dead[0])
		if err != nil {
			b.storeFailed(err)
			b.spawn(func() { b.bury(b.ctx, dead) })
			return
		}
		dead = append(dead[1:], pushed...)
	}
}

// unhold stops counting messages as held.
func (b *Broker) unhold(dead []death) {
	for i := range dead {
		if from := dead[i].from; from != nil {
			from.held.Add(-1)
		}
	}
}

// buryOne puts the dead letter and settles the original in one step. It returns what the dead letter pushed out, or why
// it is not known whether it happened.
func (b *Broker) buryOne(ctx context.Context, d *death) (pushed []death, err error) {
	var settle []virtual.Settlement
	if d.taken.Receipt != nil {
		settle = []virtual.Settlement{settlementOf(&d.taken, virtual.Ack)}
	}
	if !d.q.args.hasDLX {
		return nil, b.drop(ctx, d, settle)
	}
	letter := deadLetter(contentOf(d.taken.Payload, nil), d)
	b.stamp(letter.content)
	var refused []virtual.QueueRef // queues that do not take it
	var passed []death             // what those of them dead-letter in turn
	if err := b.look(ctx); err != nil {
		return nil, err
	}
	if b.top.queueOf(d.taken.Queue) == nil { // deleted with all its messages
		b.unhold([]death{*d})
		return nil, nil
	}
	for fresh := false; ; {
		r, targets := b.address(letter, d, refused)
		r.Settlements = settle
		if len(r.Messages) == 0 && !fresh { // it leads nowhere, as far as we know
			if err := b.refresh(ctx); err != nil {
				return nil, err
			}
			fresh = true
			continue
		}
		if len(r.Messages) == 0 {
			return passed, b.drop(ctx, d, settle)
		}
		evicted, err := b.atomic.Apply(ctx, r, nil)
		switch {
		case err == nil:
			b.unhold([]death{*d})
			b.arrived(r.Messages)
			return append(b.evictions(evicted), passed...), nil
		case errors.Is(err, virtual.ErrGuard):
			if err := b.outdated(ctx, err, r.Guard); err != nil {
				return nil, err
			}
		case errors.Is(err, virtual.ErrStale):
			b.unhold([]death{*d})
			return nil, nil // it went to somebody else: he decides
		default:
			told, ok := errors.AsType[*virtual.BatchError](err)
			if !ok {
				return nil, err
			}
			for _, it := range told.Items {
				if it.Index >= len(targets) {
					continue
				}
				refused = append(refused, targets[it.Index])
				if q := b.passes(targets[it.Index]); q != nil && errors.Is(it.Err, virtual.ErrFull) {
					passed = append(passed, death{taken: virtual.Taken{Message: r.Messages[it.Index], Attempt: 1}, q: q, reason: reasonMaxLen})
				}
			}
			if _, done := errors.AsType[partly](err); done {
				b.unhold([]death{*d})
				b.arrived(r.Messages)
				return append(b.evictions(evicted), passed...), nil
			}
		}
	}
}

// passes returns the queue if it dead-letters what it refuses.
func (b *Broker) passes(ref virtual.QueueRef) *queueState {
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	if q := b.top.live[ref.Incarnation]; q != nil && q.args.rejectDLX && q.args.hasDLX {
		return q
	}
	return nil
}

// drop removes a message that leaves no letter.
func (b *Broker) drop(ctx context.Context, d *death, settle []virtual.Settlement) error {
	if settle != nil {
		if err := b.store.Settle(ctx, settle); err != nil && !told(err) && !errors.Is(err, virtual.ErrClosed) {
			return err
		}
	}
	b.unhold([]death{*d})
	return nil
}

// insist settles, again until it is answered or ctx ends. What is stale is so for others to answer, and no error.
func (b *Broker) insist(ctx context.Context, settle []virtual.Settlement) error {
	for try := 0; ctx.Err() == nil; {
		err := b.store.Settle(ctx, settle)
		if err == nil || told(err) || errors.Is(err, virtual.ErrClosed) {
			return nil
		}
		b.storeFailed(err)
		try = b.pause(try)
	}
	return ctx.Err()
}

// address routes a dead letter. One that is about to enter a queue it died in before, with nobody having rejected it on
// the way round, is not put there again.
func (b *Broker) address(letter *letter, d *death, refused []virtual.QueueRef) (virtual.ApplyRequest, []virtual.QueueRef) {
	var r virtual.ApplyRequest
	var targets []virtual.QueueRef
	var result exchange.Result
	c := letter.content
	t := b.top
	t.mu.RLock()
	defer t.mu.RUnlock()
	if c.Exchange != "" {
		x := t.exchanges[c.Exchange]
		if x == nil {
			return r, nil
		}
		if delay := delayOf(c.Headers); x.delayed() && delay > 0 {
			m := &virtual.Message{Queue: delayedQueue, ID: deadID(d, delayedQueue), Delay: b.delayAtPut(delay), Lease: b.putLease, Payload: c}
			r.Messages, r.Guard = []*virtual.Message{m}, b.guards(x.guard)
			return r, []virtual.QueueRef{delayedQueue}
		}
	}
	m := exchange.Message{Key: c.Key, CC: letter.cc, Headers: c.Headers, MessageID: c.MessageId, CorrelationID: c.CorrelationId, Timestamp: c.Timestamp}
	t.routes.Route(&result, c.Exchange, &m)
	for _, x := range result.Exchanges {
		r.Guard = append(r.Guard, b.guards(x.Data.(*exchangeState).guard)...)
	}
	for _, name := range result.Missing {
		r.Guard = append(r.Guard, b.guards(virtual.Revision{Key: keyExchange + name})...)
	}
	for _, node := range result.Queues {
		q := node.Data.(*queueState)
		if c.Exchange == "" {
			r.Guard = append(r.Guard, b.guards(q.guard)...)
		}
		if slices.Contains(refused, q.ref) || letter.cycles(q.name) {
			continue
		}
		r.Messages = append(r.Messages, &virtual.Message{
			Queue: q.ref, ID: deadID(d, q.ref), Priority: q.args.priority(c.Priority), TTL: b.ttlAtPut(q.args.ttl, -1),
			Lease: b.putLease, Payload: c,
		})
		targets = append(targets, q.ref)
		if q.limit != nil {
			r.Limits = b.addLimit(r.Limits, q)
		}
	}
	return r, targets
}

// guards are the guards of a request, where the store checks them.
func (b *Broker) guards(r virtual.Revision) []virtual.Revision {
	if !b.guarded || r.Key == "" {
		return nil
	}
	return []virtual.Revision{r}
}

// deadID makes the same id for the same death, so that putting it twice is putting it once, whoever does it and however
// often the message has been taken for that.
func deadID(d *death, to virtual.QueueRef) (id virtual.ID) {
	h := sha256.New()
	h.Write(d.taken.ID[:])
	for _, s := range [...]string{d.taken.Queue.Name, d.taken.Queue.Incarnation, d.reason, to.Name, to.Incarnation} {
		h.Write(binary.BigEndian.AppendUint32(nil, uint32(len(s))))
		h.Write([]byte(s))
	}
	copy(id[:], h.Sum(nil))
	return id
}

// letter is a dead-lettered message.
type letter struct {
	content *content.Message
	cc      []string
	deaths  []any // its x-death
	reason  string
}

// cycles reports whether the letter has died in the queue before and came round by itself.
func (l *letter) cycles(queue string) bool {
	if l.reason == reasonRejected {
		return false
	}
	for _, e := range l.deaths {
		t, _ := e.(channel.Table)
		if t["reason"] == reasonRejected {
			return false
		}
		if t["queue"] == queue {
			return true
		}
	}
	return false
}

// deadLetter makes the letter: the old message with its death written in, for the dead-letter exchange.
func deadLetter(m *content.Message, d *death) *letter {
	h := channel.CloneTable(m.Headers)
	if h == nil {
		h = channel.Table{}
	}
	cc := keysOf(h["CC"])
	keys := []any{m.Key}
	for _, k := range cc {
		keys = append(keys, k)
	}
	info := channel.Table{
		"count": int64(1), "reason": d.reason, "queue": d.q.name, "time": time.Unix(time.Now().Unix(), 0).UTC(),
		"exchange": m.Exchange, "routing-keys": keys,
	}
	if m.Expiration != "" {
		info["original-expiration"] = m.Expiration
	}
	deaths := addDeath(h, info)
	l := &letter{deaths: deaths, reason: d.reason, cc: append(cc, m.BCC...)}
	c := m.Clone()
	c.Exchange = d.q.args.dlx
	c.Expiration = ""
	if d.q.args.hasDLKey {
		c.Key, c.BCC, l.cc = d.q.args.dlKey, nil, nil
		delete(h, "CC")
	}
	c.Headers = h
	l.content = c
	return l
}

// addDeath writes a death into the headers, newest first, one entry per queue and reason.
func addDeath(h channel.Table, info channel.Table) []any {
	old, isArray := h["x-death"].([]any)
	if !isArray {
		for _, k := range [...]string{"exchange", "queue", "reason"} {
			if _, set := h["x-first-death-"+k]; !set {
				h["x-first-death-"+k] = info[k]
			}
		}
	}
	deaths := []any{info}
	for _, e := range old {
		t, isTable := e.(channel.Table)
		if isTable && t["queue"] == info["queue"] && t["reason"] == info["reason"] {
			n, _ := integer(t["count"])
			t["count"] = n + 1
			deaths[0] = t
			continue
		}
		deaths = append(deaths, e)
	}
	h["x-death"] = deaths
	return deaths
}

func keysOf(v any) []string {
	a, _ := v.([]any)
	var keys []string
	for _, k := range a {
		if s, ok := k.(string); ok {
			keys = append(keys, s)
		}
	}
	return keys
}

// expire buries what has expired while nobody consumed, without waiting for it.
func (b *Broker) expire(ctx context.Context, r virtual.ExpireRequest) {
	r.Wait = 0
	for {
		taken, _, err := b.expirer.Expire(ctx, r, nil)
		if err != nil || len(taken) == 0 {
			return
		}
		b.bury(ctx, b.expiries(taken))
	}
}

func (b *Broker) expiries(taken []virtual.Taken) []death {
	b.top.mu.RLock()
	defer b.top.mu.RUnlock()
	var dead []death
	for _, t := range taken {
		if q := b.top.live[t.Queue.Incarnation]; q != nil {
			dead = append(dead, death{taken: t, q: q, reason: reasonExpired})
		}
	}
	return dead
}

// trim has a queue keep its limit after something came back to it.
func (b *Broker) trim(ctx context.Context, q *queueState) {
	limits := b.addLimit(nil, q)
	var evicted []virtual.Taken
	err := b.persist(ctx, func() (err error) { // evicted by a try that was not answered, they come back when their lease ends
		evicted, err = b.bounded.PutBounded(ctx, virtual.PutRequest{}, limits, nil)
		return err
	})
	if err != nil {
		return
	}
	b.bury(ctx, b.evictions(evicted))
}
