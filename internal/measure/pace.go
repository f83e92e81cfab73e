package measure

import (
	"context"
	"time"
)

var epoch = time.Now()

// Now is a monotonic clock in nanoseconds since the program started.
func Now() int64 { return int64(time.Since(epoch)) }

// Pacer spaces sends evenly, in an open loop: a send that is held up does not put off those that follow. Without a rate it
// does not wait.
type Pacer struct {
	// Spin waits by looking at the clock instead of sleeping: the sender is then never late and its processor never idle.
	Spin bool

	gap  int64 // ns
	next int64 // when the next send is due
	woke int64 // when we last slept until
}

// NewPacer starts a pacer of so many sends a second; 0 is no limit.
func NewPacer(perSecond float64) *Pacer {
	p := &Pacer{next: Now()}
	if perSecond > 0 {
		p.gap = int64(1e9 / perSecond)
	}
	return p
}

// patientSleep is how long a sleep may be that nobody can interrupt.
const patientSleep = 20 * time.Millisecond

// Wait returns when the next send is due, with the time latency is to be counted from: the intended time, so that a
// send that blocks counts against every message that it holds up, but not from before the last wake-up, since a late timer
// is not the fault of who is measured.
func (p *Pacer) Wait(ctx context.Context) (at int64, err error) {
	if p.gap == 0 {
		return Now(), ctx.Err()
	}
	p.next += p.gap
	d := time.Duration(p.next - Now())
	switch {
	case d <= 0:
		return max(p.next, p.woke), ctx.Err()
	case p.Spin:
		for Now() < p.next {
		}
	case d < patientSleep:
		time.Sleep(d)
	default:
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	p.woke = Now()
	return max(p.next, p.woke), nil
}
