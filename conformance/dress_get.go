package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// receive is a call that takes: there, with what it waits for there, and back, which nothing interrupts.
func (d *dressed) receive(ctx context.Context, r virtual.GetRequest) ([]virtual.Taken, virtual.GetResult, error) {
	if err := d.travel(ctx); err != nil {
		return nil, virtual.GetResult{}, err
	}
	ts, res, err := d.choose(ctx, r)
	_ = d.travel(context.Background())
	switch {
	case err == nil && len(ts) == 0 && d.ctx.Err() != nil:
		err = virtual.ErrClosed
	case errors.Is(err, context.Canceled):
		err = context.Cause(ctx)
	}
	return ts, res, err
}

// choose takes from the store beneath: where there is a window more than it was asked for, to choose among them. The
// others are put back as if nobody had seen them. Who has lost all that was seen looks again, as a real one's client
// does: none is taken only where nothing is ready.
func (d *dressed) choose(ctx context.Context, r virtual.GetRequest) ([]virtual.Taken, virtual.GetResult, error) {
	if d.p.Window <= 0 && d.p.Conflicts <= 0 {
		ts, res, err := d.s.Get(ctx, r, nil)
		if d.p.Traits.LeaseAtPut && r.Lease > 0 && err == nil {
			err = d.asPut(ctx, ts)
		}
		return ts, res, err
	}
	look := r
	look.Max, look.MaxBytes = r.Max+d.p.Window, 0
	if r.Lease <= 0 {
		look.Lease = time.Minute // until it is known what is to be removed
	}
	until := time.Now().Add(r.Wait)
	for {
		seen, res, err := d.s.Get(ctx, look, nil)
		if err != nil || len(seen) == 0 {
			return nil, res, err
		}
		mine, others := d.part(seen, r)
		// Whatever becomes of the caller: what was seen is not left to its lease.
		settle := context.WithoutCancel(ctx)
		if err := d.s.Settle(settle, answersOf(others, virtual.Return, 0)); err != nil {
			return nil, res, err
		}
		if res.Ready >= 0 {
			res.Ready += len(others)
		}
		if r.Lease <= 0 {
			if err := d.s.Settle(settle, answersOf(mine, virtual.Ack, 0)); err != nil {
				return nil, res, err
			}
		}
		if len(mine) > 0 {
			return mine, res, nil
		}
		if d.travel(ctx) != nil {
			return nil, res, nil
		}
		look.Wait = max(0, time.Until(until))
	}
}

// part chooses what a Get takes of what it has seen.
func (d *dressed) part(seen []virtual.Taken, r virtual.GetRequest) (mine, others []virtual.Taken) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.p.Shuffled {
		d.rand.Shuffle(len(seen), func(i, j int) { seen[i], seen[j] = seen[j], seen[i] })
	}
	size := 0
	for i, t := range seen {
		if d.rand.Float64() < d.p.Conflicts {
			others = append(others, t)
			continue
		}
		size += t.Payload.Size()
		if len(mine) == r.Max || r.MaxBytes > 0 && len(mine) > 0 && size > r.MaxBytes {
			return mine, append(others, seen[i:]...)
		}
		mine = append(mine, t)
	}
	return mine, others
}

// asPut gives each message the lease that it was put with.
func (d *dressed) asPut(ctx context.Context, ts []virtual.Taken) error {
	st := answersOf(ts, virtual.Extend, 0)
	for i, t := range ts {
		st[i].For = t.Lease
		if d.p.Traps {
			st[i].For = trapped
		}
	}
	return d.s.Settle(context.WithoutCancel(ctx), st)
}

// answersOf are the settlements of takings beneath.
func answersOf(ts []virtual.Taken, kind virtual.Kind, d time.Duration) []virtual.Settlement {
	st := make([]virtual.Settlement, len(ts))
	for i, t := range ts {
		st[i] = answer(t, kind, d)
	}
	return st
}

// poll is the one long poll of a queue, and what it has brought for nobody.
type poll struct {
	running bool
	keeping bool // somebody looks after the stash
	want    int  // what the Gets that wait could take
	stash   []kept
	news    chan struct{} // closed when there is something in the stash, or the poll has ended
}

// kept is a message that waits for a Get.
type kept struct {
	virtual.Taken
	at time.Time
}

// polled is a Get of a store with long polls: from the stash, at once, or by way of the queue's poll.
func (d *dressed) polled(ctx context.Context, r virtual.GetRequest) ([]virtual.Taken, virtual.GetResult, error) {
	none := virtual.GetResult{Ready: -1}
	over := time.NewTimer(r.Wait)
	defer over.Stop()
	for {
		stash, news := d.join(r)
		if len(stash) > 0 {
			if ts := d.handOver(stash, r); len(ts) > 0 {
				return ts, none, nil
			}
			continue
		}
		if news == nil {
			return d.receive(ctx, r)
		}
		select {
		case <-news:
			d.leave(r)
		case <-over.C:
			d.leave(r)
			return nil, none, nil
		case <-ctx.Done():
			d.leave(r)
			return nil, none, context.Cause(ctx)
		}
	}
}

// join takes from the stash or, for a Get that waits, makes it one for whom the poll runs.
func (d *dressed) join(r virtual.GetRequest) ([]kept, <-chan struct{}) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.polls[r.Queue]
	if p != nil && len(p.stash) > 0 {
		n, size := 0, 0
		for _, k := range p.stash[:min(r.Max, len(p.stash))] {
			size += k.Payload.Size()
			if n > 0 && r.MaxBytes > 0 && size > r.MaxBytes {
				break
			}
			n++
		}
		ts := p.stash[:n:n]
		p.stash = p.stash[n:]
		return ts, nil
	}
	if r.Wait <= 0 {
		return nil, nil
	}
	if p == nil {
		p = &poll{news: make(chan struct{})}
		d.polls[r.Queue] = p
	}
	p.want += r.Max
	if !p.running {
		p.running = true
		d.calls.Go(func() { d.poll(r.Queue, p) })
	}
	return nil, p.news
}

// leave ends what join began.
func (d *dressed) leave(r virtual.GetRequest) {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.polls[r.Queue]
	p.want -= r.Max
	d.forget(r.Queue, p)
}

// forget drops a poll that is none any more. It is called under the lock.
func (d *dressed) forget(q virtual.QueueRef, p *poll) {
	if !p.running && !p.keeping && p.want == 0 && len(p.stash) == 0 {
		delete(d.polls, q)
	}
}

// poll runs a queue's long poll. Its lease is longer than anything is kept.
func (d *dressed) poll(q virtual.QueueRef, p *poll) {
	d.mu.Lock()
	most := p.want
	d.mu.Unlock()
	if d.p.Traits.MaxBatch > 0 {
		most = min(most, d.p.Traits.MaxBatch)
	}
	ts, _, _ := d.receive(d.ctx, virtual.GetRequest{Queue: q, Max: max(1, most), Wait: d.p.Poll, Lease: d.p.lease(2*d.p.Keep + time.Minute)})
	d.mu.Lock()
	defer d.mu.Unlock()
	p.running = false
	for _, t := range ts {
		p.stash = append(p.stash, kept{t, time.Now()})
	}
	close(p.news)
	p.news = make(chan struct{})
	if len(p.stash) > 0 && !p.keeping {
		p.keeping = true
		d.calls.Go(func() { d.keep(q, p) })
	}
	d.forget(q, p)
}

// keep gives back what no Get has asked for in time. At Close it leaves that to it.
func (d *dressed) keep(q virtual.QueueRef, p *poll) {
	for {
		d.mu.Lock()
		if len(p.stash) == 0 {
			p.keeping = false
			d.forget(q, p)
			d.mu.Unlock()
			return
		}
		first := p.stash[0]
		left := d.p.Keep - time.Since(first.at)
		if left <= 0 {
			p.stash = p.stash[1:]
		}
		d.mu.Unlock()
		if left <= 0 {
			_ = d.s.Settle(context.Background(), []virtual.Settlement{answer(first.Taken, virtual.Requeue, 0)})
			continue
		}
		t := time.NewTimer(left)
		select {
		case <-t.C:
		case <-d.ctx.Done():
			t.Stop()
			return
		}
	}
}

// handOver gives what was kept the lease that a Get asks for. What has lapsed is not there any more.
func (d *dressed) handOver(ks []kept, r virtual.GetRequest) []virtual.Taken {
	ts := make([]virtual.Taken, len(ks))
	for i, k := range ks {
		ts[i] = k.Taken
		ts[i].Age += time.Since(k.at)
	}
	st := answersOf(ts, virtual.Extend, r.Lease)
	if r.Lease <= 0 {
		st = answersOf(ts, virtual.Ack, 0)
	}
	_ = d.travel(context.Background())
	err := d.s.Settle(context.Background(), st)
	_ = d.travel(context.Background())
	mine := ts[:0]
	for i, t := range ts {
		if virtual.ItemErr(err, i) == nil {
			mine = append(mine, t)
		}
	}
	return mine
}

// unstash empties a queue's stash.
func (d *dressed) unstash(q virtual.QueueRef) []virtual.Taken {
	d.mu.Lock()
	defer d.mu.Unlock()
	p := d.polls[q]
	if p == nil {
		return nil
	}
	var ts []virtual.Taken
	for _, k := range p.stash {
		ts = append(ts, k.Taken)
	}
	p.stash = nil
	return ts
}
