package script

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// wrong is one thing that a transport does wrong; fields that are nil are right.
type wrong struct {
	deliver func(d *channel.Delivered)
	publish func(p *channel.Publish)
	settle  func(s *channel.Settle)
	call    func(m channel.Method)
}

// wrongs are transports that the differential must find by themselves, with no model to help.
var wrongs = []struct {
	name string
	wrong
}{
	{"redelivered is not told", wrong{deliver: func(d *channel.Delivered) { d.Redelivered = false }}},
	{"priorities are lost", wrong{publish: func(p *channel.Publish) { p.Priority = 0 }}},
	{"mandatory is taken for not mandatory", wrong{publish: func(p *channel.Publish) { p.Mandatory = false }}},
	{"what is rejected is acked, and dies nowhere", wrong{settle: func(s *channel.Settle) {
		if s.Kind == channel.Nack {
			s.Kind = channel.Ack
		}
	}}},
	{"multiple is taken for one", wrong{settle: func(s *channel.Settle) { s.Multiple = s.Multiple && s.Tag == 0 }}},
	{"a topic is taken for a direct key", wrong{call: func(m channel.Method) {
		if x, ok := m.(*channel.ExchangeDeclare); ok && x.Type == channel.Topic {
			x.Type = channel.Direct
		}
	}}},
	{"an auto-delete queue stays", wrong{call: func(m channel.Method) {
		if q, ok := m.(*channel.QueueDeclare); ok {
			q.AutoDelete = false
		}
	}}},
}

// TestDifferentialCatchesWrongTransports compares memory with memory behind each of them: as with RabbitMQ, it is the
// comparison that has to say what differs, not the model.
func TestDifferentialCatchesWrongTransports(t *testing.T) {
	const scripts = 100
	p := comparable()
	differ := func(t *testing.T, seed uint64, w *wrong) (difference string) {
		s := Generate(seed, p)
		expected, err := inMemory(t, s)
		if err != nil {
			t.Fatal(err)
		}
		synctest.Test(t, func(t *testing.T) {
			rig, end, _ := virtualRig("one")
			rig.Connect, rig.Expected, rig.Patience = w.behind(rig.Connect), expected, time.Second
			steps, _ := Run(t.Context(), rig, s)
			if last := len(steps) - 1; last >= 0 {
				difference = expected[last].Diff(steps[last])
			}
			if err := end(); err != nil {
				t.Error(err)
			}
		})
		return difference
	}
	for seed := uint64(1); seed <= 10; seed++ {
		if d := differ(t, seed, &wrong{}); d != "" {
			t.Errorf("seed %d: with nothing wrong: %s", seed, d)
		}
	}
	caught := 0
	for _, w := range wrongs {
		t.Run(w.name, func(t *testing.T) {
			for seed := uint64(1); seed <= scripts; seed++ {
				if d := differ(t, seed, &w.wrong); d != "" {
					t.Logf("seed %d: %s", seed, d)
					caught++
					return
				}
			}
			t.Errorf("%d scripts do not find it", scripts)
		})
	}
	fmt.Printf("differential: %d of %d wrong transports caught\n", caught, len(wrongs))
}

// behind makes connections of a rig wrong.
func (w *wrong) behind(connect func(context.Context, int) (*channel.Connection, error)) func(context.Context, int) (*channel.Connection, error) {
	return func(ctx context.Context, process int) (*channel.Connection, error) {
		return channel.Connect(ctx, func(ctx context.Context, s channel.ConnectionSink) (channel.Transport, error) {
			c, err := connect(ctx, process)
			if err != nil {
				return nil, err
			}
			t := &wrongTransport{Transport: c.Transport(), wrong: w, told: make(chan struct{})}
			go func() {
				defer close(t.told)
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
}

type wrongTransport struct {
	channel.Transport
	wrong *wrong
	told  chan struct{} // that it has ended
}

func (t *wrongTransport) OpenChannel(ctx context.Context, s channel.Sink) (channel.Port, error) {
	p, err := t.Transport.OpenChannel(ctx, &wrongSink{s, t.wrong})
	if err != nil {
		return nil, err
	}
	return &wrongPort{p, t.wrong}, nil
}

func (t *wrongTransport) Close(ctx context.Context) error {
	err := t.Transport.Close(ctx)
	<-t.told
	return err
}

type wrongSink struct {
	channel.Sink
	wrong *wrong
}

func (s *wrongSink) Deliver(ds []channel.Delivered) {
	for i := range ds {
		if s.wrong.deliver != nil {
			s.wrong.deliver(&ds[i])
		}
	}
	s.Sink.Deliver(ds)
}

type wrongPort struct {
	channel.Port
	wrong *wrong
}

func (p *wrongPort) Call(ctx context.Context, m channel.Method) (channel.Reply, error) {
	if p.wrong.call != nil {
		p.wrong.call(m)
	}
	return p.Port.Call(ctx, m)
}

func (p *wrongPort) Publish(ctx context.Context, m *channel.Publish) error {
	if p.wrong.publish != nil {
		p.wrong.publish(m)
	}
	return p.Port.Publish(ctx, m)
}

func (p *wrongPort) Settle(s channel.Settle) error {
	if p.wrong.settle != nil {
		p.wrong.settle(&s)
	}
	return p.Port.Settle(s)
}
