package main

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/conformance"
)

func TestConformanceReportsItsRows(t *testing.T) {
	for _, rig := range []string{"one", "two"} {
		dir := t.TempDir()
		j, md := filepath.Join(dir, "r.json"), filepath.Join(dir, "r.md")
		r := runDashi(t.Context(), nil, "conformance", "memory://", "--rig", rig, "--run", "EX-0", "--json", j, "--markdown", md)
		r.want(t, exitOK)
		if !strings.Contains(r.out, "pass    EX-01\n") || !strings.HasSuffix(r.out, "rig "+rig+": 9 rows green / 9 rows total\n") {
			t.Errorf("said:\n%s", r.out)
		}
		text, err := os.ReadFile(j)
		if err != nil {
			t.Fatal(err)
		}
		d := json.NewDecoder(strings.NewReader(string(text)))
		d.DisallowUnknownFields()
		var report conformance.Report
		if err := d.Decode(&report); err != nil {
			t.Fatal(err)
		}
		if report.URL != "memory://" || report.Rig != rig || report.Passed != 9 || report.Total != 9 || len(report.Rows) != 9 || report.Rows[0].ID != "EX-01" || report.Rows[0].Result != conformance.Pass {
			t.Errorf("%s", text)
		}
		for _, field := range []string{"url", "rig", "passed", "failed", "refused", "skipped", "total", "rows", "id", "result", "reason"} {
			if !strings.Contains(string(text), `"`+field+`":`) {
				t.Errorf("no field %q in %s", field, text)
			}
		}
		if text, err := os.ReadFile(md); err != nil || !strings.Contains(string(text), "| EX-01 | pass |") {
			t.Errorf("%v\n%s", err, text)
		}
	}
}

func TestConformanceOnStandardOutput(t *testing.T) {
	r := runDashi(t.Context(), nil, "conformance", "memory://", "--run", "EX-01", "--json", "-")
	var report conformance.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil || report.Total != 1 || r.code != exitOK {
		t.Errorf("%d, %v:\n%s", r.code, err, r.out)
	}
	if !strings.Contains(r.err, "pass    EX-01") { // the rows make way for it
		t.Errorf("%s", r.err)
	}
}

func TestConformanceRefusesUnusablePlaces(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"memory://", "--as", "stone"}, `"stone"`},
		{[]string{"memory://", "--rig", "seven"}, `"seven"`},
		{[]string{"memory://", "--run", "XX"}, `"XX"`},
		{[]string{"memory://", "--parallel", "0"}, "--parallel"},
		{[]string{"memory://?colour=red"}, "colour"},
		{[]string{"memory"}, "not a URL"},
		{[]string{"carrier-pigeon://u:s3cret@localhost/"}, `"carrier-pigeon"`},
		{[]string{"redis://u:s3cret@127.0.0.1:1/"}, "xxxxx@127.0.0.1:1"},
		{[]string{"amqp://u:s3cret@127.0.0.1:1/"}, "xxxxx@127.0.0.1:1"},
		{[]string{"amqp://127.0.0.1:1/", "--rig", "two"}, "--rig two"},
		{[]string{"memory://", "--run", "EX-01", "--json", "/no/such/dir/r.json"}, "no such file"},
	} {
		r := runDashi(t.Context(), nil, append([]string{"conformance"}, c.args...)...)
		r.want(t, exitUnusable, c.says)
		if strings.Contains(r.err, "s3cret") {
			t.Errorf("the password is shown: %s", r.err)
		}
	}
}

func TestRowsThatWereCutShortAreNoFailures(t *testing.T) {
	r := &conformance.Report{Failed: 2, Total: 2, Rows: []conformance.RowResult{{ID: "A", Result: conformance.Fail}, {ID: "B", Result: conformance.Fail}}}
	interrupted(r, map[string]bool{"B": true})
	if r.Failed != 1 || r.Skipped != 1 || r.Rows[0].Result != conformance.Fail || r.Rows[1].Result != conformance.Skipped {
		t.Errorf("%+v", r)
	}
}

func TestResultsAreNamedAsDocumented(t *testing.T) {
	var names []string
	for _, r := range []conformance.Result{conformance.Pass, conformance.Fail, conformance.Refused, conformance.Skipped} {
		names = append(names, string(r))
	}
	if !slices.Equal(names, []string{"pass", "fail", "refused", "skip"}) {
		t.Errorf("%q", names)
	}
}

func TestReportThatCannotBeWrittenIsTold(t *testing.T) {
	c := &conformanceCmd{JSON: filepath.Join(t.TempDir(), "no", "such")}
	if err := c.write(nil, &conformance.Report{}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%v", err)
	}
}
