package conformance_test

import (
	"testing"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// openMine stands for a store of yours.
func openMine(dir string) (virtual.Store, error) {
	return memory.Named(dir).Open(), nil
}

// The whole proof of a store is one test.
func ExampleRun() {
	// func TestStore(t *testing.T)
	_ = func(t *testing.T) {
		conformance.Run(t, conformance.Config{Open: func(t conformance.T) (func() (virtual.Store, error), error) {
			dir := t.TempDir()                                                 // one place ...
			return func() (virtual.Store, error) { return openMine(dir) }, nil // ... and a new handle for each process
		}})
	}
}

// A store that lives in a directory is also restarted: with a copy of what the directory holds.
func ExampleInDirectory() {
	open, restart := conformance.InDirectory(openMine)

	// func TestStore(t *testing.T)
	_ = func(t *testing.T) {
		conformance.Run(t, conformance.Config{Name: "mine", Open: open, Restart: restart, Report: "testdata/report.json"})
	}
	// func TestCrashes(t *testing.T)
	_ = func(t *testing.T) {
		conformance.RunCrashes(t, conformance.CrashConfig{Name: "mine", Open: open, Every: 10})
	}
	// func BenchmarkStore(b *testing.B)
	_ = func(b *testing.B) {
		conformance.BenchmarkStore(b, conformance.StoreConfig{Open: open})
	}
}
