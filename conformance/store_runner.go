package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// StoreConfig says where and how the store suite runs. Open is all that is needed.
type StoreConfig struct {
	// Open makes a place that is empty, once for every check. Each call of what it returns opens a handle on that place, which
	// is one process as far as the store can tell; the suite closes the handles. What else has to be undone, Open leaves
	// to t.Cleanup. T is another one for every place.
	Open func(t T) (func() (virtual.Store, error), error)
	// Virtual says that all time is that of a testing/synctest bubble: for stores that live in the process and do no input
	// or output. RunStore runs each check, Open included, in one of its own; CheckStore
	// has to be called in one.
	Virtual bool
	// Restart, when set, ends the place that Open made for this T and starts it again with what it had made durable. Nobody
	// writes meanwhile. A server is killed and started. Of a directory a copy is made while handles are still open, and
	// opened from then on; modification times may matter: InDirectory does that. Handles are opened anew afterwards, and the
	// old ones need not work. Without it a store that claims Durable is only tried by closing all handles and opening others.
	Restart func(t T) error
	// Unit is the unit of time for leases, delays and waits: short, but long beside what a call takes. It is raised to what the
	// store's traits ask for. 0 is 100 ms, or a second of virtual time.
	Unit time.Duration
	// Run selects the checks whose name begins with it; empty is all.
	Run string
	// Parallel is how many checks run at a time in real time; 0 is one. They wait more than they work, so more than
	// there are processors is right, and too many where rows fail that pass alone.
	Parallel int
	// Limit bounds a check; 0 is 90 seconds, or a month of virtual time.
	Limit time.Duration
	// Seed begins the random checks, and Seeds is how many runs they make. 0: 1 and 300 in virtual time, 1 and 5 in
	// real time. A failure prints the seed of its run.
	Seed  uint64
	Seeds int
	// Name of the place, for the report; a URL is shown without its password.
	Name string
	// Progress, when set, is called with every result as it comes. Calls do not overlap.
	Progress func(r RowResult)
}

// StoreCheck is one check of the store suite.
type StoreCheck struct {
	// Name is made of the method or capability, the subject, and the detail, such as "Put/Order/AcrossBatches".
	Name string
	// Rule is the sentence of the contract that the check is about, and Where the place it stands in.
	Rule, Where string
	// Needs are the claims of a store to which the check applies.
	Needs []Claim
	// Lacks is what a store to which the check applies does not claim: then it is not to have it.
	Lacks Claim

	run func(e *storeEnv)
}

// StoreChecks returns all checks of the store suite in the order in which they run: the five methods first, then the
// traits, then each capability.
func StoreChecks() []StoreCheck {
	return slices.Concat(putChecks, nameChecks, getChecks, waitChecks, contextChecks, leaseChecks, settleChecks, queueChecks, raceChecks,
		boundChecks, traitChecks, unclaimedChecks, markChecks, registryChecks, sessionChecks, guardChecks, holderChecks, againChecks, notifierChecks,
		noticeChecks, expirerChecks, boundedChecks, atomicChecks, namespaceChecks, closeChecks, durableChecks, modelChecks, looseChecks)
}

func (c *StoreConfig) checks() []StoreCheck {
	return slices.DeleteFunc(StoreChecks(), func(k StoreCheck) bool { return !strings.HasPrefix(k.Name, c.Run) })
}

func (c *StoreConfig) limit() time.Duration {
	switch {
	case c.Limit > 0:
		return c.Limit
	case c.Virtual:
		return 30 * 24 * time.Hour
	}
	return 90 * time.Second
}

// RunStore runs the store suite, one subtest per check named by it, prints what the store claims and how many checks
// are green, leaves the report among the test's artifacts and returns it. A claimed trait or capability is tested;
// checks of one that is not claimed are reported as refused, with "no" as the reason.
func RunStore(t *testing.T, c StoreConfig) *Report {
	t.Helper()
	var mu sync.Mutex
	by := map[string]RowResult{}
	add := func(r RowResult) {
		mu.Lock()
		defer mu.Unlock()
		by[r.ID] = r
		if c.Progress != nil {
			c.Progress(r)
		}
	}
	var claims []ClaimValue
	inTime(t, &c, func(t *testing.T) {
		var err error
		if claims, err = c.claims(t); err != nil {
			t.Fatalf("the store cannot be opened: %v", err)
		}
	})
	if t.Failed() {
		return &Report{URL: c.Name, Rig: rigStore, Rows: []RowResult{}}
	}
	t.Run("store", func(t *testing.T) {
		atOnce := c.Parallel
		if c.Virtual {
			atOnce = 1
		}
		several(t, atOnce, c.checks(), func(k StoreCheck) string { return k.Name }, c.check,
			func(t *testing.T, k StoreCheck, result func(context.Context) RowResult) {
				inTime(t, &c, func(t *testing.T) { c.subtest(t, k, result, add) })
			})
	})
	r := c.report(by)
	fmt.Printf("conformance: %s\n%s\n", r.Summary(), claimText(claims))
	c.artifacts(t, r, claims)
	return r
}

// inTime runs f in the kind of time that the configuration asks for.
func inTime(t *testing.T, c *StoreConfig, f func(t *testing.T)) {
	if !c.Virtual {
		f(t)
		return
	}
	// What spins in a bubble lets no time pass there: then nothing else would ever say where.
	late := time.AfterFunc(hangs, func() { panic(fmt.Sprintf("%s has run for %v without letting virtual time pass", t.Name(), hangs)) })
	defer late.Stop()
	synctest.Test(t, f)
}

// hangs is how long a check in virtual time may take by a real clock.
const hangs = 2 * time.Minute

func (c *StoreConfig) artifacts(t *testing.T, r *Report, claims []ClaimValue) {
	j, err := json.MarshalIndent(struct {
		*Report
		Claims []ClaimValue `json:"claims"`
	}{r, claims}, "", "  ")
	if err == nil {
		err = os.WriteFile(filepath.Join(t.ArtifactDir(), "store.json"), j, 0o644)
	}
	if err != nil {
		t.Logf("report: %v", err)
	}
}

// subtest says through t what became of a check.
func (c *StoreConfig) subtest(t *testing.T, k StoreCheck, result func(context.Context) RowResult, add func(RowResult)) {
	r := result(t.Context())
	add(r)
	r.log(t)
	switch r.Result {
	case Fail:
		t.Errorf("%s failed: %s\n    rule (%s): %s", k.Name, r.Reason, k.Where, k.Rule)
	case Refused, Skipped:
		t.Skip(r.Reason)
	}
}

// CheckStore runs the store suite outside go test.
func CheckStore(ctx context.Context, c StoreConfig) *Report {
	var mu sync.Mutex
	by := map[string]RowResult{}
	todo := make(chan StoreCheck)
	var workers sync.WaitGroup
	for range max(1, c.Parallel) {
		workers.Go(func() {
			for k := range todo {
				r := RowResult{ID: k.Name, Result: Skipped}
				if ctx.Err() != nil {
					r.Reason = "the run was ended: " + context.Cause(ctx).Error()
				} else {
					r = c.check(ctx, k)
				}
				mu.Lock()
				by[r.ID] = r
				if c.Progress != nil {
					c.Progress(r)
				}
				mu.Unlock()
			}
		})
	}
	for _, k := range c.checks() {
		todo <- k
	}
	close(todo)
	workers.Wait()
	return c.report(by)
}

func (c *StoreConfig) report(by map[string]RowResult) *Report {
	r := &Report{URL: redacted(c.Name), Rig: rigStore, Rows: []RowResult{}}
	for _, k := range c.checks() {
		if res, ok := by[k.Name]; ok {
			r.add(res)
		}
	}
	return r
}

// claims opens a place and reads what its store claims.
func (c *StoreConfig) claims(t *testing.T) ([]ClaimValue, error) {
	k := &caseT{name: "claims", ctx: t.Context()}
	defer k.finish()
	open, err := c.Open(storeT{k})
	if err != nil {
		return nil, err
	}
	s, err := open()
	if err != nil {
		return nil, err
	}
	defer func() { _ = virtual.Close(s) }()
	return Claims(s), nil
}

// errNotOver is the cause of a check's context when the check has taken too long.
var errNotOver = errors.New("the check took longer than its limit")

// check runs one check on a goroutine of its own and on a place of its own. At its limit its context ends, so that what
// hangs says where; what hangs even then is left behind with a dump of all goroutines.
func (c *StoreConfig) check(ctx context.Context, k StoreCheck) RowResult {
	ctx, stop := context.WithTimeoutCause(ctx, c.limit(), errNotOver)
	defer stop()
	t := &caseT{name: k.Name, ctx: ctx}
	e := &storeEnv{T: storeT{t}, c: c, ctx: ctx, check: k}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.finish()
		t.protect(e.runCheck)
	}()
	select {
	case <-done:
	case <-ctx.Done():
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case <-done:
		case <-late.C:
			t.Errorf("the check does not end: all goroutines follow\n%s", goroutines())
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	r := RowResult{ID: k.Name, Result: Pass, notes: t.notes}
	switch {
	case len(t.failures) > 0:
		r.Result, r.Reason = Fail, t.failures[0]
	case t.skipped && e.no:
		r.Result, r.Reason = Refused, t.skip
	case t.skipped:
		r.Result, r.Reason = Skipped, t.skip
	}
	return r
}

// storeT is a caseT whose failures name the line of the check rather than that of a helper.
type storeT struct{ *caseT }

// Errorf notes a failure.
func (t storeT) Errorf(format string, a ...any) {
	s := fmt.Sprintf("%s: %s", checkLine(), fmt.Sprintf(format, a...))
	t.mu.Lock()
	t.failures = append(t.failures, s)
	t.notes = append(t.notes, s)
	t.mu.Unlock()
}

// Fatalf notes a failure and ends the goroutine it is called on, which is to be the check's own.
func (t storeT) Fatalf(format string, a ...any) {
	t.Errorf(format, a...)
	runtime.Goexit()
}

// checkLine tells where in a check the caller is: file and line of the innermost frame in a file of checks.
func checkLine() string {
	pc := make([]uintptr, 64)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	for {
		f, more := frames.Next()
		switch base := filepath.Base(f.File); base {
		case "store_runner.go", "store_env.go", "store_expect.go", "store_claims.go":
		default:
			if strings.HasPrefix(base, "store_") {
				return fmt.Sprintf("%s:%d", base, f.Line)
			}
		}
		if !more {
			return "runner"
		}
	}
}
