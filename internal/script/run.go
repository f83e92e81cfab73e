package script

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/model"
)

// Rig is what scripts run on: a broker, or several on one place.
type Rig struct {
	// Connect opens a connection to a process.
	Connect func(ctx context.Context, process int) (*channel.Connection, error)
	// Crash kills a process.
	Crash func(process int) error
	// Settle waits until all that an operation set off has happened.
	Settle func()
	// Counts says that what waits can be counted after every step, in an instant: nothing is on its way then.
	Counts bool
	// Processes is how many there are; connections take turns.
	Processes int
	// Prefix of the names of queues and exchanges, on a broker that is not ours alone; the script deletes what it declared.
	Prefix string
	// Look is a connection that looks, where it is kept from script to script.
	Look *channel.Connection
	// Rules are what the rig is free to do.
	Rules model.Rules
	// CrashTakes is how long the end of a process may be felt.
	CrashTakes time.Duration
	// Expected is what clients see elsewhere, step by step, where it is known: then each step waits for that, not for quiet.
	Expected []*model.Step
	// Patience is how long a step waits for what is expected; what has not come by then is a difference.
	Patience time.Duration
}

func (r *Rig) process(conn int) int { return conn % r.Processes }

// Failure is a script that showed clients something that is not allowed.
type Failure struct {
	At  int // of the operation, from 0
	Op  Op
	Why string
	// Trace is what clients saw of the operations before, and of this.
	Trace []*model.Step
}

// Error tells what was not allowed.
func (f *Failure) Error() string {
	return fmt.Sprintf("operation %d, %s: %s", f.At, Script{f.Op}.JSON(), f.Why)
}

// Undecided reports whether the model gave up, having found neither that it is allowed nor that it is not.
func (f *Failure) Undecided() bool {
	return strings.HasPrefix(f.Why, "undecided after ") || strings.HasPrefix(f.Why, "more than ")
}

// runner is a script under way.
type runner struct {
	rig     *Rig
	names   *names
	conns   map[int]*channel.Connection
	clients map[model.Slot]*client
	states  []*model.Broker
	look    *channel.Connection // for the counts
	last    time.Time           // up to when the model is
	done    int                 // how many steps were made
	counter *channel.Channel    // of look, where counting needs one
}

// Run runs a script on a rig that is empty, and follows it with the model. The trace is what clients saw.
func Run(ctx context.Context, rig *Rig, s Script) (trace []*model.Step, err error) {
	r := &runner{
		rig: rig, names: newNames(rig.Prefix), conns: map[int]*channel.Connection{}, clients: map[model.Slot]*client{}, look: rig.Look, last: time.Now(),
	}
	r.states = []*model.Broker{model.New(rig.Rules, r.last)}
	if rig.Prefix != "" {
		if err := r.prepare(ctx, s); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	defer func() {
		r.close(ctx)
		if rig.Prefix != "" {
			err = errors.Join(err, r.clean(ctx, s))
		}
		if r.look != nil && r.look != rig.Look {
			_ = r.look.Close(ctx)
		}
	}()
	for at := range s {
		for more := true; more; {
			var step *model.Step
			var why string
			step, more, why = r.step(ctx, at, &s[at])
			trace = append(trace, step)
			if rig.Expected != nil {
				if d := rig.Expected[r.done].Diff(step); d != "" {
					why = d // what the model thinks of it matters less
				}
			}
			r.done++
			if why != "" {
				return trace, &Failure{At: at, Op: s[at], Why: why, Trace: trace}
			}
		}
	}
	return trace, nil
}

// step makes one operation and compares. A drain asks for more until its queue is empty.
func (r *runner) step(ctx context.Context, at int, o *Op) (seen *model.Step, more bool, why string) {
	if o.Do == Drain {
		get := *o
		get.Do, get.NoAck = Get, true
		seen, _, why = r.step(ctx, at, &get)
		return seen, why == "" && seen.Reply.Got != nil, why
	}
	from := r.last
	op := *o
	if !r.applies(&op) {
		return &model.Step{}, false, ""
	}
	seen = &model.Step{Heard: map[model.Slot]*model.Heard{}}
	seen.Reply, why = r.perform(ctx, at, &op)
	during := model.Span{From: from, To: time.Now()}
	if why != "" {
		return seen, false, why
	}
	looks := op.Do != Sleep && op.Do != Crash && r.rig.Counts
	var err error
	if r.rig.Expected != nil {
		err = r.await(ctx, &op, seen, r.rig.Expected[r.done])
	} else {
		err = r.settle(ctx, seen, looks)
	}
	if err != nil {
		return seen, false, err.Error()
	}
	r.last = time.Now()
	after := model.Span{From: r.last, To: r.last}
	states, why := model.Follow(r.states, seen, func(b *model.Broker) {
		if op.Do != Sleep {
			b.Advance(during)
		}
		if op.Do == Crash && r.rig.Crash == nil {
			b.CloseConnection(op.Conn)
		} else {
			op.act(b, at, r.rig.process)
		}
		b.Advance(after)
		if looks {
			b.Look()
		}
	})
	r.states = states
	return seen, false, why
}

// settle waits until nothing happens any more, and notes what was heard, and what is left where that is looked at.
func (r *runner) settle(ctx context.Context, seen *model.Step, looks bool) error {
	r.rig.Settle()
	if looks {
		if err := r.count(ctx, seen); err != nil {
			return err
		}
	}
	r.listen(seen)
	return nil
}

// listen adds to a step what was heard since the last time.
func (r *runner) listen(seen *model.Step) {
	for slot, c := range r.clients {
		h := seen.Heard[slot]
		if h == nil {
			h = &model.Heard{}
		}
		if c.tell(h); h.Closed != 0 || len(h.Deliveries)+len(h.Returns)+len(h.Confirms)+len(h.Cancelled) > 0 {
			seen.Heard[slot] = h
		}
	}
}

// applies reports whether an operation can be made: what needs a channel that was never opened, or a delivery where there
// is none, is left out.
func (r *runner) applies(o *Op) bool {
	c := r.clients[o.Slot()]
	switch o.Do {
	case Sleep, Crash, CloseConnection:
		return true
	case OpenChannel:
		return c == nil || c.told
	case Ack, Nack, Reject:
		if c == nil {
			return false
		}
		return o.N < len(r.states[0].Unacked(o.Slot()))
	}
	return c != nil
}

// perform makes an operation on the rig.
func (r *runner) perform(ctx context.Context, at int, o *Op) (reply model.Reply, why string) {
	c := r.clients[o.Slot()]
	switch o.Do {
	case OpenChannel:
		if err := r.open(ctx, o.Slot()); err != nil {
			return reply, fmt.Sprintf("open a channel: %v", err)
		}
	case CloseChannel:
		if err := c.ch.Close(ctx); err != nil {
			return reply, fmt.Sprintf("close a channel: %v", err)
		}
	case CloseConnection:
		if conn := r.conns[o.Conn]; conn != nil {
			if err := conn.Close(ctx); err != nil {
				return reply, fmt.Sprintf("close a connection: %v", err)
			}
			delete(r.conns, o.Conn)
		}
	case Crash:
		if r.rig.Crash == nil { // a server sees a connection drop, and no process
			return reply, r.drop(o.Conn)
		}
		p := r.rig.process(o.Conn)
		if err := r.rig.Crash(p); err != nil {
			return reply, fmt.Sprintf("crash: %v", err)
		}
		for n := range r.conns {
			if r.rig.process(n) == p {
				delete(r.conns, n)
			}
		}
		if p == 0 { // it comes back at once: a place with no process at all would lose what is transient
			var err error
			if r.look, err = r.rig.Connect(ctx, 0); err != nil {
				return reply, fmt.Sprintf("connect after a crash: %v", err)
			}
		}
		pass(ctx, r.rig.CrashTakes)
	case Sleep:
		pass(ctx, time.Duration(o.N)*time.Millisecond)
	case Publish:
		reply = c.publish(ctx, o.publishes(at))
	case Ack, Nack, Reject:
		reply = c.settle(o.settle(r.states[0].Unacked(o.Slot())))
	default:
		reply = c.call(ctx, o.method())
	}
	return reply, ""
}

// drop ends a connection without a word.
func (r *runner) drop(conn int) (why string) {
	ended, end := context.WithCancel(context.Background())
	end()
	if c := r.conns[conn]; c != nil {
		if err := c.Close(ended); err != nil {
			return fmt.Sprintf("drop a connection: %v", err)
		}
		delete(r.conns, conn)
	}
	return ""
}

func (r *runner) open(ctx context.Context, s model.Slot) (err error) {
	conn := r.conns[s.Conn]
	if conn == nil || conn.IsClosed() {
		if conn, err = r.rig.Connect(ctx, r.rig.process(s.Conn)); err != nil {
			return err
		}
		r.conns[s.Conn] = conn
	}
	c, err := newClient(ctx, conn, r.names, func() {})
	if e, ok := errors.AsType[*channel.Error](err); ok && e.Connection { // it is ending, and has not yet
		<-conn.Done()
		return r.open(ctx, s)
	}
	if err == nil {
		r.clients[s] = c
	}
	return err
}

// looking connects, if need be, to look at what there is.
func (r *runner) looking(ctx context.Context) (err error) {
	if r.look == nil {
		if r.look, err = r.rig.Connect(ctx, 0); err != nil {
			return fmt.Errorf("connect to look: %w", err)
		}
	}
	return nil
}

// count notes what the broker has, where it tells.
func (r *runner) count(ctx context.Context, seen *model.Step) (err error) {
	if err := r.looking(ctx); err != nil {
		return err
	}
	inspector, ok := r.look.Transport().(channel.Inspector)
	if !ok {
		return nil
	}
	t, err := inspector.Topology(ctx)
	if err != nil {
		return fmt.Errorf("look: %w", err)
	}
	seen.Counts = map[string]model.Count{}
	for _, q := range t.Queues {
		seen.Counts[r.names.here(q.Name)] = model.Count{Ready: q.Ready, Consumers: q.Consumers, Exclusive: q.Exclusive}
	}
	seen.Objects = [2]int{len(t.Exchanges), len(t.Bindings)}
	return nil
}

// close ends all that clients have, and waits for it.
func (r *runner) close(ctx context.Context) {
	for _, conn := range r.conns {
		_ = conn.Close(ctx)
	}
	for _, c := range r.clients {
		c.readers.Wait()
	}
}

func pass(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}
