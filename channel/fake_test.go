package channel

import (
	"context"
	"sync"
)

// fakeTransport is a server that a test plays by hand.
type fakeTransport struct {
	conn  ConnectionSink
	mu    sync.Mutex
	ports []*fakePort
	once  sync.Once
}

// dialFake returns a connection and the server behind it.
func dialFake() (*Connection, *fakeTransport) {
	f := &fakeTransport{}
	c, err := Connect(context.Background(), func(_ context.Context, s ConnectionSink) (Transport, error) {
		f.conn = s
		return f, nil
	})
	if err != nil {
		panic(err)
	}
	return c, f
}

func (f *fakeTransport) Info() Info { return Info{Product: "fake", User: "guest"} }

func (f *fakeTransport) OpenChannel(_ context.Context, s Sink) (Port, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := &fakePort{sink: s, published: make(chan Publish, 100), settled: make(chan Settle, 1000), granted: make(chan int, 1000)}
	f.ports = append(f.ports, p)
	return p, nil
}

func (f *fakeTransport) Close(context.Context) error {
	f.fail(nil)
	return nil
}

// fail ends the connection from the server's side.
func (f *fakeTransport) fail(err *Error) {
	f.once.Do(func() {
		f.mu.Lock()
		ports := f.ports
		f.mu.Unlock()
		for _, p := range ports {
			p.fail(err)
		}
		f.conn.Closed(err)
	})
}

type fakePort struct {
	sink      Sink
	published chan Publish
	settled   chan Settle
	granted   chan int
	once      sync.Once
	call      func(ctx context.Context, m Method) (Reply, error) // nil: everything succeeds
}

func (p *fakePort) fail(err *Error) { p.once.Do(func() { p.sink.Closed(err) }) }

func (p *fakePort) Call(ctx context.Context, m Method) (Reply, error) {
	if p.call != nil {
		return p.call(ctx, m)
	}
	r := Reply{Method: m}
	p.sink.Reply(r)
	return r, nil
}

func (p *fakePort) Publish(_ context.Context, m *Publish) error { p.published <- *m; return nil }
func (p *fakePort) Settle(s Settle) error                       { p.settled <- s; return nil }
func (p *fakePort) SettleWait(_ context.Context, s Settle) error {
	p.settled <- s
	return nil
}
func (p *fakePort) Grant(_ string, n int)       { p.granted <- n }
func (p *fakePort) Flush(context.Context) error { return nil }
func (p *fakePort) Close(context.Context) error {
	p.fail(nil)
	return nil
}
