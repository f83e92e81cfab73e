package conformance

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// VirtualOptions say what a virtual rig stands on.
type VirtualOptions struct {
	// Open makes a new handle on the place: one for each process.
	Open func() (virtual.Store, error)
	// OpenOther makes a handle on a second place, for a second virtual host; nil: there is none.
	OpenOther func() (virtual.Store, error)
	// Restart restarts the store; nil: it cannot be.
	Restart func(ctx context.Context) error
	// Unit is the unit of time; 0 is 200 ms. It is raised to what the store's traits ask for: two DelaySteps, whole
	// LeaseSteps, and a tenth of LeaseMin.
	Unit time.Duration
	// Virtual says that time is that of a testing/synctest bubble.
	Virtual bool
}

// rigLease is the lease of brokers in rigs: short, so that rows about lost leases are.
const rigLease = 10

// rigBody is the size of bodies that the gate refuses, as if the store had that limit.
const rigBody = 4 << 20

// VirtualOne makes a rig in which both processes are one broker on a store.
func VirtualOne(o VirtualOptions) Rig { return newVirtual("one", o) }

// VirtualTwo makes a rig of two brokers on two handles of one place: two processes.
func VirtualTwo(o VirtualOptions) Rig { return newVirtual("two", o) }

// VirtualFive makes a rig of two brokers on a store that shows the five methods only.
func VirtualFive(o VirtualOptions) Rig {
	open := o.Open
	o.Open = func() (virtual.Store, error) {
		s, err := open()
		if err != nil {
			return nil, err
		}
		return virtual.Only(s), nil
	}
	return newVirtual("five", o)
}

func newVirtual(name string, o VirtualOptions) *virtualRig {
	if o.Unit == 0 {
		o.Unit = 200 * time.Millisecond
	}
	r := &virtualRig{name: name, o: o, barrier: o.Unit}
	if s, err := o.Open(); err == nil { // else Connect says why
		r.traits = virtual.TraitsOf(s)
		_, r.registry = virtual.As[virtual.Registry](s)
		_, r.notifier = virtual.As[virtual.Notifier](s)
		_, r.bounded = virtual.As[virtual.Bounded](s)
		_ = virtual.Close(s)
	}
	t := &r.traits
	// An age that is told a step too long or too short is still on the right side of half a unit.
	r.o.Unit = up(max(o.Unit, 2*t.DelayStep, (t.LeaseMin+rigLease-1)/rigLease), t.LeaseStep)
	return r
}

// virtualRig runs brokers behind gates that can break, freeze and kill them.
type virtualRig struct {
	name string
	o    VirtualOptions // Unit is what the store asks for

	barrier                     time.Duration
	traits                      virtual.Traits // what the store claims and has
	registry, notifier, bounded bool

	mu        sync.Mutex
	processes [2]*virtualProcess
}

// virtualProcess is what one process has open: a broker for each set of options, all behind one gate.
type virtualProcess struct {
	gate    *gate
	brokers map[ConnectOptions]*broker.Broker
	stores  []virtual.Store
}

func (r *virtualRig) Name() string         { return r.name }
func (r *virtualRig) Unit() time.Duration  { return r.o.Unit }
func (r *virtualRig) Virtual() bool        { return r.o.Virtual }
func (r *virtualRig) Lease() time.Duration { return rigLease * r.o.Unit }

// MaxBody is one more than the store takes, or the gate does.
func (r *virtualRig) MaxBody() int {
	if n := r.traits.MaxBody; n > 0 {
		return min(n, rigBody) + 1
	}
	return rigBody + 1
}

func (r *virtualRig) process(i int) *virtualProcess {
	if r.name == "one" {
		i = 0
	}
	if r.processes[i] == nil {
		r.processes[i] = &virtualProcess{gate: newGate(), brokers: map[ConnectOptions]*broker.Broker{}}
	}
	return r.processes[i]
}

func (r *virtualRig) Connect(ctx context.Context, process int, o ConnectOptions) (*channel.Connection, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.process(process)
	b := p.brokers[o]
	if b == nil {
		var err error
		if b, err = r.open(ctx, p, o); err != nil {
			return nil, err
		}
		p.brokers[o] = b
	}
	return channel.Connect(ctx, b.Connect)
}

func (r *virtualRig) open(ctx context.Context, p *virtualProcess, o ConnectOptions) (*broker.Broker, error) {
	open, vhost := r.o.Open, "/"
	if o.Vhost != "" {
		if o.Vhost != OtherVhost || r.o.OpenOther == nil {
			return nil, fmt.Errorf("no vhost %q", o.Vhost)
		}
		open, vhost = r.o.OpenOther, o.Vhost
	}
	s, err := open()
	if err != nil {
		return nil, err
	}
	p.stores = append(p.stores, s)
	gated := virtual.Claim(virtual.Intercept(s, p.gate.pass), func(t *virtual.Traits) {
		t.MaxBody = r.MaxBody() - 1
	})
	return broker.Open(ctx, gated, broker.Options{
		Vhost: vhost, Lease: r.Lease(), SessionTTL: 3 * r.Lease(), Barrier: r.barrier, ConsumerTimeout: o.ConsumerTimeout,
		ChannelMax: o.ChannelMax,
	})
}

// Crash fails every later store call of the process and cuts off those in flight, wherever they are, then drops
// everything.
func (r *virtualRig) Crash(process int) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	p := r.process(process)
	for i := range r.processes {
		if r.processes[i] == p {
			r.processes[i] = nil
		}
	}
	return p.kill()
}

func (p *virtualProcess) kill() error {
	p.gate.set(dead)
	ended, end := context.WithCancel(context.Background())
	end()
	var err error
	for _, b := range p.brokers {
		err = errors.Join(err, b.Close(ended))
	}
	for _, s := range p.stores {
		err = errors.Join(err, virtual.Close(s))
	}
	return err
}

func (r *virtualRig) Restart(ctx context.Context) error {
	if r.o.Restart == nil {
		return errNoRestart
	}
	return r.o.Restart(ctx)
}

func (r *virtualRig) Break(process int) error  { return r.gate(process, broken) }
func (r *virtualRig) Mend(process int) error   { return r.gate(process, open) }
func (r *virtualRig) Freeze(process int) error { return r.gate(process, frozen) }
func (r *virtualRig) Thaw(process int) error   { return r.gate(process, open) }

func (r *virtualRig) gate(process int, s gateState) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.process(process).gate.set(s)
	return nil
}

// Plant puts a payload into the present incarnation of a queue, past every broker.
func (r *virtualRig) Plant(ctx context.Context, queue string, payload []byte) error {
	s, err := r.o.Open()
	if err != nil {
		return err
	}
	defer virtual.Close(s)
	for _, p := range r.processes {
		if p == nil {
			continue
		}
		if ref, ok := p.gate.queue(queue); ok {
			m := &virtual.Message{Queue: ref, ID: virtual.ID([]byte(rand.Text()[:16])), Payload: virtual.Bytes(payload), Lease: r.Lease()}
			return s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{m}})
		}
	}
	return fmt.Errorf("no process has asked the store for a queue %q", queue)
}

func (r *virtualRig) Lacks(n Need) (string, bool) {
	switch n {
	case Restarts:
		if r.o.Restart == nil {
			return "the store lives in this process and goes with it", true
		}
	case TwoVhosts:
		if r.o.OpenOther == nil {
			return "the rig has one virtual host", true
		}
	case Logins:
		return "a virtual transport has no logins: its store has", true
	case Notice:
		return "the store has no notice: consumers poll", !r.notifier
	case Order:
		return "the store keeps no order", !r.traits.Ordered
	case Counts:
		return "the store's counts are approximate", !r.traits.ExactSize
	case Priority:
		return "the store has no priorities", r.traits.Levels < 2
	case Attempts:
		return "the store's counts of attempts are approximate", !r.traits.ExactAttempt
	case Ranks:
		return "the store knows nothing of consumer priorities", !r.traits.Ranked
	case Lengths:
		return "the store's counts are approximate", !r.bounded && !r.traits.ExactSize
	case Limits:
		return "the store keeps no limits, the engine trims after a publish", !r.bounded
	case Stale:
		return "the store does not tell that another one has the message", !r.traits.StaleTold
	case Sessions:
		return "the engine's own sessions need the ages of messages", !r.registry && !r.traits.Age
	}
	return "", false
}

// Close drops everything.
func (r *virtualRig) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var err error
	for i, p := range r.processes {
		if p != nil {
			err = errors.Join(err, p.kill())
		}
		r.processes[i] = nil
	}
	return err
}

type gateState int

const (
	open   gateState = iota // calls pass
	broken                  // calls fail
	frozen                  // calls wait
	dead                    // calls fail for ever
)

// gate stands between a process and its store.
type gate struct {
	mu      sync.Mutex
	state   gateState
	changed chan struct{} // closed at the next change
	ctx     context.Context
	cut     context.CancelFunc          // ends calls in flight
	queues  map[string]virtual.QueueRef // those asked for, by name
}

func newGate() *gate {
	g := &gate{changed: make(chan struct{}), queues: map[string]virtual.QueueRef{}}
	g.ctx, g.cut = context.WithCancel(context.Background())
	return g
}

func (g *gate) set(s gateState) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.state == dead {
		return
	}
	g.state = s
	close(g.changed)
	g.changed = make(chan struct{})
	if s == broken || s == dead {
		g.cut()
		g.ctx, g.cut = context.WithCancel(context.Background())
	}
}

var errGate = errors.New("the store cannot be reached")

// enter waits until calls pass, or says why they do not.
func (g *gate) enter(ctx context.Context) (cut context.Context, err error) {
	for {
		g.mu.Lock()
		state, changed, cut := g.state, g.changed, g.ctx
		g.mu.Unlock()
		switch state {
		case open:
			return cut, nil
		case broken, dead:
			return nil, errGate
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// queue returns the incarnation of a queue that was asked for last.
func (g *gate) queue(name string) (virtual.QueueRef, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ref, ok := g.queues[name]
	return ref, ok
}

// pass is the gate as an interceptor. A frozen process sees no answer either.
func (g *gate) pass(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
	if c.Queue.Name != "" {
		g.mu.Lock()
		g.queues[c.Queue.Name] = c.Queue
		g.mu.Unlock()
	}
	cut, err := g.enter(ctx)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(cut, stop)()
	err = next(ctx)
	if cut.Err() != nil {
		return errGate
	}
	if _, e := g.enter(ctx); e != nil && err == nil {
		err = e
	}
	return err
}
