package main

import (
	"context"
	"errors"
	"fmt"
	"os/signal"
	"strings"
	"syscall"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// maxPrefetch is the largest window that AMQP can say.
const maxPrefetch = 65535

// consumeCmd is "dashi consume".
type consumeCmd struct {
	URL        string   `default:"sqlite://dashi.db" env:"DASHI_URL" placeholder:"URL" help:"The place, which publishers share: a file in the working directory (${default}) unless given, and not memory://."`
	Queue      string   `placeholder:"NAME" help:"The queue; one that does not exist is declared. Unless given, one of this command's own, which goes with it."`
	Bind       []string `sep:"none" placeholder:"EXCHANGE:KEY" help:"Bind the queue to an exchange; may be given several times. For a headers exchange, EXCHANGE:k=v,k2=v2,x-match=any."`
	Type       string   `default:"topic" placeholder:"TYPE" help:"The type of exchanges in --bind that do not exist: they are declared, durable (${default})."`
	Durable    bool     `default:"true" negatable:"" help:"A named queue that is declared survives a restart of the place; so it is unless --no-durable is given."`
	AutoDelete bool     `help:"The queue goes when its last consumer goes."`
	Exclusive  bool     `help:"The queue belongs to this command and goes with it."`
	Argument   []string `sep:"none" placeholder:"NAME=VALUE" help:"An argument of the queue, such as x-max-length=1000; may be given several times."`
	Prefetch   int      `default:"100" placeholder:"K" help:"Messages that may be taken ahead of what is written; 0 is no limit (${default})."`
	NoAck      bool     `help:"Take messages for good as they are sent: what is on its way at the end is lost."`
	Requeue    bool     `help:"Look without taking: all messages go back to the queue at the end."`
	Count      int64    `placeholder:"N" help:"End after N messages."`
	Format     string   `default:"body" placeholder:"FORMAT" help:"body, key (routing key, tab, body), json (a line with everything) or a template of Go (${default})."`
}

// Help teaches by examples.
func (*consumeCmd) Help() string {
	return `Writes what comes to a queue, a line each, until ^C or --count. A message is acknowledged when its line is written:
what could not be written, to a closed pipe or a full disk, goes back to the queue. What a pipe has taken is written, and
with "head -3" more than three lines are: --count 3 takes three. What is consumed is said on standard error.

Examples:

    dashi consume --url redis://localhost:6379/0 --queue errors --bind 'logs:*.error.#'
    dashi consume --url amqp://guest:guest@localhost/ --bind amq.fanout: --format key
    dashi consume --queue jobs --requeue --count 10 --format json        # sqlite://dashi.db, or $DASHI_URL
    dashi consume --bind 'amq.headers:type=pdf,pages=3,x-match=any' --format '{{.RoutingKey}}: {{.Body}}'
    dashi consume --queue old --format json | dashi publish --queue new --json

A queue that exists is taken as it is; only --no-durable, --auto-delete, --exclusive and --argument ask for one that is so.
An exchange that exists is taken as it is, too. Values are JSON where they can be, such as 5, true or "5", else text. A template has .Body, .Exchange,
.RoutingKey, .Headers, .Redelivered and the properties, such as .ContentType and .MessageId.

Exit code 0: --count messages were written; 1: the output or the place failed; 130: interrupted, and all is in order.`
}

// Run consumes.
func (c *consumeCmd) Run(ctx context.Context, s streams) error {
	if err := betweenProcesses("consume", c.URL, "who consumes and who publishes"); err != nil {
		return err
	}
	signal.Ignore(syscall.SIGPIPE) // a closed pipe is an error of the write, and not the end before messages went back
	return c.consume(ctx, s)
}

func (c *consumeCmd) consume(ctx context.Context, s streams) error {
	write, err := c.check()
	if err != nil {
		return err
	}
	conn, err := dashi.Dial(ctx, c.URL)
	if err != nil {
		return refused(ctx, "consume", err)
	}
	t := &taking{cmd: c, out: s.out, render: write}
	ch, err := conn.Channel(ctx)
	if err == nil {
		err = c.declare(ctx, conn, ch, t)
	}
	if err != nil {
		_ = hangUp(ctx, conn)
		return refused(ctx, "consume", err)
	}
	fmt.Fprintf(s.err, "dashi: consuming %s\n", t.title)
	err = t.take(ctx, ch)
	if e := hangUp(ctx, conn); err == nil && e != nil {
		err = fmt.Errorf("the last acks may not have arrived, and their messages come again: %w", e)
	}
	switch {
	case err == nil:
		return nil
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return &failure{exitInterrupted, fmt.Errorf("consume: interrupted after %s", plural(t.written, "message"))}
	}
	return fmt.Errorf("consume: after %s: %w", plural(t.written, "message"), err)
}

// check refuses what cannot be done, and returns what makes lines.
func (c *consumeCmd) check() (renderer, error) {
	switch {
	case c.Prefetch < 0 || c.Prefetch > maxPrefetch:
		return nil, unusable("consume: --prefetch must be between 0 and %d", maxPrefetch)
	case c.Count < 0:
		return nil, unusable("consume: --count cannot be negative")
	case c.NoAck && c.Requeue:
		return nil, unusable("consume: --no-ack takes messages for good, and --requeue gives them back: not both")
	case c.NoAck && c.Count > 0:
		return nil, unusable("consume: --no-ack with --count would lose what comes beyond it: not both")
	case c.Type == "":
		return nil, unusable("consume: --type is empty")
	}
	if _, err := pairs(c.Argument); err != nil {
		return nil, unusable("consume: --argument: %w", err)
	}
	for _, b := range c.Bind {
		if _, _, err := splitBinding(b); err != nil {
			return nil, unusable("consume: --bind: %w", err)
		}
	}
	r, err := newRenderer(c.Format)
	if err != nil {
		return nil, unusable("consume: --format: %w", err)
	}
	return r, nil
}

// splitBinding parts EXCHANGE:KEY at the first colon.
func splitBinding(text string) (exchange, key string, err error) {
	exchange, key, ok := strings.Cut(text, ":")
	switch {
	case !ok:
		return "", "", fmt.Errorf("%q has no colon: want EXCHANGE:KEY, or EXCHANGE: for an empty key", text)
	case exchange == "":
		return "", "", fmt.Errorf("%q names no exchange, and the default exchange takes no bindings: every queue is bound to it by its name", text)
	}
	return exchange, key, nil
}

// declare makes sure of the queue, the exchanges and the bindings, and says what they are.
func (c *consumeCmd) declare(ctx context.Context, conn *dashi.Connection, ch *channel.Channel, t *taking) error {
	if err := c.declareQueue(ctx, conn, ch, t); err != nil {
		return err
	}
	var bound []string
	for _, text := range c.Bind {
		how, err := c.bind(ctx, conn, ch, t.queue, text)
		if err != nil {
			return fmt.Errorf("--bind %q: %w", text, err)
		}
		bound = append(bound, how)
	}
	t.title = fmt.Sprintf("queue %q", t.queue)
	if bound != nil {
		t.title += ", bound to " + strings.Join(bound, ", ")
	}
	return ch.Qos(ctx, c.window(), 0, false)
}

// declareQueue declares a queue where something is said of it, else takes the one there is.
func (c *consumeCmd) declareQueue(ctx context.Context, conn *dashi.Connection, ch *channel.Channel, t *taking) error {
	args, err := pairs(c.Argument)
	if err != nil {
		return err
	}
	t.queue = c.Queue
	o := channel.QueueOptions{Durable: c.Durable, AutoDelete: c.AutoDelete, Exclusive: c.Exclusive, Args: args}
	switch {
	case c.Queue == "":
		o.Durable, o.Exclusive = false, true
	case c.Durable && !c.AutoDelete && !c.Exclusive && len(args) == 0:
		return useQueue(ctx, conn, ch, c.Queue)
	}
	q, err := ch.QueueDeclare(ctx, c.Queue, o)
	t.queue = q.Name
	return err
}

// bind binds the queue, and tells to what.
func (c *consumeCmd) bind(ctx context.Context, conn *dashi.Connection, ch *channel.Channel, queue, text string) (how string, err error) {
	exchange, key, err := splitBinding(text)
	if err != nil {
		return "", err
	}
	made, err := useExchange(ctx, conn, ch, exchange, c.Type)
	if err != nil {
		return "", err
	}
	kind := c.Type
	if !made {
		if kind, err = kindOf(ctx, conn, exchange); err != nil {
			return "", err
		}
	}
	var args channel.Table
	if key != "" && (kind == channel.Headers || kind == "") {
		args, err = pairs(strings.Split(key, ","))
	}
	switch {
	case kind == channel.Headers && err != nil:
		return "", fmt.Errorf("%q is a headers exchange: %w", exchange, err)
	case kind == channel.Headers:
		return fmt.Sprintf("%q by headers %q", exchange, key), ch.QueueBind(ctx, queue, "", exchange, args)
	case err != nil: // not NAME=VALUE: a key
		args = nil
	}
	// Where the type is not known both are given: a headers exchange goes by the arguments alone, others by the key.
	return fmt.Sprintf("%q by %q", exchange, key), ch.QueueBind(ctx, queue, key, exchange, args)
}

// window is how many messages may be taken ahead: none that --count leaves to others, and all there are to be looked at.
func (c *consumeCmd) window() int {
	n := int64(c.Prefetch)
	if c.Requeue {
		n = 0
	}
	if c.Count > 0 && (n == 0 || c.Count < n) {
		n = c.Count
	}
	if n > maxPrefetch {
		return 0
	}
	return int(n)
}
