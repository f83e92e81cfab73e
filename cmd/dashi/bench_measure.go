package main

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/internal/measure"
)

// minBody is the smallest body that carries a number and a send time.
const minBody = 16

// newFiller makes a body's filling: printable, and hard to compress, so that no store gains by that.
func newFiller(size int) []byte {
	b := make([]byte, size)
	x := uint32(0x9E3779B9)
	for i := range b {
		x ^= x << 13
		x ^= x >> 17
		x ^= x << 5
		b[i] = byte('!' + x%90)
	}
	return b
}

// stamped makes a body: filler with number and send time at its head.
func stamped(filler []byte, number, at int64) []byte {
	b := make([]byte, len(filler))
	copy(b, filler)
	binary.BigEndian.PutUint64(b, uint64(number))
	binary.BigEndian.PutUint64(b[8:], uint64(at))
	return b
}

// stampOf reads what stamped wrote.
func stampOf(b []byte) (number, at int64) {
	return int64(binary.BigEndian.Uint64(b)), int64(binary.BigEndian.Uint64(b[8:]))
}

// subBuckets is how finely a histogram parts each power of two: within 0.8 %, the middle of a bucket within 0.4 %.
const (
	subBits    = 7
	subBuckets = 1 << subBits
)

// histogram counts durations in ns in buckets of constant relative width. It is for one goroutine.
type histogram struct {
	n   [(64 - subBits) * subBuckets]int64
	sum int64 // how many
	max int64
}

func (h *histogram) add(v int64) {
	v = max(v, 0)
	h.n[bucketOf(v)]++
	h.sum++
	h.max = max(h.max, v)
}

func bucketOf(v int64) int {
	e := bits.Len64(uint64(v)) - 1 - subBits
	if e < 0 {
		return int(v)
	}
	return (e+1)<<subBits + int(v>>e) - subBuckets
}

// valueOf is the middle of a bucket.
func valueOf(i int) int64 {
	e := i>>subBits - 1
	if e <= 0 {
		return int64(i)
	}
	low := int64(i&(subBuckets-1)+subBuckets) << e
	return low + 1<<e/2
}

func (h *histogram) merge(o *histogram) {
	for i, n := range o.n {
		h.n[i] += n
	}
	h.sum += o.sum
	h.max = max(h.max, o.max)
}

// quantile returns the value below which the share p of all lie.
func (h *histogram) quantile(p float64) int64 {
	rank := int64(p * float64(h.sum-1))
	if rank >= h.sum-1 {
		return h.max
	}
	for i, n := range h.n {
		if rank -= n; rank < 0 {
			return min(valueOf(i), h.max)
		}
	}
	return h.max
}

// meter measures CPU time and allocations of a window.
type meter struct {
	pids               []int
	self, server       float64
	busy, stolen       float64
	mallocs, allocated uint64
	memory             runtime.MemStats
}

// hz is the unit of /proc: USER_HZ, 100 on Linux everywhere.
const hz = 100

// startMeter opens the window. It collects garbage first, so that others' is not counted.
func startMeter(pids []int) *meter {
	m := &meter{pids: pids}
	runtime.GC()
	m.read()
	return m
}

func (m *meter) read() {
	runtime.ReadMemStats(&m.memory)
	m.mallocs, m.allocated = m.memory.Mallocs, m.memory.TotalAlloc
	m.self, m.server = measure.OwnCPU(), cpuOf(m.pids)
	m.busy, m.stolen = machineCPU()
}

// used is what was used in a window.
type used struct {
	client, server, other, stolen float64 // s of CPU
	allocs, bytes                 uint64
}

// stop closes the window.
func (m *meter) stop() used {
	before := *m
	m.read()
	u := used{
		client: m.self - before.self, server: m.server - before.server, stolen: m.stolen - before.stolen,
		allocs: m.mallocs - before.mallocs, bytes: m.allocated - before.allocated,
	}
	u.other = max(0, m.busy-before.busy-u.client-u.server)
	return u
}

// cpuOf is the CPU time of processes; those that are gone count nothing.
func cpuOf(pids []int) (s float64) {
	for _, pid := range pids {
		text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		// The name stands in parentheses and may hold anything.
		fields := strings.Fields(string(text[strings.LastIndexByte(string(text), ')')+1:]))
		s += ticks(fields, 11) + ticks(fields, 12)
	}
	return s
}

// machineCPU is the time all processors worked, and what others took of them; zero where there is no /proc.
func machineCPU() (busy, stolen float64) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, 0
	}
	line, _, _ := strings.Cut(string(text), "\n")
	f := strings.Fields(line) // cpu user nice system idle iowait irq softirq steal
	return ticks(f, 1) + ticks(f, 2) + ticks(f, 3) + ticks(f, 6) + ticks(f, 7), ticks(f, 8)
}

func ticks(fields []string, i int) float64 {
	if i >= len(fields) {
		return 0
	}
	n, _ := strconv.ParseFloat(fields[i], 64)
	return n / hz
}

// brief writes a time in ns as a person reads it.
func brief(ns int64) string {
	d := time.Duration(ns)
	switch {
	case d < 10*time.Microsecond:
		return d.Round(10 * time.Nanosecond).String()
	case d < 10*time.Millisecond:
		return d.Round(time.Microsecond).String()
	}
	return d.Round(100 * time.Microsecond).String()
}
