package main

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// conformanceCmd is "dashi conformance".
type conformanceCmd struct {
	URL      string `arg:"" help:"The place: memory://, sqlite:// of a file, postgres:// of a database, redis:// or amqp:// of a server that may be played with."`
	Rig      string `placeholder:"one|two|five" help:"How: one broker; two brokers, as in two processes (the default); two that use the five methods of a store only. An amqp:// place has no choice."`
	As       string `placeholder:"PROFILE" help:"A store dressed as another kind of store: five, bare, sqs, beanstalk, couchdb."`
	Prefix   string `name:"run" placeholder:"PREFIX" help:"Only rows whose id begins so, such as EX or QU-1."`
	JSON     string `name:"json" placeholder:"FILE" help:"Write the report as JSON; - is standard output."`
	Markdown string `placeholder:"FILE" help:"Write the report as Markdown; - is standard output."`
	Other    string `name:"other-vhost" env:"DASHI_AMQP_URL_2" placeholder:"URL" help:"amqp://: the same server with another virtual host, for rows about two."`
	Parallel int    `default:"8" placeholder:"N" help:"Rows at a time; they wait more than they work (${default})."`
}

// Help teaches by examples.
func (*conformanceCmd) Help() string {
	return `Runs the suite of docs/semantics.md in real time: one row for each behaviour of an AMQP channel. Every row has a fresh
place and writes through one process what it reads through another. Rows that a store cannot honour and says so are
"refused"; rows that this place cannot show are "skip", with the reason.

Examples:

    dashi conformance memory://
    dashi conformance memory:// --rig one --run EX        # exchanges only
    dashi conformance memory:// --as sqs                  # the engine on a store that is like SQS
    dashi conformance sqlite://try.db                     # virtual hosts of their own, which stay in the file
    dashi conformance redis://localhost/5                 # such, too: empty the database after that
    dashi conformance amqp://guest:guest@localhost/ --json report.json --markdown report.md

The JSON report: {"url", "rig", "passed", "failed", "refused", "skipped", "total", "rows": [{"id", "result", "reason"}]} with a
result of pass, fail, refused or skip.

Exit code 1: a row failed. 2: the place cannot be reached, or cannot be used with this rig.`
}

// places make a fresh place for each row, by the scheme of the URL: two of them, for two virtual hosts.
var places = map[string]func(url string) (open, other func() (virtual.Store, error)){
	"memory": func(string) (open, other func() (virtual.Store, error)) {
		a, b := memory.New(), memory.New()
		return func() (virtual.Store, error) { return a.Open(), nil }, func() (virtual.Store, error) { return b.Open(), nil }
	},
	"sqlite":     newVhosts,
	"postgres":   newVhosts,
	"postgresql": newVhosts,
	"redis":      newVhosts,
	"rediss":     newVhosts,
	"unix":       newVhosts,
}

func newVhosts(url string) (open, other func() (virtual.Store, error)) {
	return newVhost(url), newVhost(url)
}

// newVhost opens a virtual host of a file, a database or a server, that nobody has used.
func newVhost(url string) func() (virtual.Store, error) {
	if strings.Contains(url, "?") {
		url += "&"
	} else {
		url += "?"
	}
	url += "vhost=conformance-" + rand.Text()
	return func() (virtual.Store, error) { return virtual.Open(context.Background(), url) }
}

var rigs = map[string]func(conformance.VirtualOptions) conformance.Rig{
	"one": conformance.VirtualOne, "two": conformance.VirtualTwo, "five": conformance.VirtualFive,
}

// Run runs the suite.
func (c *conformanceCmd) Run(ctx context.Context, s streams) error {
	cfg, err := c.config(ctx)
	if err != nil {
		return err
	}
	if err := cfg.Usable(ctx); err != nil {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return unusable("conformance: %s cannot be used with rig %s: %w", channel.Redact(c.URL), cfg.RigName, err)
	}
	rows := s.out
	if c.JSON == "-" || c.Markdown == "-" {
		rows = s.err
	}
	cut := map[string]bool{} // rows that ^C ended: no verdict on the place
	cfg.Progress = func(r conformance.RowResult) {
		if ctx.Err() != nil && r.Result == conformance.Fail {
			cut[r.ID] = true
			return
		}
		fmt.Fprintln(rows, strings.TrimRight(fmt.Sprintf("%-7s %s  %s", string(r.Result), r.ID, indented(r.Reason)), " "))
	}
	report := conformance.CheckChannel(ctx, *cfg)
	report.URL = channel.Redact(c.URL)
	interrupted(report, cut)
	fmt.Fprintf(rows, "%s\n", report.Summary())
	if err := c.write(s.out, report); err != nil {
		return unusable("conformance: %w", err)
	}
	switch {
	case report.Failed > 0:
		return fmt.Errorf("conformance: %s failed", plural(int64(report.Failed), "row"))
	case ctx.Err() != nil:
		return ctx.Err() // what was seen until then is printed and written
	}
	return nil
}

// config makes the suite's configuration for the place.
func (c *conformanceCmd) config(ctx context.Context) (*conformance.ChannelConfig, error) {
	scheme, err := channel.Scheme(c.URL)
	if err != nil {
		return nil, unusable("conformance: %w", err)
	}
	if c.Parallel < 1 {
		return nil, unusable("conformance: --parallel must be at least 1")
	}
	if !selects(c.Prefix) {
		return nil, unusable("conformance: no row's id begins with %q; they are such as EX-01, QU-12", c.Prefix)
	}
	cfg := &conformance.ChannelConfig{URL: c.URL, Run: c.Prefix, Parallel: c.Parallel}
	if _, native := channel.Lookup(scheme); native {
		if c.Rig != "" && c.Rig != "native" {
			return nil, unusable("conformance: --rig %s is for stores; %s:// is a server", c.Rig, scheme)
		}
		cfg.RigName = "native"
		cfg.Open = func(context.Context) (conformance.Rig, error) {
			return conformance.Native(c.URL, conformance.NativeOptions{OtherVhostURL: c.Other}), nil
		}
		return cfg, nil
	}
	place, ok := places[scheme]
	if !ok {
		return nil, unusable("conformance: no rig for scheme %q: want memory, sqlite, postgres, redis, or one of %v", scheme, channel.Registered())
	}
	conn, err := dashi.Dial(ctx, c.URL) // options that it refuses are refused here
	if err == nil {
		err = conn.Close(ctx)
	}
	if err != nil {
		return nil, unusable("conformance: %w", err)
	}
	cfg.RigName = orElse(c.Rig, "two")
	rig, ok := rigs[cfg.RigName]
	if !ok {
		return nil, unusable("conformance: --rig %q is not one of one, two, five", c.Rig)
	}
	dress, err := c.dress()
	if err != nil {
		return nil, err
	}
	cfg.Open = func(context.Context) (conformance.Rig, error) {
		open, other := place(c.URL)
		open, other = dressed(open, dress), dressed(other, dress)
		return rig(conformance.VirtualOptions{Open: open, OpenOther: other, Unit: 200 * time.Millisecond}), nil
	}
	return cfg, nil
}

// dress returns what --as asks for.
func (c *conformanceCmd) dress() (func(virtual.Store) virtual.Store, error) {
	if c.As == "" {
		return func(s virtual.Store) virtual.Store { return s }, nil
	}
	var names []string
	for _, p := range conformance.Profiles() {
		if p.Name == c.As {
			return p.Dress, nil
		}
		names = append(names, p.Name)
	}
	return nil, unusable("conformance: --as %q is not one of %s", c.As, strings.Join(names, ", "))
}

func dressed(open func() (virtual.Store, error), dress func(virtual.Store) virtual.Store) func() (virtual.Store, error) {
	return func() (virtual.Store, error) {
		s, err := open()
		if err != nil {
			return nil, err
		}
		return dress(s), nil
	}
}

// selects reports whether any row's id begins with the prefix.
func selects(prefix string) bool {
	for _, row := range conformance.Rows() {
		if strings.HasPrefix(row.ID, prefix) {
			return true
		}
	}
	return false
}

// interrupted turns the failures of rows that were cut short into what they are.
func interrupted(r *conformance.Report, cut map[string]bool) {
	for i := range r.Rows {
		if row := &r.Rows[i]; cut[row.ID] {
			row.Result, row.Reason = conformance.Skipped, "the run was ended in the middle of the row"
			r.Failed--
			r.Skipped++
		}
	}
}

func (c *conformanceCmd) write(out io.Writer, r *conformance.Report) error {
	text, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	return errors.Join(writeTo(out, c.JSON, string(text)+"\n"), writeTo(out, c.Markdown, r.Markdown()))
}

// writeTo writes a file, standard output for "-", nothing for "".
func writeTo(out io.Writer, file, text string) error {
	switch file {
	case "":
		return nil
	case "-":
		_, err := io.WriteString(out, text)
		return err
	}
	return os.WriteFile(file, []byte(text), 0o644)
}

// indented keeps a reason of several lines below its row.
func indented(reason string) string { return strings.ReplaceAll(reason, "\n", "\n          ") }
