package script

import (
	"context"
	"strings"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// wrongStore is a handle on a place in memory that is wrong in what its funcs say; nil ones are right.
type wrongStore struct {
	*memory.Store
	put     func(ms []*virtual.Message) []*virtual.Message // of users' queues
	limit   func(l *virtual.Limit)
	evicted func(ts []virtual.Taken) []virtual.Taken
	get     func(r *virtual.GetRequest)
	taken   func(ts []virtual.Taken)
	settle  func(ctx context.Context, all []virtual.Settlement) []virtual.Settlement
	expired func(t *virtual.Taken) bool
	session func(ttl time.Duration) time.Duration
	forgets bool // at its end, what it holds

	mu   sync.Mutex
	held map[virtual.Receipt]virtual.Taken
}

// note remembers what is taken.
func (s *wrongStore) note(ts []virtual.Taken) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == nil {
		s.held = map[virtual.Receipt]virtual.Taken{}
	}
	for _, t := range ts {
		s.held[t.Receipt] = t
	}
}

// release returns what a settlement is of.
func (s *wrongStore) release(a virtual.Settlement) (virtual.Taken, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, ok := s.held[a.Receipt]
	if a.Kind != virtual.Extend {
		delete(s.held, a.Receipt)
	}
	return t, ok
}

func (s *wrongStore) change(ms []*virtual.Message) []*virtual.Message {
	if s.put == nil || len(ms) == 0 || strings.HasPrefix(ms[0].Queue.Name, "!") {
		return ms
	}
	return s.put(ms)
}

func (s *wrongStore) bounds(limits []virtual.Limit) []virtual.Limit {
	changed := make([]virtual.Limit, len(limits))
	for i, l := range limits {
		if s.limit != nil {
			s.limit(&l)
		}
		changed[i] = l
	}
	return changed
}

func (s *wrongStore) Put(ctx context.Context, r virtual.PutRequest) error {
	r.Messages = s.change(r.Messages)
	return s.Store.Put(ctx, r)
}

func (s *wrongStore) PutBounded(ctx context.Context, r virtual.PutRequest, limits []virtual.Limit, evicted []virtual.Taken) ([]virtual.Taken, error) {
	r.Messages = s.change(r.Messages)
	out, err := s.Store.PutBounded(ctx, r, s.bounds(limits), evicted)
	return s.evict(out, len(evicted)), err
}

func (s *wrongStore) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	r.Messages, r.Limits, r.Settlements = s.change(r.Messages), s.bounds(r.Limits), s.answers(ctx, r.Settlements)
	out, err := s.Store.Apply(ctx, r, evicted)
	return s.evict(out, len(evicted)), err
}

func (s *wrongStore) evict(out []virtual.Taken, before int) []virtual.Taken {
	if s.evicted == nil {
		return out
	}
	return append(out[:before], s.evicted(out[before:])...)
}

func (s *wrongStore) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	if s.get != nil {
		s.get(&r)
	}
	out, res, err := s.Store.Get(ctx, r, buf)
	if err == nil {
		s.note(out[len(buf):])
		if s.taken != nil {
			s.taken(out[len(buf):])
		}
	}
	return out, res, err
}

func (s *wrongStore) answers(ctx context.Context, all []virtual.Settlement) []virtual.Settlement {
	if s.settle != nil {
		all = s.settle(ctx, all)
	}
	for _, a := range all {
		s.release(a)
	}
	return all
}

func (s *wrongStore) Settle(ctx context.Context, all []virtual.Settlement) error {
	return s.Store.Settle(ctx, s.answers(ctx, all))
}

// Expire leaves what expired where it is, where expired says no.
func (s *wrongStore) Expire(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	out, next, err := s.Store.Expire(ctx, r, buf)
	if err != nil || s.expired == nil {
		return out, next, err
	}
	kept := out[:len(buf)]
	for i := range out[len(buf):] {
		if t := &out[len(buf)+i]; s.expired(t) {
			kept = append(kept, *t)
		}
	}
	return kept, next, nil
}

func (s *wrongStore) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	if s.session != nil {
		ttl = s.session(ttl)
	}
	return s.Store.KeepAlive(ctx, session, ttl)
}

// Close drops what is held, where it is forgotten.
func (s *wrongStore) Close() error {
	s.mu.Lock()
	held := s.held
	s.held = nil
	s.mu.Unlock()
	if s.forgets {
		var all []virtual.Settlement
		for _, t := range held {
			all = append(all, virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: virtual.Ack})
		}
		_ = s.Store.Settle(context.Background(), all) // what has gone is gone
	}
	return s.Store.Close()
}

// anew is how a requeued message comes back at the end of its queue: as a new one that counts on.
func anew(s *wrongStore) {
	more := map[virtual.ID]int{} // how often it had been handed out before
	s.settle = func(ctx context.Context, all []virtual.Settlement) []virtual.Settlement {
		var left []virtual.Settlement
		for _, a := range all {
			t, known := s.release(a)
			if a.Kind != virtual.Requeue || !known || strings.HasPrefix(a.Queue.Name, "!") {
				left = append(left, a)
				continue
			}
			a.Kind = virtual.Ack
			if s.Store.Settle(ctx, []virtual.Settlement{a}) == nil {
				s.mu.Lock()
				more[t.ID] = t.Attempt
				s.mu.Unlock()
				_ = s.Store.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{t.Message}})
			}
		}
		return left
	}
	s.taken = func(ts []virtual.Taken) {
		s.mu.Lock()
		defer s.mu.Unlock()
		for i := range ts {
			ts[i].Attempt += more[ts[i].ID]
			s.held[ts[i].Receipt] = ts[i]
		}
	}
}
