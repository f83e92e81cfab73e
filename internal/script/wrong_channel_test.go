package script

import (
	"context"
	"errors"
	"sync"

	"github.com/dashi-mq/dashi/channel"
)

// wrong is what is wrong with an engine; nil fields are right. Where a func has a result, it says whether what it saw goes on.
type wrong struct {
	method   func(c *wrongPort, m channel.Method) bool // before it is made; else it is answered and not made
	reply    func(m channel.Method, r *channel.Reply)
	publish  func(p *channel.Publish)
	settle   func(c *wrongPort, s *channel.Settle) bool
	deliver  func(d *channel.Delivered) // of gets, too
	confirm  func(ack bool) bool        // the answer that is told
	returned func(r *channel.Return) bool
	closing  func(c *wrongPort)
	deaf     bool // to the server's cancels
	store    func(s *wrongStore)
}

// wrongConnection opens a connection through which an engine looks wrong.
func wrongConnection(ctx context.Context, w *wrong, open func() (*channel.Connection, error)) (*channel.Connection, error) {
	return channel.Connect(ctx, func(_ context.Context, s channel.ConnectionSink) (channel.Transport, error) {
		c, err := open()
		if err != nil {
			return nil, err
		}
		t := &wrongTransport{Transport: c.Transport(), w: w, done: make(chan struct{})}
		go func() {
			defer close(t.done)
			<-c.Done()
			var why *channel.Error
			if err := c.Err(); !errors.Is(err, channel.ErrClosed) {
				why, _ = errors.AsType[*channel.Error](err)
			}
			s.Closed(why)
		}()
		return t, nil
	})
}

type wrongTransport struct {
	channel.Transport
	w    *wrong
	done chan struct{}

	mu    sync.Mutex
	ports []*wrongPort
}

func (t *wrongTransport) OpenChannel(ctx context.Context, s channel.Sink) (channel.Port, error) {
	p, err := t.Transport.OpenChannel(ctx, &wrongSink{s, t.w})
	if err != nil {
		return nil, err
	}
	c := &wrongPort{Port: p, sink: s, w: t.w}
	t.mu.Lock()
	t.ports = append(t.ports, c)
	t.mu.Unlock()
	return c, nil
}

func (t *wrongTransport) Close(ctx context.Context) error {
	t.mu.Lock()
	ports := t.ports
	t.ports = nil
	t.mu.Unlock()
	if ctx.Err() == nil {
		for _, p := range ports {
			p.close()
		}
	}
	err := t.Transport.Close(ctx)
	<-t.done
	return err
}

// Topology is what the broker tells: nothing is wrong with how it is looked at.
func (t *wrongTransport) Topology(ctx context.Context) (*channel.Topology, error) {
	return t.Transport.(channel.Inspector).Topology(ctx)
}

func (t *wrongTransport) Explain(ctx context.Context, exchange, key string, headers channel.Table) (string, error) {
	return t.Transport.(channel.Inspector).Explain(ctx, exchange, key, headers)
}

type wrongSink struct {
	channel.Sink
	w *wrong
}

func (s *wrongSink) Deliver(ds []channel.Delivered) {
	changed := make([]channel.Delivered, len(ds))
	for i := range ds {
		changed[i] = s.w.delivered(ds[i])
	}
	s.Sink.Deliver(changed)
}

// delivered changes a copy of a delivery.
func (w *wrong) delivered(d channel.Delivered) channel.Delivered {
	if w.deliver != nil {
		p := *d.Publishing
		d.Publishing = &p
		d.Headers = channel.CloneTable(d.Headers)
		w.deliver(&d)
	}
	return d
}

func (s *wrongSink) Confirm(n uint64, multiple, ack bool) {
	if s.w.confirm != nil {
		ack = s.w.confirm(ack)
	}
	s.Sink.Confirm(n, multiple, ack)
}

func (s *wrongSink) Return(r channel.Return) {
	if s.w.returned == nil || s.w.returned(&r) {
		s.Sink.Return(r)
	}
}

func (s *wrongSink) Cancelled(tag string) {
	if !s.w.deaf {
		s.Sink.Cancelled(tag)
	}
}

type wrongPort struct {
	channel.Port
	sink channel.Sink
	w    *wrong
	tx   bool // it has a transaction
}

func (p *wrongPort) Call(ctx context.Context, m channel.Method) (channel.Reply, error) {
	if _, selects := m.(*channel.TxSelect); selects {
		p.tx = true
	}
	if p.w.method != nil && !p.w.method(p, m) {
		r := channel.Reply{Method: m}
		if c, ok := m.(*channel.Cancel); ok {
			r.Tag = c.Tag
		}
		p.sink.Reply(r)
		return r, nil
	}
	r, err := p.Port.Call(ctx, m)
	if r.Delivery != nil {
		d := p.w.delivered(*r.Delivery)
		r.Delivery = &d
	}
	if err == nil && p.w.reply != nil {
		p.w.reply(m, &r)
	}
	return r, err
}

func (p *wrongPort) Publish(ctx context.Context, m *channel.Publish) error {
	if p.w.publish != nil {
		p.w.publish(m)
	}
	return p.Port.Publish(ctx, m)
}

func (p *wrongPort) Settle(s channel.Settle) error {
	if p.w.settle != nil && !p.w.settle(p, &s) {
		return nil
	}
	return p.Port.Settle(s)
}

func (p *wrongPort) close() {
	if p.w.closing != nil {
		p.w.closing(p)
	}
}

func (p *wrongPort) Close(ctx context.Context) error {
	if ctx.Err() == nil {
		p.close()
	}
	return p.Port.Close(ctx)
}
