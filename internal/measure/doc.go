// Package measure holds what the command line and the benchmarks measure with: a clock, a pacer, this process's CPU time and heap.
package measure
