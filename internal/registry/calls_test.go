package registry_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

func TestCallsAreFew(t *testing.T) {
	for _, c := range []struct {
		name                  string
		dress                 func(virtual.Store) virtual.Store
		update, changes, beat int
	}{
		{"five methods", nil, 3, 2, 3},
		{"with peeking", func(s virtual.Store) virtual.Store { return peeking(s) }, 3, 1, 3},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				o := registry.Options{Fresh: true}
				var r *registry.Registry
				if c.dress != nil {
					s := c.dress(w.place.Open())
					r = registry.New(virtual.Intercept(s, func(ctx context.Context, k virtual.Call, next func(context.Context) error) error {
						w.mu.Lock()
						w.calls[k.Method]++
						w.mu.Unlock()
						pause(ctx, time.Millisecond)
						return next(ctx)
					}), o)
				} else {
					r = w.process(o, latency(time.Millisecond))
				}
				w.must(r.KeepAlive(t.Context(), "s", time.Minute))
				exactly := func(what string, want int, f func()) {
					if got := w.counted(f); got != want {
						t.Errorf("%s: %d calls %v, want %d", what, got, w.calls, want)
					}
				}
				for range 3 {
					exactly("Update", c.update, func() {
						_, err := r.Update(t.Context(), "s", []virtual.Change{write("k", "v", virtual.Any)})
						w.must(err)
					})
					exactly("Changes", c.changes, func() { w.records(r) })
					exactly("KeepAlive", c.beat, func() { w.must(r.KeepAlive(t.Context(), "s", time.Minute)) })
				}
				exactly("an Update that changes nothing", 2, func() {
					_, err := r.Update(t.Context(), "s", []virtual.Change{{Key: "k", Op: virtual.Check, If: virtual.Exists}})
					w.must(err)
				})
				n := w.counted(func() { // one look for those who ask before it begins, one for the others
					var wg sync.WaitGroup
					for range 100 {
						wg.Go(func() { _, _, _, _ = r.Changes(t.Context(), 1, 0) })
					}
					wg.Wait()
				})
				if n > 2*c.changes {
					t.Errorf("100 refreshes at once: %d calls %v", n, w.calls)
				}
				exactly("a Changes that waits for a minute and looks every two seconds", 30*c.changes, func() {
					_, rev, _, err := r.Changes(t.Context(), 0, 0)
					w.must(err)
					w.mu.Lock()
					clear(w.calls)
					w.mu.Unlock()
					_, _, _, err = r.Changes(t.Context(), rev, time.Minute+time.Second)
					w.must(err)
				})
			})
		})
	}
}

func TestDeclarationsOfManyProcessesGoTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const processes, each = 8, 1000
		w := newWorld(t)
		began := time.Now()
		n := w.counted(func() {
			var wg sync.WaitGroup
			for p := range processes {
				r := w.process(registry.Options{Fresh: true}, latency(time.Millisecond))
				s := fmt.Sprintf("s%d", p)
				for i := range each {
					wg.Go(func() {
						if i == 0 {
							if err := r.KeepAlive(t.Context(), s, time.Hour); err != nil {
								t.Error(err)
							}
						}
						for {
							_, err := r.Update(t.Context(), s, []virtual.Change{write(fmt.Sprintf("%s/%d", s, i), "v", virtual.Absent)})
							if err == nil {
								return
							}
							if !errors.Is(err, virtual.ErrSession) { // not open yet
								t.Error(err)
								return
							}
							pause(t.Context(), time.Millisecond)
						}
					})
				}
			}
			wg.Wait()
		})
		t.Logf("%d processes have declared %d records each in %v with %d calls", processes, each, time.Since(began), n)
		if got := len(w.records(w.process(registry.Options{}, nil))); got != processes*each {
			t.Errorf("%d records, want %d", got, processes*each)
		}
		if n > 1000 {
			t.Errorf("%d calls", n)
		}
	})
}

func TestTenThousandRecordsAreReadySoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.process(registry.Options{Fresh: true}, nil)
		w.must(r.KeepAlive(t.Context(), "s", time.Hour))
		var changes []virtual.Change
		for i := range 10_000 {
			changes = append(changes, write(fmt.Sprintf("queue/%d", i), strings.Repeat("v", 60), virtual.Absent))
		}
		_, err := r.Update(t.Context(), "s", changes)
		w.must(err)
		began := time.Now()
		n := w.counted(func() {
			fresh := w.process(registry.Options{}, latency(time.Millisecond))
			w.must(fresh.KeepAlive(t.Context(), "other", time.Hour))
			if got := len(w.records(fresh)); got != len(changes) {
				t.Errorf("%d records", got)
			}
		})
		t.Logf("ready after %v and %d calls, %d bytes", time.Since(began), n, sizeOf(w.messages(topologyQueue)))
		if time.Since(began) > 2*time.Second {
			t.Error("too late")
		}
	})
}

func sizeOf(ms []virtual.Taken) (n int) {
	for _, m := range ms {
		n += m.Payload.Size()
	}
	return n
}

func TestDeletedRecordsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.process(registry.Options{Fresh: true}, nil)
		w.must(r.KeepAlive(t.Context(), "s", 10*time.Hour))
		_, err := r.Update(t.Context(), "s", []virtual.Change{write("stays", "v", virtual.Absent)})
		w.must(err)
		_, early, _, err := r.Changes(t.Context(), 0, 0)
		w.must(err)
		n, batch := 20_000, 500
		if os.Getenv("NIGHTLY") == "1" {
			n = 1_000_000
		}
		most := 0
		for i := 0; i < n; i += batch {
			var add, del []virtual.Change
			for k := range batch {
				add = append(add, write(fmt.Sprintf("queue/%d", i+k), rand.Text(), virtual.Absent))
				del = append(del, remove(fmt.Sprintf("queue/%d", i+k)))
			}
			for _, c := range [][]virtual.Change{add, del} {
				_, err := r.Update(t.Context(), "s", c)
				w.must(err)
			}
			ms := w.messages(topologyQueue)
			if len(ms) != 1 {
				t.Fatalf("%d messages", len(ms))
			}
			most = max(most, sizeOf(ms))
		}
		recs, rev, reset, err := r.Changes(t.Context(), early, 0)
		w.must(err)
		if !reset || len(recs) != 1 {
			t.Errorf("Changes since before %d deletions: %d records, reset %v; want all and a reset", n, len(recs), reset)
		}
		recs, _, reset, err = r.Changes(t.Context(), rev-10, 0)
		w.must(err)
		if reset || len(recs) != 10/2*batch {
			t.Errorf("Changes since a while ago: %d records, reset %v", len(recs), reset)
		}
		big := sizeOf(w.messages(topologyQueue))
		for range 70 { // a write now and then
			pause(t.Context(), time.Minute)
			w.must(r.KeepAlive(t.Context(), "s", 10*time.Hour))
			_, err := r.Update(t.Context(), "s", []virtual.Change{write("stays", "v", virtual.Any)})
			w.must(err)
		}
		small := sizeOf(w.messages(topologyQueue))
		t.Logf("at most %d bytes, then %d, after an hour %d", most, big, small)
		if most > 400_000 || small > 500 {
			t.Errorf("at most %d bytes, then %d, after an hour %d", most, big, small)
		}
	})
}

func TestLeaseIsGivenAtPutWhereTheStoreWantsIt(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.dress = func(s virtual.Store) virtual.Store {
			return virtual.Claim(s, func(t *virtual.Traits) { t.LeaseAtPut, t.LeaseMin = true, 7*time.Second })
		}
		r := w.process(registry.Options{Fresh: true}, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if p, ok := c.Request.(*virtual.PutRequest); ok && p.Messages[0].Lease != 7*time.Second {
				t.Errorf("a message is put with the lease %v", p.Messages[0].Lease)
			}
			return next(ctx)
		})
		w.must(r.KeepAlive(t.Context(), "s", time.Hour))
	})
}
