// Command benchtable reads the output of several rounds of the benchmarks and prints the figures that the project has set
// itself, each with its limit. It reads files of go test -bench, or standard input.
//
// The n-th line of a benchmark belongs to the n-th round. Ratios are of the same round, since machines are noisy and rounds
// differ more than what is measured in one; what is printed is the median of the rounds, with the least and the greatest.
package main

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"golang.org/x/perf/benchfmt"
)

func main() {
	runs := runs{}
	files := os.Args[1:]
	if len(files) == 0 {
		files = []string{"-"}
	}
	for _, name := range files {
		if err := runs.read(name); err != nil {
			fmt.Fprintln(os.Stderr, "benchtable:", err)
			os.Exit(1)
		}
	}
	runs.print(os.Stdout)
}

// runs has the values of each round by benchmark and unit.
type runs map[string]map[string][]float64

func (r runs) read(name string) error {
	var in io.Reader = os.Stdin
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		in = f
	}
	lines := benchfmt.NewReader(in, name)
	for lines.Scan() {
		result, ok := lines.Result().(*benchfmt.Result)
		if !ok {
			continue // a line that is not of a benchmark
		}
		bench := result.Name.String()
		if i := strings.LastIndexByte(bench, '-'); i > 0 && strings.Trim(bench[i+1:], "0123456789") == "" {
			bench = bench[:i]
		}
		if r[bench] == nil {
			r[bench] = map[string][]float64{}
		}
		for _, v := range result.Values {
			value, unit := v.Value, v.Unit
			if v.OrigUnit != "" {
				value, unit = v.OrigValue, v.OrigUnit
			}
			r[bench][unit] = append(r[bench][unit], value)
		}
	}
	return lines.Err()
}

// quotient is the values of one figure divided by those of another, round by round; of nothing, itself.
func (r runs) quotient(of, by value) []float64 {
	values := r[of.bench][of.unit]
	if by == (value{}) {
		return values
	}
	divisors := r[by.bench][by.unit]
	var quotients []float64
	for i := range min(len(values), len(divisors)) {
		if divisors[i] != 0 {
			quotients = append(quotients, values[i]/divisors[i])
		}
	}
	return quotients
}

func median(values []float64) float64 {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return (s[(n-1)/2] + s[n/2]) / 2
}

// number writes a value in a few digits.
func number(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.2fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.0fk", v/1e3)
	case v >= 100:
		return fmt.Sprintf("%.0f", v)
	case v >= 1:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.3f", v)
}

// print writes a table in Markdown.
func (r runs) print(out io.Writer) {
	fmt.Fprintf(out, "| figure | median | least – greatest | rounds | limit | |\n| --- | ---: | ---: | ---: | ---: | --- |\n")
	missed, unmeasured := 0, 0
	for _, f := range figures {
		values := r.quotient(f.of, f.by)
		if len(values) == 0 {
			if f.limit != 0 {
				unmeasured++
			}
			fmt.Fprintf(out, "| %s | – | – | 0 | %s | not measured |\n", f.name, f.bound())
			continue
		}
		m := median(values)
		verdict := ""
		if f.limit != 0 {
			verdict = "met"
			if f.most && m > f.limit || !f.most && m < f.limit {
				verdict = "**not met**"
				missed++
			}
		}
		fmt.Fprintf(out, "| %s | %s | %s – %s | %d | %s | %s |\n", f.name, number(m)+f.suffix(), number(slices.Min(values)), number(slices.Max(values)), len(values), f.bound(), verdict)
	}
	fmt.Fprintf(out, "\n%d figures not met, %d not measured\n", missed, unmeasured)
}
