package postgres_test

import (
	"os"
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
)

// bounds are the claims that PostgreSQL has no use for.
var bounds = []string{"MaxBatch", "MaxBatchBytes", "MaxBody", "LeaseMin", "LeaseMax", "LeaseAtPut", "WithConnection"}

// unraced skips what counts leases in fractions of a second where the race detector makes all of it ten times as slow.
func unraced(t *testing.T) {
	t.Helper()
	if raced && os.Getenv("NIGHTLY") == "" {
		t.Skip("runs without the race detector (scripts/test does it so), and with it under NIGHTLY=1")
	}
}

func TestStore(t *testing.T) {
	unraced(t)
	r := conformance.Run(t, conformance.Config{
		Name: "postgres", Open: inServer(serverURL(t)), Unit: 400 * time.Millisecond, Parallel: 12, Report: "../../../docs/reports/postgres.json",
	})
	if r.Store == nil {
		return // left out by a flag
	}
	for _, row := range r.Store.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(bounds, func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: PostgreSQL is to have everything", row.ID, row.Reason)
		}
	}
}

func TestNothingIsLostWhereverAProcessIsStopped(t *testing.T) {
	unraced(t)
	every := 100
	if os.Getenv("NIGHTLY") != "" {
		every = 20
	}
	conformance.RunCrashes(t, conformance.CrashConfig{Name: "postgres", Open: inServer(serverURL(t)), Every: every, Parallel: 16})
}

func TestHistoriesAreLinearizable(t *testing.T) {
	unraced(t)
	conformance.RunHistories(t, conformance.HistoryConfig{Name: "postgres", Open: inServer(serverURL(t)), Histories: 50})
}

func TestWhatProcessesRelyOn(t *testing.T) {
	unraced(t)
	conformance.RunProcesses(t, conformance.Config{Name: "postgres", Open: inServer(serverURL(t))})
}
