package registry_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

func TestTwoStartersLoseNothing(t *testing.T) {
	runs := 1000
	if testing.Short() {
		runs = 100
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range runs {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			var wg sync.WaitGroup
			for p := range 2 {
				r := w.process(registry.Options{}, latency(time.Duration(rng.Int64N(int64(2*time.Millisecond)))))
				late := time.Duration(rng.Int64N(int64(4 * time.Millisecond)))
				wg.Go(func() {
					s := fmt.Sprintf("s%d", p)
					pause(t.Context(), late)
					if err := r.KeepAlive(t.Context(), s, time.Hour); err != nil {
						t.Error(err)
					}
					if _, err := r.Update(t.Context(), s, []virtual.Change{write(s, "mine", virtual.Absent)}); err != nil {
						t.Error(err)
					}
					if _, err := r.Update(t.Context(), s, []virtual.Change{write("exchange/amq.topic", "v", virtual.Absent)}); err != nil && !errors.Is(err, virtual.ErrConflict) {
						t.Error(err)
					}
				})
			}
			wg.Wait()
			r := w.process(registry.Options{}, nil)
			is := w.records(r)
			sessions, err := r.Sessions(t.Context())
			w.must(err)
			if len(is) != 3 || len(sessions) != 2 || len(w.messages(topologyQueue)) != 1 || len(w.messages(sessionsQueue)) != 1 {
				t.Fatalf("records %v, sessions %v, %d and %d messages", is, sessions, len(w.messages(topologyQueue)), len(w.messages(sessionsQueue)))
			}
		})
	}
}

// TestFrozenWriter stops a process between Get and Put for longer than its lease, while another writes.
func TestFrozenWriter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const lease = time.Second
		var frozen atomic.Bool
		var mu sync.Mutex
		var decided []string
		o := registry.Options{Lease: lease, Conflict: func(keys []string) {
			mu.Lock()
			defer mu.Unlock()
			decided = append(decided, keys...)
		}}
		a := w.process(o, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if c.Method == "Put" && frozen.CompareAndSwap(true, false) {
				pause(ctx, 5*lease)
			}
			return next(ctx)
		})
		b := w.process(o, latency(time.Millisecond))
		w.must(a.KeepAlive(t.Context(), "a", time.Hour))
		w.must(b.KeepAlive(t.Context(), "b", time.Hour))
		_, err := a.Update(t.Context(), "a", []virtual.Change{write("before", "v", virtual.Absent)})
		w.must(err)
		_, since, _, err := b.Changes(t.Context(), 0, 0)
		w.must(err)

		frozen.Store(true)
		var wg sync.WaitGroup
		var errA error
		wg.Go(func() {
			_, errA = a.Update(t.Context(), "a", []virtual.Change{
				{Key: "lock", If: virtual.Absent, Value: []byte("a"), Session: "a"}, write("of a", "v", virtual.Absent),
			})
		})
		synctest.Wait()
		_, err = b.Update(t.Context(), "b", []virtual.Change{
			{Key: "lock", If: virtual.Absent, Value: []byte("b"), Session: "b"}, write("of b", "v", virtual.Absent),
		})
		w.must(err)
		_, mid, _, err := b.Changes(t.Context(), since, 0)
		w.must(err)
		wg.Wait()
		c, ok := errors.AsType[*virtual.ConflictError](errA)
		if !ok || len(c.Differ) != 1 || c.Differ[0].Key != "lock" {
			t.Errorf("the frozen one was told %v, want a conflict about the lock", errA)
		}
		for name, r := range map[string]*registry.Registry{"a": a, "b": b, "a fresh one": w.process(o, nil)} {
			is := w.records(r)
			if len(is) != 4 || string(is["lock"].Value) != "b" {
				t.Errorf("%s sees %v, want all four and the lock with b", name, is)
			}
		}
		if mu.Lock(); !slices.Equal(decided, []string{"lock"}) {
			t.Errorf("decided by a merge: %q, want the lock", decided)
		}
		mu.Unlock()
		for _, s := range []uint64{since, mid} {
			recs, rev, reset, err := b.Changes(t.Context(), s, 0)
			w.must(err)
			if !reset || len(recs) != 4 || rev <= mid {
				t.Errorf("after the merge Changes since %d say %d records, reset %v", s, len(recs), reset)
			}
			if recs, _, reset, err = b.Changes(t.Context(), rev, 0); err != nil || reset || len(recs) > 0 {
				t.Errorf("after the reset: %d records, reset %v, %v", len(recs), reset, err)
			}
		}
		if n := len(w.messages(topologyQueue)); n != 1 {
			t.Errorf("%d messages, want 1", n)
		}
	})
}

// TestPartsSurviveCrashes has a process die between each two calls of a write whose state takes many messages.
func TestPartsSurviveCrashes(t *testing.T) {
	noise := rand.NewChaCha8([32]byte{1})
	value := make([]byte, 20_000)
	for dieAt := range 30 {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			w.dress = func(s virtual.Store) virtual.Store {
				return virtual.Claim(s, func(t *virtual.Traits) { t.MaxBody, t.MaxBatch = 64<<10, 2 })
			}
			o := registry.Options{Lease: time.Second}
			calls, armed := 0, false
			ctx, kill := context.WithCancel(t.Context())
			defer kill()
			a := w.process(o, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
				if r, ok := c.Request.(*virtual.PutRequest); ok {
					for _, m := range r.Messages {
						if m.Payload.Size() > 64<<10 || len(r.Messages) > 2 {
							t.Errorf("a Put of %d messages, one of %d bytes", len(r.Messages), m.Payload.Size())
						}
					}
				}
				if armed {
					if calls++; calls > dieAt {
						kill()
						return errLost
					}
				}
				return next(ctx)
			})
			w.must(a.KeepAlive(ctx, "a", time.Hour))
			for i := range 12 {
				_, _ = noise.Read(value)
				_, err := a.Update(ctx, "a", []virtual.Change{write(fmt.Sprint(i), string(value), virtual.Absent)})
				w.must(err)
			}
			if n := len(w.messages(topologyQueue)); n != 4 {
				t.Fatalf("%d messages of %d bytes", n, sizeOf(w.messages(topologyQueue)))
			}
			armed = true
			_, err := a.Update(ctx, "a", []virtual.Change{write("last", "v", virtual.Absent)})
			b := w.process(o, nil)
			w.must(b.KeepAlive(t.Context(), "b", time.Hour))
			_, errB := b.Update(t.Context(), "b", []virtual.Change{write("of b", "v", virtual.Absent)})
			w.must(errB)
			for range 10 { // what is left of a is given up in a while
				pause(t.Context(), time.Second)
				w.records(b)
			}
			is := w.records(w.process(o, nil))
			_, last := is["last"]
			if len(is) < 13 || err == nil && !last || is["of b"].Key == "" {
				t.Errorf("died at call %d: %d records, the last was told %v and is there: %v", dieAt, len(is), err, last)
			}
			for i := range 12 {
				if len(is[fmt.Sprint(i)].Value) != len(value) {
					t.Errorf("died at call %d: record %d has %d bytes", dieAt, i, len(is[fmt.Sprint(i)].Value))
				}
			}
			if n := len(w.messages(topologyQueue)); n != 4 {
				t.Errorf("died at call %d: %d messages, want 4", dieAt, n)
			}
		})
	}
}

func TestWhatIsNotUnderstoodStays(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.process(registry.Options{Fresh: true}, nil)
		w.must(r.KeepAlive(t.Context(), "s", time.Hour))
		s := w.place.Open()
		for _, body := range []string{"\xff from the future", "", "\x01", "\x01\x00 short", "\x01\x00" + strings.Repeat("i", 16) + "\x00\x01 garbage"} {
			m := &virtual.Message{Queue: topologyQueue, Payload: virtual.Bytes(body)}
			w.must(s.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{m}}))
			for range 2 {
				_, _, _, err := r.Changes(t.Context(), 0, 0)
				if err == nil || !strings.Contains(err.Error(), "!registry") {
					t.Errorf("%q: the error is %v, want one that names the queue", body, err)
				}
				if _, err := r.Update(t.Context(), "s", []virtual.Change{write("k", "v", virtual.Any)}); err == nil {
					t.Errorf("%q: an Update was made", body)
				}
				if n := len(w.messages(topologyQueue)); n != 2 {
					t.Errorf("%q: %d messages are left", body, n)
				}
			}
			for { // only an admin removes it
				ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: topologyQueue, Max: 9, Lease: time.Minute}, nil)
				w.must(err)
				for _, m := range ts {
					kind := virtual.Return
					if string(m.Payload.Bytes()) == body {
						kind = virtual.Ack
					}
					w.must(s.Settle(t.Context(), []virtual.Settlement{{Queue: m.Queue, ID: m.ID, Receipt: m.Receipt, Kind: kind}}))
				}
				break
			}
		}
		_, err := r.Update(t.Context(), "s", []virtual.Change{write("k", "v", virtual.Any)})
		w.must(err)
	})
}

func TestWhatAProcessHasSeenComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.process(registry.Options{Lease: time.Second}, nil)
		w.must(r.KeepAlive(t.Context(), "s", time.Hour))
		_, err := r.Update(t.Context(), "s", []virtual.Change{write("k", "v", virtual.Absent)})
		w.must(err)
		for _, q := range []virtual.QueueRef{topologyQueue, sessionsQueue} {
			_, err := w.place.Open().Purge(t.Context(), q)
			w.must(err)
		}
		if is := w.records(r); len(is) != 1 {
			t.Errorf("a process that has seen a record sees %v", is)
		}
		if is := w.records(w.process(registry.Options{}, nil)); len(is) != 1 {
			t.Errorf("a fresh process sees %v", is)
		}
	})
}

func TestCallersLeaveWhenTheirContextEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		var block atomic.Bool
		open := make(chan struct{})
		r := w.process(registry.Options{Fresh: true}, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if block.Load() {
				select {
				case <-open:
				case <-ctx.Done():
					return ctx.Err()
				}
			}
			return next(ctx)
		})
		w.must(r.KeepAlive(t.Context(), "s", time.Hour))
		block.Store(true)
		first, leave := context.WithCancel(t.Context())
		second, leaveToo := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		update := func(ctx context.Context, key string, want error) {
			wg.Go(func() {
				if _, err := r.Update(ctx, "s", []virtual.Change{write(key, "v", virtual.Absent)}); !errors.Is(err, want) {
					t.Errorf("%s: %v, want %v", key, err, want)
				}
			})
			synctest.Wait()
		}
		update(first, "in flight", context.Canceled)
		update(second, "waiting", context.Canceled)
		update(t.Context(), "stays", nil)
		leaveToo() // it has not begun: it is not made
		synctest.Wait()
		leave() // the last one to wait for what is in flight: that is cancelled
		synctest.Wait()
		block.Store(false)
		close(open)
		wg.Wait()
		pause(t.Context(), time.Minute)
		if is := w.records(r); len(is) != 1 || is["stays"].Key == "" {
			t.Errorf("records %v", is)
		}
	})
}

// TestWhatADeadWriterLeftIsDoubted has one die between Put and Ack, and the state it left come back while the new one is
// hidden by another, who takes a lock. A third, who sees the old state only, must not take the lock as well.
func TestWhatADeadWriterLeftIsDoubted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const lease = time.Second
		w := newWorld(t)
		o := registry.Options{Lease: lease}
		ctx, kill := context.WithCancel(t.Context())
		defer kill()
		var armed, slow atomic.Bool
		x := w.process(o, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if ctx.Err() != nil || armed.Load() && c.Method == "Settle" {
				kill()
				<-ctx.Done()
				return ctx.Err()
			}
			return next(ctx)
		})
		y := w.process(o, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if c.Method == "Put" && slow.Load() {
				pause(ctx, 2*lease/5)
			}
			return next(ctx)
		})
		z := w.process(o, nil)
		for s, r := range map[string]*registry.Registry{"x": x, "y": y, "z": z} {
			w.must(r.KeepAlive(t.Context(), s, time.Hour))
		}
		lock := func(r *registry.Registry, s string) error {
			_, err := r.Update(t.Context(), s, []virtual.Change{{Key: "lock", If: virtual.Absent, Session: s}})
			return err
		}
		armed.Store(true)
		if _, err := x.Update(ctx, "x", []virtual.Change{write("k", "v", virtual.Any)}); err == nil {
			t.Fatal("x lives")
		}
		pause(t.Context(), lease-lease/5)
		slow.Store(true)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := lock(y, "y"); err != nil {
				t.Errorf("y does not get the lock: %v", err)
			}
		})
		pause(t.Context(), lease/4) // what x had taken is back, and y has what x had put
		if n := len(w.messages(topologyQueue)); n != 1 {
			t.Errorf("%d messages are ready, want the old state alone", n)
		}
		if err := lock(z, "z"); !errors.Is(err, virtual.ErrConflict) {
			t.Errorf("z takes the lock too: %v", err)
		}
		wg.Wait()
		if is := w.records(z); len(is) != 2 || is["lock"].Session != "y" {
			t.Errorf("records %v", is)
		}
	})
}
