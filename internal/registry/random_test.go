package registry_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

// history is what processes were told.
type history struct {
	mu      sync.Mutex
	there   map[string]bool // declared, told so
	gone    map[string]bool // deleted, told so
	unknown map[string]bool // tried, outcome not told
	won     int             // increments told
	maybe   int             // increments not told
	steps   int
}

// TestNothingDeclaredIsLost has processes declare and delete through a store that loses requests and replies, stalls longer
// than the lease at any call, and through kills at any time.
func TestNothingDeclaredIsLost(t *testing.T) {
	runs := 25
	if testing.Short() {
		runs = 4
	}
	seed := uint64(time.Now().UnixNano())
	total, forks := 0, 0
	for i := range runs {
		synctest.Test(t, func(t *testing.T) {
			h, f := wreck(t, seed+uint64(i), &faults{before: 20, after: 20, stall: 25, upTo: 3 * time.Second}, false)
			if total += h.steps; f {
				forks++
			}
		})
	}
	fmt.Printf("registry: %d random steps, states have forked in %d of %d runs, lost: %t (first seed %d)\n", total, forks, runs, t.Failed(), seed)
	if forks == 0 && !testing.Short() {
		t.Error("no state has ever forked: the test does not reach what it is about")
	}
}

// TestLocksAreExactOverCrashesAndLostReplies has processes count by compare-and-set on one key while requests and replies are
// lost and processes are killed, but none is stalled.
func TestLocksAreExactOverCrashesAndLostReplies(t *testing.T) {
	runs := 10
	if testing.Short() {
		runs = 4
	}
	seed := uint64(time.Now().UnixNano())
	total := 0
	for i := range runs {
		synctest.Test(t, func(t *testing.T) {
			h, _ := wreck(t, seed+uint64(i), &faults{before: 10, after: 10}, true)
			total += h.steps
		})
	}
	fmt.Printf("registry: %d random steps without pauses, locks exact: %t (first seed %d)\n", total, !t.Failed(), seed)
}

// wreck runs processes through faults, then looks at what is left without any.
func wreck(t *testing.T, seed uint64, with *faults, exact bool) (h *history, forked bool) {
	const processes, steps, lease = 4, 60, 100 * time.Millisecond
	w := newWorld(t)
	h = &history{there: map[string]bool{}, gone: map[string]bool{}, unknown: map[string]bool{}}
	o := registry.Options{Lease: lease}
	calm := w.process(o, nil)
	w.must(calm.KeepAlive(t.Context(), "calm", time.Hour))
	_, err := calm.Update(t.Context(), "calm", []virtual.Change{write("n", "0", virtual.Absent)})
	w.must(err)
	var wg sync.WaitGroup
	for p := range processes {
		rng := rand.New(rand.NewPCG(seed, uint64(p)))
		f := &faults{rng: rand.New(rand.NewPCG(seed, uint64(p)+100)), before: with.before, after: with.after, stall: with.stall, upTo: with.upTo}
		wg.Go(func() {
			for life := 0; life*steps/4 < steps; life++ {
				name := fmt.Sprintf("p%d-%d", p, life)
				ctx, kill := context.WithCancel(t.Context())
				if rng.IntN(2) == 0 {
					kill = after(ctx, kill, time.Duration(rng.Int64N(int64(5*time.Second))))
				}
				h.live(ctx, w.process(o, f.call), name, rng, steps/4)
				kill()
			}
		})
	}
	wg.Wait()
	pause(t.Context(), time.Minute) // leases have been raised by the stalls
	last := w.process(o, nil)
	is := w.records(last)
	for key := range h.there {
		if _, ok := is[key]; !ok && !h.gone[key] && !h.unknown[key] {
			t.Errorf("seed %d: %q was declared, and is lost", seed, key)
		}
	}
	for key := range h.gone {
		if _, ok := is[key]; ok && exact {
			t.Errorf("seed %d: %q was deleted, and is there", seed, key)
		}
	}
	for key := range is {
		if !h.there[key] && !h.unknown[key] && key != "n" && !h.gone[key] {
			t.Errorf("seed %d: %q was refused, and is there", seed, key)
		}
	}
	n, _ := strconv.Atoi(string(is["n"].Value))
	if exact && (n < h.won || n > h.won+h.maybe) {
		t.Errorf("seed %d: counted to %d, told %d times and not told %d times", seed, n, h.won, h.maybe)
	}
	for _, q := range []virtual.QueueRef{topologyQueue, sessionsQueue} {
		_, err := last.Sessions(t.Context())
		w.must(err)
		if ms := w.messages(q); len(ms) != 1 {
			t.Errorf("seed %d: %d messages in %q, want 1", seed, len(ms), q.Name)
		}
	}
	_, _, forked, err = last.Changes(t.Context(), 1, 0) // a reset: states were merged that did not know of each other
	w.must(err)
	return h, forked
}

// after has cancel called in a while, unless it is called before.
func after(ctx context.Context, cancel context.CancelFunc, d time.Duration) context.CancelFunc {
	t := time.AfterFunc(d, cancel)
	return func() { t.Stop(); cancel() }
}

// live is one process until it dies.
func (h *history) live(ctx context.Context, r *registry.Registry, name string, rng *rand.Rand, steps int) {
	for ctx.Err() == nil && r.KeepAlive(ctx, name, time.Hour) != nil {
		pause(ctx, 10*time.Millisecond)
	}
	var mine []string
	for i := 0; i < steps && ctx.Err() == nil; i++ {
		switch n := rng.IntN(10); {
		case n < 5: // up to three at once, each its own Update
			var wg sync.WaitGroup
			for k := range 1 + rng.IntN(3) {
				a, b := fmt.Sprintf("%s/%d.%d", name, i, k), fmt.Sprintf("%s/%d.%d+", name, i, k)
				wg.Go(func() {
					_, err := r.Update(ctx, name, []virtual.Change{write(a, a, virtual.Absent), write(b, b, virtual.Absent)})
					h.told(err, h.there, a, b)
				})
				mine = append(mine, a, b)
			}
			wg.Wait()
		case n < 7 && len(mine) > 0:
			k := mine[rng.IntN(len(mine))]
			h.mu.Lock()
			sure := h.there[k]
			h.mu.Unlock()
			if sure {
				_, err := r.Update(ctx, name, []virtual.Change{remove(k)})
				h.told(err, h.gone, k)
			}
		default:
			h.count(ctx, r, name)
		}
		pause(ctx, time.Duration(rng.Int64N(int64(30*time.Millisecond))))
	}
}

// told notes the outcome of an Update. A conflict leaves open what happened, after a stall.
func (h *history) told(err error, to map[string]bool, keys ...string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.steps++
	for _, k := range keys {
		if err == nil {
			to[k] = true
		} else {
			h.unknown[k] = true
		}
	}
}

func (h *history) count(ctx context.Context, r *registry.Registry, name string) {
	recs, _, _, err := r.Changes(ctx, 0, 0)
	if err != nil {
		return
	}
	for _, rec := range recs {
		if rec.Key != "n" {
			continue
		}
		n, _ := strconv.Atoi(string(rec.Value))
		_, err := r.Update(ctx, name, []virtual.Change{write("n", strconv.Itoa(n+1), virtual.Condition(rec.Rev))})
		h.mu.Lock()
		h.steps++
		if err == nil {
			h.won++
		} else if !errors.Is(err, virtual.ErrConflict) {
			h.maybe++
		}
		h.mu.Unlock()
	}
}
