package registry_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	topologyQueue = virtual.QueueRef{Name: "!registry", Incarnation: "1"}
	sessionsQueue = virtual.QueueRef{Name: "!sessions", Incarnation: "1"}
	errLost       = errors.New("connection lost")
)

// world is a place with five methods, on which processes run.
type world struct {
	*testing.T
	place *memory.Place
	dress func(virtual.Store) virtual.Store // of every handle; nil: as it is

	mu    sync.Mutex
	calls map[string]int
}

func newWorld(t *testing.T) *world {
	return &world{T: t, place: memory.New(), calls: map[string]int{}}
}

// process is a Registry on a handle of its own. Every call passes through f, which may be nil.
func (w *world) process(o registry.Options, f virtual.Interceptor) *registry.Registry {
	s := virtual.Only(w.place.Open())
	if w.dress != nil {
		s = w.dress(s)
	}
	if f != nil {
		s = virtual.Intercept(s, f)
	}
	return registry.New(virtual.Intercept(s, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		w.mu.Lock()
		w.calls[c.Method]++
		w.mu.Unlock()
		return next(ctx)
	}), o)
}

// counted runs f and returns how many calls it made.
func (w *world) counted(f func()) (n int) {
	w.mu.Lock()
	clear(w.calls)
	w.mu.Unlock()
	f()
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range w.calls {
		n += c
	}
	return n
}

func (w *world) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

// records are those that exist, by key.
func (w *world) records(r *registry.Registry) map[string]virtual.Record {
	w.Helper()
	recs, _, _, err := r.Changes(w.Context(), 0, 0)
	w.must(err)
	m := map[string]virtual.Record{}
	for _, rec := range recs {
		m[rec.Key] = rec
	}
	return m
}

// messages are those ready in a reserved queue.
func (w *world) messages(q virtual.QueueRef) []virtual.Taken {
	w.Helper()
	p, _ := virtual.As[virtual.Peeker](virtual.Store(w.place.Open()))
	ts, err := p.Peek(w.Context(), q, 1<<20, nil)
	w.must(err)
	return ts
}

func write(key, value string, cond virtual.Condition) virtual.Change {
	return virtual.Change{Key: key, If: cond, Value: []byte(value)}
}

func remove(key string) virtual.Change {
	return virtual.Change{Key: key, Op: virtual.Delete, If: virtual.Any}
}

// latency has each call take d.
func latency(d time.Duration) virtual.Interceptor {
	return func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
		pause(ctx, d)
		return next(ctx)
	}
}

// faults are what may happen to a call, in thousandths.
type faults struct {
	mu     sync.Mutex // guards rng
	rng    *rand.Rand
	before int           // the request is lost
	after  int           // the reply is lost
	stall  int           // it is late, before or after its effect
	upTo   time.Duration // by that much
	off    bool
}

func (f *faults) roll() (kind int, d time.Duration) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.off {
		return 0, 0
	}
	d = time.Duration(f.rng.Int64N(int64(f.upTo) + 1))
	switch n := f.rng.IntN(1000); {
	case n < f.before:
		return 1, d
	case n < f.before+f.after:
		return 2, d
	case n < f.before+f.after+f.stall:
		return 3 + f.rng.IntN(2), d
	}
	return 0, 0
}

func (f *faults) call(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
	kind, d := f.roll()
	switch kind {
	case 1:
		return errLost
	case 2:
		_ = next(ctx)
		return errLost
	case 3:
		pause(ctx, d)
	case 4:
		defer pause(ctx, d)
	default:
		defer pause(ctx, time.Millisecond)
	}
	return next(ctx)
}
