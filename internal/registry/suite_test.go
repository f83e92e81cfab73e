package registry_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

// dressed is a store with five methods that claims the capability of the registry kept in it. It looks after the sessions
// as an engine does by its heartbeats.
type dressed struct {
	virtual.Store
	*registry.Registry
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func (d *dressed) Offers(capability any) bool { _, ok := capability.(*virtual.Registry); return ok }

func (d *dressed) Traits() virtual.Traits { return virtual.TraitsOf(d.Store) }

func (d *dressed) Close() error {
	d.cancel()
	d.wg.Wait()
	return virtual.Close(d.Store)
}

func dress(s virtual.Store, o registry.Options) *dressed {
	ctx, cancel := context.WithCancel(context.Background())
	d := &dressed{Store: s, Registry: registry.New(s, o), cancel: cancel}
	d.wg.Go(func() {
		for ctx.Err() == nil {
			_, _ = d.Sessions(ctx)
			pause(ctx, 100*time.Millisecond)
		}
	})
	return d
}

// pause lets virtual time pass.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// small bounds a store as small ones are.
func small(s virtual.Store) virtual.Store {
	return virtual.Claim(s, func(t *virtual.Traits) { t.MaxBody, t.MaxBatch = 3<<10, 10 })
}

func TestStoreSuiteHoldsOnFiveMethods(t *testing.T) {
	for name, bare := range map[string]func(virtual.Store) virtual.Store{
		"five methods":   virtual.Only,
		"with peeking":   peeking,
		"small messages": func(s virtual.Store) virtual.Store { return small(virtual.Only(s)) },
		"early returns":  func(s virtual.Store) virtual.Store { return hasty(virtual.Only(s)) },
	} {
		for _, run := range []string{"Registry", "Sessions"} {
			t.Run(name, func(t *testing.T) {
				r := conformance.RunStore(t, conformance.StoreConfig{
					Name: name, Virtual: true, Run: run,
					Open: func(conformance.T) (func() (virtual.Store, error), error) {
						place := memory.New()
						return func() (virtual.Store, error) {
							return dress(bare(place.Open()), registry.Options{
								Lease: 20 * time.Millisecond, Poll: func() time.Duration { return 100 * time.Millisecond },
							}), nil
						}, nil
					},
				})
				if r.Passed != r.Total || r.Total == 0 {
					t.Errorf("%s: %s", name, r.Summary())
				}
			})
		}
	}
}

// peeking shows the five methods and Peek.
func peeking(s virtual.Store) virtual.Store {
	p, _ := virtual.As[virtual.Peeker](s)
	return peeker{virtual.Only(s), p}
}

type peeker struct {
	virtual.Store
	virtual.Peeker
}

func (p peeker) Traits() virtual.Traits { return virtual.TraitsOf(p.Store) }

func (peeker) Offers(capability any) bool { _, ok := capability.(*virtual.Peeker); return ok }

// hasty ignores the wait of a Get.
func hasty(s virtual.Store) virtual.Store {
	return virtual.Intercept(s, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		if r, ok := c.Request.(*virtual.GetRequest); ok {
			r.Wait = 0
		}
		return next(ctx)
	})
}
