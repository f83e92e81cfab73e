package memory_test

import (
	"errors"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// A place keeps some entries to use again, and no more than that. What was acked is gone either way: here there are more
// than it keeps, and answering them again says so and touches nothing else.
func TestMessageThatWasAckedIsGoneHoweverManyCame(t *testing.T) {
	const n = 20_000
	ctx, s := t.Context(), memory.New().Open()
	defer s.Close()
	q := virtual.QueueRef{Name: "q", Incarnation: "1"}
	messages := make([]*virtual.Message, n)
	for i := range messages {
		messages[i] = &virtual.Message{Queue: q, ID: virtual.ID{byte(i), byte(i >> 8)}, Payload: virtual.Bytes{}}
	}
	if err := s.Put(ctx, virtual.PutRequest{Messages: messages}); err != nil {
		t.Fatal(err)
	}
	taken, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: n, Lease: time.Hour}, nil)
	if err != nil || len(taken) != n {
		t.Fatal(len(taken), err)
	}
	acks := make([]virtual.Settlement, n)
	for i := range taken {
		acks[i] = virtual.Settlement{Queue: q, ID: taken[i].ID, Receipt: taken[i].Receipt, Kind: virtual.Ack}
	}
	if err := s.Settle(ctx, acks[:n-1]); err != nil { // the last one stays lent
		t.Fatal(err)
	}
	again := s.Settle(ctx, acks[:n-1])
	for i := range n - 1 {
		if err := virtual.ItemErr(again, i); !errors.Is(err, virtual.ErrStale) {
			t.Fatalf("message %d, acked again: %v", i, err)
		}
	}
	if err := s.Settle(ctx, acks[n-1:]); err != nil {
		t.Errorf("the one that was still lent: %v", err)
	}
}
