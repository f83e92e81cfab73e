package conformance

import (
	"fmt"
	"strings"
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

// Summary is the report in one line, followed by one line for each reason why rows were refused or skipped.
func (r *Report) Summary() string {
	var b strings.Builder
	fmt.Fprintf(&b, "rig %s: %d rows green / %d rows total", r.Rig, r.Passed, r.Total)
	for _, n := range []struct {
		n    int
		what string
	}{{r.Failed, "failed"}, {r.Refused, "refused"}, {r.Skipped, "skipped"}} {
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
	for _, k := range order {
		fmt.Fprintf(&b, "\n  %-7s %s: %s", k.result, strings.Join(ids[k], " "), k.text)
	}
	return b.String()
}

// Markdown is the report as a document: a line of totals and a table of rows.
func (r *Report) Markdown() string {
	var b strings.Builder
	fmt.Fprintf(&b, "# Channel conformance: %s, rig %s\n\n", r.URL, r.Rig)
	fmt.Fprintf(&b, "%d of %d rows pass, %d fail, %d refused by the store, %d skipped.\n\n", r.Passed, r.Total, r.Failed, r.Refused, r.Skipped)
	b.WriteString("| row | result | reason |\n| --- | --- | --- |\n")
	for _, row := range r.Rows {
		reason := strings.ReplaceAll(strings.ReplaceAll(row.Reason, "|", `\|`), "\n", " ")
		fmt.Fprintf(&b, "| %s | %s | %s |\n", row.ID, row.Result, reason)
	}
	return b.String()
}
