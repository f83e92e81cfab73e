package conformance

import (
	"fmt"
	"strings"
	"testing"
)

// Result is the verdict on one row.
type Result string

// The verdicts. Refused is a store that says it cannot do what the row is about; it is not a pass.
const (
	Pass    Result = "pass"
	Fail    Result = "fail"
	Refused Result = "refused"
	Skipped Result = "skip"
)

// RowResult is the verdict on one row and, unless it passed, the reason.
type RowResult struct {
	ID     string `json:"id"`
	Result Result `json:"result"`
	Reason string `json:"reason"`

	notes []string
}

// log prints what a row has noted, but for the reason of a failure, which is printed with its rule.
func (r *RowResult) log(t *testing.T) {
	reason := r.Result == Fail
	for _, n := range r.notes {
		if reason && n == r.Reason {
			reason = false
			continue
		}
		t.Log(n)
	}
}

// Report is the verdict on all rows that ran, in the order of the table.
type Report struct {
	URL     string      `json:"url"`
	Rig     string      `json:"rig"`
	Passed  int         `json:"passed"`
	Failed  int         `json:"failed"`
	Refused int         `json:"refused"`
	Skipped int         `json:"skipped"`
	Total   int         `json:"total"`
	Rows    []RowResult `json:"rows"`
}

func (r *Report) add(row RowResult) {
	r.Rows = append(r.Rows, row)
	r.Total++
	switch row.Result {
	case Pass:
		r.Passed++
	case Fail:
		r.Failed++
	case Refused:
		r.Refused++
	case Skipped:
		r.Skipped++
	}
}

// rigStore is the Rig of reports of the store suite.
const rigStore = "store"

// words are what the rows of a report are called, and those that are refused: a store that does not claim something
// refuses nobody.
func (r *Report) words() (rows, refused string) {
	if r.Rig == rigStore {
		return "checks", "not claimed"
	}
	return "rows", "refused"
}

// Summary is the report in one line, followed by why rows were refused or skipped.
func (r *Report) Summary() string {
	var b strings.Builder
	what, refused := r.words()
	if r.Rig != rigStore {
		fmt.Fprintf(&b, "rig ")
	}
	fmt.Fprintf(&b, "%s: %d %s green / %d %s total", r.Rig, r.Passed, what, r.Total, what)
	for _, n := range []struct {
		n    int
		what string
	}{{r.Failed, "failed"}, {r.Refused, refused}, {r.Skipped, "skipped"}} {
		if n.n > 0 {
			fmt.Fprintf(&b, ", %d %s", n.n, n.what)
		}
	}
	type reason struct {
		result Result
		text   string
	}
	var order []reason
	ids := map[reason][]string{}
	for _, row := range r.Rows {
		if row.Result != Refused && row.Result != Skipped {
			continue
		}
		k := reason{row.Result, row.Reason}
		if ids[k] == nil {
			order = append(order, k)
		}
		ids[k] = append(ids[k], row.ID)
	}
	var unclaimed []string
	for _, k := range order {
		if claim, no := strings.CutSuffix(k.text, ": no"); no && r.Rig == rigStore {
			unclaimed = append(unclaimed, fmt.Sprintf("%s %d", claim, len(ids[k])))
			continue
		}
		fmt.Fprintf(&b, "\n  %-7s %s: %s", k.result, strings.Join(ids[k], " "), k.text)
	}
	if unclaimed != nil {
		fmt.Fprintf(&b, "\n  not claimed, with their checks: %s", strings.Join(unclaimed, ", "))
	}
	return b.String()
}

// Markdown is the report as a document: a line of totals and a table of rows.
func (r *Report) Markdown() string {
	var b strings.Builder
	what, refused := r.words()
	if r.Rig == rigStore {
		fmt.Fprintf(&b, "# Store conformance: %s\n\n", r.URL)
	} else {
		fmt.Fprintf(&b, "# Channel conformance: %s, rig %s\n\n", r.URL, r.Rig)
		refused += " by the store"
	}
	fmt.Fprintf(&b, "%d of %d %s pass, %d fail, %d %s, %d skipped.\n\n", r.Passed, r.Total, what, r.Failed, r.Refused, refused, r.Skipped)
	b.WriteString("| row | result | reason |\n| --- | --- | --- |\n")
	for _, row := range r.Rows {
		reason := strings.ReplaceAll(strings.ReplaceAll(row.Reason, "|", `\|`), "\n", " ")
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row.ID, row.Result, reason)
	}
	return b.String()
}
