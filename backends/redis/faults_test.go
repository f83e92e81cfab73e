package redis_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/internal/faultproxy"
	"github.com/dashi-mq/dashi/virtual"
)

// breaks is a proxy that breaks all connections every so often, in all ways.
func breaks(t *testing.T, every time.Duration) *faultproxy.Proxy {
	t.Helper()
	u, err := url.Parse(serverURL(t))
	must(t, err, "the server's URL")
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	const while = 50 * time.Millisecond
	p, err := faultproxy.New(u.Host, faultproxy.Options{Every: every, Seed: seed, Faults: []faultproxy.Fault{
		{Kind: faultproxy.Cut}, {Kind: faultproxy.Reset},
		{Kind: faultproxy.Cut, Way: faultproxy.Replies, After: 100}, {Kind: faultproxy.Reset, Way: faultproxy.Requests, After: 100},
		{Kind: faultproxy.Stall, For: while}, {Kind: faultproxy.HalfOpen, For: while}, {Kind: faultproxy.Drip, For: while, Every: time.Millisecond},
	}})
	must(t, err, "faultproxy")
	t.Cleanup(func() { _ = p.Close() })
	return p
}

// behind opens handles on a new place by way of a proxy.
func behind(t cleaner, p *faultproxy.Proxy, server string) func() (virtual.Store, error) {
	u, _ := url.Parse(newPlace(t, server))
	u.Host = p.Addr()
	q := u.Query()
	q.Set("read_timeout", "200ms") // of half-open connections
	u.RawQuery = q.Encode()
	return func() (virtual.Store, error) {
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		for {
			if s, err := virtual.Open(ctx, u.String()); err == nil || ctx.Err() != nil {
				return s, err
			}
		}
	}
}

// rowsByDay are the rows that a run by day chooses.
var rowsByDay = []string{"AK", "CF", "TX", "QU-0"}

// differs are what rows may find otherwise where connections break, by row: the reason has to say it.
var differs = map[string]string{
	"CN-08": "an idle consumer got a new message after its confirm took", // the wake-up is heard on the next connection
	// They count by purging queues, and the count of a purge whose reply was lost is not known.
	"EX-20": "; each goes to one queue", "EX-21": "; each goes to one queue",
}

// TestRowsHoldWhereConnectionsBreak runs the rows of channels on two brokers whose connections all break, five times a second. The
// engine makes calls again, so that they find nothing else.
func TestRowsHoldWhereConnectionsBreak(t *testing.T) {
	server, p := serverURL(t), breaks(t, 200*time.Millisecond)
	rows := rowsByDay
	if os.Getenv("NIGHTLY") != "" {
		rows = []string{""}
	}
	passed, total := 0, 0
	for _, run := range rows {
		r := conformance.CheckChannel(t.Context(), conformance.ChannelConfig{
			Open: func(context.Context) (conformance.Rig, error) {
				return conformance.VirtualTwo(conformance.VirtualOptions{
					Open: behind(t, p, server), OpenOther: behind(t, p, server), Unit: 300 * time.Millisecond,
				}), nil
			},
			Run: run, Parallel: 24, URL: "redis", RigName: "two", Limit: time.Minute,
		})
		for _, row := range r.Rows {
			may, known := differs[row.ID]
			if row.Result == conformance.Fail && !(known && strings.Contains(row.Reason, may)) {
				t.Errorf("%s: %s", row.ID, row.Reason)
			}
		}
		passed, total = passed+r.Passed, total+r.Total
	}
	_, faults := p.Counts()
	fmt.Printf("redis: rows where connections break: %d of %d, over %d faults\n", passed, total, faults)
}
