package conformance

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// A check earns trust by failing. Each mutant is a transport that is wrong in one way, on the reference store; the row
// it names must fail on it, and passes without it (TestMemory...).
var mutants = []struct {
	name string
	row  string
	make func(s channel.Sink) mutation // for each channel
}{
	{"redelivered is forgotten", "AK-07", func(channel.Sink) mutation {
		return mutation{deliver: func(ds []channel.Delivered) []channel.Delivered {
			for i := range ds {
				ds[i].Redelivered = false
			}
			return ds
		}}
	}},
	{"a message is given twice", "CN-01", func(channel.Sink) mutation {
		return mutation{deliver: func(ds []channel.Delivered) []channel.Delivered { return append(slices.Clone(ds), ds[0]) }}
	}},
	{"the order inside a batch is broken", "QU-11", func(channel.Sink) mutation {
		return mutation{deliver: func(ds []channel.Delivered) []channel.Delivered {
			ds = slices.Clone(ds)
			if n := len(ds); n > 1 {
				ds[n-1].Body, ds[n-2].Body = ds[n-2].Body, ds[n-1].Body
			}
			return ds
		}}
	}},
	{"an ack up to a tag acks that tag alone", "AK-02", func(channel.Sink) mutation {
		return mutation{settle: func(s channel.Settle) (channel.Settle, bool) { s.Multiple = s.Multiple && s.Tag == 0; return s, true }}
	}},
	{"an ack is of the wrong tag", "AK-02", func(channel.Sink) mutation {
		return mutation{settle: func(s channel.Settle) (channel.Settle, bool) {
			if s.Tag > 1 && !s.Multiple {
				s.Tag--
			}
			return s, true
		}}
	}},
	{"a requeue is lost", "AK-04", func(channel.Sink) mutation {
		return mutation{settle: func(s channel.Settle) (channel.Settle, bool) {
			if s.Kind == channel.Requeue {
				s.Kind = channel.Nack
			}
			return s, true
		}}
	}},
	{"acks are not sent", "AK-09", func(channel.Sink) mutation {
		return mutation{settle: func(s channel.Settle) (channel.Settle, bool) { return s, s.Kind != channel.Ack }}
	}},
	{"an unknown tag is ignored", "AK-03", func(channel.Sink) mutation {
		var given atomic.Uint64
		return mutation{
			deliver: func(ds []channel.Delivered) []channel.Delivered { given.Add(uint64(len(ds))); return ds },
			settle:  func(s channel.Settle) (channel.Settle, bool) { return s, s.Tag <= given.Load() },
		}
	}},
	{"small integers in headers grow", "PB-01", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) {
			if v, ok := p.Headers["b"].(int8); ok {
				p.Headers = channel.CloneTable(p.Headers)
				p.Headers["b"] = int32(v)
			}
		}}
	}},
	{"the caller's memory is kept", "PB-10", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) { p.NoCopy = true }}
	}},
	{"mandatory is ignored", "PB-02", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) { p.Mandatory = false }}
	}},
	{"immediate is ignored", "PB-04", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) { p.Immediate = false }}
	}},
	{"CC is ignored", "PB-07", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) {
			p.Headers = channel.CloneTable(p.Headers)
			delete(p.Headers, "CC")
		}}
	}},
	{"an expiration is ignored", "QU-12", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) { p.Expiration = "" }}
	}},
	{"a priority is ignored", "QU-16", func(channel.Sink) mutation {
		return mutation{publish: func(p *channel.Publish) { p.Priority = 0 }}
	}},
	{"a nack is told as an ack", "QU-14", func(channel.Sink) mutation {
		return mutation{confirm: func(tell func(uint64, bool, bool), n uint64, multiple, _ bool) { tell(n, multiple, true) }}
	}},
	{"an ack comes before the message is stored", "CF-02", func(s channel.Sink) mutation {
		// The message waits here for the next one.
		n := uint64(0)
		var held *channel.Publish
		return mutation{
			confirm: func(func(uint64, bool, bool), uint64, bool, bool) {},
			hold: func(p *channel.Publish) *channel.Publish {
				q := *p
				q.Body = slices.Clone(p.Body)
				held, p = &q, held
				n++
				s.Confirm(n, false, true)
				return p
			},
		}
	}},
	{"a confirm is forgotten now and then", "CF-01", func(channel.Sink) mutation {
		return mutation{confirm: func(tell func(uint64, bool, bool), n uint64, multiple, ack bool) {
			if n%10 != 0 || multiple {
				tell(n, multiple, ack)
			}
		}}
	}},
	{"a return comes after its confirm", "PB-02", func(s channel.Sink) mutation {
		var late []channel.Return
		return mutation{
			returned: func(r channel.Return) bool { late = append(late, r); return false },
			confirm: func(tell func(uint64, bool, bool), n uint64, multiple, ack bool) {
				tell(n, multiple, ack)
				for _, r := range late {
					s.Return(r)
				}
				late = nil
			},
		}
	}},
	{"a server's cancel is not told", "CN-06", func(channel.Sink) mutation { return mutation{deaf: true} }},
	{"prefetch is ignored", "QO-01", changing(func(m *channel.Qos) { m.Count = 0 })},
	{"a global window is one for each consumer", "QO-02", changing(func(m *channel.Qos) { m.Global = false })},
	{"an exclusive consumer is like any other", "CN-04", changing(func(m *channel.Consume) { m.Exclusive = false })},
	{"no-ack is ignored", "CN-05", changing(func(m *channel.Consume) { m.NoAck = false })},
	{"consumer priorities are ignored", "CN-07", changing(func(m *channel.Consume) { m.Args = nil })},
	{"a get takes for good", "GT-01", changing(func(m *channel.Get) { m.NoAck = true })},
	{"a passive declare declares", "QU-03", changing(func(m *channel.QueueDeclare) { m.Passive = false })},
	{"an exclusive queue is everybody's", "QU-04", changing(func(m *channel.QueueDeclare) { m.Exclusive = false })},
	{"an auto-delete queue stays", "QU-05", changing(func(m *channel.QueueDeclare) { m.AutoDelete = false })},
	{"queue arguments are ignored", "QU-19", changing(func(m *channel.QueueDeclare) { m.Args = nil })},
	{"if-empty is ignored", "QU-06", changing(func(m *channel.QueueDelete) { m.IfEmpty = false })},
	{"unbind takes no notice of arguments", "QU-23", changing(func(m *channel.QueueBind) {
		if m.Unbind && len(m.Args) > 0 {
			m.Args["n"], m.Args["s"] = int32(5), "text"
			delete(m.Args, "more")
		}
	})},
	{"a durable queue is transient", "QU-10", changing(func(m *channel.QueueDeclare) { m.Durable = false })},
	{"an internal exchange is like any other", "EX-11", changing(func(m *channel.ExchangeDeclare) { m.Internal = false })},
	{"an auto-delete exchange stays", "EX-10", changing(func(m *channel.ExchangeDeclare) { m.AutoDelete = false })},
	{"an alternate exchange is ignored", "EX-18", changing(func(m *channel.ExchangeDeclare) { m.Args = nil })},
	{"a topic is taken for a direct key", "EX-14", changing(func(m *channel.ExchangeDeclare) {
		if m.Type == channel.Topic {
			m.Type = channel.Direct
		}
	})},
	{"a second delivery of recover is left out", "RC-01", changing(func(m *channel.Recover) { m.Requeue = true })},
	{"a transaction takes effect at once", "TX-01", swallow[*channel.TxSelect]},
	{"a rollback does nothing", "TX-02", swallow[*channel.TxRollback]},
	{"a cancel does nothing", "CN-03", swallow[*channel.Cancel]},
	{"a purge does nothing", "QU-07", swallow[*channel.QueuePurge]},
	{"a bind is told before it holds", "EX-13", swallow[*channel.QueueBind]},
}

// TestWrongTransportsAreCaught runs the row named by each mutant on it.
func TestWrongTransportsAreCaught(t *testing.T) {
	rows := map[string]Row{}
	for _, r := range Rows() {
		rows[r.ID] = r
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := ChannelConfig{Virtual: true, Open: func(context.Context) (Rig, error) {
					p := memory.New()
					o := VirtualOptions{Open: func() (virtual.Store, error) { return p.Open(), nil }, Virtual: true}
					return &mutantRig{Rig: VirtualTwo(o), make: m.make}, nil
				}}
				r := c.run(t.Context(), rows[m.row])
				if r.Result != Fail {
					t.Errorf("%s does not catch a transport where %s: %s %s", m.row, m.name, r.Result, r.Reason)
				}
				t.Logf("%s: %s", m.row, r.Reason)
			})
		})
	}
}

// mutation is what is wrong with a channel; nil fields are right.
type mutation struct {
	deliver  func(ds []channel.Delivered) []channel.Delivered
	settle   func(s channel.Settle) (changed channel.Settle, sent bool)
	publish  func(p *channel.Publish)
	hold     func(p *channel.Publish) (instead *channel.Publish)
	confirm  func(tell func(n uint64, multiple, ack bool), n uint64, multiple, ack bool)
	returned func(r channel.Return) (told bool)
	call     func(m channel.Method) (sent bool)
	deaf     bool // to the server's cancels
}

// changing makes a mutation that changes methods of one kind before they are sent.
func changing[M any, P interface {
	*M
	channel.Method
}](change func(m P)) func(channel.Sink) mutation {
	return func(channel.Sink) mutation {
		return mutation{call: func(m channel.Method) bool {
			if m, ok := m.(P); ok {
				change(m)
			}
			return true
		}}
	}
}

// swallow makes a mutation that answers methods of one kind without sending them.
func swallow[P channel.Method](channel.Sink) mutation {
	return mutation{call: func(m channel.Method) bool { _, is := m.(P); return !is }}
}

// mutantRig is a Rig whose channels have a mutation.
type mutantRig struct {
	Rig
	make func(channel.Sink) mutation
}

func (r *mutantRig) Lease() time.Duration { return r.Rig.(Leaser).Lease() }
func (r *mutantRig) Break(p int) error    { return r.Rig.(Breaker).Break(p) }
func (r *mutantRig) Mend(p int) error     { return r.Rig.(Breaker).Mend(p) }

func (r *mutantRig) Connect(ctx context.Context, process int, o ConnectOptions) (*channel.Connection, error) {
	return channel.Connect(ctx, func(ctx context.Context, s channel.ConnectionSink) (channel.Transport, error) {
		c, err := r.Rig.Connect(ctx, process, o)
		if err != nil {
			return nil, err
		}
		t := &mutantTransport{Transport: c.Transport(), make: r.make, done: make(chan struct{})}
		go func() {
			defer close(t.done)
			<-c.Done()
			var why *channel.Error
			if err := c.Err(); !errors.Is(err, channel.ErrClosed) {
				why, _ = err.(*channel.Error)
			}
			s.Closed(why)
		}()
		return t, nil
	})
}

type mutantTransport struct {
	channel.Transport
	make func(channel.Sink) mutation
	done chan struct{}
}

func (t *mutantTransport) OpenChannel(ctx context.Context, s channel.Sink) (channel.Port, error) {
	m := t.make(s)
	p, err := t.Transport.OpenChannel(ctx, &mutantSink{s, m})
	if err != nil {
		return nil, err
	}
	return &mutantPort{p, s, m}, nil
}

func (t *mutantTransport) Close(ctx context.Context) error {
	err := t.Transport.Close(ctx)
	<-t.done
	return err
}

type mutantSink struct {
	channel.Sink
	m mutation
}

func (s *mutantSink) Deliver(ds []channel.Delivered) {
	if s.m.deliver != nil {
		ds = s.m.deliver(ds)
	}
	s.Sink.Deliver(ds)
}

func (s *mutantSink) Confirm(n uint64, multiple, ack bool) {
	if s.m.confirm != nil {
		s.m.confirm(s.Sink.Confirm, n, multiple, ack)
		return
	}
	s.Sink.Confirm(n, multiple, ack)
}

func (s *mutantSink) Return(r channel.Return) {
	if s.m.returned == nil || s.m.returned(r) {
		s.Sink.Return(r)
	}
}

func (s *mutantSink) Cancelled(tag string) {
	if !s.m.deaf {
		s.Sink.Cancelled(tag)
	}
}

type mutantPort struct {
	channel.Port
	s channel.Sink
	m mutation
}

func (p *mutantPort) Call(ctx context.Context, m channel.Method) (channel.Reply, error) {
	if p.m.call != nil && !p.m.call(m) {
		r := channel.Reply{Method: m}
		if c, ok := m.(*channel.Cancel); ok {
			r.Tag = c.Tag
		}
		p.s.Reply(r)
		return r, nil
	}
	return p.Port.Call(ctx, m)
}

func (p *mutantPort) Publish(ctx context.Context, m *channel.Publish) error {
	if p.m.publish != nil {
		p.m.publish(m)
	}
	if p.m.hold != nil {
		if m = p.m.hold(m); m == nil {
			return nil
		}
	}
	return p.Port.Publish(ctx, m)
}

func (p *mutantPort) Settle(s channel.Settle) error {
	if p.m.settle != nil {
		changed, sent := p.m.settle(s)
		if !sent {
			return nil
		}
		s = changed
	}
	return p.Port.Settle(s)
}
