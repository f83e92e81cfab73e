package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/soak"
)

const soakProcessName = "soak-process"

const (
	soakLook         = 250 * time.Millisecond // how often the books are read
	soakRestartLimit = 2 * time.Minute        // of one run of --server-restart
)

// soakRun is a run from the side of the process that starts the others.
type soakRun struct {
	cmd    *soakCmd
	dir    string
	place  *soakPlace
	fleet  *soakFleet
	book   *soak.Book
	report soakReport
	begin  time.Time

	mu     sync.Mutex // guards what follows, which the display reads
	ledger *soak.Ledger
	phase  string
}

func newSoakRun(ctx context.Context, c *soakCmd, dir string) (*soakRun, error) {
	plan := soak.Plan{Seed: c.Seed, Queues: c.Queues}
	r := &soakRun{cmd: c, dir: dir, ledger: soak.NewLedger(), begin: time.Now()}
	r.report = soakReport{URL: channel.Redact(c.URL), Seed: c.Seed, Producers: c.Producers, Consumers: c.Consumers, Queues: c.Queues}
	var err error
	if r.book, err = soak.Create(dir, "run"); err != nil {
		return nil, err
	}
	dialing, end := context.WithTimeout(ctx, soakCleanLimit)
	defer end()
	if r.place, err = openSoakPlace(dialing, c.URL, plan); err != nil {
		return nil, errors.Join(err, r.book.Close())
	}
	r.fleet = newSoakFleet(c, dir, r.book)
	return r, nil
}

// run loads the place, drains it, and judges. An error says that the run could not be brought to its end.
func (r *soakRun) run(ctx context.Context, s streams) error {
	defer r.book.Close()
	defer r.fleet.stop()
	display := startLive(s.err, r.draw)
	defer display.end()
	if err := errors.Join(r.fleet.keep("consumer", r.cmd.Consumers), r.fleet.keep("producer", r.cmd.Producers)); err != nil {
		return err
	}
	if err := r.load(ctx); err != nil {
		return err
	}
	r.report.LoadS = round3(time.Since(r.begin).Seconds())
	err := r.drain(context.WithoutCancel(ctx)) // ^C ends the load, and what was sent is waited for
	if e := r.update(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	r.report.fill(r)
	return nil
}

// load lets the processes work for the duration, kills some, and restarts the server.
func (r *soakRun) load(ctx context.Context) error {
	r.say("load")
	ctx, end := context.WithTimeout(ctx, r.cmd.Duration)
	defer end()
	loading, failed := context.WithCancelCause(ctx)
	defer failed(nil)
	var doing sync.WaitGroup
	chaos := func(stream uint64, every time.Duration, do func(*rand.Rand) error) {
		if every == 0 {
			return
		}
		random := rand.New(rand.NewPCG(r.cmd.Seed, stream))
		doing.Go(func() {
			for pause(loading, time.Duration((0.5+random.Float64())*float64(every))) {
				if err := do(random); err != nil {
					failed(err)
				}
			}
		})
	}
	var calm atomic.Bool // during half of the restarts nobody is killed: else few would be left to go on when the server is back
	chaos(1, r.cmd.KillEvery, func(random *rand.Rand) error {
		if calm.Load() {
			return nil
		}
		return r.fleet.kill(random)
	})
	if r.cmd.ServerRestart != "" {
		chaos(2, r.cmd.RestartEvery, func(random *rand.Rand) error {
			calm.Store(random.IntN(2) == 0)
			defer calm.Store(false)
			return r.restart(context.WithoutCancel(ctx))
		})
	}
	for pause(loading, soakLook) {
		if err := r.update(); err != nil {
			failed(err)
		}
		if len(r.fleet.broken()) >= maxEnded {
			end() // and the report says so
		}
	}
	doing.Wait()
	if cause := context.Cause(loading); ctx.Err() == nil {
		return cause
	}
	return nil
}

// pause waits; false when ctx has ended.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// restart runs the command that restarts the server.
func (r *soakRun) restart(ctx context.Context) error {
	ctx, end := context.WithTimeout(ctx, soakRestartLimit)
	defer end()
	if err := r.book.Restarting(); err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", r.cmd.ServerRestart)
	cmd.WaitDelay = time.Second // a server that the command has started may have its output open for ever
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		lines := strings.Split(strings.TrimSpace(said.String()), "\n")
		return fmt.Errorf("--server-restart: %w: %s", err, lines[len(lines)-1])
	}
	return r.book.Restarted()
}

// drain lets the producers finish and the consumers empty the queues: it returns when all queues are empty with nobody connected and
// nothing confirmed is missing, or when nothing has moved for as long as patience is.
func (r *soakRun) drain(ctx context.Context) error {
	r.say("producers finish")
	finishing, end := context.WithTimeout(ctx, r.cmd.Patience)
	defer end()
	r.fleet.end(finishing, "producer")
	r.say("consumers drain")
	moved, before := time.Now(), r.ledger.Counts
	for {
		left, err := r.place.waiting(ctx)
		if e := r.update(); e != nil {
			return e
		}
		if r.ledger.Counts != before {
			moved, before = time.Now(), r.ledger.Counts
		}
		over := time.Since(moved) > r.cmd.Patience
		if over && err != nil {
			return fmt.Errorf("the queues cannot be counted: %w", err)
		}
		// What the last one killed held shows up when its lease has ended.
		hidden := r.fleet.sinceKill() < 3*r.cmd.lease(r.place.virtual)/2
		if over || err == nil && left == 0 && !hidden && r.judge().Lost == 0 {
			if r.report.Left, err = r.empty(ctx); err != nil || over || r.report.Left == 0 {
				return err
			}
			moved = time.Now()
			if err := r.fleet.keep("consumer", r.cmd.Consumers); err != nil {
				return err
			}
		}
		pause(ctx, soakLook)
	}
}

// empty ends the consumers and counts what is in the queues when nobody holds anything.
func (r *soakRun) empty(ctx context.Context) (left int, err error) {
	r.say("count")
	finishing, end := context.WithTimeout(ctx, r.cmd.Patience)
	defer end()
	r.fleet.end(finishing, "consumer")
	for {
		left, err = r.place.waiting(ctx)
		if err == nil || !pause(finishing, soakLook) {
			return left, err
		}
	}
}

func (r *soakRun) update() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.Update(r.dir)
}

func (r *soakRun) judge() *soak.Verdict {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ledger.Judge(r.place.plan, soak.Limits{Forgets: r.cmd.Forgets})
}

func (r *soakRun) say(phase string) {
	r.mu.Lock()
	r.phase = phase
	r.mu.Unlock()
}

// draw is what a terminal shows meanwhile.
func (r *soakRun) draw() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.ledger.Counts
	g := func(n int) string { return grouped(int64(n)) }
	return []string{
		fmt.Sprintf("%s after %v of %v, seed %d", r.phase, time.Since(r.begin).Round(time.Second), r.cmd.Duration, r.cmd.Seed),
		fmt.Sprintf("  published %s, confirmed %s, delivered %s, acked %s, rejected %s, put back %s", g(n.Published), g(n.Confirmed), g(n.Got),
			g(n.Acked), g(n.Rejected), g(n.Requeued)),
		fmt.Sprintf("  killed %s and %s, restarted the server %s, lost %s", plural(int64(n.KilledProducers), "producer"),
			plural(int64(n.KilledConsumers), "consumer"), plural(int64(n.Restarts), "time"), plural(int64(n.SessionsLost), "session")),
	}
}
