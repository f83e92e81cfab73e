package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// someLog is a log of n lines with levels, several programs, an empty line and a binary one.
func someLog(n int) string {
	var b strings.Builder
	for i := range n {
		switch {
		case i%50 == 17:
			b.WriteString("\n")
		case i%50 == 18:
			b.WriteString("\x00\xff\xfe\x80 garbage\n")
		case i%10 == 3:
			fmt.Fprintf(&b, "Nov 24 14:48:01 host sshd[1]: error: no %d\n", i)
		case i%10 == 4:
			fmt.Fprintf(&b, "Nov 24 14:48:01 host cron[1]: run %d\n", i)
		default:
			fmt.Fprintf(&b, "Nov 24 14:48:01 host systemd[1]: started unit %d\n", i)
		}
	}
	return b.String()
}

func TestDemoAccountsForEveryLine(t *testing.T) {
	for _, c := range []struct {
		name, text string
		lines      string
	}{
		{"nothing", "", "0 lines"},
		{"one line", "hello", "1 line,"},
		{"empty lines", strings.Repeat("\n", 100), "100 lines"},
		{"one word for all", strings.Repeat("hello\n", 100), "100 lines"},
		{"a log", someLog(3000), "3,000 lines"},
		{"long lines", strings.Repeat(strings.Repeat("long ", 300_000)+"\n", 3), "3 lines"},
		{"beyond all bounds", strings.Repeat("x", maxLine+maxLine/2), "2 lines"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the slow consumer and the retry queue take no time
				r := runDashi(t.Context(), strings.NewReader(c.text), "demo")
				r.want(t, exitOK)
				if !strings.HasPrefix(r.out, "standard input: "+c.lines) || !strings.Contains(r.out, "every line is accounted for") {
					t.Errorf("said:\n%s", r.out)
				}
			})
		})
	}
}

func TestDemoPictureShowsWhatFlowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := runDashi(t.Context(), nil, "demo", file(t, "some.log", someLog(3000)))
		r.want(t, exitOK)
		for _, want := range []string{
			"exchange lines (topic)  3,000 published, 3,000 confirmed",
			"├── #           3,000 ──► archive  3,000 ─► archivist  3,000 acked, in order, unchanged",
			"├── error.#       300 ─┐",
			"├── warn.#          0 ─┴► alerts  300 ─► watcher  300 acked",
			"├── *.systemd.# 2,280 ──► dashboard  2,280 ─► painter (slow: prefetch 5)  ",
			"over 500 long: ",
			"├── *.cron.#      300 ─┐",
			"├── *.sshd.#      300 ─┤",
			"└── *.some.#      120 ─┴► work  720 ─► worker (fails now and then)  ",
			"gave up after 3 attempts: ",
		} {
			if !strings.Contains(r.out, want) {
				t.Errorf("no %q in\n%s", want, r.out)
			}
		}
	})
}

func TestDemoStopsAtItsLimit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		r := runDashi(t.Context(), strings.NewReader(someLog(3000)), "demo", "--limit", "100", "--rate", "10")
		r.want(t, exitOK)
		if !strings.HasPrefix(r.out, "standard input: 100 lines") {
			t.Errorf("said:\n%s", r.out)
		}
		if d := time.Since(began); d < 9*time.Second || d > 12*time.Second {
			t.Errorf("100 lines at 10 a second took %v", d)
		}
	})
}

func TestInterruptedDemoDeliversAndDrawsWhatItSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		in, feed := io.Pipe()
		defer feed.Close()
		ctx, interrupt := context.WithCancel(t.Context())
		done := make(chan result)
		go func() { done <- runDashi(ctx, in, "demo", "-") }()
		if _, err := io.WriteString(feed, someLog(50)); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // of the bubble's time: the sample is complete
		synctest.Wait()
		interrupt()
		r := <-done
		r.want(t, exitInterrupted, "interrupted")
		if !strings.HasPrefix(r.out, "standard input: 50 lines") || !strings.Contains(r.out, "every line is accounted for") {
			t.Errorf("said:\n%s", r.out)
		}
	})
}

func TestDemoRefusesWhatItCannotRead(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{t.TempDir()}, "is a directory"},
		{[]string{"/no/such/file"}, "no such file"},
		{[]string{os.DevNull, "--rate", "-1"}, "--rate"},
		{[]string{os.DevNull, "--limit", "-1"}, "--limit"},
	} {
		runDashi(t.Context(), nil, append([]string{"demo"}, c.args...)...).want(t, exitUnusable, c.says)
	}
	broken := io.MultiReader(strings.NewReader(someLog(20)), iotest.ErrReader(errors.New("bad sector")))
	runDashi(t.Context(), broken, "demo").want(t, exitFailed, "bad sector")
}

// faultyDemo runs a demo on a store whose Puts go through spoil.
func faultyDemo(t *testing.T, spoil func(r *virtual.PutRequest)) (*demo, error) {
	t.Helper()
	store := virtual.Intercept(memory.New().Open(), func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		if r, ok := c.Request.(*virtual.PutRequest); ok {
			spoil(r)
		}
		return next(ctx)
	})
	defer virtual.Close(store)
	conn, err := dashi.Open(t.Context(), store, broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(context.Background())
	d := newDemo(conn, newKeyer("x.log"), 0, 0)
	return d, d.run(t.Context(), strings.NewReader(someLog(300)), io.Discard)
}

func TestDemoNoticesALostMessage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		lost := false
		_, err := faultyDemo(t, func(r *virtual.PutRequest) {
			for i, m := range r.Messages {
				if !lost && strings.HasSuffix(m.Queue.Name, ".archive") {
					r.Messages = append(append([]*virtual.Message{}, r.Messages[:i]...), r.Messages[i+1:]...)
					lost = true
					return
				}
			}
		})
		if err == nil || !strings.Contains(err.Error(), "1 message did not arrive") {
			t.Errorf("said %v", err)
		}
	})
}

func TestDemoNoticesAMessageThatCameTwice(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		twice := false
		d, err := faultyDemo(t, func(r *virtual.PutRequest) {
			for _, m := range r.Messages {
				if !twice && strings.HasSuffix(m.Queue.Name, ".archive") {
					again := *m
					again.ID[0] ^= 0xff
					r.Messages = append(append([]*virtual.Message{}, r.Messages...), &again)
					twice = true
					return
				}
			}
		})
		if err != nil {
			t.Fatal(err)
		}
		if wrong := errors.Join(d.verify()...); wrong == nil || !strings.Contains(wrong.Error(), "archived is 301, published 300") {
			t.Errorf("found %v", wrong)
		}
	})
}

func TestVerifyNamesEveryDifference(t *testing.T) {
	d := newDemo(nil, newKeyer(""), 0, 0)
	if wrong := d.verify(); wrong != nil {
		t.Errorf("nothing flowed, and wrong is %v", wrong)
	}
	d.lines.Add(1)
	d.misplaced, d.received = 1, 1
	d.redelivered.Add(1)
	d.parked.Add(1)
	d.failed.Add(1)
	d.plan.alerts.routed.Add(1)
	d.plan.dashboard.routed.Add(1)
	d.plan.retry.left = 1
	all := errors.Join(d.verify()...).Error()
	for _, what := range []string{"confirmed", "archived", "out of order", "checksum", "alerts", "dashboard", "work", "parking", "left in retry", "redelivered"} {
		if !strings.Contains(all, what) {
			t.Errorf("%q is not among\n%s", what, all)
		}
	}
}

// leftNothing checks that none of the plan's names exists.
func leftNothing(t *testing.T, conn *dashi.Connection, p *demoPlan) {
	t.Helper()
	gone := func(f func(ch *channel.Channel) error) {
		t.Helper()
		ch, err := conn.Channel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := f(ch); !errors.Is(err, channel.ErrNotFound) {
			t.Errorf("%v", err)
		}
	}
	for _, s := range p.stations() {
		gone(func(ch *channel.Channel) error { _, err := ch.QueueDeclarePassive(t.Context(), s.queue); return err })
	}
	for _, x := range []string{p.lines, p.dead} {
		gone(func(ch *channel.Channel) error { return ch.ExchangeDeclarePassive(t.Context(), x) })
	}
}

func TestDemoLeavesNothingBehind(t *testing.T) {
	urls := []string{"memory://"}
	if url := os.Getenv("DASHI_AMQP_URL"); url != "" {
		urls = append(urls, url)
	}
	for _, url := range urls {
		conn, err := dashi.Dial(t.Context(), url)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close(context.Background())
		d := newDemo(conn, newKeyer("x.log"), 0, 0)
		d.slow = 0
		if err := d.run(t.Context(), strings.NewReader(someLog(2000)), io.Discard); err != nil {
			t.Fatal(err)
		}
		if wrong := d.verify(); wrong != nil {
			t.Errorf("%s: %v", channel.Redact(url), wrong)
		}
		leftNothing(t, conn, d.plan)
	}
}

func TestStatusFitsATerminal(t *testing.T) {
	d := newDemo(nil, newKeyer(""), 0, 0)
	d.begin = time.Now()
	d.lines.Add(123_456_789)
	var b bytes.Buffer
	fmt.Fprintln(&b, strings.Join(d.status(), "\n"))
	for line := range strings.Lines(b.String()) {
		if len(line) > 80 {
			t.Errorf("%d columns: %s", len(line), line)
		}
	}
}
