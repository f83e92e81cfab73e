package redis_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func BenchmarkStore(b *testing.B) {
	conformance.BenchmarkStore(b, conformance.StoreConfig{Name: "redis", Open: inServer(serverURL(b))})
}

// BenchmarkHolder moves messages of 256 bytes through a queue as the engine does, under a holder; one op is one message.
func BenchmarkHolder(b *testing.B) {
	for _, batch := range []int{1, 100} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) { throughHolder(b, batch) })
	}
}

func throughHolder(b *testing.B, batch int) {
	s := open(b, newPlace(b, serverURL(b)))
	body := virtual.Bytes(make([]byte, 256))
	ms := make([]*virtual.Message, batch)
	for k := range ms {
		ms[k] = &virtual.Message{Queue: orders, Payload: body}
	}
	g := virtual.GetRequest{Queue: orders, Max: batch, Lease: time.Minute, Holder: "holder"}
	var ts []virtual.Taken
	var puts, gets, settles time.Duration
	b.ReportAllocs()
	n := uint64(0)
	for i := 0; i < b.N; i += batch {
		n++
		begin := time.Now()
		must(b, s.Put(b.Context(), virtual.PutRequest{Messages: ms, Producer: "p", Sequence: n}), "Put")
		put := time.Now()
		g.Take = n
		var err error
		ts, _, err = s.Get(b.Context(), g, ts[:0])
		if must(b, err, "Get"); len(ts) != batch {
			b.Fatalf("%d were taken, want %d", len(ts), batch)
		}
		got := time.Now()
		must(b, s.Settle(b.Context(), settled(virtual.Ack, 0, ts...)), "Settle")
		puts, gets, settles = puts+put.Sub(begin), gets+got.Sub(put), settles+time.Since(got)
	}
	calls := float64(n)
	b.ReportMetric(float64(puts.Microseconds())/calls, "µs/Put")
	b.ReportMetric(float64(gets.Microseconds())/calls, "µs/Get")
	b.ReportMetric(float64(settles.Microseconds())/calls, "µs/Settle")
}
