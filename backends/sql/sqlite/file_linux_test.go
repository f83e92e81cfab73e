package sqlite_test

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/dashi-mq/dashi/backends/sql/sqlite"
)

// TestAReadOnlyFileIsRefusedClearly opens one as a user who may only read it.
func TestAReadOnlyFileIsRefusedClearly(t *testing.T) {
	dir, err := os.MkdirTemp("", "dashi-sqlite-") // the directories of t.TempDir are closed to other users
	must(t, err, "MkdirTemp")
	defer os.RemoveAll(dir)
	file := filepath.Join(dir, "dashi.db")
	s := open(t, file)
	must(t, put(t.Context(), s, "m"), "Put")
	must(t, s.Close(), "Close")
	must(t, os.Chmod(dir, 0o555), "chmod")
	must(t, os.Chmod(file, 0o444), "chmod")
	failed := make(chan error)
	go func() {
		runtime.LockOSThread() // and end with the goroutine: the thread is of no more use
		if os.Geteuid() == 0 {
			// Of this thread alone, which root's rights to files go with.
			_, _, _ = syscall.RawSyscall(syscall.SYS_SETFSUID, 65534, 0, 0)
		}
		s, err := sqlite.Open(t.Context(), "sqlite://"+file)
		if err == nil {
			_ = s.Close()
		}
		failed <- err
	}()
	if err := <-failed; err == nil || !strings.Contains(err.Error(), "readonly") && !strings.Contains(err.Error(), "unable to open") {
		t.Errorf("a file that is only to be read: %v, want it refused", err)
	} else {
		t.Log(err)
	}
	must(t, os.Chmod(dir, 0o755), "chmod")
	must(t, os.Chmod(file, 0o644), "chmod")
	if n, err := open(t, file).Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("afterwards there are %d messages, %v; want 1", n, err)
	}
}

// TestWhoStandsStillWithTheTurnIsPassedOver has another process take the turn and never write.
func TestWhoStandsStillWithTheTurnIsPassedOver(t *testing.T) {
	file := newFile(t)
	s := open(t, file)
	must(t, put(t.Context(), s, "m1"), "Put")
	f, err := os.Open(file + "-wal")
	must(t, err, "Open")
	defer f.Close()
	must(t, syscall.Flock(int(f.Fd()), syscall.LOCK_EX), "flock")
	must(t, put(t.Context(), s, "m2"), "a Put while another has the turn")
}
