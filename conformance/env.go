package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Env is what a row works with: its T, its rig, and helpers that fail the row by themselves.
type Env struct {
	T
	ctx context.Context
	rig Rig
	row Row

	run     string      // makes names unique across runs
	refusal atomic.Bool // the store said that it cannot do this

	mu        sync.Mutex
	now       string // what the row is doing, where it says so
	number    int
	conns     [2]*channel.Connection // the usual connection of each process
	all       []*channel.Connection
	bystander map[*channel.Connection]*channel.Channel
	casts     map[string]*cast // by queue
	queues    []string         // to be deleted at the end
	exchanges []string
}

// runRow opens the rig and checks the row on it.
func (e *Env) runRow(open func(ctx context.Context) (Rig, error)) {
	rig, err := open(e.ctx)
	if err != nil {
		e.Fatalf("the rig cannot be opened: %v", err)
	}
	e.rig, e.run, e.bystander = rig, strings.ToLower(rand.Text()[:6]), map[*channel.Connection]*channel.Channel{}
	e.casts = map[string]*cast{}
	e.Cleanup(func() {
		if err := rig.Close(); err != nil {
			e.Errorf("the rig does not close: %v", err)
		}
	})
	for _, n := range e.row.Needs {
		e.need(n)
	}
	e.Cleanup(e.sweep)
	e.row.Run(e)
}

// doing notes what the row is about to do, for its failures, where the line of code does not tell; empty: nothing
// special.
func (e *Env) doing(format string, a ...any) {
	e.mu.Lock()
	e.now = fmt.Sprintf(format, a...)
	e.mu.Unlock()
}

// Errorf is T's, with what the row is doing.
func (e *Env) Errorf(format string, a ...any) {
	e.T.Errorf("%s%s", fmt.Sprintf(format, a...), e.while())
}

// Fatalf is T's, with what the row is doing.
func (e *Env) Fatalf(format string, a ...any) {
	e.T.Fatalf("%s%s", fmt.Sprintf(format, a...), e.while())
}

func (e *Env) while() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.now == "" {
		return ""
	}
	return " [while: " + e.now + "]"
}

// need ends the row, skipped or refused, where the rig lacks something.
func (e *Env) need(n Need) {
	reason, lacks := e.rig.Lacks(n)
	if !lacks {
		return
	}
	if n.trait() {
		e.refuse("%s: %s", n, reason)
	}
	e.Skipf("%s", reason)
}

// refuse ends the row as refused by the store.
func (e *Env) refuse(format string, a ...any) {
	e.refusal.Store(true)
	e.Skipf(format, a...)
}

// has tells whether the rig has something, for clauses that depend on it.
func (e *Env) has(n Need) bool {
	_, lacks := e.rig.Lacks(n)
	return !lacks
}

// native says that the row runs on a real AMQP server.
func (e *Env) native() bool { return !e.has(Plus) }

// plus checks a clause that goes beyond RabbitMQ, where that is to be had.
func (e *Env) plus(clause string, f func()) {
	if reason, lacks := e.rig.Lacks(Plus); lacks {
		e.Logf("clause not checked (%s): %s", reason, clause)
		return
	}
	f()
}

// with checks a clause that depends on a trait.
func (e *Env) with(n Need, clause string, f func()) {
	if reason, lacks := e.rig.Lacks(n); lacks {
		e.Logf("clause not checked (%s: %s): %s", n, reason, clause)
		return
	}
	f()
}

// quorum adds to a queue's arguments what makes it a quorum queue on a real RabbitMQ, which has some features there
// only.
func (e *Env) quorum(t table) table {
	if e.native() {
		t = channel.CloneTable(t)
		t["x-queue-type"] = "quorum"
	}
	return t
}

// name returns a name nobody else uses.
func (e *Env) name(what string) string {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.number++
	return fmt.Sprintf("%s-%s-%s-%d", strings.ToLower(e.row.ID), e.run, what, e.number)
}

// unit returns n units of the rig's time.
func (e *Env) unit(n float64) time.Duration { return time.Duration(n * float64(e.rig.Unit())) }

// patience is how long the suite waits for what must come: ten times and more of what is reasonable.
func (e *Env) patience() time.Duration { return max(50*e.rig.Unit(), 15*time.Second) }

// pause is the one place where the suite lets time pass without waiting for anything: for negative checks ("nothing
// arrives"), and for what is to run out in the meantime.
func (e *Env) pause(d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-e.ctx.Done():
		e.Fatalf("%v", context.Cause(e.ctx))
	}
}

// eventually waits until f says true; seen is what it saw last.
func (e *Env) eventually(what string, f func() (ok bool, seen string)) {
	e.Helper()
	end := time.Now().Add(e.patience())
	step := max(e.rig.Unit()/50, time.Millisecond)
	for {
		ok, seen := f()
		if ok {
			return
		}
		if time.Now().After(end) {
			e.Fatalf("%s: still not so after %v: %s", what, e.patience(), seen)
		}
		e.pause(step)
		step = min(2*step, e.rig.Unit()/2)
	}
}

// took prints how long something took beside its bound, and fails the row at ten times the bound and a unit, which says how slow the
// place may be at its worst.
func (e *Env) took(what string, d, bound time.Duration) {
	e.Logf("%s: %v (bound %v)", what, d.Round(10*time.Microsecond), bound)
	if d > 10*bound+e.rig.Unit() {
		e.Errorf("%s took %v, more than ten times its bound of %v and a unit of %v", what, d, bound, e.rig.Unit())
	}
}

// conn returns the usual connection of a process. A process that crashed connects anew.
func (e *Env) conn(process int) *channel.Connection {
	e.mu.Lock()
	c := e.conns[process]
	e.mu.Unlock()
	if c != nil && !c.IsClosed() {
		return c
	}
	c = e.connect(process, ConnectOptions{})
	e.mu.Lock()
	e.conns[process] = c
	e.mu.Unlock()
	return c
}

// connect opens a connection of its own.
func (e *Env) connect(process int, o ConnectOptions) *channel.Connection {
	c, err := e.rig.Connect(e.ctx, process, o)
	if err != nil {
		e.Fatalf("process %d cannot connect: %v", process, err)
	}
	e.mu.Lock()
	e.all = append(e.all, c)
	e.mu.Unlock()
	if o.ChannelMax == 0 {
		// A channel that does nothing: errors of others must not touch it.
		b, err := c.Channel(e.ctx)
		if err != nil {
			e.Fatalf("process %d cannot open a channel: %v", process, err)
		}
		e.mu.Lock()
		e.bystander[c] = b
		e.mu.Unlock()
	}
	return c
}

// crash kills a process.
func (e *Env) crash(process int) {
	if err := e.rig.Crash(process); err != nil {
		e.Fatalf("crash of process %d: %v", process, err)
	}
}

// open opens a channel on the usual connection of a process.
func (e *Env) open(process int) *line { return e.openOn(e.conn(process)) }

// openOn opens a channel.
func (e *Env) openOn(c *channel.Connection) *line {
	ch, err := c.Channel(e.ctx)
	if err != nil {
		e.Fatalf("a channel cannot be opened: %v", err)
	}
	return &line{Channel: ch, e: e, tags: map[uint64]bool{}}
}

// confirming opens a channel in confirm mode.
func (e *Env) confirming(process int) *line {
	l := e.open(process)
	e.must(l.Confirm(e.ctx), "confirm.select")
	l.confirms = true
	return l
}

// pair opens the two ends of most rows: a publisher in confirm mode in process 0, a channel to consume in process 1.
func (e *Env) pair() (pub, sub *line) { return e.confirming(0), e.open(1) }

// must fails the row on an error. A virtual transport that answers 540 on a channel says that its store cannot do
// this: then the row is refused.
func (e *Env) must(err error, format string, a ...any) {
	e.Helper()
	if err == nil {
		return
	}
	if ce, ok := errors.AsType[*channel.Error](err); ok && ce.Code == channel.NotImplemented && !ce.Connection && !e.native() {
		e.refuse("%v", ce)
	}
	e.Fatalf("%s: %v", fmt.Sprintf(format, a...), err)
}

// keep remembers a queue or an exchange to be deleted at the end.
func (e *Env) keepQueue(name string) {
	e.mu.Lock()
	e.queues = append(e.queues, name)
	e.mu.Unlock()
}

func (e *Env) keepExchange(name string) {
	e.mu.Lock()
	e.exchanges = append(e.exchanges, name)
	e.mu.Unlock()
}

// sweep closes the row's connections and deletes what it declared, so that a server it shares stays clean.
func (e *Env) sweep() {
	ctx, stop := context.WithTimeout(context.WithoutCancel(e.ctx), 4*e.patience())
	defer stop()
	e.mu.Lock()
	all, queues, exchanges := e.all, e.queues, e.exchanges
	e.mu.Unlock()
	for _, c := range all {
		if err := c.Close(ctx); err != nil {
			e.Errorf("a connection does not close: %v", err)
		}
	}
	if !e.native() || len(queues)+len(exchanges) == 0 {
		return // the rig goes, and all with it
	}
	c, err := e.rig.Connect(ctx, 0, ConnectOptions{})
	if err != nil {
		e.Errorf("to clean up: %v", err)
		return
	}
	ch, err := c.Channel(ctx)
	if err != nil {
		e.Errorf("to clean up: %v", err)
		return
	}
	for _, q := range queues {
		if _, err := ch.QueueDelete(ctx, q, channel.DeleteOptions{NoWait: true}); err != nil {
			e.Errorf("to clean up queue %q: %v", q, err)
			return
		}
	}
	for _, x := range exchanges {
		if err := ch.ExchangeDelete(ctx, x, channel.DeleteOptions{NoWait: true}); err != nil {
			e.Errorf("to clean up exchange %q: %v", x, err)
			return
		}
	}
	if err := c.Close(ctx); err != nil {
		e.Errorf("to clean up: %v", err)
	}
}

// inOrder ranges over a map in the order of its keys: rows are the same at each run.
func inOrder[V any](m map[string]V) iter.Seq2[string, V] {
	return func(yield func(string, V) bool) {
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !yield(k, m[k]) {
				return
			}
		}
	}
}
