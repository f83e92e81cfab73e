package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestRatiosAreOfOneRound feeds three rounds in which the machine slows down: the ratio stays what it is in each.
func TestRatiosAreOfOneRound(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bench.txt")
	const rounds = `goos: linux
BenchmarkPath/bare/1x1-2 100 100 ns/op 8000000 msgs/s 304 B/op 2 allocs/msg
BenchmarkPath/limits/1x1-2 100 400 ns/op 2400000 msgs/s 700 B/op 1 allocs/msg
BenchmarkPath/bare/1x1-2 100 200 ns/op 4000000 msgs/s 304 B/op 2 allocs/msg
BenchmarkPath/limits/1x1-2 100 800 ns/op 1200000 msgs/s 700 B/op 3 allocs/msg
BenchmarkPath/bare/1x1-2 100 400 ns/op 2000000 msgs/s 304 B/op 2 allocs/msg
BenchmarkPath/limits/1x1-2 100 1600 ns/op 600000 msgs/s 700 B/op 3 allocs/msg
BenchmarkFanout/queues=100/nocopy=false-2 10 1 ns/op 612.5 ns/copy
`
	if err := os.WriteFile(file, []byte(rounds), 0o600); err != nil {
		t.Fatal(err)
	}
	r := runs{}
	if err := r.read(file); err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	r.print(&out)
	for _, want := range []string{
		"| path 1x1 | 1.20M msgs/s | 600k – 2.40M | 3 | ≥ 1.00M | met |",
		"| … of a bare channel | 0.300× | 0.300 – 0.300 | 3 | ≥ 0.250 | met |",
		"| … allocations a message | 3.0 allocs/msg | 1.0 – 3.0 | 3 | ≤ 2.0 | **not met** |",
		"| fanout to 100 queues | 612 ns/copy | 612 – 612 | 1 | ≤ 500 | **not met** |",
		"| … confirms, of without | – | – | 0 | ≥ 0.600 | not measured |",
		"2 figures not met, ",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("%q is not in\n%s", want, &out)
		}
	}
}
