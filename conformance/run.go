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
	// Open makes a place that is empty, once for every check and row. Each call of what it returns opens a handle on that place, which
	// is one process as far as the store can tell; the suite closes the handles. What else has to be undone, Open leaves
	// to t.Cleanup. T is another one for every place.
	Open func(t T) (func() (virtual.Store, error), error)
	// Restart, when set, ends the place that Open made for this T and starts it again with what it had made durable. Nobody
	// writes meanwhile. A server is killed and started. Of a directory a copy is made while handles are still open, and
	// opened from then on; modification times may matter: InDirectory does that. Handles are opened anew afterwards, and the
	// old ones need not work. Without it a store that claims Durable is only tried by closing all handles and opening others.
	// The rows of channels do without.
	Restart func(t T) error
	// Virtual says that all time is that of a testing/synctest bubble: for stores that live in the process and do no input
	// or output.
	Virtual bool
	// Unit is the unit of time for leases, delays and waits: short, but long beside what a call takes. It is raised to what the
	// store's traits ask for. 0 is 100 ms for checks, a second of virtual time, and 200 ms for rows.
	Unit time.Duration
	// Parallel is how many checks and rows run at a time in real time; 0 is 8. They wait more than they work, so more than
	// there are processors is right, and too many where rows fail that pass alone.
	Parallel int
	// Report, when set, is a file with the report of an earlier run, as JSON: a claim, a check or a row that is not what it
	// was fails the test, so that what is said of the store (Table) stays true. It is written when it is missing, and
	// anew when the environment has UPDATE_REPORTS=1, by a run that leaves nothing out.
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
// the rest is not, leaves the report among the test's artifacts as conformance.json and returns it. What it takes to write
// a test is in the package comment.
//
// In real time, under -short or with the race detector, the rows run with two brokers only, who do all that one does, and
// nothing is counted. A single check or row is run as go test -run 'TestStore/contract/store/Lease/Stale', or 'TestStore/channel,_two_brokers/rows/AK-10'.
func Run(t *testing.T, c Config) *StoreReport {
	t.Helper()
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	quick := !c.Virtual && (testing.Short() || raceEnabled)
	r := &StoreReport{Name: c.Name, Channel: []*Report{}}
	t.Run("contract", func(t *testing.T) {
		s := StoreConfig{Name: c.Name, Open: c.Open, Restart: c.Restart, Virtual: c.Virtual, Unit: c.Unit, Parallel: c.Parallel}
		r.Store = RunStore(t, s)
		inTime(t, &s, func(t *testing.T) { r.Claims, _ = s.claims(t) })
	})
	for _, rig := range []struct {
		name, test string
		make       func(VirtualOptions) Rig
	}{{"one", "channel, one broker", VirtualOne}, {"two", "channel, two brokers", VirtualTwo}} {
		t.Run(rig.test, func(t *testing.T) {
			if quick && rig.name == "one" {
				t.Skip("two brokers do all that one does, and this run is to be quick")
			}
			r.Channel = append(r.Channel, RunChannel(t, ChannelConfig{
				Open: c.rig(rig.make), Virtual: c.Virtual, Parallel: c.Parallel, URL: c.Name, RigName: rig.name,
			}))
		})
	}
	t.Run("calls", func(t *testing.T) {
		if quick {
			t.Skip("this run is to be quick")
		}
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
	if c.Report != "" && !selected(t) {
		if err := r.keep(c.Report, !quick); err != nil {
			t.Error(err)
		}
	}
	return r
}

// rig makes rigs on a fresh place. What the place leaves behind is undone when its rig closes.
func (c *Config) rig(make func(VirtualOptions) Rig) func(ctx context.Context) (Rig, error) {
	return func(ctx context.Context) (Rig, error) {
		k, other := &caseT{name: "place", ctx: ctx}, &caseT{name: "place of the other vhost", ctx: ctx}
		open, err := c.place(k)
		if err != nil {
			k.finish()
			return nil, err
		}
		openOther, err := c.place(other)
		if err != nil {
			other.finish()
			k.finish()
			return nil, err
		}
		unit := c.Unit
		if unit == 0 {
			unit = 200 * time.Millisecond
		}
		o := VirtualOptions{Open: open, OpenOther: openOther, Unit: unit, Virtual: c.Virtual}
		return &placeRig{virtualRig: make(o).(*virtualRig), ks: []*caseT{k, other}}, nil
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

// placeRig is a rig with what is to be undone of its places.
type placeRig struct {
	*virtualRig
	ks []*caseT
}

func (r *placeRig) Close() error {
	err := r.virtualRig.Close()
	for _, k := range r.ks {
		k.finish()
	}
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
