package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/soak"
)

// soakProcessCmd is the command by which "dashi soak" starts itself again, as one of its producers or consumers. It ends when its standard
// input does, which is also what it sees of the end of who started it.
type soakProcessCmd struct {
	Role   string  `arg:"" enum:"producer,consumer"`
	Number int     `required:""`
	URL    string  `required:"" env:"DASHI_URL"`
	Dir    string  `required:""`
	Seed   uint64  `required:""`
	Queues int     `required:""`
	Rate   float64 `default:"100"`
	Wrong  string
}

// What a process can be told to do wrong, to see that the soak finds it.
const (
	wrongDrop         = "drop"          // a consumer acks its tenth message and says nothing of it
	wrongAckFirst     = "ack-first"     // a consumer acks its tenth message before it writes it down, and dies in between
	wrongConfirmFirst = "confirm-first" // a producer writes that a message is confirmed before it publishes it
	wrongTwice        = "twice"         // a producer publishes every tenth message twice
	wrongMisroute     = "misroute"      // a producer publishes every tenth message to another queue
	wrongDamage       = "damage"        // a producer changes every tenth message
)

const (
	soakDialLimit  = 10 * time.Second // of one attempt to get a session
	soakFlushLimit = 30 * time.Second // of one wait for the place
	soakEndLimit   = 2 * time.Minute  // from the end of standard input to that of the process, whatever the place does
	soakMaxBackoff = time.Second
)

// worker is a producer or consumer: it works in one session after the other until it says that it has finished.
type worker interface {
	session(ctx context.Context, conn *dashi.Connection, session int) (finished bool, err error)
	// idle says that the end was asked for, and no session is needed any more.
	idle() bool
}

// Run works until standard input ends.
func (c *soakProcessCmd) Run(ctx context.Context, s streams) error {
	book, err := soak.Create(c.Dir, fmt.Sprintf("%s-%d", c.Role, c.Number))
	if err != nil {
		return unusable("soak-process: %w", err)
	}
	defer book.Close()
	stopping := make(chan struct{})
	// ^C goes to all processes of a terminal: it is the first one's to say what follows.
	ctx, end := context.WithCancel(context.WithoutCancel(ctx))
	defer end()
	go func() { // ends with the process
		_, _ = io.Copy(io.Discard, bufio.NewReader(s.in))
		close(stopping)
		time.AfterFunc(soakEndLimit, end)
	}()
	plan := soak.Plan{Seed: c.Seed, Queues: c.Queues}
	var w worker
	if c.Role == "producer" {
		w = newSoakProducer(c, plan, book, stopping)
	} else {
		w = newSoakConsumer(c, plan, book, stopping)
	}
	return c.work(ctx, w, plan, book, s.err)
}

// work dials again whenever a session has ended before its time, and writes that down.
func (c *soakProcessCmd) work(ctx context.Context, w worker, plan soak.Plan, book *soak.Book, log io.Writer) error {
	backoff := time.Duration(0)
	for session := 1; ; session++ {
		opened, finished, err := c.oneSession(ctx, w, plan, session)
		var broken *bookError
		switch {
		case finished:
			return nil
		case errors.As(err, &broken):
			return err
		case ctx.Err() != nil:
			return fmt.Errorf("soak: not finished %v after the end was asked for: %w", soakEndLimit, orError(err, ctx.Err()))
		case err != nil:
			fmt.Fprintf(log, "%s session %d: %s\n", time.Now().Format("15:04:05.000"), session, oneLine(err))
		}
		if opened && err != nil {
			if err := book.Lost(session); err != nil {
				return err
			}
		}
		if w.idle() {
			return nil
		}
		if backoff = min(max(2*backoff, 20*time.Millisecond), soakMaxBackoff); opened {
			backoff = 0
		}
		pause(ctx, backoff)
	}
}

// oneSession dials, declares and works; finished says that all is done, err that the session has ended before its time.
func (c *soakProcessCmd) oneSession(ctx context.Context, w worker, plan soak.Plan, session int) (opened, finished bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dialing, stop := context.WithTimeout(ctx, soakDialLimit)
	defer stop()
	conn, err := dashi.Dial(dialing, c.URL)
	if err != nil {
		return false, false, err
	}
	if err = declareSoak(dialing, conn, plan); err == nil {
		opened = true
		finished, err = w.session(ctx, conn, session)
	}
	if err != nil {
		cancel() // drop it, as by SIGKILL
	}
	closing, end := context.WithTimeout(ctx, soakFlushLimit)
	defer end()
	return opened, finished, errors.Join(err, ignoreCancelled(conn.Close(closing)))
}

// bookError is an error that ends the process: what cannot be written down must not happen.
type bookError struct{ error }

func (e *bookError) Unwrap() error { return e.error }

// wrote makes a bookError of what a Book returns.
func wrote(err error) error {
	if err == nil {
		return nil
	}
	return &bookError{err}
}

func ignoreCancelled(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, channel.ErrClosed) {
		return nil
	}
	return err
}

func orError(err, otherwise error) error {
	if err == nil {
		return otherwise
	}
	return err
}

// die ends the process at once, as somebody else's SIGKILL does.
func die() {
	if p, err := os.FindProcess(os.Getpid()); err == nil {
		_ = p.Kill()
	}
	select {}
}

// declareSoak declares all that the run needs; who comes second finds it there.
func declareSoak(ctx context.Context, conn *dashi.Connection, p soak.Plan) error {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return err
	}
	for kind, exchange := range map[string]string{"direct": channel.Direct, "topic": channel.Topic, "fanout": channel.Fanout, "dead": channel.Direct} {
		if err := ch.ExchangeDeclare(ctx, p.Exchange(kind), exchange, channel.ExchangeOptions{Durable: true}); err != nil {
			return err
		}
	}
	for q := range p.All() {
		o := channel.QueueOptions{Durable: true}
		if !p.Dead(q) {
			o.Args = channel.Table{"x-dead-letter-exchange": p.Exchange("dead"), "x-dead-letter-routing-key": p.DeadKey(q)}
		}
		if _, err := ch.QueueDeclare(ctx, p.QueueName(q), o); err != nil {
			return err
		}
	}
	for _, b := range p.Bindings() {
		if err := ch.QueueBind(ctx, p.QueueName(b.Queue), b.Key, p.Exchange(b.Exchange), nil); err != nil {
			return err
		}
	}
	return ch.Close(ctx)
}

// undeclareSoak deletes all that declareSoak declares, and what is in it.
func undeclareSoak(ctx context.Context, ch *channel.Channel, p soak.Plan) error {
	for q := range p.All() {
		if _, err := ch.QueueDelete(ctx, p.QueueName(q), channel.DeleteOptions{}); err != nil {
			return err
		}
	}
	for _, kind := range []string{"direct", "topic", "fanout", "dead"} {
		if err := ch.ExchangeDelete(ctx, p.Exchange(kind), channel.DeleteOptions{}); err != nil {
			return err
		}
	}
	return nil
}
