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

// CrashConfig says where crash points are tried. Open is all that is needed.
type CrashConfig struct {
	// Name of the store, for what is printed.
	Name string
	// Open makes a place that is empty, once for every crash point. Each call of what it returns opens a handle on that place, which
	// is one process as far as the store can tell; the suite closes the handles. What else has to be undone, Open leaves
	// to t.Cleanup. T is another one for every place.
	Open func(t T) (func() (virtual.Store, error), error)
	// Virtual says that all time is that of a testing/synctest bubble: for stores that live in the process and do no input
	// or output.
	Virtual bool
	// Unit is the unit of time for leases, delays and waits: short, but long beside what a call takes. It is raised to what the
	// store's traits ask for. 0 is 50 ms, since every crash takes about 20 of them, or 200 ms of virtual time.
	Unit time.Duration
	// Parallel is how many crash points are tried at a time in real time; 0 is 8. They wait more than they work, so more than
	// there are processors is right, and too many where rows fail that pass alone.
	Parallel int
	// Every tries each n-th call only, to save time; 0 is all. In real time the race detector makes it five times as many.
	Every int
	// Run selects the scenarios whose name begins with it; empty is all.
	Run string

	slots chan struct{} // of what runs at a time
}

// errCrashRefused is why a scenario does not apply: the store cannot do what it is about.
var errCrashRefused = errors.New("refused")

// RunCrashes stops a process at every call of its store, one after the other, in each of the CrashScenarios: once so that
// the call has no effect, once so that only its reply is lost. Nothing of the process is heard of again. Then a second
// process takes over, and everything that the first had been told must be true: what was confirmed is there, what was
// acked does not come back, what was declared exists. One subtest for each scenario; the counts are printed. What is
// killed is the engine with its store's handle: what the operating system does to a process that is killed (files half
// written, locks) is for a test of the store's own, with processes.
func RunCrashes(t *testing.T, c CrashConfig) {
	t.Helper()
	var all []CrashScenario
	for _, s := range CrashScenarios() {
		if strings.HasPrefix(s.Name, c.Run) {
			all = append(all, s)
		}
	}
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	c.slots = make(chan struct{}, c.Parallel)
	atOnce := len(all) // what bounds them is how many crash points are tried
	if c.Virtual {
		c.slots, atOnce = make(chan struct{}, 1), 1
	}
	total, scenarios := 0, 0
	several(t, atOnce, all, func(s CrashScenario) string { return s.Name }, func(_ context.Context, s CrashScenario) crashResult { return c.scenario(t, s) },
		func(t *testing.T, s CrashScenario, result func(context.Context) crashResult) {
			r := result(t.Context())
			switch {
			case errors.Is(r.err, errCrashRefused):
				fmt.Printf("crashes on %s: %-31s %v\n", c.Name, s.Name, r.err)
				t.Skip(r.err)
			case r.err != nil:
				t.Fatal(r.err)
			}
			total, scenarios = total+r.crashes, scenarios+1
			fmt.Printf("crashes on %s: %-31s %3d store calls, %3d crashes before and after them, 0 lost\n", c.Name, s.Name, r.calls, r.crashes)
		})
	if !t.Failed() {
		fmt.Printf("crashes on %s: %d scenarios, %d crashes, 0 lost\n", c.Name, scenarios, total)
	}
}

// crashResult is what became of a scenario.
type crashResult struct {
	calls, crashes int
	err            error
}

// scenario runs a scenario whole, then stopped at each of its points, up to the first that loses something.
func (c *CrashConfig) scenario(t *testing.T, s CrashScenario) (r crashResult) {
	c.slots <- struct{}{}
	r.calls, r.err = c.crash(t, s, crashPoint{})
	<-c.slots
	if r.err != nil {
		r.err = fmt.Errorf("%s, without a crash: %w", s.Name, r.err)
		return r
	}
	points := c.points(r.calls)
	r.crashes = len(points)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range points {
		c.slots <- struct{}{}
		mu.Lock()
		lost := r.err != nil
		mu.Unlock()
		if lost {
			<-c.slots
			break
		}
		try := func() {
			defer func() { <-c.slots }()
			if _, err := c.crash(t, s, p); err != nil {
				mu.Lock()
				r.err = errors.Join(r.err, fmt.Errorf("%s, stopped %v: %w", s.Name, p, err))
				mu.Unlock()
			}
		}
		if c.Virtual {
			try()
		} else {
			wg.Go(try)
		}
	}
	wg.Wait()
	return r
}

// crashPoint is a call, from 1 (0: none), before or after which a process is stopped.
type crashPoint struct {
	call  int
	after bool
}

func (p crashPoint) String() string {
	if p.after {
		return fmt.Sprintf("after call %d", p.call)
	}
	return fmt.Sprintf("before call %d", p.call)
}

func (c *CrashConfig) points(calls int) (points []crashPoint) {
	every := max(1, c.Every)
	if raceEnabled && !c.Virtual {
		every *= 5
	}
	for at := 1; at <= calls; at += every {
		points = append(points, crashPoint{at, false}, crashPoint{at, true})
	}
	return points
}

// crash runs a scenario, stopped at a point, and checks what is left. It returns how many calls the scenario made.
func (c *CrashConfig) crash(t *testing.T, s CrashScenario, at crashPoint) (calls int, err error) {
	if !c.Virtual {
		return c.crashIn(t.Context(), s, at)
	}
	synctest.Test(t, func(t *testing.T) { calls, err = c.crashIn(t.Context(), s, at) })
	return calls, err
}

// mortal stands between a process and its store, and ends the process at a call.
type mortal struct {
	at crashPoint // after: the call has its effect, and only the reply is lost

	mu    sync.Mutex
	armed bool
	n     int
	dead  bool
	died  context.Context // ends with the process
	kill  context.CancelFunc
}

func newMortal(ctx context.Context, at crashPoint) *mortal {
	m := &mortal{at: at}
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
		mine = m.n == m.at.call
	}
	if mine {
		m.dead = true
	}
	m.mu.Unlock()
	if mine && !m.at.after {
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

func (c *CrashConfig) crashIn(ctx context.Context, s CrashScenario, at crashPoint) (calls int, err error) {
	unit := c.Unit
	switch {
	case unit == 0 && c.Virtual:
		unit = 200 * time.Millisecond
	case unit == 0:
		unit = 50 * time.Millisecond
	}
	ctx, stop := context.WithTimeout(ctx, 10000*unit)
	defer stop()
	k := &caseT{name: s.Name, ctx: ctx}
	defer k.finish()
	open, err := (&Config{Open: c.Open}).place(k)
	if err != nil {
		return 0, err
	}
	process := func(intercept virtual.Interceptor) (*broker.Broker, *channel.Connection, error) {
		store, err := open()
		if err != nil {
			return nil, nil, fmt.Errorf("open store: %w", err)
		}
		k.Cleanup(func() { _ = virtual.Close(store) })
		if intercept != nil {
			store = virtual.Intercept(store, intercept)
		}
		b, err := broker.Open(ctx, store, broker.Options{Lease: 10 * unit, SessionTTL: 30 * unit, Barrier: unit})
		if err != nil {
			return nil, nil, fmt.Errorf("open broker: %w", err)
		}
		conn, err := channel.Connect(ctx, b.Connect)
		return b, conn, err
	}
	ended, end := context.WithCancel(context.Background())
	end()
	m := newMortal(ctx, at)
	first, conn, err := process(m.pass)
	if err != nil {
		return 0, err
	}
	p := &crashProcess{ctx: m.died, conn: conn, unit: unit, facts: &crashFacts{}, arm: m.arm}
	err = s.Run(p)
	calls, early := m.end() // at the latest now
	_ = first.Close(ended)
	if e, ok := errors.AsType[*channel.Error](err); ok && e.Code == channel.NotImplemented {
		return 0, fmt.Errorf("%w: %s", errCrashRefused, e.Text)
	}
	if err != nil && !early {
		return 0, err
	}
	second, conn, err := process(nil)
	if err != nil {
		return 0, err
	}
	defer second.Close(ended)
	if err := p.facts.hold(ctx, conn, s.Queues, unit); err != nil {
		return calls, err
	}
	return calls, second.Close(ctx)
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
	// All leases of the dead have ended after ten units: what was acked is back by then, if ever it comes back. What is
	// missing may have to wait for their sessions, too, and for a janitor.
	for i := 0; i < 14 || i < 90 && missing() != nil; i++ {
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
