package script

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	_ "github.com/dashi-mq/dashi/backends/amqp"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/model"
)

// serverURL returns the URL of the real broker, or skips the test.
func serverURL(t *testing.T) string {
	t.Helper()
	u := os.Getenv("DASHI_AMQP_URL")
	if u == "" {
		t.Skip("no DASHI_AMQP_URL: scripts are not compared with RabbitMQ in this run (scripts/servers start rabbitmq prints one)")
	}
	return u
}

// native is a rig on a real broker. Others may use that at the same time, so names have a prefix that nobody else has.
func native(url string) *Rig {
	return &Rig{
		Connect: func(ctx context.Context, _ int) (*channel.Connection, error) {
			return channel.Dial(ctx, url, channel.Config{Name: "script"})
		},
		Processes: 1, Prefix: fmt.Sprintf("dashi-%s-", rand.Text()[:8]), Patience: 5 * time.Second,
	}
}

// oracle tells whether a real broker agrees with the model about a script, where there is one.
func oracle(s Script) string {
	url := os.Getenv("DASHI_AMQP_URL")
	if url == "" {
		return "not asked"
	}
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	rig := native(url)
	rig.Settle = func() { pass(ctx, 100*time.Millisecond) } // nobody knows what to wait for
	steps, err := Run(ctx, rig, s)
	if err != nil {
		return "differs from the model: " + err.Error()
	}
	return fmt.Sprintf("as the model says, in %d steps", len(steps))
}

// inMemory runs a script in memory, and returns what other brokers are to show.
func inMemory(t *testing.T, s Script) ([]*model.Step, error) {
	expected, err := trace(t, "one", s)
	for _, e := range expected {
		forgetTimes(e)
	}
	if err != nil {
		err = fmt.Errorf("in memory: %w", err)
	}
	return expected, err
}

// forgetTimes lets the times of dead letters be any: the two brokers live at different times.
func forgetTimes(s *model.Step) {
	for _, h := range s.Heard {
		for _, d := range h.Deliveries {
			forgetTime(d.Message.Headers)
		}
	}
	if s.Reply.Got != nil {
		forgetTime(s.Reply.Got.Message.Headers)
	}
}

func forgetTime(h channel.Table) {
	deaths, _ := h["x-death"].([]any)
	for _, d := range deaths {
		if t, ok := d.(channel.Table); ok {
			t["time"] = model.Span{From: time.Unix(0, 0), To: time.Unix(1<<40, 0)}
		}
	}
}

// comparable is a profile of scripts that RabbitMQ and memory show clients the same of, in one way only.
func comparable() Profile {
	ours := rulesOf("one")
	return Profile{Length: 40, Conns: 2, Chans: 2, Bytes: true, Peer: &ours}
}

// rulesOf returns the rules of a rig.
func rulesOf(name string) model.Rules {
	_, _, p := virtualRig(name)
	return p.Rules
}

// TestDifferential runs the same scripts in memory and on RabbitMQ, and compares what clients see. What is left out, being
// not determined or known to differ, is in docs/proof.md.
func TestDifferential(t *testing.T) {
	url := serverURL(t)
	p := comparable()
	n, first := seeds(t, 100, 2000)
	scripts := make(chan *compared)
	var mu sync.Mutex
	var bad []*compared
	differences := func() int { mu.Lock(); defer mu.Unlock(); return len(bad) }
	var all sync.WaitGroup
	for range 2 { // a broker answers one while another thinks
		all.Go(func() {
			rig, end := kept(t, url)
			defer end()
			for c := range scripts {
				if c.err == nil {
					c.err = c.run(rig, rig.Patience)
				}
				if c.err != nil {
					mu.Lock()
					bad = append(bad, c)
					mu.Unlock()
				}
			}
		})
	}
	tried, ops := 0, 0
	for seed := first; seed < first+uint64(n) && differences() < 4; seed++ {
		c := compare(t, seed, Generate(seed, p))
		scripts <- c
		tried++
		ops += len(c.expected)
	}
	close(scripts)
	all.Wait()
	for _, c := range bad {
		t.Logf("seed %d: %v", c.seed, c.err)
		t.Error(smaller(t, url, c, p))
	}
	fmt.Printf("differential: %d scripts, %d operations, on RabbitMQ and in memory, %d differences (seed %d…)\n", tried, ops, len(bad), first)
}

// compared is a script and what memory showed of it.
type compared struct {
	seed     uint64
	script   Script
	expected []*model.Step
	err      error
}

func compare(t *testing.T, seed uint64, s Script) *compared {
	expected, err := inMemory(t, s)
	return &compared{seed, s, expected, err}
}

// run compares a script on a rig with what memory showed.
func (c *compared) run(rig *Rig, patience time.Duration) error {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	on := *rig
	on.Expected, on.Patience = c.expected, patience
	_, err := Run(ctx, &on, c.script)
	return err
}

// kept is a native rig that looks by one connection.
func kept(t *testing.T, url string) (rig *Rig, end func()) {
	ctx := context.WithoutCancel(t.Context())
	rig = native(url)
	look, err := rig.Connect(ctx, 0)
	if err != nil {
		t.Error(err) // and the scripts say so
		return rig, func() {}
	}
	rig.Look = look
	return rig, func() { _ = look.Close(ctx) }
}

// smaller makes a script that differs small, within half a minute, and tells all about it.
func smaller(t *testing.T, url string, c *compared, p Profile) string {
	rig, end := kept(t, url)
	defer end()
	differs := func(s Script, patience time.Duration) error {
		c := compare(t, c.seed, s)
		if c.err != nil {
			return c.err
		}
		return c.run(rig, patience)
	}
	limit := time.Now().Add(30 * time.Second)
	small := Shrink(c.script, 300, func(s Script) bool {
		return time.Now().Before(limit) && Alike(s, p.Rules, *p.Peer) && differs(s, 300*time.Millisecond) != nil
	})
	err := differs(small, rig.Patience)
	if err == nil {
		err = errors.New("now and then only")
	}
	return fmt.Sprintf("seed %d: %v\nthe model on RabbitMQ: %s\n%s", c.seed, err, oracle(small), small.JSON())
}
