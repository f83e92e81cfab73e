package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/soak"
)

// soakOn runs a soak of some seconds on a real server, and returns its report.
func soakOn(t *testing.T, url string, code int, args ...string) (r soakReport) {
	t.Helper()
	if url == "" {
		t.Skip("needs the URL of a server that a soak's processes share: DASHI_AMQP_URL, DASHI_REDIS_URL or DASHI_POSTGRES_URL")
	}
	dir := t.TempDir()
	out := runDashi(t.Context(), nil, append([]string{"soak", "--url", url, "--json", "--dir", dir}, args...)...)
	out.want(t, code)
	if err := json.Unmarshal([]byte(out.out), &r); err != nil {
		t.Fatalf("%v\n%s", err, out.out)
	}
	nothingLeft(t, url, soak.Plan{Seed: r.Seed, Queues: r.Queues})
	if t.Failed() {
		logs, _ := filepath.Glob(filepath.Join(dir, "*.log"))
		for _, log := range logs {
			if text, _ := os.ReadFile(log); len(text) > 0 {
				t.Logf("%s:\n%s", filepath.Base(log), text)
			}
		}
	}
	return r
}

// nothingLeft checks that all that the run declared has gone.
func nothingLeft(t *testing.T, url string, p soak.Plan) {
	t.Helper()
	conn, err := dashi.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	gone := func(what string, ask func(*channel.Channel) error) {
		ch, err := conn.Channel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer ch.Close(t.Context())
		if err := ask(ch); !errors.Is(err, channel.ErrNotFound) {
			t.Errorf("%s is still there: %v", what, err)
		}
	}
	for q := range p.All() {
		gone(p.QueueName(q), func(ch *channel.Channel) error {
			_, err := ch.QueueDeclarePassive(t.Context(), p.QueueName(q))
			return err
		})
	}
	for _, kind := range []string{"direct", "topic", "fanout", "dead"} {
		gone(p.Exchange(kind), func(ch *channel.Channel) error { return ch.ExchangeDeclarePassive(t.Context(), p.Exchange(kind)) })
	}
}

func TestSoakLosesNothing(t *testing.T) {
	for _, c := range []struct{ server, url, crash string }{
		{"sqlite", "sqlite://" + filepath.Join(t.TempDir(), "soak.db"), ""},
		{"rabbitmq", os.Getenv("DASHI_AMQP_URL"), ""},
		{"postgres", os.Getenv("DASHI_POSTGRES_URL"), os.Getenv("DASHI_POSTGRES_CRASH")},
		{"redis", os.Getenv("DASHI_REDIS_URL"), os.Getenv("DASHI_REDIS_CRASH")}, // set where nobody else uses the server meanwhile
		{"redis-cluster", os.Getenv("DASHI_REDIS_CLUSTER_URL"), ""},
	} {
		t.Run(c.server, func(t *testing.T) {
			args := []string{"--duration", "4s", "--kill-every", "300ms", "--rate", "400"}
			if c.crash != "" {
				args = []string{"--duration", longer("20s", "1m"), "--kill-every", "1s", "--rate", "400", "--server-restart", c.crash, "--restart-every", "6s"}
			}
			r := soakOn(t, c.url, exitOK, args...)
			r.wantAll(t)
			fmt.Printf("soak: %s: %d producers and %d consumers killed, %d restarts of the server, %d messages confirmed, %d copies, lost %d\n", c.server,
				r.KilledProducers, r.KilledConsumers, r.Restarts, r.Confirmed, r.Copies, r.Lost)
		})
	}
}

// longer is what a run takes, by night.
func longer(day, night string) string {
	if os.Getenv("NIGHTLY") != "" {
		return night
	}
	return day
}

// wantAll wants nothing to be wrong, and enough to have been tried.
func (r soakReport) wantAll(t *testing.T) {
	t.Helper()
	if !r.Passed || r.Wrong() != 0 || r.Left != 0 || r.Damaged != 0 || len(r.Ended) != 0 {
		t.Errorf("not passed: %+v", r)
	}
	if r.KilledProducers == 0 || r.KilledConsumers == 0 || r.Confirmed < 100 || r.Dead == 0 || r.Copies <= r.Confirmed || r.CameAgain[soak.RuleRequeued] == 0 {
		t.Errorf("little was tried: %+v", r)
	}
}

// The network breaks, too: all that the processes say to the server goes through a proxy that cuts, resets, stalls and ignores.
func TestSoakThroughAProxyLosesNothing(t *testing.T) {
	server := os.Getenv("DASHI_REDIS_URL")
	if server == "" {
		t.Skip("needs DASHI_REDIS_URL: a soak's processes share a server")
	}
	u, err := url.Parse(server)
	if err != nil {
		t.Fatal("DASHI_REDIS_URL is no URL") // err would show its password
	}
	p := startProxy(t, "--to", u.Host, "--every", "300ms", "--fault", "cut,reset,stall=300ms,half-open=300ms")
	u.Host = p.address
	q := u.Query()
	q.Set("read_timeout", "1s")
	u.RawQuery = q.Encode()
	r := soakOn(t, u.String(), exitOK, "--duration", longer("4s", "1m"), "--kill-every", "700ms", "--rate", "400")
	r.wantAll(t)
	faults := p.faults.Load()
	if faults < 8 {
		t.Errorf("%d faults: little was tried", faults)
	}
	fmt.Printf("soak: redis through a proxy: %d faults, %d producers and %d consumers killed, %d messages confirmed, %d copies, lost %d\n",
		faults, r.KilledProducers, r.KilledConsumers, r.Confirmed, r.Copies, r.Lost)
}

// What a soak is for is found when a process of its own does it.
func TestSoakCatchesWrongProcesses(t *testing.T) {
	for _, c := range []struct {
		wrong string
		found func(soakReport) int
	}{
		{wrongDrop, func(r soakReport) int { return r.Lost }},
		{wrongAckFirst, func(r soakReport) int { return r.Lost }},
		{wrongConfirmFirst, func(r soakReport) int { return r.Lost }},
		{wrongTwice, func(r soakReport) int { return r.Duplicates }},
		{wrongMisroute, func(r soakReport) int { return min(r.Lost, r.WrongQueue) }},
		{wrongDamage, func(r soakReport) int { return min(r.Lost, r.Damaged) }},
	} {
		t.Run(c.wrong, func(t *testing.T) {
			t.Parallel()
			r := soakOn(t, os.Getenv("DASHI_AMQP_URL"), exitFailed, "--duration", "3s", "--kill-every", "200ms", "--patience", "3s", "--rate", "150", "--wrong", c.wrong)
			if c.found(r) == 0 || r.Passed {
				t.Errorf("not found: %+v", r)
			}
			if c.wrong != wrongMisroute && c.wrong != wrongTwice && r.WrongQueue+r.Duplicates+r.Nowhere != 0 {
				t.Errorf("more is found than is wrong: %+v", r)
			}
		})
	}
}
