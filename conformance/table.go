package conformance

import (
	"fmt"
	"slices"
	"strings"
)

// Table makes the capability table of stores out of their reports, as Markdown: one column for each, and nothing in it
// that no report says. A claim with a failed check, or a row that failed, is shown as failed.
func Table(reports ...*StoreReport) string {
	var b strings.Builder
	line := func(what string, cell func(r *StoreReport) string) {
		fmt.Fprintf(&b, "| %s |", what)
		for _, r := range reports {
			fmt.Fprintf(&b, " %s |", cell(r))
		}
		b.WriteByte('\n')
	}
	line("", func(r *StoreReport) string { return r.Name })
	line("---", func(*StoreReport) string { return "---" })
	for _, rig := range []struct{ name, what string }{{"one", "rows green, one broker"}, {"two", "rows green, two brokers"}, {"native", "rows green, native transport"}} {
		if slices.ContainsFunc(reports, func(r *StoreReport) bool { return r.channel(rig.name) != nil }) {
			line(rig.what, func(r *StoreReport) string { return r.channel(rig.name).score() })
		}
	}
	line("checks of the contract that apply", func(r *StoreReport) string {
		switch s := r.Store; {
		case s == nil:
			return ""
		case s.Failed > 0:
			return fmt.Sprintf("%d green, **%d failed**", s.Passed, s.Failed)
		default:
			return fmt.Sprintf("%d, all green", s.Passed)
		}
	})
	for _, l := range tableLines {
		line(l.what, func(r *StoreReport) string {
			switch {
			case r.Claims == nil:
				return l.native
			case slices.ContainsFunc(l.claims, r.failed):
				return "**failed**"
			}
			return l.cell(r)
		})
	}
	for i := range 4 {
		what := ""
		for _, r := range reports {
			if i < len(r.Calls) {
				what = r.Calls[i].What
			}
		}
		if what != "" {
			line("store calls: "+what, func(r *StoreReport) string {
				if i >= len(r.Calls) {
					return ""
				}
				return fmt.Sprintf("%.2g", r.Calls[i].Calls)
			})
		}
	}
	return b.String()
}

// tableLine is a line about what a store claims and what the engine does without.
type tableLine struct {
	what   string
	claims []Claim // that it stands on
	native string  // what a real server does
	cell   func(r *StoreReport) string
}

var tableLines = []tableLine{
	{"survives a restart of the store", []Claim{claimDurable}, "yes", claimCell(claimDurable, "yes", "no")},
	{"order", []Claim{claimOrdered}, "yes", claimCell(claimOrdered, "exact", "none")},
	{"counts of ready messages", []Claim{claimExactSize}, "exact", claimCell(claimExactSize, "exact", "approximate")},
	{"redelivered, delivery limit", []Claim{claimExactAttempt}, "exact", claimCell(claimExactAttempt, "exact", "approximate, limit refused")},
	{"priorities", []Claim{claimLevels}, "yes", func(r *StoreReport) string { return orNone(r.value(claimLevels), "refused") }},
	{"TTL", []Claim{claimTTL, claimAge}, "exact", func(r *StoreReport) string {
		switch {
		case r.has(claimTTL) && r.has(claimAge), r.has(claimAge):
			return "by the store's clock"
		}
		return "by client clocks"
	}},
	{"expiry with nobody consuming", []Claim{claimExpirer}, "yes", claimCell(claimExpirer, "by the store", "the janitor looks")},
	{"max-length", []Claim{claimBounded}, "exact", claimCell(claimBounded, "exact", "trimmed after the publish, bytes refused")},
	{"transactions, dead letters", []Claim{claimAtomic}, "not atomic", claimCell(claimAtomic, "one step", "put, then ack")},
	{"nothing missed after a bind", []Claim{claimGuards}, "yes", claimCell(claimGuards, "checked at the put", "the bind waits for publishers")},
	{"exclusive, single active", []Claim{claimRegistry}, "exact", claimCell(claimRegistry, "exact", "exact but for a process frozen longer than a lease")},
	{"unacked messages", []Claim{claimHolders}, "by connection", claimCell(claimHolders, "one lease for all", "a lease each")},
	{"a waiting consumer", []Claim{claimNotifier}, "is told", claimCell(claimNotifier, "is told", "keeps a Get waiting")},
}

func claimCell(c Claim, yes, no string) func(r *StoreReport) string {
	return func(r *StoreReport) string {
		if r.has(c) {
			return yes
		}
		return no
	}
}

func orNone(value, none string) string {
	if value == "" || value == "no" {
		return none
	}
	return value
}

func (r *StoreReport) value(c Claim) string {
	for _, v := range r.Claims {
		if v.Claim == c {
			return v.Value
		}
	}
	return ""
}

func (r *StoreReport) has(c Claim) bool { return claimed(r.Claims, c) }

// failed reports whether a check failed that a claim, or its absence, is about.
func (r *StoreReport) failed(c Claim) bool {
	if r.Store == nil {
		return false
	}
	for _, k := range StoreChecks() {
		if !slices.Contains(k.Needs, c) && k.Lacks != c {
			continue
		}
		if slices.ContainsFunc(r.Store.Rows, func(row RowResult) bool { return row.ID == k.Name && row.Result == Fail }) {
			return true
		}
	}
	return false
}

func (r *StoreReport) channel(rig string) *Report {
	for _, c := range r.Channel {
		if c.Rig == rig {
			return c
		}
	}
	return nil
}

// score is how much is green, and how much of the rest failed.
func (r *Report) score() string {
	switch {
	case r == nil:
		return ""
	case r.Failed > 0:
		return fmt.Sprintf("%d of %d, **%d failed**", r.Passed, r.Total-r.Skipped, r.Failed)
	}
	s := fmt.Sprintf("%d of %d", r.Passed, r.Total-r.Skipped) // skipped are rows that cannot be shown there
	if r.Refused > 0 {
		s += fmt.Sprintf(", %d refused", r.Refused)
	}
	return s
}
