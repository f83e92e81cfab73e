package broker

import (
	"context"
	"errors"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// settleItem is an answer on its way to the store.
type settleItem struct {
	msg     *virtual.Message
	receipt virtual.Receipt
	kind    virtual.Kind
	lost    bool // its lease was lost, which has been told
	given   bool // the pump gives it back
	from    *tenure
	dead    *death // instead of an Ack: the message is dead-lettered

	// A message that comes back frees its consumer's window only when it is there: the consumer is to get it before
	// what stands behind it.
	back *consumer
	size int32
}

func (it *settleItem) settlement() virtual.Settlement {
	return virtual.Settlement{Queue: it.msg.Queue, ID: it.msg.ID, Receipt: it.receipt, Kind: it.kind}
}

// settler batches the answers of all channels.
type settler struct {
	combiner[settleItem]
	batch []virtual.Settlement
	asked bool // the batch has been sent before, and was not answered
}

func newSettler(b *Broker) *settler {
	s := &settler{}
	s.combiner = combiner[settleItem]{b: b, run: s.settle, inline: b.quick, batch: batchLimit, bound: 1 << 20}
	return s
}

// add1 leaves one answer. It does not wait: what is unsettled is bounded by what is unacked.
func (s *settler) add1(i settleItem) { _ = s.add(s.b.ctx, i, false) }

// settle brings a batch to the store, again until it is answered. Answers that come late, after the lease was lost, have
// no effect, and that is no error.
func (s *settler) settle(_ context.Context, items []settleItem, try int) bool {
	b := s.b
	s.batch = s.batch[:0]
	for i := range items {
		if items[i].dead == nil {
			s.batch = append(s.batch, items[i].settlement())
		} else if s.inline && try == 0 {
			return false // burying takes long: not on the goroutine of whoever rejected
		}
	}
	var err error
	if len(s.batch) > 0 {
		err = b.store.Settle(b.ctx, s.batch)
		if err != nil && !told(err) && !errors.Is(err, virtual.ErrClosed) {
			b.storeFailed(err)
			s.asked = true
			return false
		}
	}
	k := 0
	for i := range items {
		it := &items[i]
		if it.dead != nil {
			b.bury(b.ctx, []death{*it.dead})
			it.free()
			continue
		}
		// On a later try a stale receipt may be the work of the first, whose answer was lost.
		stale := err != nil && !s.asked && errors.Is(virtual.ItemErr(err, k), virtual.ErrStale)
		k++
		s.answered(it, stale)
		if it.kind == virtual.Requeue || it.kind == virtual.Return {
			b.arrivedAt(it.msg.Queue, true)
		}
	}
	clear(s.batch)
	s.asked = false
	return true
}

// told reports whether an error says what became of each item.
func told(err error) bool {
	_, ok := errors.AsType[*virtual.BatchError](err)
	return ok
}

// answered does what follows an answer that reached the store.
func (s *settler) answered(it *settleItem, stale bool) {
	q := it.from.pump.q
	if it.given {
		it.from.pump.returning.Add(-1)
	}
	if !it.from.lost.Load() && !it.lost {
		it.from.held.Add(-1)
	}
	if stale && !it.lost && !it.from.pump.gone.Load() && it.kind != virtual.Return {
		s.b.tell(channel.Event{Kind: channel.EventLeaseLost, Queue: q.name, Count: 1, Reason: "answered after the lease had run out"})
	}
	if q.limit != nil && (it.kind == virtual.Requeue || it.kind == virtual.Return) {
		s.b.trim(s.b.ctx, q)
	}
	it.free()
}

// free gives the window of a message that came back to its consumer.
func (it *settleItem) free() {
	if it.back == nil {
		return
	}
	p := it.back.port
	p.mu.Lock()
	it.back.answered(int(it.size))
	shared := p.global > 0 || p.globalSize > 0
	p.mu.Unlock()
	it.back.pump.fed()
	if shared {
		p.feedAll()
	}
}

// settled waits until all that was published and answered before has reached the store.
func (b *Broker) settled(ctx context.Context) error {
	if err := b.committer.flush(ctx); err != nil {
		return err
	}
	return b.settler.flush(ctx)
}

// errAnswered says that an error was answered by closing the channel. The call that made it returns nil, as it does
// on a server, which tells later.
var errAnswered = errors.New("answered by closing")

// Settle answers deliveries.
func (p *port) Settle(s channel.Settle) error {
	var few [4]entry
	es, fed, err := p.collect(s, few[:0])
	if err == errAnswered {
		return nil
	}
	if err != nil {
		return err
	}
	for i := range es {
		p.b.answer(&es[i], s.Kind)
	}
	p.feed(es, fed)
	return nil
}

// feeding says which pumps are to hear of room.
type feeding uint8

const (
	feedNone feeding = iota
	feedOwn          // those of the entries
	feedAll          // those of all consumers of the channel, which share a window
)

// collect takes the entries that are answered out of the channel, or notes the answer in its transaction.
func (p *port) collect(s channel.Settle, es []entry) ([]entry, feeding, error) {
	p.mu.Lock()
	if p.closed != nil {
		defer p.mu.Unlock()
		return nil, feedNone, p.closed
	}
	first := p.unacked.find(s.Tag)
	if s.Tag != 0 && first == nil || s.Tag == 0 && !s.Multiple {
		p.mu.Unlock()
		p.fail(fail(channel.PreconditionFailed, s.Method, "unknown delivery tag %d", s.Tag))
		return nil, feedNone, errAnswered
	}
	defer p.mu.Unlock()
	if p.tx != nil {
		p.tx.answer(p, s)
		return nil, feedNone, nil
	}
	back := comesBack(s.Kind)
	if !s.Multiple {
		es = append(es, *first)
		p.unacked.drop(s.Tag)
		if !back {
			p.release(&es[0])
		}
		return es, p.feeds(es), nil
	}
	p.unacked.each(s.Tag, func(tag uint64, e *entry) {
		if e.inTx {
			return
		}
		es = append(es, *e)
		p.unacked.drop(tag)
		if !back {
			p.release(&es[len(es)-1])
		}
	})
	return es, p.feeds(es), nil
}

func comesBack(k channel.SettleKind) bool { return k == channel.Requeue || k == channel.GiveBack }

// release takes an entry out of the windows. p.mu is held.
func (p *port) release(e *entry) {
	if e.consumer != nil {
		e.consumer.answered(int(e.size))
	}
}

// feeds decides which pumps the answers of es feed. p.mu is held.
func (p *port) feeds(es []entry) feeding {
	switch {
	case len(es) == 0:
		return feedNone
	case p.global > 0 || p.globalSize > 0:
		return feedAll
	case len(es) > 1 || es[0].consumer != nil && es[0].consumer.hungry():
		return feedOwn
	}
	return feedNone
}

// feed wakes the pumps that may have stopped for want of the room that es have made.
func (p *port) feed(es []entry, which feeding) {
	switch which {
	case feedAll:
		p.feedAll()
	case feedOwn:
		var last *pump
		for i := range es {
			if c := es[i].consumer; c != nil && c.pump != last {
				last = c.pump
				last.fed()
			}
		}
	}
}

// answer sends an answer on its way.
func (b *Broker) answer(e *entry, kind channel.SettleKind) {
	it := settleItem{msg: e.msg, receipt: e.receipt, from: e.from, lost: e.lost}
	if comesBack(kind) {
		it.back, it.size = e.consumer, e.size
	}
	switch kind {
	case channel.Requeue:
		it.kind = virtual.Requeue
		if limit := e.from.pump.q.args.deliveryLimit; limit >= 0 && int(e.attempt) > limit {
			it.dead = e.death(reasonDeliveryLimit)
		}
	case channel.GiveBack:
		it.kind = virtual.Return
	case channel.Nack:
		if e.from.pump.q.args.hasDLX {
			it.dead = e.death(reasonRejected)
		}
	}
	b.settler.add1(it)
}

// giveBack requeues what a closed channel left.
func (b *Broker) giveBack(es []entry) {
	for i := range es {
		b.answer(&es[i], channel.Requeue)
	}
}

// SettleWait settles one delivery and waits for what the store says of it.
func (p *port) SettleWait(ctx context.Context, s channel.Settle) error {
	p.mu.Lock()
	inTx := p.tx != nil
	p.mu.Unlock()
	if inTx || s.Kind != channel.Ack || s.Multiple {
		if err := p.Settle(s); err != nil {
			return err
		}
		return p.b.settler.flush(ctx)
	}
	es, fed, err := p.collect(s, nil)
	if err == errAnswered {
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.closed
	}
	if err != nil {
		return err
	}
	e := &es[0]
	if err := p.b.settler.flush(ctx); err != nil {
		p.b.answer(e, s.Kind)
		return err
	}
	err = p.b.ackOne(ctx, e)
	p.feed(es, fed)
	if err != nil && !told(err) {
		p.b.answer(e, s.Kind) // not known: the settler goes on trying
		return unstored(s.Method, err)
	}
	if !e.lost {
		e.from.held.Add(-1)
	}
	if err != nil {
		p.b.tell(channel.Event{Kind: channel.EventLeaseLost, Queue: e.msg.Queue.Name, Count: 1, Reason: "acked after the lease had run out"})
		return &channel.Error{Code: channel.PreconditionFailed, Op: s.Method, Text: "the message is held by another consumer", Cause: channel.ErrLeaseLost}
	}
	return nil
}

// ackOne acks one delivery, under a holder again until it is answered. What is stale then is the work of an earlier try as long as the
// holder has not lost its lease: nobody else can have had the message. Without holders nobody could know, and it is sent once.
func (b *Broker) ackOne(ctx context.Context, e *entry) error {
	sent := 0
	ack := func() error {
		sent++
		return b.store.Settle(ctx, []virtual.Settlement{e.settlement(virtual.Ack)})
	}
	if b.holders == nil {
		return ack()
	}
	err := b.persist(ctx, ack)
	if sent == 1 || !errors.Is(err, virtual.ErrStale) || e.lost {
		return err
	}
	refs := []virtual.QueueRef{e.msg.Queue}
	return b.persist(ctx, func() error {
		lost, err := b.holders.Renew(ctx, e.from.holder, refs, b.o.Lease)
		if err == nil && len(lost) > 0 {
			err = (*virtual.BatchError)(nil).Add(0, virtual.ErrStale)
		}
		return err
	})
}

// recover requeues all that is unacked, having said so first.
func (p *port) recover(_ context.Context, m *channel.Recover) error {
	if !m.Requeue {
		return failConn(channel.NotImplemented, "basic.recover", "requeue=false")
	}
	p.mu.Lock()
	if p.closed != nil {
		defer p.mu.Unlock()
		return p.closed
	}
	p.sink.Reply(channel.Reply{Method: m})
	var es []entry
	p.unacked.each(0, func(tag uint64, e *entry) {
		if !e.inTx {
			es = append(es, *e)
			p.unacked.drop(tag)
		}
	})
	p.mu.Unlock()
	p.b.giveBack(es)
	return nil
}
