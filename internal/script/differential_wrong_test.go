package script

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// wrongs are transports that the differential must find by themselves, with no model to help.
var wrongs = []struct {
	name string
	wrong
}{
	{"redelivered is not told", wrong{deliver: func(d *channel.Delivered) { d.Redelivered = false }}},
	{"priorities are lost", wrong{publish: func(p *channel.Publish) { p.Priority = 0 }}},
	{"mandatory is taken for not mandatory", wrong{publish: func(p *channel.Publish) { p.Mandatory = false }}},
	{"what is rejected is acked, and dies nowhere", wrong{settle: func(_ *wrongPort, s *channel.Settle) bool {
		if s.Kind == channel.Nack {
			s.Kind = channel.Ack
		}
		return true
	}}},
	{"multiple is taken for one", wrong{settle: func(_ *wrongPort, s *channel.Settle) bool {
		s.Multiple = s.Multiple && s.Tag == 0
		return true
	}}},
	{"a topic is taken for a direct key", wrong{method: func(_ *wrongPort, m channel.Method) bool {
		if x, ok := m.(*channel.ExchangeDeclare); ok && x.Type == channel.Topic {
			x.Type = channel.Direct
		}
		return true
	}}},
	{"an auto-delete queue stays", wrong{method: func(_ *wrongPort, m channel.Method) bool {
		if q, ok := m.(*channel.QueueDeclare); ok {
			q.AutoDelete = false
		}
		return true
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
			rig.Expected, rig.Patience = expected, time.Second
			right := rig.Connect
			rig.Connect = func(ctx context.Context, process int) (*channel.Connection, error) {
				return wrongConnection(ctx, w, func() (*channel.Connection, error) { return right(ctx, process) })
			}
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
