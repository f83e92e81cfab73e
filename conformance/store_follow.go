package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

func registryWaits(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	type result struct {
		recs []virtual.Record
		rev  uint64
	}
	waits := func(since uint64, wait time.Duration) *call[result] {
		c := calls(e, func(ctx context.Context) (result, error) {
			recs, rev, _, err := h.Changes(ctx, since, wait)
			return result{recs, rev}, err
		})
		e.quiet()
		return c
	}
	c := waits(0, e.units(40))
	e.pause(e.units(1))
	if !c.running() {
		e.Fatalf("Changes has returned from an empty registry before its wait was over")
	}
	rev := g.must(write("a", "1", virtual.Any))
	r, err := c.wait(e, "Changes that waits", e.patience())
	e.must(err, "Changes")
	if got := describe(r.recs); !slices.Equal(got, []string{"a=1"}) || r.rev != rev {
		e.Fatalf("Changes that waited returned %s, to go on from %d; want a=1 and %d", show(got), r.rev, rev)
	}
	e.between("Changes that waited, after a write: returned", c.took, 0, e.units(1)+e.slack())
	for _, change := range []virtual.Change{op("a", virtual.Touch, virtual.Any), op("a", virtual.Delete, virtual.Any)} {
		c = waits(rev, e.units(40))
		was := rev
		rev = g.must(change)
		r, err = c.wait(e, "Changes that waits", e.patience())
		e.must(err, "Changes")
		if len(r.recs) != 1 || r.recs[0].Key != "a" || r.rev != rev {
			e.Fatalf("Changes since %d that waited returned %s and %d", was, show(describe(r.recs)), r.rev)
		}
		e.between("Changes that waited: returned", c.took, 0, e.slack())
	}
	c = waits(rev, e.units(3))
	r, err = c.wait(e, "Changes that waits in vain", e.patience())
	e.must(err, "Changes")
	if len(r.recs) != 0 || r.rev != rev {
		e.Fatalf("Changes that waited in vain returned %s and %d, want none and %d", show(describe(r.recs)), r.rev, rev)
	}
	e.between("Changes that waited in vain: returned", c.took, e.units(2), e.units(3)+e.slack())
}

func registryFollows(e *storeEnv) {
	const writers, each, keys = 4, 40, 5
	followers := make([]map[string]string, 2)
	var mu sync.Mutex
	done := false
	var follow []*call[struct{}]
	for i := range followers {
		followers[i] = map[string]string{}
		h := e.registry([]virtual.Store{e.a, e.b}[i], fmt.Sprintf("follower-%d", i))
		follow = append(follow, calls(e, func(ctx context.Context) (struct{}, error) {
			since := uint64(0)
			for {
				mu.Lock()
				last := done
				mu.Unlock()
				recs, rev, reset, err := h.Changes(ctx, since, e.unit/2)
				if err != nil {
					return struct{}{}, err
				}
				if reset {
					clear(followers[i])
				}
				for _, r := range recs {
					if r.Deleted {
						delete(followers[i], r.Key)
					} else {
						followers[i][r.Key] = fmt.Sprintf("%s at %d", r.Value, r.Rev)
					}
				}
				since = rev
				if last && len(recs) == 0 {
					return struct{}{}, nil
				}
			}
		}))
	}
	e.onBoth("a writer", writers, func(ctx context.Context, s virtual.Store, i int) error {
		g, _ := virtual.As[virtual.Registry](s)
		session := fmt.Sprintf("writer-%d", i)
		if err := g.KeepAlive(ctx, session, e.units(1000)); err != nil {
			return err
		}
		for n := range each {
			c := write(fmt.Sprintf("k%d", (n+i)%keys), fmt.Sprintf("%d of %d", n, i), virtual.Any)
			if n%5 == 4 {
				c.Op = virtual.Delete
			}
			time.Sleep(time.Duration(n%3) * e.unit / 1e6)                         // so that who follows sees some of it
			kept := write(fmt.Sprintf("own-%d-%d", i, n), "kept", virtual.Absent) // what was missed stays missing
			if _, err := g.Update(ctx, session, []virtual.Change{c, kept}); err != nil {
				return err
			}
		}
		return nil
	})
	mu.Lock()
	done = true
	mu.Unlock()
	want := map[string]string{}
	for k, r := range e.registry(e.a, "reader").all() {
		want[k] = fmt.Sprintf("%s at %d", r.Value, r.Rev)
	}
	for i, c := range follow {
		_, err := c.wait(e, "a follower", e.patience())
		e.must(err, "Changes")
		var differ []string
		for k := range want {
			if followers[i][k] != want[k] {
				differ = append(differ, fmt.Sprintf("%s: has %q, is %q", k, followers[i][k], want[k]))
			}
		}
		if len(differ) > 0 || len(followers[i]) != len(want) {
			slices.Sort(differ)
			e.Fatalf("who followed has %d records of %d and differs in %s", len(followers[i]), len(want), show(differ))
		}
	}
}

func registryRace(e *storeEnv) {
	const each = 15
	e.registry(e.a, "first").must(write("n", "0", virtual.Absent))
	e.onBoth("one of many that count", 6, func(ctx context.Context, s virtual.Store, i int) error {
		g, _ := virtual.As[virtual.Registry](s)
		session := fmt.Sprintf("counter-%d", i)
		if err := g.KeepAlive(ctx, session, e.units(1000)); err != nil {
			return err
		}
		for done := 0; done < each; {
			recs, _, _, err := g.Changes(ctx, 0, 0)
			if err != nil {
				return err
			}
			var n int
			if _, err := fmt.Sscan(string(recs[0].Value), &n); err != nil {
				return err
			}
			_, err = g.Update(ctx, session, []virtual.Change{write("n", fmt.Sprint(n+1), virtual.Condition(recs[0].Rev))})
			switch {
			case err == nil:
				done++
			case !errors.Is(err, virtual.ErrConflict):
				return err
			}
		}
		return nil
	})
	e.registry(e.b, "last").value("n", fmt.Sprint(6*each), 0)
}
