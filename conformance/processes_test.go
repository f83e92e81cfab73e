package conformance

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

func TestWhatProcessesRelyOnHoldsInMemory(t *testing.T) {
	RunProcesses(t, Config{Name: "memory", Open: inMemory(func(s virtual.Store) virtual.Store { return s }), Virtual: true})
}

// Each proof finds a store that breaks its promise.
func TestProofsOfProcessesCatchWrongStores(t *testing.T) {
	type interceptor = virtual.Interceptor
	for proof, wrong := range map[string]interceptor{
		// The ack is told, and not done.
		"CopiesOfAFanoutAreApart/AckedByTheKilled": func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if s, ok := c.Request.(*[]virtual.Settlement); ok && (*s)[0].Kind == virtual.Ack && c.Method == "Settle" {
				return nil
			}
			return next(ctx)
		},
		// A lease is not renewed.
		"AHandlerMayTakeFiveLeases": func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if c.Method == "Holders.Renew" {
				return nil
			}
			return next(ctx)
		},
		// What comes back is lost.
		"AKilledProcessGivesBackInOrder": func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if r, ok := c.Request.(*virtual.GetRequest); ok && r.Lease > 0 {
				r.Lease, r.Holder, r.Take, r.Again = 0, "", 0, false
			}
			return next(ctx)
		},
	} {
		t.Run(proof, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ctx, stop := context.WithTimeout(t.Context(), time.Minute)
				defer stop()
				k := &caseT{name: proof, ctx: ctx}
				c := Config{Open: inMemory(func(s virtual.Store) virtual.Store { return virtual.Intercept(s, wrong) }), Virtual: true}
				for _, p := range processProofs {
					if p.name == proof {
						<-k.apart(func() { c.prove(k, p) })
					}
				}
				k.finish()
				if !k.Failed() {
					t.Error("it is not found")
				}
			})
		})
	}
	t.Run("OneRenewalForAllUnacked", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			k := &caseT{name: "renewals", ctx: t.Context()}
			c := Config{Open: inMemory(func(s virtual.Store) virtual.Store { return virtual.Without(s, (*virtual.Holders)(nil)) }), Virtual: true}
			<-k.apart(func() { c.prove(k, processProofs[len(processProofs)-1]) })
			k.finish()
			if !k.Failed() {
				t.Error("a lease for each message is not found")
			}
		})
	})
}
