package conformance

import (
	"testing"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// BenchmarkMemory is the reference, and what the profiles are to be compared with.
func BenchmarkMemory(b *testing.B) {
	BenchmarkStore(b, StoreConfig{Open: func(T) (func() (virtual.Store, error), error) {
		place := memory.New()
		return func() (virtual.Store, error) { return place.Open(), nil }, nil
	}})
}

// BenchmarkProfiles tells what the dress costs: of those with latency mostly that.
func BenchmarkProfiles(b *testing.B) {
	for _, p := range Profiles() {
		b.Run(p.Name, func(b *testing.B) { BenchmarkStore(b, dressedConfig(p)) })
	}
}
