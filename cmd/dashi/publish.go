package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// publishCmd is "dashi publish".
type publishCmd struct {
	URL         string        `default:"sqlite://dashi.db" env:"DASHI_URL" placeholder:"URL" help:"The place, which consumers share: a file in the working directory (${default}) unless given, and not memory://."`
	Exchange    string        `placeholder:"NAME" help:"The exchange to publish to."`
	Type        string        `placeholder:"TYPE" help:"Declare the exchange, durable, if it does not exist: topic, direct, fanout, headers, …"`
	Key         string        `placeholder:"KEY" help:"The routing key of all lines."`
	KeyFrom     string        `placeholder:"TEMPLATE" help:"A routing key for each line: text with $1, $2 … (its fields), $level, $program, $words (found by its format)."`
	Queue       string        `placeholder:"NAME" help:"Publish to this queue instead, which is declared, durable, if it does not exist."`
	Header      []string      `sep:"none" placeholder:"NAME=VALUE" help:"A header of all messages; may be given several times."`
	ContentType string        `placeholder:"TYPE" help:"The content type of all messages."`
	Persistent  bool          `default:"true" negatable:"" help:"Messages survive a restart of the place in durable queues; so they do unless --no-persistent is given."`
	Priority    uint8         `placeholder:"N" help:"The priority of all messages, for queues with x-max-priority."`
	Expiration  time.Duration `placeholder:"D" help:"How long messages may wait in a queue."`
	Mandatory   bool          `help:"A message that reaches no queue is told, and makes the exit code 1."`
	JSON        bool          `help:"Lines are as \"dashi consume --format json\" writes them; --exchange, --key and --queue say something else than they do."`
	Count       int64         `placeholder:"N" help:"Stop after N lines."`
	Messages    []string      `arg:"" optional:"" name:"message" help:"Messages; without any, the lines of standard input are."`
}

// Help teaches by examples.
func (*publishCmd) Help() string {
	return `Publishes each line of standard input, without its line end, or each argument. A line is sent when it is there, and
the command ends well when all are confirmed: stored in every queue that they were routed to.

Examples:

    tail -F access.log | dashi publish --url redis://localhost:6379/0 --exchange logs --type topic --key-from '$5.$6'
    dashi publish --url amqp://guest:guest@localhost/ --exchange amq.fanout hello 'hello world'
    dashi publish --queue jobs --header attempt=1 --content-type application/json < jobs.ndjson     # sqlite://dashi.db, or $DASHI_URL
    journalctl -f | dashi publish --exchange logs --type topic --key-from '$program.$level.$words'
    dashi consume --queue old --format json | dashi publish --queue new --json       # what is in the pipe is in no queue

Fields are what spaces part, counted from 1. Each becomes one word of the key: lower case, letters, digits, "-" and "_"
only, at most 40 bytes, and "_" where a line has no such field. $level (error, warn, info, debug), $program and $words (the
first three that tell anything) are found in syslog, access logs, JSON, logfmt and others, as "dashi demo" does. $$ is a
dollar. Values of --header are JSON where they can be, such as 5, true or "5", else text.

Exit code 0: every line is confirmed; 1: some are not, or with --mandatory reached no queue: how many is told;
130: interrupted, and told, too. A connection that breaks is not opened again.`
}

// Run publishes.
func (c *publishCmd) Run(ctx context.Context, s streams) error {
	if err := betweenProcesses("publish", c.URL, "who consumes and who publishes"); err != nil {
		return err
	}
	return c.publish(ctx, s)
}

func (c *publishCmd) publish(ctx context.Context, s streams) error {
	compose, err := c.check()
	if err != nil {
		return err
	}
	conn, err := dashi.Dial(ctx, c.URL)
	if err != nil {
		return refused(ctx, "publish", err)
	}
	ch, err := conn.Channel(ctx)
	if err == nil {
		err = c.declare(ctx, conn, ch)
	}
	if err == nil {
		err = ch.Confirm(ctx)
	}
	if err != nil {
		_ = hangUp(ctx, conn)
		return refused(ctx, "publish", err)
	}
	reading, stop := context.WithCancel(ctx)
	p := newSending(ch, newFeed(reading, c.lines(s), 0), compose, c.Count, s.err)
	err = p.run(ctx)
	stop()
	_ = hangUp(ctx, conn) // all that matters has been confirmed by now
	return p.result(ctx, err)
}

// lines returns where the lines come from.
func (c *publishCmd) lines(s streams) (next func() ([]byte, error)) {
	if len(c.Messages) > 0 {
		left := c.Messages
		return func() ([]byte, error) {
			if len(left) == 0 {
				return nil, io.EOF
			}
			line := left[0]
			left = left[1:]
			return []byte(line), nil
		}
	}
	if isTerminal(s.in) {
		fmt.Fprintln(s.err, "dashi: publishing each line you type; ^D ends")
	}
	return wholeLines(s.in)
}

// check refuses what cannot be done, and returns what makes messages of lines.
func (c *publishCmd) check() (composer, error) {
	switch {
	case c.Queue != "" && (c.Exchange != "" || c.Type != "" || c.Key != "" || c.KeyFrom != ""):
		return nil, unusable("publish: --queue goes without --exchange, --type, --key and --key-from")
	case c.Queue == "" && c.Exchange == "" && !c.JSON:
		return nil, unusable("publish: give --exchange or --queue")
	case c.Type != "" && c.Exchange == "":
		return nil, unusable("publish: --type is of an --exchange")
	case c.Key != "" && c.KeyFrom != "":
		return nil, unusable("publish: --key or --key-from, not both")
	case c.JSON && (len(c.Header) > 0 || c.ContentType != "" || !c.Persistent || c.Priority != 0 || c.Expiration != 0):
		return nil, unusable("publish: --json brings properties and headers: it goes without --header, --content-type, --no-persistent, --priority and --expiration")
	case c.Expiration != 0 && c.Expiration < time.Millisecond:
		return nil, unusable("publish: --expiration must be at least 1ms")
	case c.Count < 0:
		return nil, unusable("publish: --count cannot be negative")
	}
	for flag, text := range map[string]string{"--key": c.Key, "--content-type": c.ContentType} {
		if len(text) > maxKey || !utf8.ValidString(text) {
			return nil, unusable("publish: %s must be at most %d bytes of UTF-8, and has %d", flag, maxKey, len(text))
		}
	}
	headers, err := pairs(c.Header)
	if err != nil {
		return nil, unusable("publish: --header: %w", err)
	}
	var keys *keyTemplate
	if c.KeyFrom != "" {
		if keys, err = parseKeyTemplate(c.KeyFrom); err != nil {
			return nil, unusable("publish: --key-from: %w", err)
		}
	}
	if c.JSON {
		return c.composeJSON(keys), nil
	}
	return c.composePlain(keys, headers), nil
}

// declare makes sure that there is something to publish to.
func (c *publishCmd) declare(ctx context.Context, conn *dashi.Connection, ch *channel.Channel) error {
	switch {
	case c.Queue != "":
		return useQueue(ctx, conn, ch, c.Queue)
	case c.Exchange == "": // each line says
		return nil
	case c.Type != "":
		_, err := useExchange(ctx, conn, ch, c.Exchange, c.Type)
		return err
	}
	there, err := exchangeExists(ctx, conn, c.Exchange)
	if err == nil && !there {
		err = fmt.Errorf("there is no exchange %q: --type topic would declare it", c.Exchange)
	}
	return err
}

// outgoing is a message and where it goes.
type outgoing struct {
	exchange, key string
	channel.Publishing
}

// composer makes a message of a line.
type composer func(line []byte) (outgoing, error)

// composePlain makes a line the body.
func (c *publishCmd) composePlain(keys *keyTemplate, headers channel.Table) composer {
	m := outgoing{c.Exchange, c.Key, channel.Publishing{
		ContentType: c.ContentType, DeliveryMode: channel.Transient, Priority: c.Priority, Mandatory: c.Mandatory, NoCopy: true,
	}}
	if c.Queue != "" {
		m.key = c.Queue
	}
	if len(headers) > 0 {
		m.Headers = headers
	}
	if c.Persistent {
		m.DeliveryMode = channel.Persistent
	}
	if c.Expiration > 0 {
		m.Expiration = strconv.FormatInt(c.Expiration.Milliseconds(), 10)
	}
	return func(line []byte) (outgoing, error) {
		m := m
		m.Body = line
		if keys != nil {
			m.key = keys.key(line)
		}
		return m, nil
	}
}

// composeJSON reads a line as a message, which goes where it says unless flags say something else.
func (c *publishCmd) composeJSON(keys *keyTemplate) composer {
	return func(line []byte) (m outgoing, err error) {
		if m.exchange, m.key, m.Publishing, err = parseMessage(line); err != nil {
			return m, fmt.Errorf("not as \"dashi consume --format json\" writes it: %w", err)
		}
		m.Mandatory, m.NoCopy = c.Mandatory, true
		switch {
		case c.Queue != "":
			m.exchange, m.key = "", c.Queue
		case c.Exchange != "":
			m.exchange = c.Exchange
		}
		switch {
		case keys != nil:
			m.key = keys.key(m.Body)
		case c.Key != "":
			m.key = c.Key
		}
		return m, nil
	}
}
