package broker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// recorder is a combiner that notes what it runs.
type recorder struct {
	combiner[int]
	mu    sync.Mutex
	sizes []int
	items []int
	fails int  // how many runs fail first
	hangs bool // the next run does, until its context ends
}

func newRecorder(t *testing.T, inline bool) *recorder {
	ctx, cancel := context.WithCancel(context.Background())
	b := &Broker{clock: time.Now(), ctx: ctx, cancel: cancel}
	t.Cleanup(b.stop)
	s := &recorder{}
	s.combiner = combiner[int]{b: b, run: s.run, inline: inline, batch: batchLimit, bound: maxPending}
	return s
}

func (s *recorder) run(ctx context.Context, items []int, _ int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.hangs {
		s.hangs = false
		<-ctx.Done()
		return false
	}
	if s.fails > 0 {
		s.fails--
		return false
	}
	s.sizes = append(s.sizes, len(items))
	s.items = append(s.items, items...)
	return true
}

func (s *recorder) seen() (sizes []int, inOrder bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, item := range s.items {
		if item != i {
			return s.sizes, false
		}
	}
	return s.sizes, true
}

func (s *recorder) put(t *testing.T, from, to int) {
	t.Helper()
	for i := from; i < to; i++ {
		if err := s.add(t.Context(), i, false); err != nil {
			t.Fatal(err)
		}
	}
}

// In a bubble no time passes between two items, so all that come are in a hurry.
func TestLoneItemIsRunAtOnceAndThoseInAHurryAreGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRecorder(t, true)
		for i := range 10 {
			time.Sleep(time.Millisecond)
			s.put(t, i, i+1)
			if sizes, _ := s.seen(); len(sizes) != i+1 {
				t.Fatalf("when add %d returned %v were run", i, sizes)
			}
		}
		time.Sleep(time.Millisecond)
		const next = 10_010
		s.put(t, 10, next)
		synctest.Wait()
		// How large batches are depends on when the goroutine that fetches them gets to run.
		sizes, inOrder := s.seen()
		if !inOrder || len(s.items) != next || len(sizes) >= next || slices.Max(sizes) > batchLimit {
			t.Errorf("in order %v; %d of %d items in %d batches of up to %d", inOrder, len(s.items), next, len(sizes), slices.Max(sizes))
		}
		// The hurry is over: the next has to wait for a goroutine, which finds that out, the one after it no more.
		time.Sleep(time.Millisecond)
		s.put(t, next, next+1)
		synctest.Wait()
		n := len(s.sizes)
		time.Sleep(time.Millisecond)
		s.put(t, next+1, next+2)
		if sizes, _ := s.seen(); len(sizes) != n+1 {
			t.Errorf("after the hurry a lone item was not run at once")
		}
	})
}

func TestAwaitedItemIsRunByWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRecorder(t, false)
		for i := range 10 {
			if err := s.add(t.Context(), i, true); err != nil {
				t.Fatal(err)
			}
			if sizes, _ := s.seen(); len(sizes) != i+1 {
				t.Fatalf("when add %d returned %v were run", i, sizes)
			}
		}
		if err := s.add(t.Context(), 10, false); err != nil {
			t.Fatal(err)
		}
		if sizes, _ := s.seen(); len(sizes) != 10 {
			t.Error("an item that nobody awaits was run by who left it")
		}
	})
}

func TestAwaitedItemGoesOnWithoutWhoDoesNotWaitAnyMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRecorder(t, false)
		s.hangs = true
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := s.add(ctx, 0, true); err != nil {
			t.Fatal(err) // it was accepted
		}
		s.put(t, 1, 5)
		if err := s.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, inOrder := s.seen(); !inOrder || len(s.items) != 5 {
			t.Errorf("in order %v, items %v", inOrder, s.items)
		}
	})
}

func TestFlushRunsWhatWasGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newRecorder(t, true)
		time.Sleep(time.Millisecond)
		s.put(t, 0, 1+hurries+10)
		if err := s.flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		if sizes, inOrder := s.seen(); !inOrder || len(s.items) != 1+hurries+10 {
			t.Errorf("in order %v, batches %v", inOrder, sizes)
		}
	})
}

func TestItemsKeepTheirOrderWhereRunsFail(t *testing.T) {
	for _, inline := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			s := newRecorder(t, inline)
			for i := 0; i < 3000; i += 100 {
				s.mu.Lock()
				s.fails = i / 100 % 4
				s.mu.Unlock()
				s.put(t, i, i+100)
				time.Sleep(time.Duration(i%700) * time.Microsecond)
			}
			if err := s.flush(t.Context()); err != nil {
				t.Fatal(err)
			}
			if _, inOrder := s.seen(); !inOrder || len(s.items) != 3000 {
				t.Errorf("inline %v: %d items, in order %v", inline, len(s.items), inOrder)
			}
		})
	}
}
