package conformance

import (
	"context"
	"sync"
	"testing"

	"github.com/dashi-mq/dashi/virtual"
)

func TestHistoriesAreLinearizable(t *testing.T) {
	n := 200
	if testing.Short() {
		n = 40
	}
	t.Run("memory", func(t *testing.T) {
		RunHistories(t, HistoryConfig{Name: "memory", Histories: n, Open: inMemory(func(s virtual.Store) virtual.Store { return s })})
	})
	for _, p := range Profiles() {
		t.Run(p.Name, func(t *testing.T) {
			c := HistoryConfig{Name: "memory as " + p.Name, Histories: n / 2, Open: inMemory(p.Dress)}
			if p.Latency > 0 {
				c.Histories = n / 20
			}
			RunHistories(t, c)
		})
	}
}

// twisted is a store that does something wrong in some of its calls.
type twisted struct {
	virtual.Store
	mu    *sync.Mutex // of all handles
	calls *int
	get   func(s *twisted, r virtual.GetRequest, ts []virtual.Taken) []virtual.Taken
	each  func(s *twisted, one *virtual.Settlement)
	last  *virtual.Taken // that was taken, and is held
}

func (s *twisted) Traits() virtual.Traits { return virtual.TraitsOf(s.Store) }

// often says so each fifth time.
func (s *twisted) often() bool {
	*s.calls++
	return *s.calls%5 == 0
}

func (s *twisted) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ts, res, err := s.Store.Get(ctx, r, buf)
	if s.get != nil && err == nil {
		ts = s.get(s, r, ts)
	}
	return ts, res, err
}

func (s *twisted) Settle(ctx context.Context, all []virtual.Settlement) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range all {
		if s.each != nil {
			s.each(s, &all[i])
		}
	}
	return s.Store.Settle(ctx, all)
}

// giveBack returns a message without a word.
func (s *twisted) giveBack(t virtual.Taken) {
	_ = s.Store.Settle(context.Background(), []virtual.Settlement{answer(t, virtual.Return, 0)})
}

// Each of these is a queue that is wrong in a way, and so are its histories.
func TestHistoriesCatchBrokenQueues(t *testing.T) {
	for name, broken := range map[string]twisted{
		"hands out what is held": {get: func(s *twisted, r virtual.GetRequest, ts []virtual.Taken) []virtual.Taken {
			if s.last != nil && s.last.Queue == r.Queue && len(ts) < r.Max && s.often() {
				ts = append(ts, *s.last)
			}
			if len(ts) > 0 {
				s.last = &ts[0]
			}
			return ts
		}},
		"skips an older one": {get: func(s *twisted, _ virtual.GetRequest, ts []virtual.Taken) []virtual.Taken {
			if len(ts) > 1 && s.often() {
				s.giveBack(ts[0])
				ts = ts[1:]
			}
			return ts
		}},
		"takes fewer than there are": {get: func(s *twisted, _ virtual.GetRequest, ts []virtual.Taken) []virtual.Taken {
			if len(ts) > 0 && s.often() {
				s.giveBack(ts[len(ts)-1])
				ts = ts[:len(ts)-1]
			}
			return ts
		}},
		"drops what it took": {get: func(s *twisted, _ virtual.GetRequest, ts []virtual.Taken) []virtual.Taken {
			if len(ts) > 0 && s.often() {
				ts = ts[:len(ts)-1]
			}
			return ts
		}},
		"forgets an ack": {each: func(s *twisted, one *virtual.Settlement) {
			if one.Kind == virtual.Ack && s.often() {
				one.Kind = virtual.Return
			}
		}},
		"acks what is requeued": {each: func(s *twisted, one *virtual.Settlement) {
			if one.Kind == virtual.Requeue && s.often() {
				one.Kind = virtual.Ack
			}
		}},
		"counts what is returned": {each: func(_ *twisted, one *virtual.Settlement) {
			if one.Kind == virtual.Return {
				one.Kind = virtual.Requeue
			}
		}},
		"requeues to the back": {each: func(s *twisted, one *virtual.Settlement) {
			if one.Kind != virtual.Requeue && one.Kind != virtual.Return {
				return
			}
			if s.last != nil && s.last.ID == one.ID { // its body is known
				one.Kind = virtual.Ack
				_ = s.Put(context.Background(), virtual.PutRequest{Messages: []*virtual.Message{s.last.Message}})
			}
		}, get: func(s *twisted, _ virtual.GetRequest, ts []virtual.Taken) []virtual.Taken {
			if len(ts) > 0 {
				s.last = &ts[0]
			}
			return ts
		}},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "requeues to the back" { // its attempts are wrong, too: look at the order alone
				name = "order"
			}
			c := HistoryConfig{Histories: 40, Seed: 1}.withDefaults()
			c.Open = func(T) (func() (virtual.Store, error), error) {
				open, err := inMemory(virtual.Only)(nil)
				var mu sync.Mutex
				calls := 0
				return func() (virtual.Store, error) {
					s, err := open()
					if name == "order" {
						s = virtual.Claim(s, func(t *virtual.Traits) { t.ExactAttempt = false })
					}
					one := broken
					one.Store, one.mu, one.calls = s, &mu, &calls
					return &one, err
				}, err
			}
			caught, tried := 0, 0
			for tried < c.Histories && caught < 3 {
				h, err := c.history(t.Context(), c.Seed+uint64(tried))
				if err != nil {
					t.Fatal(err)
				}
				if h.verdict() == errIllegal {
					caught++
				}
				tried++
			}
			t.Logf("caught in %d of %d histories", caught, tried)
			if caught == 0 {
				t.Error("not caught")
			}
		})
	}
}
