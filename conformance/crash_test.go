package conformance

import (
	"context"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// inMemory opens places in memory, dressed.
func inMemory(dress func(virtual.Store) virtual.Store) func(T) (func() (virtual.Store, error), error) {
	return func(T) (func() (virtual.Store, error), error) {
		p := memory.New()
		return func() (virtual.Store, error) { return dress(p.Open()), nil }, nil
	}
}

func TestNothingIsLostWhereverAProcessIsStopped(t *testing.T) {
	places := map[string]func(virtual.Store) virtual.Store{"memory": func(s virtual.Store) virtual.Store { return s }}
	for _, p := range Profiles() {
		places["memory as "+p.Name] = p.Dress
	}
	for name, dress := range inOrder(places) {
		t.Run(name, func(t *testing.T) {
			RunCrashes(t, CrashConfig{Open: inMemory(dress), Virtual: true, Name: name})
		})
	}
}

// late is a process whose Puts or Acks reach the store only with its next call: what it confirms goes with it.
type late struct {
	virtual.Store
	puts bool

	mu   sync.Mutex
	owed func(ctx context.Context) error
}

func (s *late) Traits() virtual.Traits { return virtual.TraitsOf(s.Store) }

func (s *late) pay(ctx context.Context, next func(ctx context.Context) error) error {
	s.mu.Lock()
	owed := s.owed
	s.owed = next
	s.mu.Unlock()
	if owed == nil {
		return nil
	}
	return owed(context.WithoutCancel(ctx))
}

func (s *late) Put(ctx context.Context, r virtual.PutRequest) error {
	if strings.HasPrefix(r.Messages[0].Queue.Name, "!") || !s.puts {
		return s.Store.Put(ctx, r)
	}
	return s.pay(ctx, func(ctx context.Context) error { return s.Store.Put(ctx, r) })
}

func (s *late) Settle(ctx context.Context, all []virtual.Settlement) error {
	if strings.HasPrefix(all[0].Queue.Name, "!") || s.puts {
		return s.Store.Settle(ctx, all)
	}
	return s.pay(ctx, func(ctx context.Context) error { return s.Store.Settle(ctx, all) })
}

// gives takes messages out of the store at once, whatever the lease.
type gives struct{ virtual.Store }

func (s gives) Traits() virtual.Traits { return virtual.TraitsOf(s.Store) }

func (s gives) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	if !strings.HasPrefix(r.Queue.Name, "!") {
		r.Lease = 0
	}
	ts, res, err := s.Store.Get(ctx, r, buf)
	for i := range ts {
		if ts[i].Receipt == nil {
			ts[i].Receipt = i
		}
	}
	return ts, res, err
}

// A proof that cannot fail is none: each of these stores loses something with a process, and is caught.
func TestCrashesCatchStoresThatLose(t *testing.T) {
	for name, c := range map[string]struct {
		scenario string
		dress    func(virtual.Store) virtual.Store
		says     string
	}{
		"confirms before it stores":  {"publish", func(s virtual.Store) virtual.Store { return &late{Store: virtual.Only(s), puts: true} }, "lost"},
		"acks before it removes":     {"consume", func(s virtual.Store) virtual.Store { return &late{Store: virtual.Only(s)} }, "came back"},
		"gives away, keeping no one": {"consume", func(s virtual.Store) virtual.Store { return gives{virtual.Only(s)} }, "lost"},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := CrashConfig{Open: inMemory(c.dress), Virtual: true, Name: name}
			all, err := caught(t, &cfg, c.scenario)
			if len(all) == 0 || !strings.Contains(err.Error(), c.says) {
				t.Errorf("scenario %q: %v, want one that says %q", c.scenario, err, c.says)
			}
			t.Log(all, err)
		})
	}
}

// caught returns the modes that catch a store in a scenario, and what the last one says. It tries all of it a few times,
// since a process does not make its calls in the same order each time.
func caught(t *testing.T, c *CrashConfig, scenario string) (modes []crashMode, said error) {
	all := CrashScenarios()
	s := all[slices.IndexFunc(all, func(s CrashScenario) bool { return strings.HasPrefix(s.Name, scenario) })]
	for range 4 {
		for _, p := range allPoints(c.crash(t, s, crashPoint{}).items) {
			if slices.Contains(modes, p.mode) {
				continue
			}
			if r := c.crash(t, s, p); r.err != nil {
				modes, said = append(modes, p.mode), r.err
			}
		}
	}
	slices.Sort(modes)
	return modes, said
}
