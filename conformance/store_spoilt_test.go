package conformance

import (
	"context"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// spoilt is a handle on a store in memory of which some methods are broken: those whose field is set.
type spoilt struct {
	*memory.Store
	put    func(ctx context.Context, r virtual.PutRequest) error
	get    func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error)
	settle func(ctx context.Context, st []virtual.Settlement) error
	purge  func(ctx context.Context, q virtual.QueueRef) (int, error)
	size   func(ctx context.Context, q virtual.QueueRef) (int, error)

	update  func(ctx context.Context, session string, c []virtual.Change) (uint64, error)
	changes func(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error)
	alive   func(ctx context.Context, session string, ttl time.Duration) error
	renew   func(ctx context.Context, holder string, qs []virtual.QueueRef, d time.Duration) ([]virtual.QueueRef, error)
	notify  func(ctx context.Context, w string, ready chan<- struct{}, wake func(virtual.QueueRef)) error
	expire  func(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error)
	bounded func(ctx context.Context, r virtual.PutRequest, l []virtual.Limit, buf []virtual.Taken) ([]virtual.Taken, error)
	apply   func(ctx context.Context, r virtual.ApplyRequest, buf []virtual.Taken) ([]virtual.Taken, error)
	closes  func() error

	claims func(t *virtual.Traits)             // changes what it claims
	over   func(s virtual.Store) virtual.Store // what is seen of it

	messagesOf map[virtual.ID]*virtual.Message // what it handed out
}

// ruin is what the broken handles of one place share.
type ruin struct {
	sync.Mutex
	pending  []virtual.PutRequest
	taken    map[virtual.ID]virtual.Taken // leased now
	receipts map[virtual.ID]virtual.Receipt
	outcomes map[string]bool
	takes    map[uint64]uint64
	n        int
	last     []virtual.Taken
	restart  func() error
}

func newRuin() *ruin {
	return &ruin{
		taken: map[virtual.ID]virtual.Taken{}, receipts: map[virtual.ID]virtual.Receipt{}, outcomes: map[string]bool{},
		takes: map[uint64]uint64{},
	}
}

func (s *spoilt) Traits() virtual.Traits {
	t := s.Store.Traits()
	if s.claims != nil {
		s.claims(&t)
	}
	return t
}

func (s *spoilt) Put(ctx context.Context, r virtual.PutRequest) error {
	if s.put != nil {
		return s.put(ctx, r)
	}
	return s.Store.Put(ctx, r)
}

func (s *spoilt) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	if s.get != nil {
		return s.get(ctx, r, buf)
	}
	return s.Store.Get(ctx, r, buf)
}

func (s *spoilt) Settle(ctx context.Context, st []virtual.Settlement) error {
	if s.settle != nil {
		return s.settle(ctx, st)
	}
	return s.Store.Settle(ctx, st)
}

func (s *spoilt) Purge(ctx context.Context, q virtual.QueueRef) (int, error) {
	if s.purge != nil {
		return s.purge(ctx, q)
	}
	return s.Store.Purge(ctx, q)
}

func (s *spoilt) Size(ctx context.Context, q virtual.QueueRef) (int, error) {
	if s.size != nil {
		return s.size(ctx, q)
	}
	return s.Store.Size(ctx, q)
}

func (s *spoilt) Update(ctx context.Context, session string, c []virtual.Change) (uint64, error) {
	if s.update != nil {
		return s.update(ctx, session, c)
	}
	return s.Store.Update(ctx, session, c)
}

func (s *spoilt) Changes(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
	if s.changes != nil {
		return s.changes(ctx, since, wait)
	}
	return s.Store.Changes(ctx, since, wait)
}

func (s *spoilt) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	if s.alive != nil {
		return s.alive(ctx, session, ttl)
	}
	return s.Store.KeepAlive(ctx, session, ttl)
}

func (s *spoilt) Renew(ctx context.Context, holder string, qs []virtual.QueueRef, d time.Duration) ([]virtual.QueueRef, error) {
	if s.renew != nil {
		return s.renew(ctx, holder, qs, d)
	}
	return s.Store.Renew(ctx, holder, qs, d)
}

func (s *spoilt) Notify(ctx context.Context, w string, ready chan<- struct{}, wake func(virtual.QueueRef)) error {
	if s.notify != nil {
		return s.notify(ctx, w, ready, wake)
	}
	return s.Store.Notify(ctx, w, ready, wake)
}

func (s *spoilt) Expire(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	if s.expire != nil {
		return s.expire(ctx, r, buf)
	}
	return s.Store.Expire(ctx, r, buf)
}

func (s *spoilt) PutBounded(ctx context.Context, r virtual.PutRequest, l []virtual.Limit, buf []virtual.Taken) ([]virtual.Taken, error) {
	if s.bounded != nil {
		return s.bounded(ctx, r, l, buf)
	}
	return s.Store.PutBounded(ctx, r, l, buf)
}

func (s *spoilt) Apply(ctx context.Context, r virtual.ApplyRequest, buf []virtual.Taken) ([]virtual.Taken, error) {
	if s.apply != nil {
		return s.apply(ctx, r, buf)
	}
	return s.Store.Apply(ctx, r, buf)
}

func (s *spoilt) Close() error {
	if s.closes != nil {
		return s.closes()
	}
	return s.Store.Close()
}

// messages has every Put store changed copies of its messages.
func (s *spoilt) messages(change func(m *virtual.Message)) {
	s.put = func(ctx context.Context, r virtual.PutRequest) error {
		ms := make([]*virtual.Message, len(r.Messages))
		for i, m := range r.Messages {
			c := *m
			change(&c)
			ms[i] = &c
		}
		r.Messages = ms
		return s.Store.Put(ctx, r)
	}
}

// gets has every Get ask for something else.
func (s *spoilt) gets(change func(r *virtual.GetRequest)) {
	s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
		change(&r)
		return s.Store.Get(ctx, r, buf)
	}
}

// hands has every Get hand out something else.
func (s *spoilt) hands(change func(t *virtual.Taken)) {
	s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
		ts, res, err := s.Store.Get(ctx, r, buf)
		for i := len(buf); i < len(ts); i++ {
			change(&ts[i])
		}
		return ts, res, err
	}
}

// settlements has every Settle do something else.
func (s *spoilt) settlements(change func(st *virtual.Settlement)) {
	s.settle = func(ctx context.Context, all []virtual.Settlement) error {
		changed := append([]virtual.Settlement(nil), all...)
		for i := range changed {
			change(&changed[i])
		}
		return s.Store.Settle(ctx, changed)
	}
}

// tracks has the ruin know what is leased.
func (s *spoilt) tracks(p *ruin) {
	s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
		ts, res, err := s.Store.Get(ctx, r, buf)
		p.Lock()
		defer p.Unlock()
		for _, t := range ts[len(buf):] {
			if t.Receipt != nil {
				p.taken[t.ID] = t
			}
		}
		return ts, res, err
	}
	s.settle = func(ctx context.Context, all []virtual.Settlement) error {
		p.Lock()
		for _, st := range all {
			if st.Kind != virtual.Extend {
				delete(p.taken, st.ID)
			}
		}
		p.Unlock()
		return s.Store.Settle(ctx, all)
	}
}
