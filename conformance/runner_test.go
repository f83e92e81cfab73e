package conformance

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// rigWithout is a Rig nobody connects to, which lacks what it is told.
type rigWithout struct {
	Rig
	lacks map[Need]string
	close error
}

func (r *rigWithout) Lacks(n Need) (string, bool) { reason, lacks := r.lacks[n]; return reason, lacks }
func (r *rigWithout) Close() error                { return r.close }
func (r *rigWithout) Unit() time.Duration         { return time.Millisecond }

func (r *rigWithout) open(context.Context) (Rig, error) { return r, nil }

// TestRunnerVerdicts shows what becomes of rows that end in each way a row can end.
func TestRunnerVerdicts(t *testing.T) {
	release := make(chan struct{})
	for _, c := range []struct {
		name   string
		row    Row
		rig    rigWithout
		want   Result
		reason string
	}{
		{"nothing wrong", Row{Run: func(e *Env) {}}, rigWithout{}, Pass, ""},
		{"Errorf goes on", Row{Run: func(e *Env) { e.Errorf("first"); e.Errorf("second") }}, rigWithout{}, Fail, "first"},
		{"Fatalf ends the row", Row{Run: func(e *Env) { e.Fatalf("stop"); panic("not reached") }}, rigWithout{}, Fail, "stop"},
		{"what it is doing is told", Row{Run: func(e *Env) { e.doing("case %d", 7); e.Errorf("x") }}, rigWithout{}, Fail, "while: case 7"},
		{"a panic fails the row alone", Row{Run: func(e *Env) { panic("boom") }}, rigWithout{}, Fail, "boom"},
		{"a cleanup that fails", Row{Run: func(e *Env) { e.Cleanup(func() { e.Fatalf("late") }) }}, rigWithout{}, Fail, "late"},
		{"a rig that does not close", Row{Run: func(e *Env) {}}, rigWithout{close: errors.New("stuck")}, Fail, "stuck"},
		{"a missing need", Row{Needs: []Need{Plus}, Run: func(e *Env) { e.Errorf("not reached") }}, rigWithout{lacks: map[Need]string{Plus: "beyond"}}, Skipped, "beyond"},
		{"a missing trait", Row{Needs: []Need{Order}, Run: func(e *Env) { e.Errorf("not reached") }}, rigWithout{lacks: map[Need]string{Order: "no order"}}, Refused, "no order"},
		{"a failure before a refusal", Row{Run: func(e *Env) { e.Errorf("bad"); e.refuse("cannot") }}, rigWithout{}, Fail, "bad"},
		{"a row whose context ends", Row{Run: func(e *Env) { <-e.ctx.Done(); e.Fatalf("%v", context.Cause(e.ctx)) }}, rigWithout{}, Fail, "limit"},
		{"a row that hangs", Row{Run: func(e *Env) { <-release }}, rigWithout{}, Fail, "does not end"},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				release = make(chan struct{})
				c.row.ID = "XX-01"
				cfg := ChannelConfig{Open: c.rig.open, Limit: time.Minute}
				r := cfg.run(t.Context(), c.row)
				close(release)
				if r.ID != "XX-01" || r.Result != c.want || !strings.Contains(r.Reason, c.reason) {
					t.Errorf("result %+v, want %s with %q", r, c.want, c.reason)
				}
			})
		})
	}
}

// TestReport shows how results are counted and told.
func TestReport(t *testing.T) {
	r := &Report{URL: "memory://", Rig: "one"}
	for _, row := range []RowResult{
		{ID: "A-1", Result: Pass}, {ID: "A-2", Result: Fail, Reason: "x | y\nz"}, {ID: "A-3", Result: Refused, Reason: "no order"},
		{ID: "A-4", Result: Skipped, Reason: "beyond"}, {ID: "A-5", Result: Skipped, Reason: "beyond"},
	} {
		r.add(row)
	}
	if r.Total != 5 || r.Passed != 1 || r.Failed != 1 || r.Refused != 1 || r.Skipped != 2 {
		t.Errorf("counts are %+v", r)
	}
	want := "rig one: 1 rows green / 5 rows total, 1 failed, 1 refused, 2 skipped\n  refused A-3: no order\n  skip    A-4 A-5: beyond"
	if got := r.Summary(); got != want {
		t.Errorf("the summary is\n%s\nwant\n%s", got, want)
	}
	if md := r.Markdown(); !strings.Contains(md, `| A-2 | fail | x \| y z |`) {
		t.Errorf("the table is\n%s", md)
	}
}

// TestEveryRuleHasARow holds the quoted rules and the rows together.
func TestEveryRuleHasARow(t *testing.T) {
	rows := Rows()
	for i, r := range rules {
		if i >= len(rows) || rows[i].ID != r.id {
			t.Fatalf("rule %d is %s, and no row %s stands there", i, r.id, r.id)
		}
		if rows[i].Run == nil || rows[i].Rule != r.text {
			t.Errorf("%s: no check, or no text", r.id)
		}
	}
	if len(rows) != len(rules) {
		t.Errorf("%d rows for %d rules", len(rows), len(rules))
	}
}
