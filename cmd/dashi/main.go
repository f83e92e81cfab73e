// Command dashi tries, measures, proves and explains: a demonstration on a log file, messages from one terminal to
// another, a benchmark, the channel suite, a soak with crashes, and an account of how a topology routes. "dashi COMMAND --help" teaches each by examples.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"runtime/debug"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"

	_ "github.com/dashi-mq/dashi/backends/amqp"
	_ "github.com/dashi-mq/dashi/backends/memory"
	_ "github.com/dashi-mq/dashi/backends/redis"
	_ "github.com/dashi-mq/dashi/backends/sql/postgres"
	_ "github.com/dashi-mq/dashi/backends/sql/sqlite"
	"github.com/dashi-mq/dashi/channel"
)

// Exit codes, as the help documents them.
const (
	exitOK          = 0
	exitFailed      = 1   // a check failed, figures did not match, the place broke down on the way
	exitUnusable    = 2   // arguments, files or places that cannot be used: nothing was tried
	exitInterrupted = 130 // as a shell reports a program that SIGINT ended
)

const description = `AMQP semantics on any store: try it, measure it, prove it, ask it.

Places are URLs: memory:// is a broker in this process, sqlite://FILE a file that processes share, redis://host:6379/0 a Redis,
postgres://user:password@host:5432/database a PostgreSQL, amqp://user:password@host:5672/vhost a real server.
DASHI_URL names one without showing its password in the list of processes.

Exit codes: 0 well; 1 a check failed or figures did not match; 2 arguments or a place that cannot be used; 130
interrupted.`

// cli is the command line; each command has a file of its own.
type cli struct {
	Demo        demoCmd          `cmd:"" help:"Send a log file through exchanges, queues and consumers, and draw what flowed."`
	Publish     publishCmd       `cmd:"" help:"Publish lines to an exchange or a queue."`
	Consume     consumeCmd       `cmd:"" help:"Write what comes to a queue, a line each."`
	Bench       benchCmd         `cmd:"" help:"Measure a place: publish, route, deliver, ack, and check what came."`
	Conformance conformanceCmd   `cmd:"" help:"Run the channel suite on a place."`
	Soak        soakCmd          `cmd:"" help:"Kill processes and servers while messages flow, and prove that nothing is lost."`
	SoakProcess soakProcessCmd   `cmd:"" hidden:""`
	Proxy       proxyCmd         `cmd:"" help:"Stand before a server and break its connections."`
	Explain     explainCmd       `cmd:"" help:"Tell how a topology in a file routes a message, and why."`
	Version     kong.VersionFlag `help:"Print the version."`
}

// streams are what a command talks to.
type streams struct {
	in       io.Reader
	out, err io.Writer
}

// failure is an error with the exit code it ends the program with.
type failure struct {
	code int
	err  error
}

func (f *failure) Error() string { return f.err.Error() }
func (f *failure) Unwrap() error { return f.err }

// unusable makes the error of arguments or places that cannot be used.
func unusable(format string, a ...any) error {
	return &failure{exitUnusable, fmt.Errorf(format, a...)}
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // the first signal asks, a second one kills
	os.Exit(run(ctx, os.Args[1:], streams{os.Stdin, os.Stdout, os.Stderr}))
}

// run is the program: it returns the exit code and has said what is wrong in one line.
func run(ctx context.Context, args []string, s streams) int {
	code, err := dispatch(ctx, args, s)
	if err != nil {
		fmt.Fprintf(s.err, "dashi: %s\n", oneLine(err))
	}
	return code
}

// exited is how kong ends the program after a help text.
type exited int

func dispatch(ctx context.Context, args []string, s streams) (code int, err error) {
	defer func() {
		if p := recover(); p != nil {
			c, ok := p.(exited)
			if !ok {
				panic(p)
			}
			code, err = int(c), nil
		}
	}()
	parser, err := newParser(&cli{}, s)
	if err != nil {
		return exitUnusable, err
	}
	if len(args) == 0 {
		args = []string{"--help"}
	}
	parsed, err := parser.Parse(args)
	if err != nil {
		return exitUnusable, fmt.Errorf("%w (dashi --help tells how)", err)
	}
	parsed.BindTo(ctx, (*context.Context)(nil))
	return exitCode(ctx, parsed.Run(s))
}

// newParser makes the parser of c.
func newParser(c *cli, s streams) (*kong.Kong, error) {
	return kong.New(c,
		kong.Name("dashi"), kong.Description(description), kong.Writers(s.out, s.err),
		kong.Exit(func(code int) { panic(exited(code)) }),
		kong.ConfigureHelp(kong.HelpOptions{Compact: true, WrapUpperBound: 100, NoAppDescFormat: true}),
		kong.Vars{"version": version()},
	)
}

func exitCode(ctx context.Context, err error) (int, error) {
	var f *failure
	switch {
	case err == nil:
		return exitOK, nil
	case errors.As(err, &f):
		return f.code, err
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return exitInterrupted, errors.New("interrupted")
	}
	return exitFailed, err
}

// addresses finds whatever may be a URL with a password in a text.
var addresses = regexp.MustCompile(`[A-Za-z][A-Za-z0-9+.-]*://[^\s"',]+`)

// oneLine is an error as a single line in which no URL shows its password, wherever the text came from.
func oneLine(err error) string {
	text := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
	return addresses.ReplaceAllStringFunc(text, channel.Redact)
}

// version is the module's version as Go recorded it, with the commit where it was built in a checkout.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	v := info.Main.Version
	for _, set := range info.Settings {
		if set.Key == "vcs.revision" && v == "(devel)" {
			v = set.Value
		}
	}
	if v == "" {
		v = "(devel)"
	}
	return v
}
