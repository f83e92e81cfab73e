package conformance

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// refusesPuts has every Put be refused that is none of those that ok names.
func (s *spoilt) refusesPuts(ok func(r virtual.PutRequest) bool) {
	s.put = func(ctx context.Context, r virtual.PutRequest) error {
		if !ok(r) {
			return errors.New("refused")
		}
		return s.Store.Put(ctx, r)
	}
}

func bytesOf(r virtual.PutRequest) (n int) {
	for _, m := range r.Messages {
		n += len(m.Payload.Bytes())
	}
	return n
}

// limits has the store claim MaxBody and refuse items that are larger, as refuse says.
func (s *spoilt) limits(most int, refuse func(ctx context.Context, r virtual.PutRequest, large int) error) {
	s.claims = func(t *virtual.Traits) { t.MaxBody = most }
	s.put = func(ctx context.Context, r virtual.PutRequest) error {
		for i, m := range r.Messages {
			if len(m.Payload.Bytes()) > most {
				return refuse(ctx, r, i)
			}
		}
		return s.Store.Put(ctx, r)
	}
}

var boundMutants = []storeMutant{
	{"one less than MaxBatch in a Put", "Bounds/MaxBatch", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.MaxBatch = 10 }
		s.refusesPuts(func(r virtual.PutRequest) bool { return len(r.Messages) < 10 })
	}},
	{"one less than MaxBatch in a Settle", "Bounds/MaxBatch", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.MaxBatch = 10 }
		s.settle = func(ctx context.Context, all []virtual.Settlement) error {
			return s.Store.Settle(ctx, all[:min(9, len(all))])
		}
	}},
	{"one less than MaxBatchBytes", "Bounds/MaxBatchBytes", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.MaxBatchBytes = 1000 }
		s.refusesPuts(func(r virtual.PutRequest) bool { return bytesOf(r) < 1000 })
	}},
	{"one less than MaxBody", "Put/Body/Large", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.MaxBody = 1000 }
		s.refusesPuts(func(r virtual.PutRequest) bool { return bytesOf(r) < 1000 })
	}},
	{"too large dropped and not told", "Put/TooLarge", func(s *spoilt, p *ruin) {
		s.limits(1000, func(ctx context.Context, r virtual.PutRequest, large int) error {
			return s.Store.Put(ctx, virtual.PutRequest{Messages: r.Messages[:large]})
		})
	}},
	{"too large takes all with it", "Put/TooLarge", func(s *spoilt, p *ruin) {
		s.limits(1000, func(_ context.Context, r virtual.PutRequest, large int) error {
			var failed *virtual.BatchError
			return failed.Add(large, virtual.ErrTooLarge)
		})
	}},
	{"overtakes what was too large", "Put/TooLarge", func(s *spoilt, p *ruin) {
		s.limits(1000, func(ctx context.Context, r virtual.PutRequest, large int) error {
			_ = s.Store.Put(ctx, virtual.PutRequest{Messages: append(r.Messages[:large:large], r.Messages[large+1:]...)})
			var failed *virtual.BatchError
			return failed.Add(large, virtual.ErrTooLarge)
		})
	}},
	{"leases in whole seconds, rounded up", "Bounds/LeaseStep", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) { r.Lease = up(r.Lease, time.Second) })
	}},
	{"leases in whole seconds, rounded down", "Bounds/LeaseStep", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.LeaseStep = time.Second }
		s.gets(func(r *virtual.GetRequest) { r.Lease = r.Lease.Truncate(time.Second) })
	}},
	{"shortest lease shorter", "Bounds/LeaseMin", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.LeaseMin = 2 * time.Second }
		s.gets(func(r *virtual.GetRequest) { r.Lease = max(r.Lease, 4*time.Second) })
	}},
	{"longest lease not extended to", "Bounds/LeaseMax", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.LeaseMax = 12 * time.Hour }
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Extend {
				st.For = min(st.For, 11*time.Hour)
			}
		})
	}},
	{"delays in whole seconds, rounded down", "Bounds/DelayStep", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.DelayStep = time.Second }
		s.messages(func(m *virtual.Message) { m.Delay = m.Delay.Truncate(time.Second) })
	}},
	{"delays up to an hour only", "Bounds/MaxDelay", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.MaxDelay = 2 * time.Hour }
		s.messages(func(m *virtual.Message) { m.Delay = min(m.Delay, time.Second) })
	}},
	{"lease fixed at Put claimed, taken from the Get", "Lease/AtPut", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.LeaseAtPut = true }
	}},
	{"Close gives nothing back", "Lease/WithConnection", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.LeaseEnd = virtual.WithConnection }
	}},
	{"a priority is a wish", "Levels/Ahead", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.Ordered = false }
		s.messages(func(m *virtual.Message) { m.Priority = m.ID[0] })
	}},
	{"a long poll's messages kept for good", "Context/EndsWait", func(s *spoilt, p *ruin) {
		s.over = func(s virtual.Store) virtual.Store {
			for _, p := range Profiles() {
				if p.Poll > 0 {
					p.Keep = 1e5 * time.Hour
					return p.Dress(s)
				}
			}
			return s
		}
	}},
}

// claimsNot has the store keep silent about something that it does.
func claimsNot(check string, hide func(t *virtual.Traits)) storeMutant {
	return storeMutant{"does so unasked: " + check, check, func(s *spoilt, p *ruin) { s.claims = hide }}
}

var unclaimedMutants = []storeMutant{
	claimsNot("Unclaimed/Levels", func(t *virtual.Traits) { t.Levels = 0 }),
	claimsNot("Unclaimed/MaxDelay", func(t *virtual.Traits) { t.MaxDelay = 0 }),
	claimsNot("Unclaimed/TTL", func(t *virtual.Traits) { t.TTL = false }),
	claimsNot("Unclaimed/Marks", func(t *virtual.Traits) { t.Marks = false }),
	claimsNot("Unclaimed/Fences", func(t *virtual.Traits) { t.Fences = false }),
	{"only the delay of a Requeue unasked", "Unclaimed/MaxDelay", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.MaxDelay = 0 }
		s.messages(func(m *virtual.Message) { m.Delay = 0 })
	}},
	{"only the same sequence unasked", "Unclaimed/Marks", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.Marks = false }
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			r.Producer += fmt.Sprint(r.Sequence)
			return s.Store.Put(ctx, r)
		}
	}},
	{"drops what has expired", "Unclaimed/TTL", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.TTL = false }
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			live := buf
			for _, t := range ts[len(buf):] {
				if t.TTL == 0 || t.Age < t.TTL {
					live = append(live, t)
				}
			}
			return live, res, err
		}
	}},
	{"a message's lease unasked", "Unclaimed/LeaseAtPut", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			for _, t := range ts[len(buf):] {
				if t.Lease > 0 {
					_ = s.Store.Settle(ctx, answers(virtual.Extend, t.Lease, t))
				}
			}
			return ts, res, err
		}
	}},
	{"a bound on batches not told", "Unclaimed/MaxBatch", func(s *spoilt, p *ruin) {
		s.refusesPuts(func(r virtual.PutRequest) bool { return len(r.Messages) <= 1024 })
	}},
	{"a bound on a batch's bytes not told", "Unclaimed/MaxBatchBytes", func(s *spoilt, p *ruin) {
		s.refusesPuts(func(r virtual.PutRequest) bool { return bytesOf(r) <= 4<<20 })
	}},
}

// durable has the store claim Durable.
func durable(t *virtual.Traits) { t.Durable = true }

var durableMutants = []storeMutant{
	{"the last process takes the messages with it", "Durable/Reopen", func(s *spoilt, p *ruin) {
		s.claims = durable
		p.n++
		s.closes = func() error {
			if p.n--; p.n == 0 {
				_, _ = s.Store.Purge(context.Background(), virtual.QueueRef{Name: "orders", Incarnation: "1"})
			}
			return s.Store.Close()
		}
	}},
	{"an ack not written down", "Durable/Restart", func(s *spoilt, p *ruin) {
		s.claims = durable
		s.tracks(p)
		acked := []*virtual.Message(nil)
		settle := s.settle
		s.settle = func(ctx context.Context, all []virtual.Settlement) error {
			p.Lock()
			for _, st := range all {
				if st.Kind == virtual.Ack {
					acked = append(acked, p.taken[st.ID].Message)
				}
			}
			p.Unlock()
			return settle(ctx, all)
		}
		if p.restart == nil {
			p.restart = func() error { return s.Store.Put(context.Background(), virtual.PutRequest{Messages: acked}) }
		}
	}},
	{"what was put last not written down", "Durable/Restart", func(s *spoilt, p *ruin) {
		s.claims = durable
		p.restart = func() error {
			_, err := s.Store.Purge(context.Background(), virtual.QueueRef{Name: "others", Incarnation: "1"})
			return err
		}
	}},
}

// loosely has a fault in a store that claims too little for the strict model.
func loosely(fault string, spoil func(s *spoilt, p *ruin)) storeMutant {
	return storeMutant{fault + ", found at random in a store without order", "Model/Loose", func(s *spoilt, p *ruin) {
		spoil(s, p)
		s.claims = func(t *virtual.Traits) {
			t.Ordered, t.ExactSize, t.ExactAttempt, t.StaleTold = false, false, false, false
		}
	}}
}

var looseMutants = []storeMutant{
	loosely("every hundredth message lost", func(s *spoilt, p *ruin) {
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
	}),
	loosely("stale ack honoured", sharesReceipts),
	loosely("lease ends early", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Lease = r.Lease * 9 / 10 }) }),
	loosely("extend without effect", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Extend {
				st.For = min(st.For, time.Second)
			}
		})
	}),
	loosely("ack hides only", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Ack {
				st.Kind, st.For = virtual.Extend, 5*time.Second
			}
		})
	}),
	loosely("a delay given up at a requeue", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Return {
				st.For = 0
			}
		})
	}),
	loosely("return loses", func(s *spoilt, p *ruin) {
		s.settlements(func(st *virtual.Settlement) {
			if st.Kind == virtual.Return {
				st.Kind = virtual.Ack
			}
		})
	}),
	loosely("lease 0 leases", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) { r.Lease = max(r.Lease, time.Second) })
	}),
	{"attempts that a conflict counts", "Model/Loose", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.Ordered = false }
		s.hands(func(t *virtual.Taken) {
			if p.n++; p.n%50 == 0 {
				t.Attempt++
			}
		})
	}},
}

// TestDurableIsTriedWithAndWithoutARestart runs its checks on a sound store.
func TestDurableIsTriedWithAndWithoutARestart(t *testing.T) {
	sound := spoiltConfig(storeMutant{spoil: func(s *spoilt, _ *ruin) { s.claims = durable }}, "Durable/")
	synctest.Test(t, func(t *testing.T) {
		if r := CheckStore(t.Context(), sound); r.Passed != 2 {
			t.Errorf("with a restart: %s", r.Summary())
		}
		sound.Restart = nil
		if r := CheckStore(t.Context(), sound); r.Passed != 1 || r.Skipped != 1 {
			t.Errorf("without: %s", r.Summary())
		}
	})
}

// TestAClaimThatACheckLacksIsTold looks at why checks of what is not claimed do not apply.
func TestAClaimThatACheckLacksIsTold(t *testing.T) {
	c := StoreConfig{Virtual: true, Run: "Unclaimed/Levels", Open: func(T) (func() (virtual.Store, error), error) {
		place := memory.New()
		return func() (virtual.Store, error) { return place.Open(), nil }, nil
	}}
	synctest.Test(t, func(t *testing.T) {
		if r := CheckStore(t.Context(), c); r.Skipped != 1 || !strings.Contains(r.Rows[0].Reason, "Levels is claimed") {
			t.Errorf("%s", r.Summary())
		}
	})
}
