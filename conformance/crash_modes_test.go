package conformance

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/virtual"
)

// requestsChanged has every request pass through f.
func requestsChanged(f func(request any)) func(virtual.Store) virtual.Store {
	return func(s virtual.Store) virtual.Store {
		return virtual.Intercept(s, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			f(c.Request)
			return next(ctx)
		})
	}
}

// unconditional is a registry that writes whatever the conditions.
var unconditional = requestsChanged(func(request any) {
	if changes, ok := request.(*[]virtual.Change); ok {
		for i := range *changes {
			(*changes)[i].If = virtual.Any
		}
	}
})

// forgetful is a store that claims marks, and keeps none.
var forgetful = requestsChanged(func(request any) {
	switch r := request.(type) {
	case *virtual.PutRequest:
		r.Producer, r.Sequence = "", 0
	case *virtual.ApplyRequest:
		r.Producer, r.Sequence = "", 0
	}
})

// onceOnly says of every message that it is handed out for the first time.
type onceOnly struct{ virtual.Store }

func (s onceOnly) Traits() virtual.Traits { return virtual.TraitsOf(s.Store) }

func (s onceOnly) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	ts, res, err := s.Store.Get(ctx, r, buf)
	for i := range ts {
		if !strings.HasPrefix(r.Queue.Name, "!") {
			ts[i].Attempt = 1
		}
	}
	return ts, res, err
}

// oneStep takes a Put of several messages for one step.
type oneStep struct{ virtual.Store }

func (s oneStep) Traits() virtual.Traits { return virtual.TraitsOf(s.Store) }

func (s oneStep) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	err := s.Put(ctx, r.PutRequest)
	if err == nil && len(r.Settlements) > 0 {
		err = s.Settle(ctx, r.Settlements)
	}
	return evicted, err
}

// Each way of stopping a process finds what no other one does, and so does looking at what comes twice.
func TestEveryModeCatchesWhatNoOtherDoes(t *testing.T) {
	all := []crashMode{crashBefore, crashInPart, crashLate, crashAfter, crashReply}
	for name, c := range map[string]struct {
		scenario      string
		dress, engine func(virtual.Store) virtual.Store
		says          string
		modes         []crashMode // nil: some
	}{
		"a Put of several is no step":     {"transaction of publishes", virtual.Only, func(s virtual.Store) virtual.Store { return oneStep{s} }, "half done", all[1:2]},
		"a registry without conditions":   {"declare, bind", unconditional, nil, "heir", all[2:3]},
		"marks that are not kept":         {"publish", forgetful, nil, "twice", all[4:]},
		"redelivered that is never said":  {"consume and ack", func(s virtual.Store) virtual.Store { return onceOnly{virtual.Only(s)} }, nil, "did not say so", nil},
		"nothing, for a comparison":       {"transaction of publishes", virtual.Only, nil, "", all[:0]},
		"nothing, for another comparison": {"declare, bind", func(s virtual.Store) virtual.Store { return s }, nil, "", all[:0]},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := CrashConfig{Open: inMemory(c.dress), Virtual: true, Name: name, engine: c.engine}
			modes, err := caught(t, &cfg, c.scenario)
			if c.modes == nil && len(modes) == 0 || c.modes != nil && !slices.Equal(modes, c.modes) {
				t.Errorf("caught by %v (%v), want %v", modes, err, c.modes)
			}
			if err != nil && (!strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "came back")) {
				t.Errorf("it says %v, want %q and no more", err, c.says)
			}
			t.Log(modes, err)
		})
	}
}
