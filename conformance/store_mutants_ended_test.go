package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// rewrites has a restart find the messages of the check's queue changed.
func rewrites(s *spoilt, p *ruin, queue string, change func(m *virtual.Message)) {
	s.claims = durable
	p.restart = func() error {
		ctx, q := context.Background(), virtual.QueueRef{Name: queue, Incarnation: "1"}
		ts, _, err := s.Store.Get(ctx, virtual.GetRequest{Queue: q, Max: 100}, nil)
		if err != nil {
			return err
		}
		var ms []*virtual.Message
		for _, t := range ts {
			m := *t.Message
			change(&m)
			ms = append(ms, &m)
		}
		return s.Store.Put(ctx, virtual.PutRequest{Messages: ms})
	}
}

// unreceipted has a Settle do something about what has no receipt of its own.
func unreceipted(s *spoilt, do func(all []virtual.Settlement, at int) error) {
	s.settle = func(ctx context.Context, all []virtual.Settlement) error {
		for i, st := range all {
			if _, foreign := st.Receipt.(foreign); foreign || st.Receipt == nil {
				return do(all, i)
			}
		}
		return s.Store.Settle(ctx, all)
	}
}

var endedMutants = []storeMutant{
	{"a Get waits though its context had ended before", "Context/EndedBefore/Get", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			if ctx.Err() != nil {
				ctx = context.WithoutCancel(ctx)
			}
			return s.Store.Get(ctx, r, buf)
		}
	}},
	{"a Get takes under a context that has ended, and returns nothing", "Context/EndedBefore/Get", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			if ctx.Err() == nil {
				return s.Store.Get(ctx, r, buf)
			}
			r.Wait = 0
			_, res, _ := s.Store.Get(context.WithoutCancel(ctx), r, nil)
			return buf, res, ctx.Err()
		}
	}},
	{"a panic at a receipt of another kind", "Settle/NoReceipt", func(s *spoilt, p *ruin) {
		unreceipted(s, func([]virtual.Settlement, int) error { panic("interface conversion") })
	}},
	{"no receipt fails the whole batch", "Settle/NoReceipt", func(s *spoilt, p *ruin) {
		unreceipted(s, func([]virtual.Settlement, int) error { return errors.New("bad receipt") })
	}},
	{"no receipt ends the batch", "Settle/NoReceipt", func(s *spoilt, p *ruin) {
		unreceipted(s, func(all []virtual.Settlement, at int) error {
			_ = s.Store.Settle(context.Background(), all[:at])
			var failed *virtual.BatchError
			return failed.Add(at, virtual.ErrStale)
		})
	}},
	{"without a receipt the id will do", "Settle/NoReceipt", func(s *spoilt, p *ruin) {
		s.tracks(p)
		settle := s.settle
		s.settle = func(ctx context.Context, all []virtual.Settlement) error {
			all = append([]virtual.Settlement(nil), all...)
			p.Lock()
			for i := range all {
				if all[i].Receipt == nil {
					all[i].Receipt = p.taken[all[i].ID].Receipt
				}
			}
			p.Unlock()
			return settle(ctx, all)
		}
	}},
	{"Ready is 0 where nothing was asked for", "Get/Ready", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			if r.Max == 0 {
				res.Ready = 0
			}
			return ts, res, err
		}
	}},
	{"a TTL not written down", "Durable/Restart", func(s *spoilt, p *ruin) {
		rewrites(s, p, "fields", func(m *virtual.Message) { m.TTL = 0 })
	}},
	{"a TTL written down in seconds", "Durable/Restart", func(s *spoilt, p *ruin) {
		rewrites(s, p, "fields", func(m *virtual.Message) { m.TTL = m.TTL.Truncate(time.Second) })
	}},
	{"a priority not written down", "Durable/Restart", func(s *spoilt, p *ruin) {
		rewrites(s, p, "fields", func(m *virtual.Message) { m.Priority = 0 })
	}},
	{"attempts not written down", "Durable/Restart", func(s *spoilt, p *ruin) {
		s.claims = durable
		if p.restart == nil {
			p.restart = func() error { p.n = 1; return nil }
		}
		s.hands(func(t *virtual.Taken) {
			p.Lock()
			defer p.Unlock()
			if p.n == 1 { // handles of afterwards, too
				t.Attempt = 1
			}
		})
	}},
}
