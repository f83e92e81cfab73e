package redis_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
)

// bounds are the claims that Redis has no use for.
var bounds = []string{"MaxBatch", "MaxBatchBytes", "MaxBody", "LeaseMin", "LeaseMax", "LeaseAtPut", "WithConnection"}

func TestStore(t *testing.T) {
	server := serverURL(t)
	r := conformance.Run(t, conformance.Config{
		Name: "redis", Open: inServer(server), Unit: 400 * time.Millisecond, Parallel: 24, Report: "../../docs/reports/redis.json",
	})
	for _, row := range r.Store.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(bounds, func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: Redis is to have everything", row.ID, row.Reason)
		}
	}
}

func TestNothingIsLostWhereverAProcessIsStopped(t *testing.T) {
	server := serverURL(t)
	every := 20
	if testing.Short() {
		every = 200
	}
	conformance.RunCrashes(t, conformance.CrashConfig{Name: "redis", Open: inServer(server), Every: every, Parallel: 16})
}

func TestHistoriesAreLinearizable(t *testing.T) {
	server := serverURL(t)
	conformance.RunHistories(t, conformance.HistoryConfig{Name: "redis", Open: inServer(server), Histories: 100})
}
