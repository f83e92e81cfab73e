package broker

import (
	"context"
	"errors"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// transaction is what a channel did since tx.select or the last commit or rollback.
type transaction struct {
	publications []*publication
	answers      []txAnswer
}

type txAnswer struct {
	tag  uint64
	kind channel.SettleKind
}

// answer notes answers; their messages stay in the windows until the commit. p.mu is held.
func (t *transaction) answer(p *port, s channel.Settle) {
	if !s.Multiple {
		p.unacked.find(s.Tag).inTx = true
		t.answers = append(t.answers, txAnswer{s.Tag, s.Kind})
		return
	}
	p.unacked.each(s.Tag, func(tag uint64, e *entry) {
		if !e.inTx {
			e.inTx = true
			t.answers = append(t.answers, txAnswer{tag, s.Kind})
		}
	})
}

func (p *port) txSelect() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.confirming {
		return fail(channel.PreconditionFailed, "tx.select", "cannot switch from confirm to tx mode")
	}
	if p.tx == nil {
		p.tx = &transaction{}
	}
	return nil
}

func (p *port) txRollback() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.tx == nil {
		return fail(channel.PreconditionFailed, "tx.rollback", "channel is not transactional")
	}
	for _, a := range p.tx.answers {
		i := (a.tag - p.unacked.base) / segmentSize
		p.unacked.segments[i].slots[(a.tag-p.unacked.base)%segmentSize].inTx = false
	}
	p.tx = &transaction{}
	return nil
}

// txCommit makes everything of the transaction take effect in one step of the store.
func (p *port) txCommit(ctx context.Context) error {
	const op = "tx.commit"
	p.mu.Lock()
	if p.tx == nil {
		defer p.mu.Unlock()
		return fail(channel.PreconditionFailed, op, "channel is not transactional")
	}
	tx := p.tx
	for i := range tx.publications {
		if err := tx.publications[i].tooLarge; err != nil {
			defer p.mu.Unlock()
			return fail(channel.PreconditionFailed, op, "%v", err)
		}
	}
	es := make([]entry, len(tx.answers))
	for i, a := range tx.answers {
		k := (a.tag - p.unacked.base) / segmentSize
		es[i] = p.unacked.segments[k].slots[(a.tag-p.unacked.base)%segmentSize]
	}
	p.mu.Unlock()
	if err := p.b.applyTx(ctx, tx, es, p); err != nil {
		return err
	}
	p.mu.Lock()
	if p.closed != nil {
		defer p.mu.Unlock()
		return p.closed
	}
	p.tx = &transaction{}
	for i := range es {
		p.unacked.drop(tx.answers[i].tag)
		p.release(&es[i])
	}
	fed := p.feeds(es)
	for i := range tx.publications {
		if pub := tx.publications[i]; pub.mandatory && !pub.routed {
			p.sink.Return(returned(pub))
		}
	}
	p.sink.Reply(channel.Reply{Method: &channel.TxCommit{}})
	p.mu.Unlock()
	for i := range es {
		p.b.afterTx(ctx, &es[i], tx.answers[i].kind)
	}
	p.feed(es, fed)
	return nil
}

// dies returns why an answer is the end of its message in the queue, which is buried after the commit; "" where it is not.
func dies(e *entry, kind channel.SettleKind) (reason string) {
	switch args := &e.from.pump.q.args; {
	case kind == channel.Nack && args.hasDLX:
		return reasonRejected
	case kind == channel.Requeue && args.deliveryLimit >= 0 && int(e.attempt) > args.deliveryLimit:
		return reasonDeliveryLimit
	}
	return ""
}

// afterTx does what an answer asks for beside its settlement.
func (b *Broker) afterTx(ctx context.Context, e *entry, kind channel.SettleKind) {
	q := e.from.pump.q
	if reason := dies(e, kind); reason != "" {
		b.bury(ctx, []death{*e.death(reason)})
		return
	}
	if !e.lost {
		e.from.held.Add(-1)
	}
	if kind == channel.Requeue && q.limit != nil {
		b.trim(ctx, q)
	}
}

// applyTx makes the one step. A lease that was lost does not keep the rest from happening; a queue that refuses does.
func (b *Broker) applyTx(ctx context.Context, tx *transaction, es []entry, p *port) error {
	const op = "tx.commit"
	err := b.look(ctx)
	if err == nil && b.guarded {
		err = b.refresh(ctx)
	}
	if err != nil {
		return unstored(op, err)
	}
	stale := map[int]bool{}             // indices of es
	gone := map[virtual.QueueRef]bool{} // queues deleted under way
	if err := b.txProducer.take(ctx); err != nil {
		return err
	}
	defer b.txProducer.give()
	b.txSequence++
	route := true
	for try := 0; ; {
		if route {
			b.routeTx(tx, p)
			route = false // a request that is said again has the same messages
		}
		r, settled := b.txRequest(tx, es, stale, gone)
		if len(r.Messages)+len(r.Settlements) == 0 {
			return nil
		}
		r.Producer, r.Sequence = b.txName, b.txSequence
		evicted, err := b.atomic.Apply(ctx, r, nil)
		if err == nil {
			b.arrived(r.Messages)
			b.bury(b.ctx, b.evictions(evicted))
			return nil
		}
		if errors.Is(err, virtual.ErrGuard) {
			if err = b.outdated(ctx, err, r.Guard); err == nil {
				route = true
				continue
			}
		}
		if told, ok := errors.AsType[*virtual.BatchError](err); ok {
			for _, it := range told.Items {
				switch {
				case it.Index >= len(r.Messages):
					stale[settled[it.Index-len(r.Messages)]] = true
				case errors.Is(it.Err, virtual.ErrNoQueue):
					gone[r.Messages[it.Index].Queue] = true
				default:
					return fail(channel.PreconditionFailed, op, "queue '%s' refused a message: %v", r.Messages[it.Index].Queue.Name, it.Err)
				}
			}
			if _, done := errors.AsType[partly](err); done {
				b.arrived(r.Messages)
				b.bury(b.ctx, b.evictions(evicted))
				return nil
			}
			b.txSequence++ // the outcome of that one is decided
			continue
		}
		if try = b.again(ctx, try, err); try == 0 {
			return unstored(op, err)
		}
	}
}

// routeTx finds on the present view where the messages of a commit go.
func (b *Broker) routeTx(tx *transaction, p *port) {
	for i := range tx.publications {
		if b.route(tx.publications[i], &p.result) != nil {
			tx.publications[i].routed = false // its exchange was deleted since
		}
	}
}

// txRequest makes the request of a commit; settled has the index in es of each settlement.
func (b *Broker) txRequest(tx *transaction, es []entry, stale map[int]bool, gone map[virtual.QueueRef]bool) (r virtual.ApplyRequest, settled []int) {
	for i := range tx.publications {
		pub := tx.publications[i]
		for _, g := range append([]virtual.Revision{pub.guard}, pub.guards...) {
			r.Guard = append(r.Guard, b.guards(g)...)
		}
		if !pub.routed || pub.tooLarge != nil {
			continue
		}
		for _, t := range append([]target{pub.first}, pub.more...) {
			if gone[t.m.Queue] {
				continue
			}
			r.Messages = append(r.Messages, t.m)
			if t.q != nil && t.q.limit != nil {
				r.Limits = b.addLimit(r.Limits, t.q)
			}
		}
	}
	for i := range es {
		kind := tx.answers[i].kind
		if stale[i] || dies(&es[i], kind) != "" {
			continue
		}
		k := virtual.Ack
		switch kind {
		case channel.Requeue:
			k = virtual.Requeue
		case channel.GiveBack:
			k = virtual.Return
		}
		r.Settlements = append(r.Settlements, es[i].settlement(k))
		settled = append(settled, i)
	}
	return r, settled
}
