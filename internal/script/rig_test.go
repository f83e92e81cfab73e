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
}{
	{"one", conformance.VirtualOne, 20 * time.Millisecond, 20 * time.Millisecond, Profile{Bytes: true}},
	{"two", conformance.VirtualTwo, 20 * time.Millisecond, 20 * time.Millisecond, Profile{Bytes: true}},
	{"five", conformance.VirtualFive, 2 * time.Second, 2 * time.Second, Profile{}},
}

// unit of time of the rigs: their leases are ten of them, their sessions thirty.
const unit = 200 * time.Millisecond

// virtualRig adapts a rig of the conformance suite, on a place of its own.
func virtualRig(name string) (*Rig, func() error, Profile) {
	place := memory.New()
	for _, v := range rigs {
		if v.name != name {
			continue
		}
		r := v.make(conformance.VirtualOptions{Open: func() (virtual.Store, error) { return place.Open(), nil }, Unit: unit, Virtual: true})
		rig := &Rig{
			Connect: func(ctx context.Context, process int) (*channel.Connection, error) {
				return r.Connect(ctx, process, conformance.ConnectOptions{})
			},
			Crash: r.Crash, Settle: func() { time.Sleep(v.settle); synctest.Wait() }, Processes: 2,
			Rules:      model.Rules{Lease: 14 * unit, Session: 40 * unit, TxRoutesLate: true, TxWhole: true, TakesFirst: true, DropsExpired: true, Unused: 0.25, Grace: 1200 * time.Millisecond, Late: v.late},
			CrashTakes: 50 * unit,
		}
		if name == "one" {
			rig.Processes = 1
		}
		p := v.profile
		p.Length, p.Conns, p.Chans, p.Time, p.Crashes, p.Delay, p.Attempts = 60, 3, 2, true, true, true, true
		p.Rules = rig.Rules
		return rig, r.Close, p
	}
	panic("no rig " + name)
}
