package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// CrashConfig says where crash points are tried.
type CrashConfig struct {
	// Open makes an empty place, once for every crash; what it returns opens a handle on it, for one process.
	Open func() func() (virtual.Store, error)
	// Virtual says that all time is that of a testing/synctest bubble.
	Virtual bool
	// Unit is the unit of time: leases last ten, sessions thirty; 0 is 200 ms.
	Unit time.Duration
	// Every tries each n-th crash point only, for stores in real time; 0 is all.
	Every int
	// Name of the place, for what is printed.
	Name string
}

// RunCrashes stops a process at every call of its store, one after the other, in each of the CrashScenarios: once so that
// the call has no effect, once so that only its reply is lost. Nothing of the process is heard of again. Then a second
// process takes over, and everything that the first had been told must be true: what was confirmed is there, what was
// acked does not come back, what was declared exists. One subtest for each scenario; the counts are printed.
func RunCrashes(t *testing.T, c CrashConfig) {
	t.Helper()
	total := 0
	for _, s := range CrashScenarios() {
		t.Run(s.Name, func(t *testing.T) {
			calls := 0
			c.bubble(t, func(t *testing.T) { calls = c.crash(t, s, 0, false) })
			points := 0
			for at := 1; at <= calls && !t.Failed(); at += max(1, c.Every) {
				for _, after := range []bool{false, true} {
					c.bubble(t, func(t *testing.T) { c.crash(t, s, at, after) })
					points++
				}
			}
			total += points
			fmt.Printf("crashes on %s: %-28s %3d store calls, stopped before and after each: %3d crashes, 0 lost\n", c.Name, s.Name, calls, points)
		})
	}
	if !t.Failed() {
		fmt.Printf("crashes on %s: %d scenarios, %d crashes, 0 lost\n", c.Name, len(CrashScenarios()), total)
	}
}

func (c *CrashConfig) bubble(t *testing.T, f func(t *testing.T)) {
	if c.Virtual {
		synctest.Test(t, f)
		return
	}
	f(t)
}

// mortal stands between a process and its store, and ends the process at a call.
type mortal struct {
	at    int  // the call, from 1; 0: none
	after bool // the call has its effect, and only the reply is lost

	mu    sync.Mutex
	armed bool
	n     int
	dead  bool
	died  context.Context // ends with the process
	kill  context.CancelFunc
}

func newMortal(ctx context.Context, at int, after bool) *mortal {
	m := &mortal{at: at, after: after}
	m.died, m.kill = context.WithCancel(ctx)
	return m
}

// arm begins to count.
func (m *mortal) arm() {
	m.mu.Lock()
	m.armed = true
	m.mu.Unlock()
}

// end ends the process, if that has not happened, and returns how many calls it made.
func (m *mortal) end() (calls int, early bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	early = m.dead
	m.dead = true
	m.kill()
	return m.n, early
}

var errDead = errors.New("the process is dead")

func (m *mortal) pass(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
	m.mu.Lock()
	if m.dead {
		m.mu.Unlock()
		return errDead
	}
	mine := false
	if m.armed {
		m.n++
		mine = m.n == m.at
	}
	if mine {
		m.dead = true
	}
	m.mu.Unlock()
	if mine && !m.after {
		m.kill()
		return errDead
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(m.died, stop)()
	err := next(ctx)
	if mine {
		m.kill()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return err
}

// crash runs a scenario, stopped at a call, and checks what is left. It returns how many calls the scenario made.
func (c *CrashConfig) crash(t *testing.T, s CrashScenario, at int, after bool) int {
	unit := c.Unit
	if unit == 0 {
		unit = 200 * time.Millisecond
	}
	ctx, stop := context.WithTimeout(t.Context(), 10000*unit)
	defer stop()
	open := c.Open()
	m := newMortal(ctx, at, after)
	where := fmt.Sprintf("%s, stopped %s call %d", s.Name, map[bool]string{false: "before", true: "after"}[after], at)
	process := func(intercept virtual.Interceptor) (*broker.Broker, *channel.Connection) {
		store, err := open()
		if err != nil {
			t.Fatalf("%s: open store: %v", where, err)
		}
		t.Cleanup(func() { _ = virtual.Close(store) })
		if intercept != nil {
			store = virtual.Intercept(store, intercept)
		}
		b, err := broker.Open(ctx, store, broker.Options{Lease: 10 * unit, SessionTTL: 30 * unit, Barrier: unit})
		if err != nil {
			t.Fatalf("%s: open broker: %v", where, err)
		}
		conn, err := channel.Connect(ctx, b.Connect)
		if err != nil {
			t.Fatalf("%s: connect: %v", where, err)
		}
		return b, conn
	}
	first, conn := process(m.pass)
	p := &crashProcess{ctx: m.died, conn: conn, unit: unit, facts: &crashFacts{}, arm: m.arm}
	err := s.Run(p)
	calls, early := m.end() // at the latest now
	ended, end := context.WithCancel(context.Background())
	end()
	_ = first.Close(ended)
	if err != nil && !early {
		t.Fatalf("%s: without a crash: %v", where, err)
	}
	second, conn := process(nil)
	defer second.Close(ended)
	if err := p.facts.hold(ctx, conn, s.Queues, unit); err != nil {
		t.Errorf("%s: %v", where, err)
	}
	if err := second.Close(ctx); err != nil {
		t.Errorf("%s: close: %v", where, err)
	}
	return calls
}

// crashFacts are what a process was told before it died.
type crashFacts struct {
	mu       sync.Mutex
	there    []placed // in one of these queues at least
	gone     []placed // in none of these
	declared []func(ctx context.Context, ch *channel.Channel) error
}

type placed struct {
	body string
	in   []string
}

// confirmed says that a message must be in one of these queues.
func (f *crashFacts) confirmed(body string, in ...string) {
	f.mu.Lock()
	f.there = append(f.there, placed{body, in})
	f.mu.Unlock()
}

// answered says that a message has left a queue for good.
func (f *crashFacts) answered(body, queue string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there = slices.DeleteFunc(f.there, func(p placed) bool { return p.body == body && slices.Contains(p.in, queue) })
	f.gone = append(f.gone, placed{body, []string{queue}})
}

// unknown says that nothing is known of a message any more: its answer was under way.
func (f *crashFacts) unknown(body, queue string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there = slices.DeleteFunc(f.there, func(p placed) bool { return p.body == body && slices.Contains(p.in, queue) })
}

func (f *crashFacts) exists(check func(ctx context.Context, ch *channel.Channel) error) {
	f.mu.Lock()
	f.declared = append(f.declared, check)
	f.mu.Unlock()
}

// hold checks the facts through another process, waiting for leases and sessions to end.
func (f *crashFacts) hold(ctx context.Context, conn *channel.Connection, queues []string, unit time.Duration) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, check := range f.declared {
		ch, err := conn.Channel(ctx)
		if err != nil {
			return err
		}
		if err := check(ctx, ch); err != nil {
			return fmt.Errorf("what was declared: %w", err)
		}
	}
	ch, err := conn.Channel(ctx)
	if err != nil {
		return err
	}
	found := map[string]map[string]int{} // by queue, by body
	exists := map[string]bool{}
	for _, q := range queues {
		found[q] = map[string]int{}
		probe, err := conn.Channel(ctx)
		if err != nil {
			return err
		}
		_, err = probe.QueueDeclarePassive(ctx, q)
		exists[q] = err == nil
	}
	drain := func() error {
		for _, q := range queues {
			for exists[q] {
				d, ok, err := ch.Get(ctx, q, true)
				if err != nil {
					return err
				}
				if !ok {
					break
				}
				found[q][string(d.Body)]++
			}
		}
		return nil
	}
	missing := func() (lost []string) {
		for _, p := range f.there {
			if !slices.ContainsFunc(p.in, func(q string) bool { return found[q][p.body] > 0 }) {
				lost = append(lost, fmt.Sprintf("%q in %s", p.body, strings.Join(p.in, " or ")))
			}
		}
		return lost
	}
	// All leases and sessions of the dead have ended after 40 units. What is there by then, and some time later, counts.
	for range 90 {
		if err := drain(); err != nil {
			return err
		}
		sleepFor(ctx, unit)
	}
	if lost := missing(); lost != nil {
		return fmt.Errorf("lost: %s", strings.Join(lost, "; "))
	}
	for _, p := range f.gone {
		if n := found[p.in[0]][p.body]; n > 0 {
			return fmt.Errorf("%q came back to %s %d times after it was acked", p.body, p.in[0], n)
		}
	}
	return nil
}

func sleepFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
