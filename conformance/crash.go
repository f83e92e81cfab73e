package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
	// Every tries one in so many of all crash points, chosen by chance but always the same ones, to save time, and at least four
	// of each scenario; 0 is all. With the race detector it is five times as many.
	Every int
	// Run selects the scenarios whose name begins with it; empty is all.
	Run string

	slots  chan struct{}                     // of what runs at a time
	engine func(virtual.Store) virtual.Store // what stands between the engine and what stops it, in tests of this proof
}

// errCrashRefused is why a scenario does not apply: the store cannot do what it is about.
var errCrashRefused = errors.New("refused")

// RunCrashes stops a process at every call of its store, one after the other, in each of the CrashScenarios, and in each of
// these ways: before the call; in the middle of it, where it is about several items one by one; with the call still on its way,
// so that it has its effect only when others have gone on, every other time after all leases have ended; after its
// effect. And once the process goes on, and only the reply of that call is lost; then it dies at the end of the scenario.
// Nothing of the process is heard of again. A second process takes over, and everything that the first had been told must
// be true: what was confirmed is there, what was acked does not come back, what was declared exists. What comes twice must be
// allowed to (see crashRules). One subtest for each scenario; the counts are printed. What is killed is the engine with
// its store's handle: what the operating system does to a process that is killed (files half written, locks) is for a
// test of the store's own, with processes.
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
	var total crashResult
	scenarios := 0
	several(t, atOnce, all, func(s CrashScenario) string { return s.Name }, func(_ context.Context, s CrashScenario) crashResult { return c.scenario(t, s) },
		func(t *testing.T, s CrashScenario, result func(context.Context) crashResult) {
			r := result(t.Context())
			if errors.Is(r.err, errCrashRefused) {
				fmt.Printf("crashes on %s: %-34s %v\n", c.Name, s.Name, r.err)
				t.Skip(r.err)
			}
			fmt.Printf("crashes on %s: %-34s %3d calls, %v\n", c.Name, s.Name, r.calls, &r)
			total.add(&r)
			scenarios++
			switch {
			case r.err != nil:
				t.Fatal(r.err)
			case r.crashes == [crashModes]int{}:
				t.Fatal("nothing has crashed: the scenario makes no call of the store")
			}
		})
	fmt.Printf("crashes on %s: %d scenarios, %v\n", c.Name, scenarios, &total)
}

// crashResult is what became of a scenario.
type crashResult struct {
	calls   int                // of the scenario when nothing happens
	crashes [crashModes]int    // that happened, by mode
	lost    int                // messages and declarations
	back    int                // messages that came back after they were acked
	wrong   int                // other things that may not be
	twice   map[*crashRule]int // deliveries that were allowed to come again, by what allows them
	err     error
}

func (r *crashResult) add(o *crashResult) {
	for m, n := range o.crashes {
		r.crashes[m] += n
	}
	r.lost, r.back, r.wrong = r.lost+o.lost, r.back+o.back, r.wrong+o.wrong
	for rule, n := range o.twice {
		if r.twice == nil {
			r.twice = map[*crashRule]int{}
		}
		r.twice[rule] += n
	}
	r.err = errors.Join(r.err, o.err)
}

func (r *crashResult) String() string {
	all := 0
	var modes, rules []string
	for m, n := range r.crashes {
		if n > 0 {
			all += n
			modes = append(modes, fmt.Sprintf("%v %d", crashMode(m), n))
		}
	}
	twice := 0
	for _, rule := range crashRules {
		if n := r.twice[rule]; n > 0 {
			twice += n
			rules = append(rules, fmt.Sprintf("%s %d", rule.name, n))
		}
	}
	text := fmt.Sprintf("%d crashes (%s): lost %d, back %d, duplicates %d", all, strings.Join(modes, ", "), r.lost, r.back, twice)
	if len(rules) > 0 {
		text += " (" + strings.Join(rules, ", ") + ")"
	}
	if r.wrong > 0 {
		text += fmt.Sprintf(", against the rules %d", r.wrong)
	}
	return text
}

// scenario runs a scenario whole, then stopped at each of its points, up to the first that loses something.
func (c *CrashConfig) scenario(t *testing.T, s CrashScenario) (r crashResult) {
	c.slots <- struct{}{}
	whole := c.crash(t, s, crashPoint{})
	<-c.slots
	if whole.err != nil {
		whole.err = fmt.Errorf("%s, without a crash: %w", s.Name, whole.err)
		return whole.crashResult
	}
	r.calls = len(whole.items)
	var mu sync.Mutex
	var wg sync.WaitGroup
	for _, p := range c.points(s, whole.items) {
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
			one := c.crash(t, s, p)
			if one.err != nil {
				one.err = fmt.Errorf("%s, %v: %w", s.Name, p, one.err)
			}
			mu.Lock()
			r.add(&one.crashResult)
			mu.Unlock()
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

// allPoints are all crash points of a scenario whose calls have so many items.
func allPoints(items []int) (points []crashPoint) {
	for i := range items {
		for mode := crashMode(0); mode < crashModes; mode++ {
			if mode != crashInPart || items[i] > 1 {
				points = append(points, crashPoint{i + 1, mode})
			}
		}
	}
	return points
}

// fewest is how many points of a scenario are tried at least: in real time a process may not come to a point again that it came
// to before.
const fewest = 4

// points are those that are tried.
func (c *CrashConfig) points(s CrashScenario, items []int) []crashPoint {
	points := allPoints(items)
	every := max(1, c.Every)
	if raceEnabled {
		every *= 5
	}
	if every > 1 {
		r := rand.New(rand.NewPCG(uint64(len(s.Name)), uint64(every)))
		r.Shuffle(len(points), func(i, j int) { points[i], points[j] = points[j], points[i] })
		points = points[:min(len(points), max(fewest, len(points)/every))]
	}
	return points
}

// crashRun is what became of one run: what crashed and was found, and how many items each call had.
type crashRun struct {
	crashResult
	items []int
}

// crash runs a scenario, stopped at a point, and checks what is left.
func (c *CrashConfig) crash(t *testing.T, s CrashScenario, at crashPoint) (r crashRun) {
	if !c.Virtual {
		return c.crashIn(t.Context(), s, at)
	}
	synctest.Test(t, func(t *testing.T) { r = c.crashIn(t.Context(), s, at) })
	return r
}

func (c *CrashConfig) crashIn(ctx context.Context, s CrashScenario, at crashPoint) (r crashRun) {
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
		r.err = err
		return r
	}
	seen := &crashSeen{}
	process := func(m *mortal) (*broker.Broker, *channel.Connection, error) {
		store, err := open()
		if err != nil {
			return nil, nil, fmt.Errorf("open store: %w", err)
		}
		k.Cleanup(func() { _ = virtual.Close(store) })
		seen.note(store)
		store = virtual.Intercept(store, seen.watch)
		if m != nil {
			store = virtual.Intercept(store, m.pass)
		}
		if c.engine != nil {
			store = c.engine(store)
			seen.note(store)
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
	first, conn, err := process(m)
	if err != nil {
		r.err = err
		return r
	}
	p := &crashProcess{ctx: m.died, conn: conn, unit: unit, facts: newCrashFacts(), arm: m.arm}
	err = s.Run(p)
	early := m.end() // at the latest now
	_ = first.Close(ended)
	r.items = m.items
	if m.hit {
		r.crashes[at.mode]++
	}
	e, told := errors.AsType[*channel.Error](err)
	switch {
	case told && e.Code == channel.NotImplemented:
		r.err = fmt.Errorf("%w: %s", errCrashRefused, e.Text)
		return r
	case err != nil && !early && !(m.hit && unanswered(err)):
		r.err = err
		return r
	}
	second, conn, err := process(nil)
	if err != nil {
		r.err = err
		return r
	}
	defer second.Close(ended)
	h := &crashHeir{crashFacts: p.facts, crashResult: &r.crashResult, s: s, seen: seen, conn: conn, unit: unit, owed: m.deliver}
	if at.call%2 == 0 {
		h.owedAfter = 12
	}
	if r.err = h.take(ctx); r.err == nil {
		r.err = second.Close(ctx)
	}
	return r
}

// unanswered says that a call was told that its effect is not known.
func unanswered(err error) bool {
	e, ok := errors.AsType[*channel.Error](err)
	return ok && e.Code == channel.InternalError
}

func sleepFor(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
