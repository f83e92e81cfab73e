package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// backOf settles a Requeue by an ack and a Put.
func backOf(s *spoilt) {
	s.settle = func(ctx context.Context, all []virtual.Settlement) error {
		var failed *virtual.BatchError
		for i, st := range all {
			if st.Kind == virtual.Requeue {
				m := s.messagesOf[st.ID]
				st.Kind = virtual.Ack
				if err := virtual.ItemErr(s.Store.Settle(ctx, []virtual.Settlement{st}), 0); err != nil {
					failed = failed.Add(i, err)
				} else if err := s.Store.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{m}}); err != nil {
					return err
				}
				continue
			}
			if err := virtual.ItemErr(s.Store.Settle(ctx, []virtual.Settlement{st}), 0); err != nil {
				failed = failed.Add(i, err)
			}
		}
		return failed.Or()
	}
}

var leaseMutants = []storeMutant{
	{"lease ends late", "Lease/RunsOut", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Lease *= 2 }) }},
	{"lease ends early", "Lease/Extend", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Lease /= 2 }) }},
	{"lease never ends", "Lease/RunsOut/InOrder", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) {
			if r.Lease > 0 {
				r.Lease = 1e6 * time.Hour
			}
		})
	}},
	{"one lease for all", "Lease/RunsOut/Each", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) {
			p.Lock()
			defer p.Unlock()
			p.n = max(p.n, int(r.Lease))
			r.Lease = time.Duration(p.n)
		})
	}},
	{"one receipt for all takings of a message", "Lease/Stale", func(s *spoilt, p *ruin) { sharesReceipts(s, p) }},
	{"stale ack honoured", "Lease/Stale/Again", func(s *spoilt, p *ruin) { sharesReceipts(s, p) }},
	{"stale not told", "Settle/Batch/HalfStale", func(s *spoilt, p *ruin) {
		s.settle = func(ctx context.Context, all []virtual.Settlement) error {
			_ = s.Store.Settle(ctx, all)
			return nil
		}
	}},
	{"batch ends at a stale receipt", "Settle/Batch/HalfStale", func(s *spoilt, p *ruin) {
		s.settle = func(ctx context.Context, all []virtual.Settlement) error {
			for i := range all {
				if err := s.Store.Settle(ctx, all[i:i+1]); err != nil {
					var failed *virtual.BatchError
					return failed.Add(i, virtual.ItemErr(err, 0))
				}
			}
			return nil
		}
	}},
	{"requeue lost", "Settle/Requeue/Comes", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Requeue {
				st.Kind = virtual.Ack
			}
		})
	}},
	{"requeue to the back", "Settle/Requeue/Place", func(s *spoilt, p *ruin) { remembers(s); backOf(s) }},
	{"requeue at once, whatever For", "Settle/Requeue/For", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind != virtual.Extend {
				st.For = 0
			}
		})
	}},
	{"return counted", "Settle/Requeue/Attempt", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Return {
				st.Kind = virtual.Requeue
			}
		})
	}},
	{"attempt is always 1", "Lease/RunsOut", func(s *spoilt, p *ruin) { s.hands(func(t *virtual.Taken) { t.Attempt = 1 }) }},
	{"extend without effect", "Lease/Extend", func(s *spoilt, p *ruin) {
		s.settle = func(ctx context.Context, all []virtual.Settlement) error {
			return s.Store.Settle(ctx, slices.DeleteFunc(slices.Clone(all), func(st virtual.Settlement) bool { return st.Kind == virtual.Extend }))
		}
	}},
	{"extend for ever", "Lease/Extend/Ends", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Extend {
				st.For = 1e6 * time.Hour
			}
		})
	}},
	{"ack hides only", "Settle/Ack", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Ack {
				st.Kind, st.For = virtual.Extend, time.Second
			}
		})
	}},
	{"requeue to the back, found at random", "Model/Random", func(s *spoilt, p *ruin) { remembers(s); backOf(s) }},
	{"every hundredth message lost, found at random", "Model/Random", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			p.Lock()
			defer p.Unlock()
			for range r.Messages {
				if p.n++; p.n%100 == 0 {
					return nil
				}
			}
			return s.Store.Put(ctx, r)
		}
	}},
}

// remembers has the handle know all messages that it handed out.
func remembers(s *spoilt) {
	s.messagesOf = map[virtual.ID]*virtual.Message{}
	s.hands(func(t *virtual.Taken) { s.messagesOf[t.ID] = t.Message })
}

// sharesReceipts has a message's receipt be that of its latest taking, whoever shows an older one.
func sharesReceipts(s *spoilt, p *ruin) {
	s.hands(func(t *virtual.Taken) {
		p.Lock()
		defer p.Unlock()
		p.receipts[t.ID] = t.Receipt
	})
	s.settlements(func(st *virtual.Settlement) {
		p.Lock()
		defer p.Unlock()
		st.Receipt = p.receipts[st.ID]
	})
}

var traitMutants = []storeMutant{
	{"priority ignored", "Levels/Order", func(s *spoilt, p *ruin) { s.messages(func(m *virtual.Message) { m.Priority = 0 }) }},
	{"two priorities only", "Levels/Order", func(s *spoilt, p *ruin) {
		s.messages(func(m *virtual.Message) { m.Priority = min(m.Priority, 1) })
	}},
	{"delay ignored", "Delay/Hides", func(s *spoilt, p *ruin) { s.messages(func(m *virtual.Message) { m.Delay = 0 }) }},
	{"TTL forgotten", "TTL/Carried", func(s *spoilt, p *ruin) { s.messages(func(m *virtual.Message) { m.TTL = 0 }) }},
	{"TTL in whole seconds", "TTL/Carried", func(s *spoilt, p *ruin) {
		s.messages(func(m *virtual.Message) { m.TTL = m.TTL.Truncate(time.Second) })
	}},
	{"age since it was last taken", "Age/SincePut", func(s *spoilt, p *ruin) {
		s.hands(func(t *virtual.Taken) {
			if t.Attempt > 1 {
				t.Age = 0
			}
		})
	}},
	{"fence ignored", "Fences/Lower", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Fence = 0 }) }},
	{"mark forgotten", "Marks/Repeat", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			r.Producer = ""
			return s.Store.Put(ctx, r)
		}
	}},
	{"mark of the handle", "Marks/Repeat", func(s *spoilt, p *ruin) {
		p.n++
		handle := fmt.Sprint(p.n)
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			r.Producer += handle
			return s.Store.Put(ctx, r)
		}
	}},
	{"mark without outcome", "Marks/Outcome", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			p.Lock()
			defer p.Unlock()
			key := fmt.Sprint(r.Producer, r.Sequence)
			if p.outcomes[key] {
				return nil
			}
			p.outcomes[key] = r.Producer != ""
			return s.Store.Put(ctx, r)
		}
	}},
	{"lower sequence taken for a repeat", "Marks/Lower", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			if err := s.Store.Put(ctx, r); !errors.Is(err, virtual.ErrSequence) {
				return err
			}
			return nil
		}
	}},
	{"guard ignored", "Guards/Differ", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			r.Guard = nil
			return s.Store.Put(ctx, r)
		}
	}},
	{"guard checked before, not in the same step", "Guards/Race", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			if err := s.Store.Put(ctx, virtual.PutRequest{Guard: r.Guard}); err != nil {
				return err
			}
			time.Sleep(time.Millisecond)
			r.Guard = nil
			return s.Store.Put(ctx, r)
		}
	}},
	{"guard leaves a mark", "Guards/NoMark", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			err := s.Store.Put(ctx, r)
			if errors.Is(err, virtual.ErrGuard) {
				_ = s.Store.Put(ctx, virtual.PutRequest{Producer: r.Producer, Sequence: r.Sequence})
			}
			return err
		}
	}},
}
