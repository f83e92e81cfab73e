package conformance

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Config says what Run proves, and where. Open is all that is needed.
type Config struct {
	// Name of the store, for reports.
	Name string
	// Open makes a place that is empty, once for every check and row. Each call of what it returns opens a handle on that
	// place, which is one process as far as the store can tell; the suite closes the handles. What else has to be undone,
	// Open leaves to t.Cleanup.
	Open func(t T) (func() (virtual.Store, error), error)
	// Restart, when set, ends the place that Open made last and starts it again with what it had made durable.
	Restart func(t T) error
	// Virtual says that all time is that of a testing/synctest bubble: for stores that live in the process and do no input
	// or output.
	Virtual bool
	// Unit is the unit of time for leases, delays and waits: short, but long beside what a call takes; 0 is 200 ms. It is
	// raised to what the store's traits ask for.
	Unit time.Duration
	// Parallel is how many checks and rows run at a time in real time; 0 is 8: they wait more than they work.
	Parallel int
	// Report, when set, is a file with the report of an earlier run, as JSON: a claim, a check or a row that is not what it
	// was fails the test, so that what is said of the store (Table) stays true. It is written when it is missing, and
	// anew when the environment has UPDATE_REPORTS=1.
	Report string
}

// StoreReport is all that Run has seen of a store.
type StoreReport struct {
	Name   string       `json:"name"`
	Claims []ClaimValue `json:"claims,omitempty"`
	// Store is the verdict on the checks of package virtual's contract; Channel on the rows of docs/semantics.md, by rig.
	Store   *Report   `json:"store,omitempty"`
	Channel []*Report `json:"channel"`
	// Calls are what the engine asks of the store.
	Calls []CallFigure `json:"calls,omitempty"`
}

// CallFigure is a number of calls of the store.
type CallFigure struct {
	What  string  `json:"what"`
	Calls float64 `json:"calls"`
}

// Run proves a store: the contract of package virtual (RunStore), then what a channel on it does, with one broker and with
// two (RunChannel), and counts what the engine asks of it. It prints what the store claims, how much is green, and why
// the rest is not, leaves the report among the test's artifacts as conformance.json and returns it.
//
//	func TestStore(t *testing.T) {
//		conformance.Run(t, conformance.Config{
//			Open: func(t conformance.T) (func() (virtual.Store, error), error) {
//				dir := t.TempDir()                                                    // one place ...
//				return func() (virtual.Store, error) { return mystore.Open(dir) }, nil // ... and a handle for each process
//			},
//		})
//	}
func Run(t *testing.T, c Config) *StoreReport {
	t.Helper()
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	r := &StoreReport{Name: c.Name}
	t.Run("contract", func(t *testing.T) {
		s := StoreConfig{Name: c.Name, Open: c.Open, Restart: c.Restart, Virtual: c.Virtual, Unit: c.Unit, Parallel: c.Parallel}
		r.Store = RunStore(t, s)
		inTime(t, &s, func(t *testing.T) { r.Claims, _ = s.claims(t) })
	})
	for _, rig := range []struct {
		name string
		make func(VirtualOptions) Rig
	}{{"one", VirtualOne}, {"two", VirtualTwo}} {
		t.Run("channel, "+map[string]string{"one": "one broker", "two": "two brokers"}[rig.name], func(t *testing.T) {
			r.Channel = append(r.Channel, RunChannel(t, ChannelConfig{
				Open: c.rig(rig.make), Virtual: c.Virtual, Parallel: c.Parallel, URL: c.Name, RigName: rig.name,
			}))
		})
	}
	t.Run("calls", func(t *testing.T) {
		run := func(t *testing.T) { r.Calls = c.callFigures(t) }
		if c.Virtual {
			synctest.Test(t, run)
			return
		}
		run(t)
	})
	if err := r.write(filepath.Join(t.ArtifactDir(), "conformance.json")); err != nil {
		t.Error(err)
	}
	if c.Report != "" {
		if err := r.Keep(c.Report); err != nil {
			t.Error(err)
		}
	}
	return r
}

// rig makes rigs on a fresh place. What the place leaves behind is undone when its rig closes.
func (c *Config) rig(make func(VirtualOptions) Rig) func(ctx context.Context) (Rig, error) {
	return func(ctx context.Context) (Rig, error) {
		k := &caseT{name: "rig", ctx: ctx}
		open, err := c.place(k)
		if err != nil {
			k.finish()
			return nil, err
		}
		other, err := c.place(k)
		if err != nil {
			k.finish()
			return nil, err
		}
		unit := c.Unit
		if unit == 0 {
			unit = 200 * time.Millisecond
		}
		o := VirtualOptions{Open: open, OpenOther: other, Unit: unit, Virtual: c.Virtual}
		if c.Restart != nil {
			o.Restart = func(context.Context) error {
				if err := c.Restart(k); err != nil {
					return err
				}
				return k.failure()
			}
		}
		return &placeRig{virtualRig: make(o).(*virtualRig), k: k}, nil
	}
}

// place opens a place; what Open reports through its T is the error.
func (c *Config) place(k *caseT) (open func() (virtual.Store, error), err error) {
	done := k.apart(func() { open, err = c.Open(k) })
	<-done
	if err == nil {
		err = k.failure()
	}
	return open, err
}

// placeRig is a rig with what is to be undone of its place.
type placeRig struct {
	*virtualRig
	k *caseT
}

func (r *placeRig) Close() error {
	err := r.virtualRig.Close()
	r.k.finish()
	return err
}

// apart runs f on a goroutine of its own, which it may end.
func (t *caseT) apart(f func()) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		t.protect(f)
	}()
	return done
}

// failure is the first failure as an error.
func (t *caseT) failure() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case len(t.failures) > 0:
		return fmt.Errorf("%s", t.failures[0])
	case t.skipped:
		return fmt.Errorf("skipped: %s", t.skip)
	}
	return nil
}
