package conformance

import (
	"errors"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// fails checks an error's code and text.
func (e *Env) fails(err error, code int, words ...string) *channel.Error {
	e.Helper()
	if err == nil {
		e.Fatalf("no error, want %d %s %s", code, channel.CodeName(code), strings.Join(words, " "))
	}
	ce, ok := errors.AsType[*channel.Error](err)
	if !ok {
		e.Fatalf("error %q (%T) is no *channel.Error, want %d %s", err, err, code, channel.CodeName(code))
	}
	if ce.Code != code {
		e.Fatalf("error %q, want code %d %s", err, code, channel.CodeName(code))
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			e.Fatalf("error %q does not say %q", err, w)
		}
	}
	return ce
}

// refuses checks that a call was refused by an error that closed this channel and nothing else.
func (l *line) refuses(err error, code int, words ...string) {
	l.e.Helper()
	l.e.fails(err, code, words...)
	l.dies(code, words...)
}

// dies waits for an error that closes this channel and nothing else.
func (l *line) dies(code int, words ...string) {
	e := l.e
	e.Helper()
	if !e.arrives(l.Done()) {
		e.Fatalf("the channel was not closed with %d %s within %v", code, channel.CodeName(code), e.patience())
	}
	ce := e.fails(l.Err(), code, words...)
	if ce.Connection {
		e.Fatalf("error %q closes the connection, want the channel alone", ce)
	}
	if !ce.Server {
		e.Errorf("error %q does not say that the server found it", ce)
	}
	// Every later call returns the first error (LC-01).
	e.fails(l.Qos(e.ctx, 1, 0, false), code, words...)
	e.fails(l.Publish(e.ctx, "", "nowhere", text("after the end")), code, words...)
	c := l.Connection()
	if err := c.Err(); err != nil || c.IsClosed() {
		e.Fatalf("a channel error closed the connection: %v", err)
	}
	e.mu.Lock()
	b := e.bystander[c]
	e.mu.Unlock()
	if b != nil {
		if err := b.Flush(e.ctx); err != nil {
			e.Fatalf("a channel error harmed another channel of the connection: %v", err)
		}
	}
}

// kills checks that a call was refused by an error that closed the whole connection. The line's connection must be one
// of its own.
func (l *line) kills(err error, code int, words ...string) {
	e := l.e
	e.Helper()
	c := l.Connection()
	if err != nil { // nil where the call has no answer
		e.fails(err, code, words...)
	}
	if !e.arrives(c.Done()) {
		e.Fatalf("the connection was not closed with %d %s within %v", code, channel.CodeName(code), e.patience())
	}
	if ce := e.fails(c.Err(), code, words...); !ce.Connection {
		e.Errorf("error %q does not say that it closes the connection", ce)
	}
	if !e.arrives(l.Done()) {
		e.Fatalf("the connection is closed, its channel is not")
	}
	e.fails(l.Qos(e.ctx, 1, 0, false), code)
	_, err = c.Channel(e.ctx)
	e.fails(err, code)
	e.mu.Lock()
	usual := e.conns
	e.mu.Unlock()
	for p, u := range usual {
		if u != nil && u != c && u.Err() != nil {
			e.Errorf("the end of one connection ended another one, of process %d: %v", p, u.Err())
		}
	}
}

// harmless checks that a call was refused in this process, the channel unharmed.
func (l *line) harmless(err error, words ...string) {
	e := l.e
	e.Helper()
	ce := e.fails(err, channel.SyntaxError, words...)
	if ce.Server || ce.Connection {
		e.Errorf("error %q does not say that it was found before anything was sent", ce)
	}
	l.alive("a call that was refused locally")
}

// arrives waits for a chan that is closed.
func (e *Env) arrives(c <-chan struct{}) bool {
	t := time.NewTimer(e.patience())
	defer t.Stop()
	select {
	case <-c:
		return true
	case <-t.C:
		return false
	}
}

// receive waits for a value of a chan.
func receive[V any](e *Env, what string, c <-chan V) V {
	e.Helper()
	t := time.NewTimer(e.patience())
	defer t.Stop()
	select {
	case v, ok := <-c:
		if !ok {
			e.Fatalf("%s: the chan was closed", what)
		}
		return v
	case <-t.C:
		e.Fatalf("%s: nothing came within %v", what, e.patience())
	}
	panic("not reached")
}

// nothing checks that a chan gets no value for a unit of time.
func nothing[V any](e *Env, what string, c <-chan V) {
	e.Helper()
	t := time.NewTimer(e.unit(1))
	defer t.Stop()
	select {
	case v, ok := <-c:
		if ok {
			e.Fatalf("%s: %v came", what, v)
		}
	case <-t.C:
	}
}
