package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/url"
	"os"
	"time"

	"github.com/dashi-mq/dashi/internal/soak"
)

// soakCmd is "dashi soak".
type soakCmd struct {
	URL           string        `required:"" env:"DASHI_URL" placeholder:"URL" help:"The place. All processes dial it: memory:// cannot be used."`
	Duration      time.Duration `default:"1m" placeholder:"D" help:"How long to publish; what is on its way then is still waited for (${default})."`
	Producers     int           `default:"3" placeholder:"P" help:"Producer processes (${default})."`
	Consumers     int           `default:"3" placeholder:"C" help:"Consumer processes, each on all queues (${default})."`
	Queues        int           `default:"4" placeholder:"Q" help:"Queues, each with a dead-letter queue (${default})."`
	Rate          float64       `default:"300" placeholder:"PER_S" help:"Messages a second of all producers together (${default})."`
	KillEvery     time.Duration `default:"2s" placeholder:"D" help:"Kill a process so often, on average, and start another; 0 for never (${default})."`
	ServerRestart string        `placeholder:"CMD" help:"A command of sh that kills the server and starts it again with its data."`
	RestartEvery  time.Duration `default:"15s" placeholder:"D" help:"Run it so often, on average (${default})."`
	Forgets       time.Duration `placeholder:"D" help:"Acks of this time before a restart may be forgotten by the server; unless given, none."`
	Patience      time.Duration `default:"30s" placeholder:"D" help:"Give up when nothing has moved for so long at the end (${default})."`
	Seed          uint64        `placeholder:"N" help:"Of all that is random, and of the names; unless given, a new one."`
	Dir           string        `placeholder:"DIR" help:"Where the books are written, and left; unless given, they are removed if nothing is wrong."`
	JSON          bool          `help:"Print one line of JSON instead of the summary."`
	Wrong         string        `hidden:"" enum:",drop,ack-first,confirm-first,twice,misroute,damage" default:""`
}

// Help teaches by examples.
func (*soakCmd) Help() string {
	return `Proves that nothing is lost over crashes. Processes of their own publish with confirms through a direct, a topic and
a fanout exchange, consume, reject some messages to dead-letter queues and put some back, while SIGKILL ends some of
them at random moments and, with --server-restart, a command of yours the server. Each writes down what it does before
and after it does it, straight to the kernel. At the end producers stop, consumers drain the queues, and all is
held against what came: every confirmed message was answered in every queue it was routed to, what came twice was
allowed to, and all queues are empty. docs/soak.md has the rules.

Examples:

    dashi soak --url amqp://guest:guest@localhost/ --duration 30s
    dashi soak --url "$URL" --duration 10m --kill-every 500ms --json
    dashi soak --url "$URL" --server-restart 'systemctl kill -s KILL redis; systemctl start redis' --restart-every 20s

All it declares is named after the seed, and removed at the end. ^C ends the load; what was sent is still judged.
Exit code 1: something was lost, came twice for no reason, came from nowhere or from the wrong queue, was changed or is left.`
}

// Run soaks.
func (c *soakCmd) Run(ctx context.Context, s streams) error {
	if err := c.check(); err != nil {
		return err
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() >> 16
	}
	dir, own, err := c.dir()
	if err != nil {
		return unusable("soak: %w", err)
	}
	r, err := newSoakRun(ctx, c, dir)
	if err != nil {
		if own {
			_ = os.RemoveAll(dir)
		}
		return unusable("soak: %w", err)
	}
	runErr := r.run(ctx, s)
	closing, end := context.WithTimeout(context.WithoutCancel(ctx), soakCleanLimit)
	defer end()
	if err := r.place.clean(closing); runErr == nil {
		runErr = err
	}
	if runErr != nil {
		return fmt.Errorf("soak: seed %d, books in %s: %w", c.Seed, dir, runErr)
	}
	if err := r.report.write(s.out, c.JSON); err != nil {
		return err
	}
	if wrong := r.report.wrong(); wrong != nil {
		return fmt.Errorf("soak: seed %d, books in %s: %w", c.Seed, dir, wrong)
	}
	if own {
		_ = os.RemoveAll(dir)
	}
	if ctx.Err() != nil {
		return &failure{exitInterrupted, errors.New("soak: interrupted: the load ended early")}
	}
	return nil
}

// check refuses what cannot be run.
func (c *soakCmd) check() error {
	if err := betweenProcesses("soak", c.URL, "the producers and consumers of a soak"); err != nil {
		return err
	}
	switch {
	case c.Producers < 1 || c.Consumers < 1:
		return unusable("soak: --producers and --consumers must be at least 1")
	case c.Queues < 1 || c.Queues > soak.MaxQueues:
		return unusable("soak: --queues must be between 1 and %d", soak.MaxQueues)
	case c.Rate <= 0:
		return unusable("soak: --rate must be positive")
	case c.Duration <= 0 || c.Patience <= 0 || c.RestartEvery <= 0:
		return unusable("soak: --duration, --patience and --restart-every must be positive")
	case c.KillEvery < 0 || c.Forgets < 0:
		return unusable("soak: --kill-every and --forgets cannot be negative")
	}
	return nil
}

// dir makes the directory of the books.
func (c *soakCmd) dir() (dir string, own bool, err error) {
	if c.Dir == "" {
		dir, err = os.MkdirTemp("", "dashi-soak-")
		return dir, true, err
	}
	return c.Dir, false, os.MkdirAll(c.Dir, 0o700)
}

// lease is how long what a killed process held stays hidden: a server knows at once, a store when the lease has ended.
func (c *soakCmd) lease(virtual bool) time.Duration {
	if !virtual {
		return 0
	}
	if u, err := url.Parse(c.URL); err == nil {
		if d, err := time.ParseDuration(u.Query().Get("lease")); err == nil && d > 0 {
			return d
		}
	}
	return 10 * time.Second // that of broker.Options
}
