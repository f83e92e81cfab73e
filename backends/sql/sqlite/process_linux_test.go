package sqlite_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/sql/sqlite"
	"github.com/dashi-mq/dashi/virtual"
)

func init() {
	roles["publisher"], roles["consumer"] = publisher, consumer
}

func die(err error) {
	if err != nil {
		fmt.Println("error", err)
		os.Exit(1)
	}
}

// publisher puts messages, until it is killed, and prints a line of those that are confirmed, in one write.
func publisher(file string) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, "sqlite://"+file)
	die(err)
	for i := 0; ; i++ {
		n := 1 + rand.N(4)
		var names []string
		for k := range n {
			names = append(names, fmt.Sprintf("%d-%d-%d", os.Getpid(), i, k))
		}
		die(put(ctx, s, names...))
		fmt.Println("put", strings.Join(names, " "))
	}
}

// consumer takes and acks messages, until it is killed. It prints what it is about to ack, and what it has acked.
func consumer(file string) {
	ctx := context.Background()
	s, err := sqlite.Open(ctx, "sqlite://"+file)
	die(err)
	for take := uint64(1); ; take++ {
		ts, _, err := s.Get(ctx, virtual.GetRequest{
			Queue: orders, Max: 5, Wait: 50 * time.Millisecond, Lease: 2 * time.Second, Holder: fmt.Sprint("h", os.Getpid()), Take: take,
		}, nil)
		die(err)
		if len(ts) == 0 {
			continue
		}
		fmt.Println("about", strings.Join(bodies(ts), " "))
		die(s.Settle(ctx, settled(virtual.Ack, 0, ts...)))
		fmt.Println("acked", strings.Join(bodies(ts), " "))
	}
}

// books are what processes have printed, each into a file: what it has printed before a moment is there at that moment.
type books struct {
	dir               string
	files             []*book
	put, about, acked map[string]int
	errors            []string
	lines             int
}

type book struct {
	*os.File
	rest string // the beginning of a line
}

func newBooks(t testing.TB) *books {
	b := &books{dir: t.TempDir(), put: map[string]int{}, about: map[string]int{}, acked: map[string]int{}}
	t.Cleanup(func() {
		for _, f := range b.files {
			_ = f.Close()
		}
	})
	return b
}

// read reads what was printed since.
func (b *books) read(t testing.TB) {
	t.Helper()
	for _, f := range b.files {
		text, err := io.ReadAll(f)
		must(t, err, "read")
		lines := strings.Split(f.rest+string(text), "\n")
		f.rest = lines[len(lines)-1]
		for _, line := range lines[:len(lines)-1] {
			b.lines++
			what, rest, _ := strings.Cut(line, " ")
			into := map[string]map[string]int{"put": b.put, "about": b.about, "acked": b.acked}[what]
			if into == nil {
				b.errors = append(b.errors, line)
				continue
			}
			for _, name := range strings.Fields(rest) {
				into[name]++
			}
		}
	}
}

// start starts a process.
func (b *books) start(t testing.TB, role, file string) *exec.Cmd {
	t.Helper()
	name := filepath.Join(b.dir, strconv.Itoa(len(b.files)))
	out, err := os.Create(name)
	must(t, err, "Create")
	defer out.Close()
	in, err := os.Open(name)
	must(t, err, "Open")
	b.files = append(b.files, &book{File: in})
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "DASHI_SQLITE_ROLE="+role, "DASHI_SQLITE_FILE="+file)
	c.Stdout, c.Stderr = out, os.Stderr
	must(t, c.Start(), "start")
	t.Cleanup(func() { kill(c) }) // for the second time, mostly
	return c
}

func kill(c *exec.Cmd) {
	_ = c.Process.Kill()
	_ = c.Wait()
}

// await waits until the processes have printed so many lines more.
func (b *books) await(t testing.TB, more int) {
	t.Helper()
	b.read(t)
	want := b.lines + more
	eventually(t, "lines of the processes", func() bool {
		b.read(t)
		if len(b.errors) > 0 {
			t.Fatalf("a process says: %s", b.errors)
		}
		return b.lines >= want
	})
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}

// left takes all there is in a file, and returns how often each message is there.
func left(t testing.TB, file string) map[string]int {
	t.Helper()
	s := open(t, file)
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	n := map[string]int{}
	for {
		ts, res, err := s.Get(ctx, virtual.GetRequest{Queue: orders, Max: 1000, Wait: 100 * time.Millisecond}, nil)
		must(t, err, "Get")
		for _, name := range bodies(ts) {
			n[name]++
		}
		if len(ts) == 0 && res.NextIn == 0 {
			return n
		}
	}
}

// judge holds what is left against the books.
func (b *books) judge(t testing.TB, left map[string]int) {
	t.Helper()
	for _, e := range b.errors {
		t.Errorf("a process says: %s", e)
	}
	lost, back, twice := 0, 0, 0
	for name := range b.put {
		if left[name] == 0 && b.about[name] == 0 {
			lost++
		}
	}
	for name, n := range left {
		if n > 1 {
			twice++
		}
		if b.acked[name] > 0 {
			back++
		}
	}
	for _, n := range b.acked {
		if n > 1 {
			twice++
		}
	}
	t.Logf("%d confirmed, %d acked, %d left; lost %d, acked and back %d, twice %d", len(b.put), len(b.acked), len(left), lost, back, twice)
	if lost+back+twice > 0 {
		t.Error("want none of these")
	}
}

// TestKilledProcessesLoseNothing has processes put and take in one file, and kills them in the middle.
func TestKilledProcessesLoseNothing(t *testing.T) {
	kills := 60
	if testing.Short() {
		kills = 10
	}
	file, b := newFile(t), newBooks(t)
	roles := []string{"publisher", "publisher", "consumer", "consumer"}
	all := make([]*exec.Cmd, len(roles))
	for i, role := range roles {
		all[i] = b.start(t, role, file)
	}
	for range kills {
		b.await(t, 1+rand.N(20))
		i := rand.N(len(all))
		kill(all[i])
		all[i] = b.start(t, roles[i], file)
	}
	b.await(t, 100)
	for _, c := range all {
		kill(c)
	}
	b.read(t)
	b.judge(t, left(t, file))
}

// TestALossOfPowerTakesNothingConfirmed stops processes at random moments, in which their files are copied, and has the copies opened.
// What a disk forgets that has said it was written, no test can tell.
func TestALossOfPowerTakesNothingConfirmed(t *testing.T) {
	cuts := 25
	if testing.Short() {
		cuts = 5
	}
	file, b := newFile(t), newBooks(t)
	all := []*exec.Cmd{b.start(t, "publisher", file), b.start(t, "consumer", file)}
	missing := 0
	for range cuts {
		b.await(t, 1+rand.N(200))
		for _, c := range all {
			must(t, c.Process.Signal(syscall.SIGSTOP), "SIGSTOP")
			eventually(t, "SIGSTOP", func() bool { return stands(c.Process.Pid) })
		}
		b.read(t)
		copied := newFile(t)
		for _, suffix := range []string{"", "-wal"} {
			text, err := os.ReadFile(file + suffix)
			must(t, err, "copy")
			must(t, os.WriteFile(copied+suffix, text, 0o600), "copy")
		}
		for _, c := range all {
			must(t, c.Process.Signal(syscall.SIGCONT), "SIGCONT")
		}
		there := inFile(t, copied)
		for name := range b.put {
			if !there[name] && b.about[name] == 0 {
				missing++
			}
		}
		for name := range b.acked {
			if there[name] {
				t.Errorf("%s was acked, and is in a copy", name)
			}
		}
		if n, err := open(t, copied).Size(t.Context(), orders); err != nil || n > len(there) {
			t.Errorf("a copy has %d messages ready, %v, of %d", n, err, len(there))
		}
	}
	t.Logf("%d losses of power, %d messages confirmed, missing in a copy: %d", cuts, len(b.put), missing)
	if missing > 0 {
		t.Error("want none missing")
	}
}

// stands reports whether a process stands still.
func stands(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
	for _, f := range threads {
		text, _ := os.ReadFile(f)
		if _, state, _ := strings.Cut(string(text), ") "); !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return len(threads) > 0
}
