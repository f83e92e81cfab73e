package sqlite_test

import (
	"context"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// bounds are the claims that SQLite has no use for.
var bounds = []string{"MaxBatch", "MaxBatchBytes", "MaxBody", "LeaseMin", "LeaseMax", "LeaseAtPut", "WithConnection"}

// inDirectory opens handles on a file in an empty directory; what they had is there when the file is opened again.
var inDirectory, reopen = conformance.InDirectory(func(dir string) (virtual.Store, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	return virtual.Open(context.Background(), "sqlite://"+dir+"/dashi.db")
})

// speed is how many rows run at a time, of which one measures how soon a consumer hears of a message, and the unit of time. With the race
// detector SQLite, which is in Go, is ten times as slow.
func speed() (parallel int, unit time.Duration) {
	if raced {
		return 6, 800 * time.Millisecond
	}
	return 12, 400 * time.Millisecond
}

// unraced skips what counts leases in fractions of a second where the race detector makes all of it ten times as slow.
func unraced(t *testing.T) {
	t.Helper()
	if raced && os.Getenv("NIGHTLY") == "" {
		t.Skip("runs without the race detector (scripts/test does it so), and with it under NIGHTLY=1")
	}
}

func TestStore(t *testing.T) {
	unraced(t)
	parallel, unit := speed()
	r := conformance.Run(t, conformance.Config{
		Name: "sqlite", Open: inDirectory, Restart: reopen, Unit: unit, Parallel: parallel, Report: "../../../docs/reports/sqlite.json",
	})
	if r.Store == nil {
		return // left out by a flag
	}
	for _, row := range r.Store.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(bounds, func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: SQLite is to have everything", row.ID, row.Reason)
		}
	}
}

func TestNothingIsLostWhereverAProcessIsStopped(t *testing.T) {
	unraced(t)
	every := 20
	if testing.Short() {
		every = 200
	}
	conformance.RunCrashes(t, conformance.CrashConfig{Name: "sqlite", Open: inDirectory, Every: every, Parallel: 16})
}

func TestHistoriesAreLinearizable(t *testing.T) {
	unraced(t)
	conformance.RunHistories(t, conformance.HistoryConfig{Name: "sqlite", Open: inDirectory, Histories: 100})
}

func TestWhatProcessesRelyOn(t *testing.T) {
	unraced(t)
	conformance.RunProcesses(t, conformance.Config{Name: "sqlite", Open: inDirectory})
}
