package measure

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestPacerCountsFromTheIntendedTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := NewPacer(10)
		start := p.next
		for i := range 3 {
			at, err := p.Wait(t.Context())
			if want := start + int64(i+1)*1e8; err != nil || at != want {
				t.Errorf("send %d at %d, want %d; %v", i, at-start, want-start, err)
			}
		}
		time.Sleep(time.Second) // a send that blocked: those behind it were due meanwhile
		for i := 3; i < 13; i++ {
			at, err := p.Wait(t.Context())
			if want := start + int64(i+1)*1e8; err != nil || at != want {
				t.Errorf("send %d at %d, want %d; %v", i, at-start, want-start, err)
			}
		}
		if got := Now() - start; got != 13e8 {
			t.Errorf("13 sends took %d ns", got)
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		if _, err := p.Wait(ctx); err == nil {
			t.Error("waited on")
		}
	})
}

func TestSpinningPacerIsNeverEarly(t *testing.T) {
	p := NewPacer(1e6)
	p.Spin = true
	for range 100 {
		due := p.next + p.gap
		at, err := p.Wait(t.Context())
		if err != nil || at < due || Now() < at {
			t.Fatalf("due %d, counted from %d; %v", due, at, err)
		}
	}
}
