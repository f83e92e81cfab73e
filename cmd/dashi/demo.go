package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// demoCmd is "dashi demo".
type demoCmd struct {
	File  string  `arg:"" optional:"" help:"The log to read, any file at all; - or nothing is standard input."`
	URL   string  `default:"memory://" env:"DASHI_URL" placeholder:"URL" help:"Where to send it: memory:// unless given."`
	Rate  float64 `placeholder:"N" help:"Lines a second; unless given, as fast as it goes."`
	Limit int64   `placeholder:"N" help:"Stop after N lines."`
}

// Help teaches by examples.
func (*demoCmd) Help() string {
	return `Every line is published to a topic exchange under a key made of its words, LEVEL.PROGRAM.WORD.WORD.WORD, such as
"error.sshd.connection.closed". Four queues are bound to it: the archive gets everything, alerts what is bad, a dashboard
the commonest lines, and a worker the others. The dashboard is slow and its queue short, so lines overflow. The worker fails
now and then: what it refuses waits in a retry queue and comes back, and after three attempts is parked. At the end all
is counted and drawn.

Examples:

    dashi demo /var/log/dpkg.log            # any log: syslog, nginx, JSON, log/slog, …
    journalctl | dashi demo --limit 20000
    dashi demo access.log --rate 500        # slowly, to watch it
    dashi demo /var/log/syslog --url amqp://guest:guest@localhost/

It uses names of its own and leaves nothing behind. ^C stops reading; what was sent is still delivered and drawn.
Exit code 1: a line was lost, came twice, changed or out of order.`
}

// howTo is for those who start the demo with nothing to read.
const howTo = `nothing to read: name a file, as in "dashi demo /var/log/dpkg.log", or send one, as in "journalctl | dashi demo"`

// Run runs the demonstration.
func (c *demoCmd) Run(ctx context.Context, s streams) error {
	if c.Rate < 0 || c.Limit < 0 {
		return unusable("demo: --rate and --limit cannot be negative")
	}
	in, name, end, err := c.open(s.in)
	if err != nil {
		return err
	}
	defer end()
	conn, err := dashi.Dial(ctx, c.URL)
	if err != nil {
		return unusable("demo: %w", err)
	}
	d := newDemo(conn, newKeyer(name), c.Rate, c.Limit)
	d.title, d.url = orElse(name, "standard input"), channel.Redact(c.URL)
	runErr := d.run(ctx, in, s.err)
	if err := hangUp(ctx, conn); runErr == nil {
		runErr = err
	}
	if runErr != nil {
		return fmt.Errorf("demo: %w", runErr)
	}
	d.draw(s.out)
	if wrong := d.verify(); len(wrong) > 0 {
		return fmt.Errorf("demo: the counts do not add up: %w", errors.Join(wrong...))
	}
	fmt.Fprintln(s.out, "Checked: every line is accounted for.")
	if d.interrupted {
		return &failure{exitInterrupted, errors.New("demo: interrupted: the rest of the lines was not read")}
	}
	return nil
}

// open returns what to read, and its name if it has one.
func (c *demoCmd) open(stdin io.Reader) (in io.Reader, name string, end func(), err error) {
	if c.File != "" && c.File != "-" {
		f, err := os.Open(c.File)
		if err != nil {
			return nil, "", nil, unusable("demo: %w", err)
		}
		if info, err := f.Stat(); err == nil && info.IsDir() {
			_ = f.Close()
			return nil, "", nil, unusable("demo: %s is a directory", c.File)
		}
		return f, c.File, func() { _ = f.Close() }, nil
	}
	if c.File == "" && isTerminal(stdin) {
		return nil, "", nil, unusable("demo: %s", howTo)
	}
	return stdin, "", func() {}, nil
}
