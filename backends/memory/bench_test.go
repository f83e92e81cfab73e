package memory_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// BenchmarkPutGetSettle moves messages of 256 bytes through a queue in batches; one op is one message.
func BenchmarkPutGetSettle(b *testing.B) {
	for _, batch := range []int{1, 100} {
		for _, holder := range []string{"", "holder"} {
			name := fmt.Sprintf("batch=%d", batch)
			if holder != "" {
				name += "/holder"
			}
			b.Run(name, func(b *testing.B) { putGetSettle(b, batch, holder) })
		}
	}
}

func putGetSettle(b *testing.B, batch int, holder string) {
	s := memory.New().Open()
	defer s.Close()
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	body := virtual.Bytes(make([]byte, 256))
	ms := make([]*virtual.Message, batch)
	ts := make([]virtual.Taken, 0, batch)
	st := make([]virtual.Settlement, batch)
	take := uint64(0)
	b.ReportAllocs()
	for i := 0; i < b.N; i += batch {
		for k := range ms {
			ms[k] = &virtual.Message{Queue: q, Payload: body}
		}
		if err := s.Put(b.Context(), virtual.PutRequest{Messages: ms}); err != nil {
			b.Fatal(err)
		}
		var err error
		take++
		ts, _, err = s.Get(b.Context(), virtual.GetRequest{Queue: q, Max: batch, Lease: time.Minute, Holder: holder, Take: take}, ts[:0])
		if err != nil || len(ts) != batch {
			b.Fatalf("%d taken: %v", len(ts), err)
		}
		for k, t := range ts {
			st[k] = virtual.Settlement{Queue: q, ID: t.ID, Receipt: t.Receipt}
		}
		if err := s.Settle(b.Context(), st); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkPut stores messages in batches and purges them now and then; one op is one message.
func BenchmarkPut(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s := memory.New().Open()
			defer s.Close()
			q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
			m := &virtual.Message{Queue: q, Payload: virtual.Bytes(make([]byte, 256))}
			ms := make([]*virtual.Message, batch)
			for k := range ms {
				ms[k] = m
			}
			b.ReportAllocs()
			for i := 0; i < b.N; i += batch {
				if err := s.Put(b.Context(), virtual.PutRequest{Messages: ms}); err != nil {
					b.Fatal(err)
				}
				if i%100_000 == 0 {
					if _, err := s.Purge(b.Context(), q); err != nil {
						b.Fatal(err)
					}
				}
			}
		})
	}
}
