package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// benchCmd is "dashi bench".
type benchCmd struct {
	URL       string        `default:"memory://" env:"DASHI_URL" placeholder:"URL" help:"What to measure: memory:// unless given."`
	N         int64         `short:"n" default:"100000" help:"Messages (${default})."`
	Body      int           `default:"256" placeholder:"BYTES" help:"Size of a body, at least 16 (${default})."`
	Producers int           `default:"1" placeholder:"P" help:"Producers (${default})."`
	Consumers int           `default:"1" placeholder:"C" help:"Consumers (${default})."`
	Prefetch  int           `default:"100" placeholder:"K" help:"Messages a consumer may hold unanswered; 0 is no limit (${default})."`
	Confirm   int           `default:"0" placeholder:"WINDOW" help:"Ask for confirms, with so many outstanding for each producer; 0 asks for none."`
	Ack       string        `default:"each" enum:"each,multiple" placeholder:"each|multiple" help:"Acknowledge each message, or many at once (${default})."`
	AckEvery  int           `default:"50" placeholder:"N" help:"With --ack multiple, after so many (${default})."`
	Exchange  string        `default:"topic" placeholder:"TYPE" help:"Type of the exchange: topic, direct, fanout, headers, x-consistent-hash, x-random, or default (${default})."`
	QueueArgs string        `placeholder:"JSON" help:"Arguments of the queue, such as {\"x-max-priority\": 5}."`
	Rate      float64       `placeholder:"PER_S" help:"Offer so many messages a second in all, for latencies that mean something; unless given, as fast as it goes."`
	Drain     bool          `help:"Publish all first, consume all then."`
	Timeout   time.Duration `default:"3m" placeholder:"D" help:"Give up after this time (${default})."`

	Persistent bool   `help:"Delivery mode 2: messages that survive a restart."`
	JSON       bool   `help:"Print one line of JSON instead of the summary."`
	ServerPID  []int  `name:"server-pid" placeholder:"PID" help:"Processes of the server, to count their CPU time, too."`
	Peer       string `placeholder:"NAME" help:"Name in the JSON line."`
	Case       string `placeholder:"NAME" help:"Case in the JSON line."`
}

// Help teaches by examples.
func (*benchCmd) Help() string {
	return `Producers publish through an exchange to one queue; consumers take, check and acknowledge. The clock stops when the
last acknowledgement has reached the place. Latency is from publish to delivery: with --rate it counts from the
time a message was meant to be sent, so a stall counts against all it delays; without, it is mostly backlog.

Examples:

    dashi bench                                        # memory, as fast as it goes
    dashi bench --url amqp://guest:guest@localhost/ --confirm 1000 --persistent
    dashi bench --rate 20000 -n 100000                 # latency under a load it can carry
    dashi bench --producers 4 --consumers 4 --ack multiple
    dashi bench --queue-args '{"x-message-ttl": 60000}' --json

Every message carries a number and its send time. Exit code 1: a message was lost, came twice, changed or out of its
producer's order (one consumer), was redelivered, or is left in the queue. Each producer and consumer has a connection
of its own; with memory://, which is private to a connection, a channel.`
}

// Run measures.
func (c *benchCmd) Run(ctx context.Context, s streams) error {
	args, err := c.check()
	if err != nil {
		return err
	}
	ctx, stop := context.WithTimeoutCause(ctx, c.Timeout, fmt.Errorf("not done after %v", c.Timeout))
	defer stop()
	places, err := dialAll(ctx, c.URL, 1+c.Producers+c.Consumers)
	if err != nil {
		return unusable("bench: %w", err)
	}
	b := newBench(c, args, places)
	b.route, err = b.declare(ctx)
	if err == nil {
		err = b.run(ctx, s.err)
	}
	closing, end := context.WithTimeout(context.WithoutCancel(ctx), 15*time.Second)
	defer end()
	left, cleanErr := b.leave(closing)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	b.result.fill(b)
	if err := b.result.write(s.out, c, b); err != nil {
		return err
	}
	if wrong := b.verify(left); len(wrong) > 0 {
		return fmt.Errorf("bench: %w", errors.Join(wrong...))
	}
	return cleanErr
}

// check refuses what cannot be run, and returns the queue's arguments.
func (c *benchCmd) check() (channel.Table, error) {
	switch {
	case c.N < 1:
		return nil, unusable("bench: --n must be at least 1")
	case c.Body < minBody:
		return nil, unusable("bench: --body must be at least %d: every message carries its number and send time", minBody)
	case c.Producers < 1 || c.Consumers < 1:
		return nil, unusable("bench: --producers and --consumers must be at least 1")
	case c.Prefetch < 0 || c.Prefetch > 65535:
		return nil, unusable("bench: --prefetch must be between 0 and 65535")
	case c.Confirm < 0:
		return nil, unusable("bench: --confirm cannot be negative")
	case c.Rate < 0:
		return nil, unusable("bench: --rate cannot be negative")
	case c.AckEvery < 1:
		return nil, unusable("bench: --ack-every must be at least 1")
	case c.Ack == "multiple" && c.Prefetch > 0 && c.AckEvery > c.Prefetch:
		return nil, unusable("bench: --ack-every %d is more than --prefetch %d: no consumer could get so far", c.AckEvery, c.Prefetch)
	case c.Timeout <= 0:
		return nil, unusable("bench: --timeout must be positive")
	}
	if _, ok := benchRoutes[c.Exchange]; !ok {
		return nil, unusable("bench: --exchange %q is not one of default, topic, direct, fanout, headers, x-consistent-hash, x-random", c.Exchange)
	}
	if c.QueueArgs == "" {
		return nil, nil
	}
	args, err := tableOf(c.QueueArgs)
	if err != nil {
		return nil, unusable("bench: --queue-args: %w", err)
	}
	return args, nil
}

// private says that every Dial of a URL opens a place of its own.
func private(rawURL string) bool {
	u, err := url.Parse(rawURL)
	return err == nil && u.Scheme == "memory" && u.Host == "" && u.Path == ""
}

// dialAll opens n connections on a place, or returns one n times where each would be another place.
func dialAll(ctx context.Context, rawURL string, n int) ([]*dashi.Connection, error) {
	first, err := dashi.Dial(ctx, rawURL)
	if err != nil {
		return nil, err
	}
	all := []*dashi.Connection{first}
	for len(all) < n {
		next := first
		if !private(rawURL) {
			if next, err = dashi.Dial(ctx, rawURL); err != nil {
				for _, c := range all {
					_ = c.Close(ctx)
				}
				return nil, err
			}
		}
		all = append(all, next)
	}
	return all, nil
}
