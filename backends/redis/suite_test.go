package redis_test

import (
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/conformance"
)

// bounds are the claims that Redis has no use for.
var bounds = []string{"MaxBatch", "MaxBatchBytes", "MaxBody", "LeaseMin", "LeaseMax", "LeaseAtPut", "WithConnection"}

func TestStore(t *testing.T) {
	server := serverURL(t)
	r := conformance.Run(t, conformance.Config{
		Name: "redis", Open: inServer(server), Unit: 400 * time.Millisecond, Parallel: 24, Report: "../../docs/reports/redis.json",
	})
	hasAllBut(t, r.Store, bounds...)
}

// hasAllBut checks that a store claims everything else.
func hasAllBut(t *testing.T, r *conformance.Report, lacks ...string) {
	t.Helper()
	for _, row := range r.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(lacks, func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: Redis is to have everything else", row.ID, row.Reason)
		}
	}
}

// inSlots are the claims of a place whose queues are in several slots that Redis cannot keep.
var inSlots = append([]string{"Guards", "Atomic"}, bounds...)

func TestStoreInSlots(t *testing.T) {
	server := with(serverURL(t), "slots", redis.SlotsQueue)
	r := conformance.Run(t, conformance.Config{Name: "redis, slots=queue", Open: inServer(server), Unit: 400 * time.Millisecond, Parallel: 24})
	hasAllBut(t, r.Store, inSlots...)
}

func TestStoreOnCluster(t *testing.T) {
	for slots, lacks := range map[string][]string{redis.SlotsQueue: inSlots, redis.SlotsVhost: bounds} {
		t.Run(slots, func(t *testing.T) {
			server := with(clusterURL(t), "slots", slots)
			if slots == redis.SlotsVhost {
				nightly(t) // what a single server does, by a client of another kind
			}
			r := conformance.Run(t, conformance.Config{Name: "redis cluster, slots=" + slots, Open: inServer(server), Unit: 400 * time.Millisecond, Parallel: 24})
			hasAllBut(t, r.Store, lacks...)
		})
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
