package redis_test

import (
	"slices"
	"testing"

	"github.com/dashi-mq/dashi/conformance"
)

// bounds are the claims that Redis has no use for.
var bounds = []string{"MaxBatch", "MaxBatchBytes", "MaxBody", "LeaseMin", "LeaseMax", "LeaseAtPut", "WithConnection"}

func TestStore(t *testing.T) {
	server := serverURL(t)
	r := conformance.Run(t, conformance.Config{Name: "redis", Open: inServer(server), Parallel: 16})
	for _, row := range r.Store.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(bounds, func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: Redis is to have everything", row.ID, row.Reason)
		}
	}
}
