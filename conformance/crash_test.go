package conformance_test

import (
	"testing"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func TestNothingIsLostWhereverAProcessIsStopped(t *testing.T) {
	for _, place := range []struct {
		name  string
		dress func(virtual.Store) virtual.Store
	}{
		{"memory", func(s virtual.Store) virtual.Store { return s }},
		{"memory, five methods", virtual.Only},
		{"memory, five methods, no traits", func(s virtual.Store) virtual.Store { return bare(virtual.Only(s)) }},
	} {
		t.Run(place.name, func(t *testing.T) {
			conformance.RunCrashes(t, conformance.CrashConfig{
				Open: func() func() (virtual.Store, error) {
					p := memory.New()
					return func() (virtual.Store, error) { return place.dress(p.Open()), nil }
				},
				Virtual: true, Name: place.name,
			})
		})
	}
}
