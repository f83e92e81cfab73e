package main

import (
	"context"
	"time"
)

var epoch = time.Now()

// now is a monotonic clock in nanoseconds since the program started.
func now() int64 { return int64(time.Since(epoch)) }

// pacer spaces sends evenly, in an open loop: a send that is held up does not put off those that follow. Without a rate it
// does not wait.
type pacer struct {
	gap  int64 // ns
	next int64 // when the next send is due
	woke int64 // when we last slept until
}

func newPacer(perSecond float64) *pacer {
	p := &pacer{next: now()}
	if perSecond > 0 {
		p.gap = int64(1e9 / perSecond)
	}
	return p
}

// patientSleep is how long a sleep may be that nobody can interrupt.
const patientSleep = 20 * time.Millisecond

// wait returns when the next send is due, with the time latency is to be counted from: the intended time, so that a
// send that blocks counts against every message that it holds up, but not from before the last wake-up, since a late timer
// is not the fault of who is measured.
func (p *pacer) wait(ctx context.Context) (at int64, err error) {
	if p.gap == 0 {
		return now(), ctx.Err()
	}
	p.next += p.gap
	d := time.Duration(p.next - now())
	if d <= 0 {
		return max(p.next, p.woke), ctx.Err()
	}
	if d < patientSleep {
		time.Sleep(d)
	} else {
		t := time.NewTimer(d)
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	p.woke = now()
	return max(p.next, p.woke), nil
}
