package conformance

import (
	"context"
	"flag"
	"strings"
	"sync"
	"testing"
)

// several runs items as subtests, in order, and up to n of them at a time. They wait more than they work, so that go test's
// own bound, the number of processors, would be too low: they run on goroutines of the suite, and each subtest waits for
// its item. Where a flag selects among the subtests they run one by one, and only those that are selected.
func several[I, R any](t *testing.T, n int, items []I, name func(I) string, run func(context.Context, I) R,
	subtest func(t *testing.T, i I, result func(context.Context) R),
) {
	if n <= 1 || selected(t) {
		for _, i := range items {
			t.Run(name(i), func(t *testing.T) {
				subtest(t, i, func(ctx context.Context) R { return run(ctx, i) })
			})
		}
		return
	}
	ctx, stop := context.WithCancel(t.Context())
	results := make([]chan R, len(items))
	for at := range results {
		results[at] = make(chan R, 1)
	}
	todo := make(chan int)
	var workers sync.WaitGroup
	for range n {
		workers.Go(func() {
			for at := range todo {
				results[at] <- run(ctx, items[at])
			}
		})
	}
	workers.Go(func() {
		defer close(todo)
		for at := range items {
			select {
			case todo <- at:
			case <-ctx.Done():
				return
			}
		}
	})
	defer workers.Wait()
	defer stop()
	for at, i := range items {
		t.Run(name(i), func(t *testing.T) {
			subtest(t, i, func(context.Context) R { return <-results[at] })
		})
	}
}

// selected tells whether a flag of go test selects among the subtests of t.
func selected(t *testing.T) bool {
	depth := strings.Count(t.Name(), "/") + 1
	for _, name := range []string{"test.run", "test.skip"} {
		if f := flag.Lookup(name); f != nil && strings.Count(f.Value.String(), "/") >= depth {
			return true
		}
	}
	return false
}
