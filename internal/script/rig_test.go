package script

import (
	"context"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/internal/model"
	"github.com/dashi-mq/dashi/virtual"
)

// rigs are what random scripts run on, in virtual time.
var rigs = []struct {
	name    string
	make    func(o conformance.VirtualOptions) conformance.Rig
	settle  time.Duration // by when all that an operation set off has happened
	late    time.Duration // how late things happen that nobody waits for
	profile Profile

	scripts   int // in every run of the test
	undecided int // how many in a hundred may be

	// Limits and expiry are looked at beside what others take, and a look takes a head away for a moment: what comes of it now
	// and then is not followed.
	races bool
}{
	{"one", conformance.VirtualOne, 20 * time.Millisecond, 20 * time.Millisecond, Profile{Bytes: true}, 500, 1, false},
	{"two", conformance.VirtualTwo, 20 * time.Millisecond, 20 * time.Millisecond, Profile{Bytes: true}, 500, 1, false},
	{"five", conformance.VirtualFive, 4 * time.Second, 4 * time.Second, Profile{}, 250, 2, true},
}

// unit of time of the rigs: their leases are ten of them, their sessions thirty.
const unit = 200 * time.Millisecond

// virtualRig adapts a rig of the conformance suite, on a place of its own.
func virtualRig(name string) (*Rig, func() error, Profile) {
	return rigOn(name, func(s *memory.Store) virtual.Store { return s })
}

// rigOn is virtualRig with another store on each handle of the place.
func rigOn(name string, dress func(s *memory.Store) virtual.Store) (*Rig, func() error, Profile) {
	place := memory.New()
	for _, v := range rigs {
		if v.name != name {
			continue
		}
		r := v.make(conformance.VirtualOptions{Open: func() (virtual.Store, error) { return dress(place.Open()), nil }, Unit: unit, Virtual: true})
		rig := &Rig{
			Connect: func(ctx context.Context, process int) (*channel.Connection, error) {
				return r.Connect(ctx, process, conformance.ConnectOptions{})
			},
			Crash: r.Crash, CrashTakes: 50 * unit, Settle: func() { time.Sleep(v.settle); synctest.Wait() }, Processes: 2, Counts: true,
			Rules: model.Rules{
				Lease: 14 * unit, Session: 40 * unit, TxRoutesLate: true, TxWhole: true, TakesFirst: true, DropsExpired: true, InOrder: true, Unused: 0.25,
				Grace: 1200 * time.Millisecond, Late: v.late,
			},
		}
		switch name {
		case "one":
			rig.Processes = 1
		case "five": // what a store can do with five methods and no more
			rig.Counts = false // it would have to look for what has expired, queue by queue
			rig.Rules.TrimsLate, rig.Rules.ExpiresUnattended = true, true
			rig.Rules.LooksAgain = 20 * time.Second
			rig.Rules.Process = rig.process
		}
		p := v.profile
		p.Length, p.Conns, p.Chans, p.Time, p.Crashes, p.Delay, p.Attempts = 60, 3, 2, true, true, true, true
		p.Rules = rig.Rules
		return rig, r.Close, p
	}
	panic("no rig " + name)
}
