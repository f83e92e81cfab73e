package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/internal/soak"
)

// maxEnded is how many processes may end by themselves before the fleet starts no more.
const maxEnded = 10

// soakFleet is the processes of a run: while it is kept up, a new one is started wherever one has ended.
type soakFleet struct {
	cmd  *soakCmd
	dir  string
	book *soak.Book

	mu      sync.Mutex // guards what follows
	last    int        // number of the newest process
	running []*soakProcess
	wanted  map[string]int
	ended   []string // processes that ended by themselves, or not when they were asked to, and how
	killed  time.Time
}

// soakProcess is a running process.
type soakProcess struct {
	role, name string
	cmd        *exec.Cmd
	stdin      io.Closer
	asked      bool          // to end, or killed; guarded by the fleet's mu
	done       chan struct{} // it has ended, and is no longer among the running
}

func newSoakFleet(c *soakCmd, dir string, book *soak.Book) *soakFleet {
	return &soakFleet{cmd: c, dir: dir, book: book, wanted: map[string]int{}}
}

// keep starts n processes of a role, and others where they end.
func (f *soakFleet) keep(role string, n int) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.wanted[role] = n
	for range n {
		if err := f.start(role); err != nil {
			return err
		}
	}
	return nil
}

// start starts a process. f.mu is held.
func (f *soakFleet) start(role string) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	f.last++
	p := &soakProcess{role: role, name: fmt.Sprintf("%s-%d", role, f.last), done: make(chan struct{})}
	c, wrong := f.cmd, f.cmd.Wrong
	if wrong == wrongAckFirst && f.last > c.Consumers { // those of the first generation die of it; others have to go on
		wrong = ""
	}
	p.cmd = exec.Command(program, soakProcessName, role, "--number", strconv.Itoa(f.last), "--dir", f.dir,
		"--seed", strconv.FormatUint(c.Seed, 10), "--queues", strconv.Itoa(c.Queues),
		"--rate", strconv.FormatFloat(c.Rate/float64(c.Producers), 'f', -1, 64), "--wrong", wrong)
	p.cmd.Env = append(os.Environ(), "DASHI_URL="+c.URL) // and not an argument, which all can see
	log, err := os.Create(filepath.Join(f.dir, p.name+".log"))
	if err != nil {
		return err
	}
	defer log.Close()
	p.cmd.Stderr = log
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return err
	}
	if err := p.cmd.Start(); err != nil {
		return err
	}
	f.running = append(f.running, p)
	go f.watch(p)
	return nil
}

// watch waits for the end of a process, and starts another in its place. It ends with the process, and end waits for it.
func (f *soakFleet) watch(p *soakProcess) {
	err := p.cmd.Wait()
	f.mu.Lock()
	defer f.mu.Unlock()
	defer close(p.done)
	f.running = slices.DeleteFunc(f.running, func(q *soakProcess) bool { return q == p })
	if !p.asked {
		f.ended = append(f.ended, fmt.Sprintf("%s: %v%s", p.name, orError(err, io.EOF), f.lastWords(p.name)))
	}
	n := 0
	for _, q := range f.running {
		if q.role == p.role {
			n++
		}
	}
	if n < f.wanted[p.role] && len(f.ended) < maxEnded {
		if err := f.start(p.role); err != nil {
			f.ended = append(f.ended, fmt.Sprintf("%s in place of %s: %v", p.role, p.name, err))
		}
	}
}

// lastWords are those that a process has written to its standard error.
func (f *soakFleet) lastWords(name string) string {
	text, _ := os.ReadFile(filepath.Join(f.dir, name+".log"))
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	if last := lines[len(lines)-1]; last != "" {
		return ": " + last
	}
	return ""
}

// kill kills one of the processes.
func (f *soakFleet) kill(r *rand.Rand) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var alive []*soakProcess
	for _, p := range f.running {
		if !p.asked {
			alive = append(alive, p)
		}
	}
	if len(alive) == 0 {
		return nil
	}
	p := alive[r.IntN(len(alive))]
	if err := f.book.Killing(p.name); err != nil {
		return err
	}
	p.asked, f.killed = true, time.Now()
	_ = p.cmd.Process.Kill() // it may just have ended
	return nil
}

// end asks all processes of a role to finish, and waits for them. One that does not when ctx ends is killed, and counts as one
// that ended by itself.
func (f *soakFleet) end(ctx context.Context, role string) {
	f.mu.Lock()
	f.wanted[role] = 0
	var all []*soakProcess
	for _, p := range f.running {
		if p.role == role && !p.asked { // one that was killed ends without us
			p.asked = true
			_ = p.stdin.Close()
			all = append(all, p)
		}
	}
	f.mu.Unlock()
	for _, p := range all {
		how := ""
		select {
		case <-p.done:
			if !p.cmd.ProcessState.Success() {
				how = p.cmd.ProcessState.String()
			}
		case <-ctx.Done():
			_ = p.cmd.Process.Kill()
			<-p.done
			how = "did not finish in time"
		}
		if how != "" {
			f.mu.Lock()
			f.ended = append(f.ended, fmt.Sprintf("%s: %s%s", p.name, how, f.lastWords(p.name)))
			f.mu.Unlock()
		}
	}
}

// stop kills what is left.
func (f *soakFleet) stop() {
	over, cancel := context.WithCancel(context.Background())
	cancel()
	f.end(over, "producer")
	f.end(over, "consumer")
}

// broken tells what ended by itself.
func (f *soakFleet) broken() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.Clone(f.ended)
}

// sinceKill is how long ago the last kill was.
func (f *soakFleet) sinceKill() time.Duration {
	f.mu.Lock()
	defer f.mu.Unlock()
	return time.Since(f.killed)
}
