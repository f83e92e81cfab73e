//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"testing"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

var open, restart = conformance.InDirectory(func(dir string) (virtual.Store, error) { return Open(dir) })

func TestStore(t *testing.T) {
	const report = "../../docs/reports/filestore.json"
	conformance.Run(t, conformance.Config{Name: "files", Open: open, Restart: restart, Parallel: 12, Report: report})
}

func TestStoreLosesNothingWhereverAProcessIsStopped(t *testing.T) {
	if testing.Short() {
		t.Skip("takes half a minute")
	}
	conformance.RunCrashes(t, conformance.CrashConfig{Name: "files", Open: open, Parallel: 12, Every: 30})
}

func TestStoreIsLinearizable(t *testing.T) {
	conformance.RunHistories(t, conformance.HistoryConfig{Name: "files", Open: open, Histories: 20})
}

func BenchmarkStore(b *testing.B) { conformance.BenchmarkStore(b, conformance.StoreConfig{Open: open}) }
