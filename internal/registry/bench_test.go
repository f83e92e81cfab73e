package registry_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
)

func filled(b *testing.B, place *memory.Place, n int) *registry.Registry {
	r := registry.New(virtual.Only(place.Open()), registry.Options{Fresh: true})
	if err := r.KeepAlive(b.Context(), "s", time.Hour); err != nil {
		b.Fatal(err)
	}
	var changes []virtual.Change
	for i := range n {
		changes = append(changes, write(fmt.Sprintf("queue/orders-%d", i), fmt.Sprintf(`{"durable":true,"incarnation":"AB%dCDEFGHIJKLMN.%d"}`, i*7919, i), virtual.Absent))
	}
	if _, err := r.Update(b.Context(), "s", changes); err != nil {
		b.Fatal(err)
	}
	return r
}

// BenchmarkUpdate changes one record of many.
func BenchmarkUpdate(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := filled(b, memory.New(), n)
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := r.Update(b.Context(), "s", []virtual.Change{write(fmt.Sprintf("queue/orders-%d", i%n), "v", virtual.Any)}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkFollow reads what another process has changed: one record of many.
func BenchmarkFollow(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			place := memory.New()
			r := filled(b, place, n)
			other := registry.New(virtual.Only(place.Open()), registry.Options{})
			_, since, _, err := other.Changes(b.Context(), 0, 0)
			if err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				b.StopTimer()
				if _, err := r.Update(b.Context(), "s", []virtual.Change{write(fmt.Sprintf("queue/orders-%d", i%n), "v", virtual.Any)}); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
				recs, rev, _, err := other.Changes(b.Context(), since, 0)
				if err != nil || len(recs) != 1 {
					b.Fatal(len(recs), err)
				}
				since = rev
			}
		})
	}
}

// BenchmarkRefresh reads while nothing has changed.
func BenchmarkRefresh(b *testing.B) {
	r := filled(b, memory.New(), 10_000)
	_, since, _, _ := r.Changes(b.Context(), 0, 0)
	b.ReportAllocs()
	for b.Loop() {
		if _, _, _, err := r.Changes(b.Context(), since, 0); err != nil {
			b.Fatal(err)
		}
	}
}
