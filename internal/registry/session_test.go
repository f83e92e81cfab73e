package registry_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

// beats has a process keep its session alive for a while, as the engine does.
func (w *world) beats(r *registry.Registry, session string, ttl, during time.Duration) {
	w.Helper()
	for end := time.Now().Add(during); ; pause(w.Context(), ttl/3) {
		w.must(r.KeepAlive(w.Context(), session, ttl))
		if !time.Now().Before(end) {
			return
		}
	}
}

func bound(key, session string) virtual.Change {
	return virtual.Change{Key: key, If: virtual.Any, Value: []byte("v"), Session: session}
}

func TestTheDeadAreEndedByWhoeverLooks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const ttl = 30 * time.Second
		a, b := w.process(registry.Options{}, nil), w.process(registry.Options{}, nil)
		w.must(a.KeepAlive(t.Context(), "a", ttl))
		w.must(b.KeepAlive(t.Context(), "b", ttl))
		_, err := a.Update(t.Context(), "a", []virtual.Change{bound("of a", "a"), write("stays", "v", virtual.Any)})
		w.must(err)
		w.beats(b, "b", ttl, 2*ttl/3)
		if is := w.records(b); len(is) != 2 {
			t.Errorf("before the end: %v", is)
		}
		n := w.counted(func() { w.beats(b, "b", ttl, ttl/2) })
		if is := w.records(b); len(is) != 1 {
			t.Errorf("after the end: %v", is)
		}
		t.Logf("%d calls in half a ttl that saw one die", n)
		if list, err := b.Sessions(t.Context()); err != nil || !slices.Equal(list, []string{"b"}) {
			t.Errorf("sessions %q, %v", list, err)
		}
		if _, err := a.Update(t.Context(), "a", []virtual.Change{write("late", "v", virtual.Any)}); !errors.Is(err, virtual.ErrSession) {
			t.Errorf("a late Update: %v", err)
		}
		if err := a.KeepAlive(t.Context(), "a", ttl); !errors.Is(err, virtual.ErrSession) {
			t.Errorf("a late KeepAlive: %v", err)
		}
		w.must(a.KeepAlive(t.Context(), "a2", ttl))
	})
}

func TestWhoWasAwayCountsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const ttl = 30 * time.Second
		a, b := w.process(registry.Options{}, nil), w.process(registry.Options{}, nil)
		w.must(a.KeepAlive(t.Context(), "a", ttl))
		w.must(b.KeepAlive(t.Context(), "b", ttl))
		pause(t.Context(), time.Hour) // the store could not be reached by anybody
		w.must(b.KeepAlive(t.Context(), "b", ttl))
		if list, err := b.Sessions(t.Context()); err != nil || len(list) != 2 {
			t.Errorf("sessions after a pause of all: %q, %v", list, err)
		}
		w.must(a.KeepAlive(t.Context(), "a", ttl))
		w.beats(b, "b", ttl, 2*ttl)
		if list, err := b.Sessions(t.Context()); err != nil || !slices.Equal(list, []string{"b"}) {
			t.Errorf("sessions after the end of one: %q, %v", list, err)
		}
	})
}

// Who comes back after all have died need not wait for their sessions to run out a second time, if the store knows how
// long ago the last of them gave a sign.
func TestSessionsAreDeadWhenTheirStateIsOlderThanTheyLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		const ttl = 30 * time.Second
		w.must(w.process(registry.Options{}, nil).KeepAlive(t.Context(), "old", ttl))
		pause(t.Context(), ttl*2/3)
		early := w.process(registry.Options{}, nil)
		if list, err := early.Sessions(t.Context()); err != nil || !slices.Equal(list, []string{"old"}) {
			t.Errorf("sessions before the first has run out: %q, %v", list, err)
		}
		pause(t.Context(), ttl/2)
		r := w.process(registry.Options{}, nil)
		w.must(r.KeepAlive(t.Context(), "new", ttl))
		if list, err := r.Sessions(t.Context()); err != nil || !slices.Equal(list, []string{"new"}) {
			t.Errorf("sessions after it has: %q, %v", list, err)
		}
		if err := r.KeepAlive(t.Context(), "old", ttl); !errors.Is(err, virtual.ErrSession) {
			t.Errorf("it was opened again: %v", err)
		}
	})
}

func TestEndedSessionsLeaveLittle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		r := w.process(registry.Options{Fresh: true}, nil)
		for i := range 500 {
			s := fmt.Sprintf("s%d", i)
			w.must(r.KeepAlive(t.Context(), s, time.Minute))
			_, err := r.Update(t.Context(), s, []virtual.Change{bound("k"+s, s)})
			w.must(err)
			w.must(r.EndSession(t.Context(), s))
			pause(t.Context(), time.Minute)
		}
		if is := w.records(r); len(is) != 0 {
			t.Errorf("%d records are left", len(is))
		}
		for _, q := range []virtual.QueueRef{topologyQueue, sessionsQueue} {
			if n := sizeOf(w.messages(q)); n > 20_000 {
				t.Errorf("%q has %d bytes", q.Name, n)
			}
		}
	})
}
