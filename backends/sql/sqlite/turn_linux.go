package sqlite

import (
	"context"
	"math/rand/v2"
	"os"
	"syscall"
	"time"
)

// turn is who writes next: a lock on the log of the file, which SQLite itself does not lock. Whoever is to write has it until he does, so
// that who has just written does not come first again while others try in vain.
type turn struct {
	f   *os.File // opened at the first write that finds the log
	has bool
}

// turnLimit bounds the wait for a turn: whose process stands still is passed over. It is for fairness, not for safety.
const turnLimit = 100 * time.Millisecond

// take waits for the turn.
func (t *turn) take(ctx context.Context, file string) {
	if t.f == nil {
		f, err := os.Open(file + "-wal") // it stays as long as anybody has the file open
		if err != nil {
			return
		}
		t.f = f
	}
	for begun := time.Now(); ; nap(100*time.Microsecond + rand.N(100*time.Microsecond)) {
		if err := syscall.Flock(int(t.f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			t.has = true
			return
		}
		if time.Since(begun) > turnLimit || ctx.Err() != nil {
			return
		}
	}
}

// pass gives the turn to others.
func (t *turn) pass() {
	if t.has {
		_ = syscall.Flock(int(t.f.Fd()), syscall.LOCK_UN)
		t.has = false
	}
}

func (t *turn) close() {
	if t.f != nil {
		_ = t.f.Close()
	}
}

// nap sleeps for less than a millisecond, which is the least that a timer of an idle process waits.
func nap(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil)
}
