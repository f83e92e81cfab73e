package broker

import (
	"context"
	"errors"
	"sync"

	"github.com/dashi-mq/dashi/virtual"
)

// trimmer is the fallback of the capability Bounded: it counts a queue that refuses before a Put, and takes from the head
// of the others after it. Processes that publish to one queue at once may exceed its limit for a moment, by no more
// than their batches; it never removes more than is over the limit. That needs exact sizes: where the trait ExactSize
// does not hold, limits are refused at the declaration.
type trimmer struct {
	b *Broker

	mu   sync.Mutex
	full map[string]outcome // by producer: what its last request was refused
}

// outcome is what a request was refused: a repeated one must be the same.
type outcome struct {
	sequence uint64
	refused  *virtual.BatchError
}

func newTrimmer(b *Broker) *trimmer { return &trimmer{b: b, full: map[string]outcome{}} }

func (t *trimmer) PutBounded(ctx context.Context, r virtual.PutRequest, limits []virtual.Limit, evicted []virtual.Taken) ([]virtual.Taken, error) {
	refused, err := t.refuse(ctx, &r, limits)
	if err != nil {
		return evicted, err
	}
	if err := t.put(ctx, r, refused); err != nil && !told(err) {
		return evicted, err
	} else if err != nil {
		refused = joined(refused, err)
	}
	for i := range limits {
		if l := &limits[i]; !l.Reject && l.MaxLen >= 0 {
			evicted = t.trim(ctx, l, evicted)
		}
	}
	return evicted, refused.Or()
}

// refuse names the messages that their queues have no room for.
func (t *trimmer) refuse(ctx context.Context, r *virtual.PutRequest, limits []virtual.Limit) (*virtual.BatchError, error) {
	t.mu.Lock()
	last, known := t.full[r.Producer]
	t.mu.Unlock()
	if known && r.Producer != "" && last.sequence == r.Sequence {
		return last.refused, nil
	}
	room := map[virtual.QueueRef]int{}
	for _, l := range limits {
		if !l.Reject || l.MaxLen < 0 {
			continue
		}
		n, err := t.b.store.Size(ctx, l.Queue)
		if err != nil {
			return nil, err
		}
		room[l.Queue] = l.MaxLen - n
	}
	var refused *virtual.BatchError
	for i, m := range r.Messages {
		left, bounded := room[m.Queue]
		if !bounded || m.Delay > 0 {
			continue
		}
		if left <= 0 {
			refused = refused.Add(i, virtual.ErrFull)
		}
		room[m.Queue] = left - 1
	}
	if r.Producer != "" {
		t.mu.Lock()
		t.full[r.Producer] = outcome{r.Sequence, refused}
		t.mu.Unlock()
	}
	return refused, nil
}

// put stores what is not refused. The indices of its error are those of the whole request.
func (t *trimmer) put(ctx context.Context, r virtual.PutRequest, refused *virtual.BatchError) error {
	if refused != nil {
		var at []int
		var rest []*virtual.Message
		for i, m := range r.Messages {
			if virtual.ItemErr(refused, i) == nil {
				at, rest = append(at, i), append(rest, m)
			}
		}
		r.Messages = rest
		if len(rest) == 0 {
			return nil
		}
		err := t.b.store.Put(ctx, r)
		failed, isBatch := errors.AsType[*virtual.BatchError](err)
		if !isBatch {
			return err
		}
		moved := &virtual.BatchError{}
		for _, it := range failed.Items {
			moved = moved.Add(at[it.Index], it.Err)
		}
		return moved
	}
	if len(r.Messages) == 0 {
		return nil
	}
	return t.b.store.Put(ctx, r)
}

// joined merges the failures of two disjoint sets of items, in the order of their indices.
func joined(a *virtual.BatchError, err error) *virtual.BatchError {
	b, _ := errors.AsType[*virtual.BatchError](err)
	if a == nil {
		return b
	}
	var all *virtual.BatchError
	i, k := 0, 0
	for i < len(a.Items) || k < len(b.Items) {
		if k == len(b.Items) || i < len(a.Items) && a.Items[i].Index < b.Items[k].Index {
			all = all.Add(a.Items[i].Index, a.Items[i].Err)
			i++
			continue
		}
		all = all.Add(b.Items[k].Index, b.Items[k].Err)
		k++
	}
	return all
}

// trim takes what is over the limit from the head of the queue. Another process may do the same at this moment: what
// both took is too much, so that each looks again and gives back what the queue lacks then. A failure leaves the queue
// too long until the next Put: what was put is stored, and that is what counts.
func (t *trimmer) trim(ctx context.Context, l *virtual.Limit, evicted []virtual.Taken) []virtual.Taken {
	b := t.b
	n, err := b.store.Size(ctx, l.Queue)
	for err == nil && n > l.MaxLen {
		var taken []virtual.Taken
		taken, _, err = b.store.Get(ctx, virtual.GetRequest{
			Queue: l.Queue, Max: min(n-l.MaxLen, b.getLimit), Lease: b.o.Lease, Need: virtual.NeedAge | virtual.NeedAttempt,
		}, nil)
		if err != nil || len(taken) == 0 {
			break
		}
		keep := len(taken)
		if n, err = b.store.Size(ctx, l.Queue); err == nil {
			keep -= min(keep, max(0, l.MaxLen-n))
		}
		b.giveBackTaken(ctx, taken[keep:])
		taken = taken[:keep]
		b.complete(taken, b.top.queueOf(l.Queue))
		if l.Holder != "" {
			evicted = append(evicted, taken...)
			continue
		}
		_ = b.insist(ctx, settlements(taken, virtual.Ack))
	}
	b.storeFailed(err)
	return evicted
}

// giveBackTaken returns messages that nobody has seen, at once.
func (b *Broker) giveBackTaken(ctx context.Context, taken []virtual.Taken) {
	if len(taken) > 0 {
		_ = b.insist(ctx, settlements(taken, virtual.Return))
	}
}

func settlements(taken []virtual.Taken, k virtual.Kind) []virtual.Settlement {
	s := make([]virtual.Settlement, len(taken))
	for i := range taken {
		s[i] = settlementOf(&taken[i], k)
	}
	return s
}
