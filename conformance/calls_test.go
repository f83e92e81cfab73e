package conformance

import (
	"errors"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

func TestCountedTellsCallsAndItems(t *testing.T) {
	ctx := t.Context()
	place := memory.New()
	s, calls := Counted(place.Open())
	other := CountedBy(place.Open(), calls)
	if got := calls.String(); got != "no calls" {
		t.Errorf("before anything: %s", got)
	}
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	for range 2 {
		r := virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}, {Queue: q, Payload: virtual.Bytes("n")}}}
		if err := s.Put(ctx, r); err != nil {
			t.Fatal(err)
		}
	}
	before := calls.Now()
	ts, _, err := other.Get(ctx, virtual.GetRequest{Queue: q, Max: 3, Lease: time.Minute}, nil)
	if err := errors.Join(err, other.Settle(ctx, answers(virtual.Ack, 0, ts...))); err != nil {
		t.Fatal(err)
	}
	registry, _ := virtual.As[virtual.Registry](s)
	if _, err := registry.Sessions(ctx); err != nil {
		t.Fatal(err)
	}
	if got, want := calls.Now().Since(before).String(), "Get 1, Registry.Sessions 1, Settle 1 (3 items)"; got != want {
		t.Errorf("since then: %s, want %s", got, want)
	}
	if got, want := calls.String(), "Get 1, Put 2 (4 items), Registry.Sessions 1, Settle 1 (3 items)"; got != want {
		t.Errorf("in all: %s, want %s", got, want)
	}
	if n := calls.Now().Total(); n != 5 {
		t.Errorf("%d calls in all, want 5", n)
	}
}

// TestAGetThatWaitsIsCounted counts a call that has not returned.
func TestAGetThatWaitsIsCounted(t *testing.T) {
	s, calls := Counted(memory.New().Open())
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _, _ = s.Get(t.Context(), virtual.GetRequest{Queue: virtual.QueueRef{Name: "orders", Incarnation: "1"}, Max: 1, Wait: time.Hour}, nil)
	}()
	for calls.Now()["Get"].Calls == 0 {
		yield()
	}
	if err := virtual.Close(s); err != nil {
		t.Error(err)
	}
	<-done
}
