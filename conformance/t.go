package conformance

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
)

// T is what a row needs of a test, and does what *testing.T does, which satisfies it. The runner has one of its own, so that
// the suite also runs outside go test: Fatalf and Skipf end the goroutine they are called on, Cleanup runs what is last
// registered first, TempDir makes a new directory at each call and removes it at the end, and Context ends at the limit of
// the check or row.
type T interface {
	Helper()
	Name() string
	Logf(format string, a ...any)
	Errorf(format string, a ...any)
	Fatalf(format string, a ...any)
	Skipf(format string, a ...any)
	Failed() bool
	Cleanup(f func())
	TempDir() string
	Context() context.Context
}

// caseT is the runner's T: one row's notes and verdict.
type caseT struct {
	name string
	ctx  context.Context

	mu       sync.Mutex
	failures []string // in order; the first is the reason in the report
	notes    []string // failures and logs, as they came
	skipped  bool
	skip     string
	cleanups []func()
}

func (t *caseT) Helper() {}

func (t *caseT) Name() string { return t.name }

func (t *caseT) Context() context.Context { return t.ctx }

func (t *caseT) Logf(format string, a ...any) { t.note(fmt.Sprintf(format, a...)) }

func (t *caseT) note(s string) {
	t.mu.Lock()
	t.notes = append(t.notes, s)
	t.mu.Unlock()
}

func (t *caseT) Errorf(format string, a ...any) {
	s := fmt.Sprintf("%s: %s", rowLine(), fmt.Sprintf(format, a...))
	t.mu.Lock()
	t.failures = append(t.failures, s)
	t.notes = append(t.notes, s)
	t.mu.Unlock()
}

// Fatalf ends the goroutine it is called on, which is to be the row's own.
func (t *caseT) Fatalf(format string, a ...any) {
	t.Errorf(format, a...)
	runtime.Goexit()
}

func (t *caseT) Skipf(format string, a ...any) {
	t.mu.Lock()
	t.skipped, t.skip = true, fmt.Sprintf(format, a...)
	t.mu.Unlock()
	runtime.Goexit()
}

func (t *caseT) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.failures) > 0
}

func (t *caseT) Cleanup(f func()) {
	t.mu.Lock()
	t.cleanups = append(t.cleanups, f)
	t.mu.Unlock()
}

func (t *caseT) TempDir() string {
	dir, err := os.MkdirTemp("", "conformance-")
	if err != nil {
		t.Fatalf("temporary directory: %v", err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// protect runs f and turns a panic into a failure of the row. A Goexit passes through.
func (t *caseT) protect(f func()) {
	defer func() {
		if p := recover(); p != nil {
			t.Errorf("panic: %v", p)
			t.Logf("%s", debug.Stack())
		}
	}()
	f()
}

// finish runs the cleanups, the last registered first, each even if another one fails.
func (t *caseT) finish() {
	for {
		t.mu.Lock()
		n := len(t.cleanups)
		if n == 0 {
			t.mu.Unlock()
			return
		}
		f := t.cleanups[n-1]
		t.cleanups = t.cleanups[:n-1]
		t.mu.Unlock()
		done := make(chan struct{})
		go func() { // of its own, since a cleanup may call Fatalf
			defer close(done)
			t.protect(f)
		}()
		<-done
	}
}

// rowLine tells where in a row the caller is: file and line of the innermost frame in a file of rows.
func rowLine() string {
	pc := make([]uintptr, 32)
	frames := runtime.CallersFrames(pc[:runtime.Callers(2, pc)])
	for {
		f, more := frames.Next()
		if base := filepath.Base(f.File); strings.HasPrefix(base, "channel_") || strings.HasPrefix(base, "store_") {
			return fmt.Sprintf("%s:%d", base, f.Line)
		}
		if !more {
			return "runner"
		}
	}
}
