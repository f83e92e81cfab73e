package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// lineFields are the fields of the one line by which all benchmarks are compared, without those that are there only
// when they are not zero.
var lineFields = strings.Fields(`peer case n body params msgs_per_s publish_per_s elapsed_s lat_mode lat_p50_us lat_p99_us
	lat_max_us cpu_client_s cpu_other_s cpu_steal_s cpu_us_per_msg allocs_per_msg bytes_per_msg versions go cpus time`)

func TestBenchPrintsTheOneLine(t *testing.T) {
	for _, c := range []struct {
		args  []string
		extra []string
		mode  string
		name  string
	}{
		{nil, nil, "saturated", "transient ack-each 1x1"},
		{[]string{"--rate", "1e9"}, nil, "paced", "transient ack-each 1x1"},
		{[]string{"--drain"}, []string{"consume_per_s"}, "saturated", "transient+drain ack-each 1x1"},
		{
			[]string{"--persistent", "--confirm", "10", "--ack", "multiple", "--producers", "3", "--consumers", "2"},
			nil, "saturated", "persistent+confirm ack-multiple 3x2",
		},
		{[]string{"--exchange", "fanout", "--queue-args", `{"x-max-priority": 3}`}, nil, "saturated", "transient ack-each 1x1 fanout queue-args"},
	} {
		r := runDashi(t.Context(), nil, append([]string{"bench", "--json", "-n", "1000"}, c.args...)...)
		r.want(t, exitOK)
		if strings.Count(r.out, "\n") != 1 {
			t.Fatalf("%v: not one line:\n%s", c.args, r.out)
		}
		var fields map[string]any
		if err := json.Unmarshal([]byte(r.out), &fields); err != nil {
			t.Fatalf("%v: %v", c.args, err)
		}
		want := slices.Sorted(slices.Values(slices.Concat(lineFields, c.extra)))
		if got := slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
			t.Errorf("%v: fields\n%v, want\n%v", c.args, got, want)
		}
		for k, v := range map[string]any{"peer": "dashi memory", "case": c.name, "n": 1000.0, "body": 256.0, "lat_mode": c.mode} {
			if fields[k] != v {
				t.Errorf("%v: %s is %v, want %v", c.args, k, fields[k], v)
			}
		}
		if fields["msgs_per_s"].(float64) <= 0 || fields["lat_max_us"].(float64) < fields["lat_p50_us"].(float64) {
			t.Errorf("%v: figures that cannot be: %s", c.args, r.out)
		}
	}
}

func TestBenchCarriesTheNamesItIsGiven(t *testing.T) {
	r := runDashi(t.Context(), nil, "bench", "--json", "-n", "10", "--peer", "p", "--case", "c")
	r.want(t, exitOK)
	if !strings.HasPrefix(r.out, `{"peer":"p","case":"c","n":10,`) {
		t.Error(r.out)
	}
}

func TestBenchRunsOverEveryExchange(t *testing.T) {
	for kind := range benchRoutes {
		r := runDashi(t.Context(), nil, "bench", "-n", "500", "--producers", "2", "--exchange", kind)
		r.want(t, exitOK)
		if !strings.HasPrefix(r.out, "500 messages of 256 bytes through memory://: "+kind+" exchange, 2 producers, 1 consumer") {
			t.Errorf("%s:\n%s", kind, r.out)
		}
	}
}

func TestBenchOnASharedPlaceIsSeveralProcesses(t *testing.T) {
	memory.Forget(t.Name())
	runDashi(t.Context(), nil, "bench", "-n", "500", "--producers", "2", "--consumers", "2", "--url", "memory://"+t.Name()).want(t, exitOK)
}

func TestBenchOnAServer(t *testing.T) {
	url := os.Getenv("DASHI_AMQP_URL")
	if url == "" {
		t.Skip("no DASHI_AMQP_URL")
	}
	runDashi(t.Context(), nil, "bench", "-n", "500", "--producers", "2", "--consumers", "2", "--confirm", "10", "--url", url).want(t, exitOK)
}

func TestBenchRefusesWhatItCannotRun(t *testing.T) {
	for _, args := range [][]string{
		{"-n", "0"},
		{"-n", "-5"},
		{"--body", "15"},
		{"--producers", "0"},
		{"--consumers", "-1"},
		{"--prefetch", "65536"},
		{"--prefetch", "-1"},
		{"--confirm", "-1"},
		{"--rate", "-1"},
		{"--ack-every", "0"},
		{"--ack", "multiple", "--ack-every", "101"},
		{"--ack", "never"},
		{"--timeout", "0s"},
		{"--exchange", "telephone"},
		{"--queue-args", "[1]"},
		{"--queue-args", "{"},
		{"--queue-args", "{} {}"},
		{"--queue-args", `{"a": 1e999}`},
		{"--queue-args", `{"a": {"b": [1e999]}}`},
		{"--queue-args", `{"` + strings.Repeat("k", 256) + `": 1}`},
	} {
		runDashi(t.Context(), nil, append([]string{"bench"}, args...)...).want(t, exitUnusable, strings.TrimLeft(args[0], "-"))
	}
}

func TestBenchReportsWhatThePlaceRefuses(t *testing.T) {
	runDashi(t.Context(), nil, "bench", "--queue-args", `{"x-max-length": "many"}`).want(t, exitFailed, "406", "x-max-length")
}

func TestBenchEndsWhenMessagesAreLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runDashi(t.Context(), nil, "bench", "-n", "1000", "--drain", "--queue-args", `{"x-max-length": 10}`)
		r.want(t, exitFailed, "nothing arrived for 15s", "10 of 1,000 delivered")
	})
}

func TestBenchEndsAtItsTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runDashi(t.Context(), nil, "bench", "-n", "1000", "--rate", "1", "--timeout", "5s")
		r.want(t, exitFailed, "not done after 5s")
	})
}

func TestInterruptedBenchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, interrupt := context.WithCancel(t.Context())
		time.AfterFunc(3*time.Second, interrupt)
		r := runDashi(ctx, nil, "bench", "-n", "1000", "--rate", "1")
		r.want(t, exitInterrupted, "interrupted")
	})
}

// faultyBench runs a bench of 1000 messages on a store whose calls go through spoil, and returns what is wrong.
func faultyBench(t *testing.T, spoil func(request any)) error {
	t.Helper()
	store := virtual.Intercept(memory.New().Open(), func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		spoil(c.Request)
		return next(ctx)
	})
	defer virtual.Close(store)
	conn, err := dashi.Open(t.Context(), store, broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	c := &benchCmd{N: 1000, Body: 64, Producers: 1, Consumers: 1, Prefetch: 100, Ack: "each", Exchange: "default", Drain: true}
	b := newBench(c, nil, []*dashi.Connection{conn, conn, conn})
	if b.route, err = b.declare(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := b.run(t.Context(), io.Discard); err != nil {
		t.Fatal(err)
	}
	left, err := b.leave(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return errors.Join(b.verify(left)...)
}

func TestBenchChecksWhatItMeasures(t *testing.T) {
	// Every fault is in the first Put of several messages, or the first of all.
	once := func(f func(ms []*virtual.Message) []*virtual.Message) func(any) {
		done := false
		return func(request any) {
			if r, ok := request.(*virtual.PutRequest); ok && !done {
				if changed := f(r.Messages); changed != nil {
					r.Messages, done = changed, true
				}
			}
		}
	}
	var held *virtual.Message
	for _, c := range []struct {
		name  string
		spoil func(any)
		want  []string
	}{
		{"nothing", func(any) {}, nil},
		{"twice", once(func(ms []*virtual.Message) []*virtual.Message {
			again := *ms[0]
			again.ID[0] ^= 0xff
			return append(slices.Clone(ms), &again)
		}), []string{"1 message came twice", "1 message left in the queue", "1 message did not come"}},
		{"out of order", func(request any) {
			r, ok := request.(*virtual.PutRequest)
			if !ok || len(r.Messages) == 0 {
				return
			}
			switch { // the first message is held back until the second was stored
			case held == nil:
				m := *r.Messages[0]
				held, r.Messages = &m, r.Messages[1:]
			case held.ID != virtual.ID{}:
				m := *held
				r.Messages = append(slices.Clone(r.Messages), &m)
				held.ID = virtual.ID{}
			}
		}, []string{"1 message came out of order"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := faultyBench(t, c.spoil)
			if (err != nil) != (len(c.want) > 0) {
				t.Errorf("found %v", err)
			}
			for _, want := range c.want {
				if err != nil && !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
		})
	}
}

func TestBenchChecksEachDelivery(t *testing.T) {
	filler := newFiller(32)
	changed := stamped(filler, 64, 0)
	changed[20] ^= 1
	for _, c := range []struct {
		name string
		d    channel.Delivery
		want consumed
	}{
		{"good", channel.Delivery{Body: stamped(filler, 64, 0)}, consumed{}},
		{"redelivered", channel.Delivery{Body: stamped(filler, 64, 0), Redelivered: true}, consumed{redelivered: 1}},
		{"cut", channel.Delivery{Body: stamped(filler, 64, 0)[:31]}, consumed{damaged: 1}},
		{"empty", channel.Delivery{}, consumed{damaged: 1}},
		{"changed", channel.Delivery{Body: changed}, consumed{damaged: 1}},
		{"of another run", channel.Delivery{Body: stamped(filler, 1000, 0)}, consumed{damaged: 1}},
		{"negative", channel.Delivery{Body: stamped(filler, -1, 0)}, consumed{damaged: 1}},
	} {
		b := newBench(&benchCmd{N: 100, Producers: 1, Consumers: 1}, nil, nil)
		b.take(&b.consumed[0], filler, &c.d)
		got := b.consumed[0]
		if got.redelivered != c.want.redelivered || got.damaged != c.want.damaged || got.misplaced != 0 || got.duplicates != 0 {
			t.Errorf("%s: %+v", c.name, got)
		}
	}
}

func TestHistogramAgreesWithSorting(t *testing.T) {
	r := rand.New(rand.NewPCG(3, 4))
	var a, b histogram
	var all []int64
	for i := range 20_000 {
		v := int64(1) << r.IntN(40)
		v += r.Int64N(v)
		all = append(all, v)
		if i%2 == 0 {
			a.add(v)
		} else {
			b.add(v)
		}
	}
	a.merge(&b)
	slices.Sort(all)
	for _, p := range []float64{0, .01, .5, .9, .99, .999, 1} {
		want := all[int(p*float64(len(all)-1))]
		if got := a.quantile(p); float64(got) < .995*float64(want) || float64(got) > 1.005*float64(want) {
			t.Errorf("p%v is %d, want %d", 100*p, got, want)
		}
	}
	if a.max != all[len(all)-1] || a.sum != int64(len(all)) {
		t.Errorf("max %d, sum %d", a.max, a.sum)
	}
	var edge histogram
	for _, v := range []int64{-5, 0, 1, 127, 128, 255, 256, 1<<63 - 1} {
		edge.add(v)
	}
	if edge.quantile(0) != 0 || edge.quantile(1) != 1<<63-1 {
		t.Errorf("edges: %d to %d", edge.quantile(0), edge.quantile(1))
	}
}
