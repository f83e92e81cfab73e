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
	if r == nil {
		return // left out by a flag
	}
	for _, row := range r.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(lacks, func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: Redis is to have everything else", row.ID, row.Reason)
		}
	}
}

// inSlots are the claims of a place whose queues are in several slots that Redis cannot keep.
var inSlots = append([]string{"Guards", "Atomic"}, bounds...)

func TestStoreInSlots(t *testing.T) {
	suites(t, "redis, slots=queue", with(serverURL(t), "slots", redis.SlotsQueue), isNight(), inSlots)
}

func TestStoreOnCluster(t *testing.T) {
	beside(t)
	server := clusterURL(t)
	t.Run(redis.SlotsQueue, func(t *testing.T) {
		suites(t, "redis cluster, slots=queue", with(server, "slots", redis.SlotsQueue), true, inSlots)
	})
	t.Run(redis.SlotsVhost, func(t *testing.T) {
		nightly(t) // what a single server does, by a client of another kind
		suites(t, "redis cluster, slots=vhost", with(server, "slots", redis.SlotsVhost), true, bounds)
	})
}

func TestStoreOnValkey(t *testing.T) {
	beside(t)
	suites(t, "valkey", urlOf(t, "valkey", "DASHI_VALKEY_URL"), isNight(), bounds)
}

// beside lets a test run beside those of other servers, but where both are long.
func beside(t *testing.T) {
	if !isNight() {
		t.Parallel()
	}
}

// suites runs the store's suite and, if rows says so, that of channels.
func suites(t *testing.T, name, server string, rows bool, lacks []string) {
	t.Helper()
	const unit, parallel = 400 * time.Millisecond, 24
	if rows {
		r := conformance.Run(t, conformance.Config{Name: name, Open: inServer(server), Unit: unit, Parallel: parallel})
		hasAllBut(t, r.Store, lacks...)
		return
	}
	r := conformance.RunStore(t, conformance.StoreConfig{Name: name, Open: inServer(server), Unit: unit, Parallel: parallel})
	hasAllBut(t, r, lacks...)
}

// TestNothingIsLostInSlots is about what is one step no more: a Put to several queues, a dead letter and its ack.
func TestNothingIsLostInSlots(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		every := 100
		if isCluster(server) {
			nightly(t)
			every = 40
		}
		conformance.RunCrashes(t, conformance.CrashConfig{Name: "redis, slots=queue", Open: inServer(server), Every: every, Parallel: 16})
	})
}

func TestHistoriesAreLinearizable(t *testing.T) {
	server := serverURL(t)
	conformance.RunHistories(t, conformance.HistoryConfig{Name: "redis", Open: inServer(server), Histories: 100})
}
