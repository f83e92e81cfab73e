//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"os/exec"
	"testing"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func TestStore(t *testing.T)      { conformance.RunStore(t, config()) }
func BenchmarkStore(b *testing.B) { conformance.BenchmarkStore(b, config()) }

func config() conformance.StoreConfig {
	var dir string
	return conformance.StoreConfig{
		Open: func(t conformance.T) (func() (virtual.Store, error), error) {
			dir = t.TempDir() + "/store"                                   // one place ...
			return func() (virtual.Store, error) { return Open(dir) }, nil // ... and a new handle for each process
		},
		Restart: func(conformance.T) error { // go on with a copy of what is on the disk
			old := dir
			dir += "+"
			return exec.Command("cp", "-a", old, dir).Run()
		},
	}
}
