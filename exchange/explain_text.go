package exchange

import (
	"fmt"
	"strings"
)

// textMismatches bounds how many bindings that do not match are written out for each exchange.
const textMismatches = 20

// String writes the explanation as a tree: the exchanges with their bindings, "+" those that match, "-" those that
// do not, and below a matching one the exchange that it leads to.
func (e *Explanation) String() string {
	w := &treeWriter{hops: make(map[string]*Hop), done: make(map[string]bool)}
	if !e.Known {
		return fmt.Sprintf("there is no exchange %q\n", e.Exchange)
	}
	for i := range e.Hops {
		w.hops[e.Hops[i].Exchange] = &e.Hops[i]
	}
	what := "key"
	if len(e.Keys) > 1 {
		what = "keys"
	}
	fmt.Fprintf(w, "%s %s\n", what, quoted(e.Keys))
	w.hop(e.Hops[0].Exchange, 0)
	if len(e.Queues) == 0 {
		fmt.Fprintln(w, "reaches no queue")
	} else {
		chance := ""
		for _, hop := range e.Hops {
			if hop.OneOf {
				chance = "may, by chance, reach "
			}
		}
		if chance == "" {
			chance = "reaches "
		}
		fmt.Fprintf(w, "%s%s: %s\n", chance, count(len(e.Queues), "queue"), quoted(e.Queues))
	}
	return w.String()
}

type treeWriter struct {
	strings.Builder
	hops map[string]*Hop
	done map[string]bool
}

func (w *treeWriter) hop(name string, depth int) {
	indent := strings.Repeat("    ", depth)
	hop := w.hops[name]
	if w.done[name] {
		fmt.Fprintf(w, "%sexchange %q, see above\n", indent, name)
		return
	}
	w.done[name] = true
	title := fmt.Sprintf("exchange %q (%s)", name, hop.Kind)
	if name == "" {
		title = "the default exchange"
	}
	fmt.Fprintf(w, "%s%s\n", indent, title)
	if len(hop.Bindings) == 0 {
		fmt.Fprintf(w, "%s  has no bindings\n", indent)
	}
	mismatches := 0
	for _, v := range hop.Bindings {
		if !v.Match {
			if mismatches++; mismatches > textMismatches {
				continue
			}
		}
		sign, kind, args := "-", "queue", ""
		if v.Match {
			sign = "+"
		}
		if v.ToExchange {
			kind = "exchange"
		}
		if v.Args != "" {
			args = " " + v.Args
		}
		fmt.Fprintf(w, "%s  %s %q%s -> %s %q: %s\n", indent, sign, v.Key, args, kind, v.Destination, v.Why)
		if v.Match && v.ToExchange {
			w.hop(v.Destination, depth+1)
		}
	}
	if more := mismatches - textMismatches; more > 0 {
		fmt.Fprintf(w, "%s  - and %d more that do not match\n", indent, more)
	}
	if hop.Alternate == "" {
		return
	}
	fmt.Fprintf(w, "%s  nothing matches: goes to the alternate exchange %q\n", indent, hop.Alternate)
	if w.hops[hop.Alternate] == nil {
		fmt.Fprintf(w, "%s    which does not exist\n", indent)
		return
	}
	w.hop(hop.Alternate, depth+1)
}

func quoted(names []string) string {
	out := make([]string, len(names))
	for i, name := range names {
		out[i] = fmt.Sprintf("%q", name)
	}
	return strings.Join(out, ", ")
}
