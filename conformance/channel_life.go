package conformance

import (
	"context"
	"errors"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

// lifeRows are the rows LC: life cycle and errors.
var lifeRows = []Row{
	{ID: "LC-01", Run: lc01},
	{ID: "LC-02", Run: lc02},
	{ID: "LC-03", Alone: true, Run: lc03},
	{ID: "LC-04", Needs: []Need{Plus, Faults}, Run: lc04},
	{ID: "LC-05", Run: lc05},
	{ID: "LC-06", Needs: []Need{TwoVhosts}, Run: lc06},
	{ID: "LC-07", Alone: true, Run: lc07},
	{ID: "LC-08", Run: lc08},
}

func lc01(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	pub.post("", q, "1")
	s := sub.consume(q, channel.ConsumeOptions{})
	d := s.next()
	closes := sub.NotifyClose(make(chan *channel.Error, 1))
	unknown := e.name("unknown")
	_, err := sub.QueueDeclarePassive(e.ctx, unknown)
	first := e.fails(err, channel.NotFound, unknown)
	// Every call of every kind returns that first error.
	for name, call := range inOrder(sub.everyCall(q)) {
		if err := call(); err == nil || err.Error() != first.Error() {
			e.Errorf("%s after the end of the channel says %v, want the first error: %v", name, err, first)
		}
	}
	for name, answer := range inOrder(map[string]func() error{
		"Delivery.Ack":     func() error { return d.Ack(false) },
		"Delivery.Nack":    func() error { return d.Nack(false, true) },
		"Delivery.Reject":  func() error { return d.Reject(true) },
		"Delivery.AckWait": func() error { return d.AckWait(e.ctx) },
	}) {
		if err := answer(); err == nil || err.Error() != first.Error() {
			e.Errorf("%s after the end of the channel says %v, want the first error: %v", name, err, first)
		}
	}
	e.fails(s.ends(), channel.NotFound, unknown)
	ce := receive(e, "NotifyClose", closes)
	e.check(ce.Error() == first.Error(), "NotifyClose says %v, want %v", ce, first)
	if _, more := <-closes; more {
		e.Errorf("NotifyClose says more than one thing")
	}
	sub.dies(channel.NotFound, unknown)
	_, more := <-sub.NotifyClose(make(chan *channel.Error, 1))
	e.check(!more, "a chan registered after the end is not closed at once")
	// Close is harmless, and keeps the error.
	e.must(sub.Close(e.ctx), "close after an error")
	e.fails(sub.Err(), channel.NotFound, unknown)
	// Connection and other channels go on: dies has seen that; and the message is back.
	pub.alive("an error of another process's channel")
	pub.ready(q, 1, "requeued")
	e.redelivered(true, pub.holds(q, "1")...)

	// Our own Close is another thing.
	l := e.open(1)
	e.must(l.Close(e.ctx), "close")
	for name, call := range inOrder(l.everyCall(q)) {
		if err := call(); !errors.Is(err, channel.ErrClosed) {
			e.Errorf("%s after our own Close says %v, want ErrClosed", name, err)
		}
	}
	e.check(errors.Is(l.Err(), channel.ErrClosed), "Err after our own Close is %v", l.Err())
}

// everyCall is each call of a channel that can fail.
func (l *line) everyCall(q string) map[string]func() error {
	ctx := l.e.ctx
	return map[string]func() error{
		"Ack":          func() error { return l.Ack(1, false) },
		"Nack":         func() error { return l.Nack(1, false, true) },
		"Reject":       func() error { return l.Reject(1, true) },
		"Cancel":       func() error { return l.Cancel(ctx, "x") },
		"Confirm":      func() error { return l.Confirm(ctx) },
		"Consume":      func() error { _, err := l.Consume(ctx, q, channel.ConsumeOptions{}); return err },
		"Deliveries":   func() error { return firstError(l, q) },
		"ExchangeBind": func() error { return l.ExchangeBind(ctx, "amq.topic", "", "amq.direct", nil) },
		"ExchangeDeclare": func() error {
			return l.ExchangeDeclare(ctx, "amq.topic", "topic", channel.ExchangeOptions{Durable: true})
		},
		"ExchangeDeclarePassive": func() error { return l.ExchangeDeclarePassive(ctx, "amq.topic") },
		"ExchangeDelete":         func() error { return l.ExchangeDelete(ctx, "x", channel.DeleteOptions{}) },
		"ExchangeUnbind":         func() error { return l.ExchangeUnbind(ctx, "amq.topic", "", "amq.direct", nil) },
		"Flow":                   func() error { return l.Flow(ctx, true) },
		"Flush":                  func() error { return l.Flush(ctx) },
		"Get":                    func() error { _, _, err := l.Get(ctx, q, true); return err },
		"Publish":                func() error { return l.Publish(ctx, "", q, text("x")) },
		"Qos":                    func() error { return l.Qos(ctx, 1, 0, false) },
		"QueueBind":              func() error { return l.QueueBind(ctx, q, "", "amq.direct", nil) },
		"QueueDeclare":           func() error { _, err := l.QueueDeclare(ctx, q, channel.QueueOptions{}); return err },
		"QueueDeclarePassive":    func() error { _, err := l.QueueDeclarePassive(ctx, q); return err },
		"QueueDelete":            func() error { _, err := l.QueueDelete(ctx, q, channel.DeleteOptions{}); return err },
		"QueuePurge":             func() error { _, err := l.QueuePurge(ctx, q); return err },
		"QueueUnbind":            func() error { return l.QueueUnbind(ctx, q, "", "amq.direct", nil) },
		"Recover":                func() error { return l.Recover(ctx, true) },
		"Tx":                     func() error { return l.Tx(ctx) },
		"TxCommit":               func() error { return l.TxCommit(ctx) },
		"TxRollback":             func() error { return l.TxRollback(ctx) },
	}
}

func firstError(l *line, q string) error {
	for _, err := range l.Deliveries(l.e.ctx, q, channel.ConsumeOptions{}) {
		return err
	}
	return nil
}

func lc02(e *Env) {
	// Code, text and the failing call.
	l := e.open(1)
	unknown := e.name("unknown")
	_, err := l.QueueDeclarePassive(e.ctx, unknown)
	ce := e.fails(err, channel.NotFound, unknown, "NOT_FOUND")
	e.check(strings.Contains(ce.Op, "queue.declare"), "the error names the call %q, want queue.declare", ce.Op)
	e.check(ce.Text != "", "the error has no text")
	l.dies(channel.NotFound)
	l = e.open(1)
	err = l.QueueBind(e.ctx, unknown, "", "amq.direct", nil)
	ce = e.fails(err, channel.NotFound, unknown)
	e.check(strings.Contains(ce.Op, "queue.bind"), "the error names the call %q, want queue.bind", ce.Op)
	l.dies(channel.NotFound)
	// errors.Is and errors.As, by code, through wrapping.
	wrapped := errors.Join(errors.New("context"), err)
	e.check(errors.Is(wrapped, channel.ErrNotFound), "errors.Is(err, ErrNotFound) is false for %v", err)
	e.check(errors.Is(wrapped, &channel.Error{Code: channel.NotFound}), "errors.Is by code is false for %v", err)
	e.check(!errors.Is(wrapped, &channel.Error{Code: channel.AccessRefused}), "errors.Is by another code is true for %v", err)
	e.check(!errors.Is(wrapped, channel.ErrClosed), "a server's error is ErrClosed: %v", err)
	if _, ok := errors.AsType[*channel.Error](wrapped); !ok {
		e.Errorf("errors.As finds no *channel.Error in %v", err)
	}

	// Never a body, never a password.
	l = e.confirming(0)
	m := text("s3cret-body")
	m.UserId, m.UserIdSet = "somebody", true
	f, err := l.PublishDeferred(e.ctx, "", e.name("q"), m)
	if err == nil {
		_, err = f.Wait(e.ctx)
	}
	e.fails(err, channel.PreconditionFailed)
	e.check(!strings.Contains(err.Error(), "s3cret-body"), "the error shows the body: %v", err)
	l.dies(channel.PreconditionFailed)
	if u := l.Connection().Info().URL; strings.Contains(u, ":guest@") {
		e.Errorf("Info shows the password: %s", u)
	}
	e.with(Logins, "no password in the error of a login", func() {
		_, err := e.rig.Connect(e.ctx, 0, ConnectOptions{Password: "s3cret-word"})
		e.check(err != nil, "a wrong password was accepted")
		if err != nil && strings.Contains(err.Error(), "s3cret-word") {
			e.Errorf("the error shows the password: %v", err)
		}
	})
	if rig, ok := e.rig.(Breaker); ok && e.has(Faults) {
		// The store's cause is kept.
		l := e.open(0)
		e.must(rig.Break(0), "break")
		_, err := l.QueueDeclare(e.ctx, e.name("q"), channel.QueueOptions{})
		e.must(rig.Mend(0), "mend")
		if err == nil {
			e.Fatalf("a declare succeeded on a store that fails")
		}
		ce, ok := errors.AsType[*channel.Error](err)
		e.check(ok && ce.Cause != nil, "the error does not carry the store's cause: %v", err)
	}
}

func lc03(e *Env) {
	pub := e.open(0)
	q := pub.queue(channel.QueueOptions{Durable: true})
	e.conn(1) // process 1 has its own goroutines, too
	if !e.rig.Virtual() {
		e.pause(e.unit(1))
	}
	before := moduleGoroutines()

	// What was published is stored, what was acked is acked, what is unanswered or unseen goes back.
	conn := e.connect(1, ConnectOptions{})
	l := e.openOn(conn)
	n := 500
	l.say("", q, numbered("", n)...)
	s := e.openOn(conn).window(20, q)
	s.gets(numbered("", 10)...)
	e.must(s.l.Ack(5, true), "ack")
	e.must(conn.Close(e.ctx), "close")
	want := numbered("", n)[5:]
	pub.ready(q, len(want), "after Close")
	s = pub.consume(q, channel.ConsumeOptions{Credit: n})
	ds := s.gets(want...)
	e.redelivered(true, ds[:5]...)
	e.ack(ds...)
	s.cancel()

	// Twice is harmless, on channel and connection, from many goroutines too.
	e.must(conn.Close(e.ctx), "second Close")
	e.must(l.Close(e.ctx), "Close of a channel of a closed connection")
	conn = e.connect(1, ConnectOptions{})
	l = e.openOn(conn)
	done := make(chan error, 8)
	for i := range cap(done) {
		go func() {
			if i%2 == 0 {
				done <- l.Close(e.ctx)
			} else {
				done <- conn.Close(e.ctx)
			}
		}()
	}
	for range cap(done) {
		if err := receive(e, "concurrent Close", done); err != nil && !errors.Is(err, channel.ErrClosed) {
			e.Errorf("concurrent Close: %v", err)
		}
	}

	// With an ended context it does not wait, and what was unanswered comes back.
	pub.put("", q, lasting("held"))
	conn = e.connect(1, ConnectOptions{})
	e.openOn(conn).consume(q, channel.ConsumeOptions{}).gets("held")
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	if err := conn.Close(ended); err != nil && !errors.Is(err, context.Canceled) {
		e.Errorf("Close with an ended context: %v", err)
	}
	<-conn.Done()
	s = pub.consume(q, channel.ConsumeOptions{})
	e.redelivered(true, s.gets("held")...)
	e.must(pub.Ack(0, true), "ack")
	s.cancel()
	pub.alive("the last ack")

	// No goroutine stays. A bubble of virtual time checks that by itself, and more strictly.
	if !e.rig.Virtual() {
		e.eventually("goroutines of closed connections have ended", func() (bool, string) {
			now := moduleGoroutines()
			return len(now) <= len(before), strings.Join(now, "\n\n")
		})
	}
}

// moduleGoroutines returns the stacks of the goroutines that are in this module's code, the suite's own aside.
func moduleGoroutines() []string {
	var out []string
	for _, g := range strings.Split(goroutines(), "\n\n") {
		if strings.Contains(g, "dashi-mq/dashi/") && !strings.Contains(g, "dashi/conformance") || strings.Contains(g, "amqp091-go") {
			out = append(out, g)
		}
	}
	return out
}
