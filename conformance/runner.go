package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Row is one row of docs/semantics.md as a check.
type Row struct {
	ID string
	// Rule is the row's text.
	Rule string
	// Needs are what the rig must have for the row to run at all. Clauses ask for theirs inside.
	Needs []Need
	// Alone rows run after all others and one at a time: they restart the store, or count goroutines.
	Alone bool
	// Run checks the row. It fails through the T that Env is.
	Run func(e *Env)
}

// ChannelConfig says where and how the channel suite runs.
type ChannelConfig struct {
	// Open makes a fresh rig; it is called once for every row.
	Open func(ctx context.Context) (Rig, error)
	// Virtual runs each row, the making of its rig included, in a testing/synctest bubble. Only RunChannel can.
	Virtual bool
	// Complete says that the place has everything: a row refused is a failure.
	Complete bool
	// Run selects the rows whose id begins with it; empty is all.
	Run string
	// Parallel is how many rows run at a time; 0 is one.
	Parallel int
	// Limit bounds a row; 0 is 90 seconds, or two hours of virtual time.
	Limit time.Duration
	// URL and RigName go into the report.
	URL, RigName string
	// Progress, when set, is called with every result as it comes. Calls do not overlap.
	Progress func(r RowResult)
}

// rows returns the selected rows: those that need to be alone last.
func (c *ChannelConfig) rows() (together, alone []Row) {
	for _, row := range Rows() {
		switch {
		case !strings.HasPrefix(row.ID, c.Run):
		case row.Alone:
			alone = append(alone, row)
		default:
			together = append(together, row)
		}
	}
	return together, alone
}

func (c *ChannelConfig) limit() time.Duration {
	switch {
	case c.Limit > 0:
		return c.Limit
	case c.Virtual:
		return 2 * time.Hour
	}
	return 90 * time.Second
}

// collector gathers results that arrive in any order.
type collector struct {
	c  *ChannelConfig
	mu sync.Mutex
	by map[string]RowResult
}

func (o *collector) add(r RowResult) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.by[r.ID] = r
	if o.c.Progress != nil {
		o.c.Progress(r)
	}
}

// report puts the results into the order of the table.
func (o *collector) report() *Report {
	r := &Report{URL: channel.Redact(o.c.URL), Rig: o.c.RigName, Rows: []RowResult{}}
	for _, row := range Rows() {
		if res, ok := o.by[row.ID]; ok {
			r.add(res)
		}
	}
	return r
}

// RunChannel runs the channel suite, one subtest per row named by its id, prints how many rows are green, leaves the
// report among the test's artifacts and returns it.
func RunChannel(t *testing.T, c ChannelConfig) *Report {
	t.Helper()
	o := &collector{c: &c, by: map[string]RowResult{}}
	together, alone := c.rows()
	subtest := func(t *testing.T, row Row, run func(context.Context) RowResult) {
		if c.Virtual {
			synctest.Test(t, func(t *testing.T) { c.subtest(t, row, o, run) })
			return
		}
		c.subtest(t, row, o, run)
	}
	work := func(ctx context.Context, row Row) RowResult { return c.run(ctx, row) }
	t.Run("rows", func(t *testing.T) {
		atOnce := c.Parallel
		if c.Virtual {
			atOnce = 1
		}
		several(t, atOnce, together, func(row Row) string { return row.ID }, work, subtest)
	})
	for _, row := range alone {
		t.Run("rows/"+row.ID, func(t *testing.T) {
			subtest(t, row, func(ctx context.Context) RowResult { return work(ctx, row) })
		})
	}
	r := o.report()
	fmt.Printf("conformance: %s\n", r.Summary())
	if j, err := json.MarshalIndent(r, "", "  "); err == nil {
		dir := t.ArtifactDir()
		for name, b := range map[string][]byte{"channel.json": j, "channel.md": []byte(r.Markdown())} {
			if err := os.WriteFile(filepath.Join(dir, name), b, 0o644); err != nil {
				t.Logf("report: %v", err)
			}
		}
	}
	return r
}

// subtest says through t what became of a row.
func (c *ChannelConfig) subtest(t *testing.T, row Row, o *collector, run func(context.Context) RowResult) {
	r := run(t.Context())
	if r.Result == Refused && c.Complete {
		r.Result, r.Reason = Fail, "refused, though this place claims to have everything: "+r.Reason
	}
	o.add(r)
	r.log(t)
	switch r.Result {
	case Fail:
		t.Errorf("%s failed: %s\n    rule %s (docs/semantics.md): %s", row.ID, r.Reason, row.ID, row.Rule)
	case Refused:
		t.Skipf("refused: %s", r.Reason)
	case Skipped:
		t.Skipf("skipped: %s", r.Reason)
	}
}

// CheckChannel runs the channel suite outside go test, in real time.
func CheckChannel(ctx context.Context, c ChannelConfig) *Report {
	c.Virtual = false
	o := &collector{c: &c, by: map[string]RowResult{}}
	together, alone := c.rows()
	todo := make(chan Row)
	var workers sync.WaitGroup
	for range max(1, c.Parallel) {
		workers.Go(func() {
			for row := range todo {
				o.add(c.checked(ctx, row))
			}
		})
	}
	for _, row := range together {
		todo <- row
	}
	close(todo)
	workers.Wait()
	for _, row := range alone {
		o.add(c.checked(ctx, row))
	}
	return o.report()
}

// Usable opens a rig and connects both its processes once, so that a run on a place that cannot be reached ends at once
// with the reason.
func (c *ChannelConfig) Usable(ctx context.Context) error {
	rig, err := c.Open(ctx)
	if err != nil {
		return err
	}
	for process := range 2 {
		conn, err := rig.Connect(ctx, process, ConnectOptions{})
		if err == nil {
			err = conn.Close(ctx)
		}
		if err != nil {
			return errors.Join(fmt.Errorf("process %d: %w", process, err), rig.Close())
		}
	}
	return rig.Close()
}

func (c *ChannelConfig) checked(ctx context.Context, row Row) RowResult {
	if ctx.Err() != nil {
		return RowResult{ID: row.ID, Result: Skipped, Reason: "the run was ended: " + context.Cause(ctx).Error()}
	}
	r := c.run(ctx, row)
	if r.Result == Refused && c.Complete {
		r.Result = Fail
	}
	return r
}

// grace is how long a row may take to end after its time is up, before it is left behind.
const grace = 15 * time.Second

// run runs one row on a goroutine of its own. At the row's limit its context ends, so that what hangs says where; what
// hangs even then is left behind with a dump of all goroutines, and the others go on.
func (c *ChannelConfig) run(ctx context.Context, row Row) RowResult {
	ctx, stop := context.WithTimeoutCause(ctx, c.limit(), fmt.Errorf("the row took longer than its limit of %v", c.limit()))
	defer stop()
	t := &caseT{name: row.ID, ctx: ctx}
	e := &Env{T: t, ctx: ctx, row: row}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer t.finish()
		t.protect(func() { e.runRow(c.Open) })
	}()
	select {
	case <-done:
	case <-ctx.Done():
		late := time.NewTimer(grace)
		defer late.Stop()
		select {
		case <-done:
		case <-late.C:
			t.Errorf("the row does not end, %v after its limit: it is left behind, all goroutines are among the notes", grace)
			t.Logf("%s", goroutines())
		}
	}
	return e.verdict(t)
}

// verdict is what became of the row; a failure weighs most, since what came before a refusal counts too.
func (e *Env) verdict(t *caseT) RowResult {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := RowResult{ID: e.row.ID, Result: Pass, notes: t.notes}
	switch {
	case len(t.failures) > 0:
		r.Result, r.Reason = Fail, t.failures[0]
	case t.skipped && e.refusal.Load():
		r.Result, r.Reason = Refused, t.skip
	case t.skipped:
		r.Result, r.Reason = Skipped, t.skip
	}
	return r
}

func goroutines() string {
	buf := make([]byte, 1<<20)
	return string(buf[:runtime.Stack(buf, true)])
}
