package broker_test

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// durableStore says that it survives its restart.
type durableStore struct{ virtual.Store }

func (d durableStore) Traits() virtual.Traits {
	t := virtual.TraitsOf(d.Store)
	t.Durable = true
	return t
}

func TestDurableQueueOnAStoreThatIsNotIsLoggedOnce(t *testing.T) {
	for name, c := range map[string]struct {
		store   virtual.Store
		durable bool
		lines   int
	}{
		"durable queues on memory":          {memory.New().Open(), true, 1},
		"others on memory":                  {memory.New().Open(), false, 0},
		"durable queues on a durable store": {durableStore{virtual.Only(memory.New().Open())}, true, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var log bytes.Buffer
			b, conn := process(t, c.store, broker.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			ch := open(t, conn)
			for _, q := range []string{"one", "two"} {
				if _, err := ch.QueueDeclare(t.Context(), q, channel.QueueOptions{Durable: c.durable}); err != nil {
					t.Fatal(err)
				}
			}
			if err := b.Close(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := strings.Count(log.String(), "durable queue"); n != c.lines {
				t.Errorf("%d lines of it, want %d: %s", n, c.lines, log.String())
			}
		})
	}
}
