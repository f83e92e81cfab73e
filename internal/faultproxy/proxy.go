package faultproxy

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"
)

// dialLimit bounds how long the target is dialled for one connection.
const dialLimit = 5 * time.Second

// Options are the settings of a Proxy. The zero value is a proxy that breaks nothing by itself.
type Options struct {
	// Listen is the address to listen on; empty means 127.0.0.1:0.
	Listen string
	// Every injects one of Faults so often, on average, at moments that follow from Seed; 0 injects none.
	Every  time.Duration
	Faults []Fault
	Seed   uint64
	// Injected, when set, is called with every fault that Every injects, from a goroutine of the proxy.
	Injected func(Fault)
}

// Proxy forwards connections to a target. It is open until Close.
type Proxy struct {
	target   string
	listener net.Listener
	ctx      context.Context // ends with Close
	end      context.CancelFunc
	wg       sync.WaitGroup

	mu       sync.Mutex // guards what follows; a link's mu is taken after it
	links    map[*link]struct{}
	silent   map[net.Conn]struct{} // those that HalfOpen has accepted
	lasting  map[Kind]lasting      // what meets new connections, too
	faults   int
	accepted int
}

// lasting is a fault and the time that it goes on for.
type lasting struct {
	fault Fault
	spell
}

// New listens, and forwards what it accepts to the target, a HOST:PORT that is dialled for each connection.
func New(target string, o Options) (*Proxy, error) {
	if _, _, err := net.SplitHostPort(target); err != nil {
		return nil, fmt.Errorf("faultproxy: target: %w", err)
	}
	if o.Every < 0 || o.Every > 0 && len(o.Faults) == 0 {
		return nil, errors.New("faultproxy: Every needs to be positive, and Faults to choose from")
	}
	if o.Listen == "" {
		o.Listen = "127.0.0.1:0"
	}
	listener, err := net.Listen("tcp", o.Listen)
	if err != nil {
		return nil, fmt.Errorf("faultproxy: %w", err)
	}
	p := &Proxy{target: target, listener: listener, links: map[*link]struct{}{}, silent: map[net.Conn]struct{}{}, lasting: map[Kind]lasting{}}
	p.ctx, p.end = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	if o.Every > 0 {
		p.wg.Go(func() { p.random(o) })
	}
	return p, nil
}

// Addr is where clients dial, as HOST:PORT.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// Close ends all connections and waits for all goroutines. A second Close is harmless.
func (p *Proxy) Close() error {
	err := p.listener.Close()
	p.mu.Lock()
	p.end()
	for l := range p.links {
		l.close()
	}
	for c := range p.silent {
		_ = c.Close()
	}
	p.mu.Unlock()
	p.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// Inject makes a fault happen: to all connections that are open, and while it lasts to new ones. A Cut or Reset does not last.
func (p *Proxy) Inject(f Fault) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.faults++
	if f.Kind == Stall || f.Kind == Drip || f.Kind == HalfOpen {
		p.lasting[f.Kind] = lasting{f, spell{true, f.over()}}
	}
	for l := range p.links {
		l.meet(f)
	}
}

// Heal ends what lasts. Connections that were accepted half-open stay so.
func (p *Proxy) Heal() {
	p.mu.Lock()
	defer p.mu.Unlock()
	clear(p.lasting)
	for l := range p.links {
		l.heal()
	}
}

// Open is how many connections are forwarded at the moment, stalled ones included.
func (p *Proxy) Open() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.links)
}

// Counts returns how many connections have been accepted, and how many faults injected.
func (p *Proxy) Counts() (accepted, injected int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.accepted, p.faults
}

// random injects faults until the proxy is closed.
func (p *Proxy) random(o Options) {
	r := rand.New(rand.NewPCG(o.Seed, 0))
	for {
		t := time.NewTimer(time.Duration((0.5 + r.Float64()) * float64(o.Every)))
		select {
		case <-t.C:
		case <-p.ctx.Done():
			t.Stop()
			return
		}
		f := o.Faults[r.IntN(len(o.Faults))]
		p.Inject(f)
		if o.Injected != nil {
			o.Injected(f)
		}
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil { // such as too many open files
			select {
			case <-time.After(10 * time.Millisecond):
			case <-p.ctx.Done():
			}
			continue
		}
		if p.welcome(client) {
			p.wg.Go(func() { p.forward(client.(*net.TCPConn)) })
		} else {
			p.wg.Go(func() { p.ignore(client) })
		}
	}
}

// welcome reports whether a new connection is to be forwarded.
func (p *Proxy) welcome(client net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.accepted++
	if !p.lasting[HalfOpen].now() {
		return true
	}
	p.silent[client] = struct{}{}
	if p.ctx.Err() != nil { // Close has been through them already
		_ = client.Close()
	}
	return false
}

// ignore takes what comes and says nothing, until the client gives up.
func (p *Proxy) ignore(client net.Conn) {
	_, _ = io.Copy(io.Discard, client)
	_ = client.Close()
	p.mu.Lock()
	delete(p.silent, client)
	p.mu.Unlock()
}

// forward dials the target and forwards both ways until the connection has ended.
func (p *Proxy) forward(client *net.TCPConn) {
	d := net.Dialer{Timeout: dialLimit}
	server, err := d.DialContext(p.ctx, "tcp", p.target)
	if err != nil { // as if nobody listened, as nearly as one that has accepted can
		_ = client.SetLinger(0)
		_ = client.Close()
		return
	}
	l := newLink(client, server.(*net.TCPConn))
	if !p.add(l) {
		l.close()
		return
	}
	l.run()
	p.mu.Lock()
	delete(p.links, l)
	p.mu.Unlock()
}

// add makes a connection known, with what lasts; false when the proxy has been closed.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.links[l] = struct{}{}
	for _, x := range p.lasting {
		if x.now() {
			l.meetUntil(x.fault, x.until)
		}
	}
	return true
}
