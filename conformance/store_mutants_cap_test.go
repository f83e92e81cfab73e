package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var capabilityMutants = []storeMutant{
	{"update makes the changes that fit", "Registry/AllOrNothing", func(s *spoilt, p *ruin) {
		s.update = func(ctx context.Context, session string, all []virtual.Change) (uint64, error) {
			rev, err := s.Store.Update(ctx, session, all)
			if errors.Is(err, virtual.ErrConflict) {
				for _, c := range all {
					_, _ = s.Store.Update(ctx, session, []virtual.Change{c})
				}
			}
			return rev, err
		}
	}},
	{"compare, then set", "Registry/Race", func(s *spoilt, p *ruin) {
		s.update = func(ctx context.Context, session string, all []virtual.Change) (uint64, error) {
			var checks []virtual.Change
			all = slices.Clone(all)
			for i, c := range all {
				checks = append(checks, virtual.Change{Key: c.Key, Op: virtual.Check, If: c.If})
				all[i].If = virtual.Any
			}
			if _, err := s.Store.Update(ctx, session, checks); err != nil {
				return 0, err
			}
			yield()
			return s.Store.Update(ctx, session, all)
		}
	}},
	{"deletions not told", "Registry/Changes", func(s *spoilt, p *ruin) {
		s.changes = func(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
			recs, rev, reset, err := s.Store.Changes(ctx, since, wait)
			return slices.DeleteFunc(recs, func(r virtual.Record) bool { return r.Deleted }), rev, reset, err
		}
	}},
	{"changes do not wait", "Registry/Changes/Waits", func(s *spoilt, p *ruin) {
		s.changes = func(ctx context.Context, since uint64, _ time.Duration) ([]virtual.Record, uint64, bool, error) {
			return s.Store.Changes(ctx, since, 0)
		}
	}},
	{"to go on from a revision too far", "Registry/Changes/Follows", func(s *spoilt, p *ruin) {
		s.changes = func(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
			recs, rev, reset, err := s.Store.Changes(ctx, since, wait)
			if err == nil && len(recs) > 0 {
				rev++
			}
			return recs, rev, reset, err
		}
	}},
	{"records outlive their session", "Sessions/ByTime", func(s *spoilt, p *ruin) {
		s.update = func(ctx context.Context, session string, all []virtual.Change) (uint64, error) {
			all = slices.Clone(all)
			for i := range all {
				all[i].Session = ""
			}
			return s.Store.Update(ctx, session, all)
		}
	}},
	{"session opened again", "Sessions/NeverAgain", func(s *spoilt, p *ruin) {
		s.alive = func(ctx context.Context, session string, ttl time.Duration) error {
			if err := s.Store.KeepAlive(ctx, session, ttl); !errors.Is(err, virtual.ErrSession) {
				return err
			}
			return nil
		}
	}},
	{"session never renewed", "Sessions/Renewed", func(s *spoilt, p *ruin) {
		s.alive = func(ctx context.Context, session string, ttl time.Duration) error {
			p.Lock()
			defer p.Unlock()
			if p.outcomes[session] {
				return nil
			}
			p.outcomes[session] = true
			return s.Store.KeepAlive(ctx, session, ttl)
		}
	}},
	{"a Take said again takes anew", "Again/Same", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) { p.fresh(r, true) })
	}},
	{"a late original takes", "Again/LateOriginal", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) { p.fresh(r, false) })
	}},
	{"a Take said again takes more", "Again/NothingMore", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			if r.Again && err == nil && len(ts)-len(buf) < r.Max {
				r.Max -= len(ts) - len(buf)
				r.Holder = ""
				return s.Store.Get(ctx, r, ts)
			}
			return ts, res, err
		}
	}},
	{"attempt counts a Take said again", "Again/Same", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			for i := len(buf); i < len(ts) && r.Again; i++ {
				ts[i].Attempt++
			}
			return ts, res, err
		}
	}},
	{"lost holder comes back under its name", "Holders/Lost", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			if errors.Is(err, virtual.ErrHolder) {
				r.Holder, r.Take = r.Holder+"'", 1
				return s.Store.Get(ctx, r, buf)
			}
			return ts, res, err
		}
	}},
	{"renew renews the first queue only", "Holders/Renew", func(s *spoilt, p *ruin) {
		s.renew = func(ctx context.Context, holder string, qs []virtual.QueueRef, d time.Duration) ([]virtual.QueueRef, error) {
			return s.Store.Renew(ctx, holder, qs[:min(1, len(qs))], d)
		}
	}},
	{"every eighth wake-up lost", "Notifier/NoneLost", func(s *spoilt, p *ruin) {
		s.notify = func(ctx context.Context, w string, ready chan<- struct{}, wake func(virtual.QueueRef)) error {
			return s.Store.Notify(ctx, w, ready, func(q virtual.QueueRef) {
				p.Lock()
				p.n++
				drop := p.n%8 == 0
				p.Unlock()
				if !drop {
					wake(q)
				}
			})
		}
	}},
	{"wakes only who found nothing", "Notifier/TookLess", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			if r.Park != "" && len(ts) > len(buf) {
				_, _, _ = s.Store.Get(ctx, virtual.GetRequest{Queue: r.Queue, Park: r.Park}, nil)
			}
			return ts, res, err
		}
	}},
	{"never struck out", "Notifier/StruckOut", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			if r.Park != "" && r.Max == 0 {
				return buf, virtual.GetResult{Ready: -1}, nil
			}
			return s.Store.Get(ctx, r, buf)
		}
	}},
	{"consumers' priorities ignored", "Ranked/HigherFirst", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Rooms = nil }) }},
	{"expired messages are dropped", "Expirer/Leased", func(s *spoilt, p *ruin) {
		s.expire = func(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
			ts, next, err := s.Store.Expire(ctx, r, buf)
			_ = s.Store.Settle(ctx, answers(virtual.Ack, 0, ts[len(buf):]...))
			return ts, next, err
		}
	}},
	{"evicted messages are not leased", "Bounded/Holder", func(s *spoilt, p *ruin) {
		s.bounded = func(ctx context.Context, r virtual.PutRequest, ls []virtual.Limit, buf []virtual.Taken) ([]virtual.Taken, error) {
			out, err := s.Store.PutBounded(ctx, r, ls, buf)
			_ = s.Store.Settle(ctx, answers(virtual.Ack, 0, out[len(buf):]...))
			return out, err
		}
	}},
	{"what is on its way is evicted", "Bounded/Parked", func(s *spoilt, p *ruin) {
		s.bounded = func(ctx context.Context, r virtual.PutRequest, ls []virtual.Limit, buf []virtual.Taken) ([]virtual.Taken, error) {
			out, err := s.Store.PutBounded(ctx, r, ls, buf)
			if err != nil || len(out) == len(buf) || out[len(buf)].Receipt == nil {
				return out, err
			}
			_ = s.Store.Settle(ctx, answers(virtual.Return, 0, out[len(buf):]...))
			out, _, err = s.Store.Get(ctx, virtual.GetRequest{Queue: ls[0].Queue, Max: len(out) - len(buf), Lease: ls[0].Lease}, buf)
			return out, err
		}
	}},
	{"a full queue drops what it should refuse", "Bounded/Reject", func(s *spoilt, p *ruin) {
		s.bounded = func(ctx context.Context, r virtual.PutRequest, ls []virtual.Limit, buf []virtual.Taken) ([]virtual.Taken, error) {
			ls = slices.Clone(ls)
			for i := range ls {
				ls[i].Reject = false
			}
			return s.Store.PutBounded(ctx, r, ls, buf)
		}
	}},
	{"evicted messages are not told again", "Bounded/Repeat", func(s *spoilt, p *ruin) {
		s.bounded = func(ctx context.Context, r virtual.PutRequest, ls []virtual.Limit, buf []virtual.Taken) ([]virtual.Taken, error) {
			p.Lock()
			defer p.Unlock()
			key := fmt.Sprint(r.Producer, r.Sequence)
			out, err := s.Store.PutBounded(ctx, r, ls, buf)
			if p.outcomes[key] {
				out = buf
			}
			p.outcomes[key] = true
			return out, err
		}
	}},
	{"apply puts, then settles", "Atomic/Stale", func(s *spoilt, p *ruin) { s.apply = applyInTwo(s) }},
	{"apply puts, then settles, seen from aside", "Atomic/Together", func(s *spoilt, p *ruin) { s.apply = applyInTwo(s) }},
	{"deleted queue comes back", "Namespace/Deleted", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			if err := s.Store.Put(ctx, r); !errors.Is(err, virtual.ErrNoQueue) {
				return err
			}
			return nil
		}
	}},
	{"close without effect", "Close/Refuses", func(s *spoilt, p *ruin) { s.closes = func() error { return nil } }},
	{"close lets waiting go on", "Close/EndsWaiting", func(s *spoilt, p *ruin) { s.closes = func() error { return nil } }},
}

func applyInTwo(s *spoilt) func(context.Context, virtual.ApplyRequest, []virtual.Taken) ([]virtual.Taken, error) {
	return func(ctx context.Context, r virtual.ApplyRequest, buf []virtual.Taken) ([]virtual.Taken, error) {
		out, err := s.Store.PutBounded(ctx, r.PutRequest, r.Limits, buf)
		if err != nil {
			return out, err
		}
		yield()
		err = s.Store.Settle(ctx, r.Settlements)
		if b, ok := errors.AsType[*virtual.BatchError](err); ok {
			for i := range b.Items {
				b.Items[i].Index += len(r.Messages)
			}
		}
		return out, err
	}
}

// fresh gives a holder's Get a Take of its own: every one, or those that are not said again.
func (p *ruin) fresh(r *virtual.GetRequest, all bool) {
	if r.Holder == "" {
		return
	}
	p.Lock()
	defer p.Unlock()
	if r.Again && !all {
		if p.takes[r.Take] == 0 {
			p.n++
			p.takes[r.Take] = uint64(p.n)
		}
		r.Take = p.takes[r.Take]
		return
	}
	p.n++
	p.takes[r.Take] = uint64(p.n)
	r.Take, r.Again = uint64(p.n), false
}
