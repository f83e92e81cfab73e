package broker_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// tally counts the calls of one process: those that wait for a message apart from the others.
type tally struct {
	mu             sync.Mutex
	waiting, calls int
	by             map[string]int
	latency        time.Duration
}

func (c *tally) pass(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
	c.mu.Lock()
	if r, ok := call.Request.(*virtual.GetRequest); ok && r.Wait > 0 && !strings.HasPrefix(r.Queue.Name, "!") {
		c.waiting++
	} else {
		c.calls++
		if c.by == nil {
			c.by = map[string]int{}
		}
		c.by[strings.TrimSpace(call.Method+" "+reserved(call.Queue.Name))]++
	}
	latency := c.latency
	c.mu.Unlock()
	if latency > 0 {
		time.Sleep(latency) // a bubble's
	}
	return next(ctx)
}

// reserved is the name of one of the engine's own queues.
func reserved(name string) string {
	if strings.HasPrefix(name, "!") {
		return name
	}
	return ""
}

func (c *tally) reset() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.calls, c.by = 0, 0, nil
}

// five opens a process on a place that shows the five methods only.
func five(t *testing.T, p *memory.Place, c *tally, o broker.Options) *channel.Connection {
	t.Helper()
	b, err := broker.Open(t.Context(), virtual.Intercept(virtual.Only(p.Open()), c.pass), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	conn, err := channel.Connect(t.Context(), b.Connect)
	if err != nil {
		t.Fatal(err)
	}
	return conn
}

// together runs f for every number below n on so many goroutines.
func together(n, goroutines int, f func(worker, i int)) {
	var wg sync.WaitGroup
	for w := range goroutines {
		wg.Go(func() {
			for i := w; i < n; i += goroutines {
				f(w, i)
			}
		})
	}
	wg.Wait()
}

func TestThousandIdleQueuesCostHardlyACallOnFiveMethods(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const queues = 1000
		place := memory.New()
		var counts [2]tally
		for i := range counts {
			conn := five(t, place, &counts[i], broker.Options{})
			chans := make([]*channel.Channel, 50)
			for w := range chans {
				chans[w] = open(t, conn)
			}
			together(queues, len(chans), func(w, k int) {
				q, err := chans[w].QueueDeclare(t.Context(), fmt.Sprint("idle-", k), channel.QueueOptions{Durable: true})
				if err == nil {
					_, err = chans[w].Consume(t.Context(), q.Name, channel.ConsumeOptions{})
				}
				if err != nil {
					t.Error(err)
				}
			})
		}
		time.Sleep(2 * time.Minute) // what was under way ends
		for i := range counts {
			counts[i].reset()
		}
		const seconds = 600
		time.Sleep(seconds * time.Second)
		for i := range counts {
			c := &counts[i]
			c.mu.Lock()
			t.Logf("process %d, %d consumed empty queues: %.2f calls a second and %.1f waiting Gets a second: %v", i, queues,
				float64(c.calls)/seconds, float64(c.waiting)/seconds, c.by)
			if c.calls >= 2*seconds {
				t.Errorf("%d calls in %d s, want fewer than 2 a second", c.calls, seconds)
			}
			c.mu.Unlock()
		}
	})
}

func TestTenThousandQueuesOnFiveMethods(t *testing.T) {
	n := 10000
	if testing.Short() || raceEnabled {
		n = 1000
	}
	synctest.Test(t, func(t *testing.T) {
		place := memory.New()
		var c tally
		conn := five(t, place, &c, broker.Options{})
		if err := open(t, conn).ExchangeDeclare(t.Context(), "x", channel.Topic, channel.ExchangeOptions{Durable: true}); err != nil {
			t.Fatal(err)
		}
		chans := make([]*channel.Channel, 200)
		for w := range chans {
			chans[w] = open(t, conn)
		}
		began := time.Now()
		c.reset()
		c.mu.Lock()
		c.latency = time.Millisecond
		c.mu.Unlock()
		together(n, len(chans), func(w, k int) {
			q, err := chans[w].QueueDeclare(t.Context(), fmt.Sprint("queue-", k), channel.QueueOptions{Durable: true})
			if err == nil {
				err = chans[w].QueueBind(t.Context(), q.Name, fmt.Sprint("key.", k), "x", nil)
			}
			if err != nil {
				t.Error(err)
			}
		})
		c.mu.Lock()
		t.Logf("%d queues and %d bindings, declared on %d channels: %v at 1 ms a call, %v", n, n, len(chans), time.Since(began), c.by)
		c.mu.Unlock()

		// One more costs no more than one of the first.
		c.reset()
		if _, err := chans[0].QueueDeclare(t.Context(), "one more", channel.QueueOptions{Durable: true}); err != nil {
			t.Fatal(err)
		}
		c.mu.Lock()
		t.Logf("one more queue: %d calls, %v", c.calls, c.by)
		if c.calls > 12 {
			t.Errorf("a declaration among %d costs %d calls, want no more than 12", n, c.calls)
		}
		c.mu.Unlock()

		// A fresh process.
		var other tally
		other.latency = time.Millisecond
		began = time.Now()
		ch := open(t, five(t, place, &other, broker.Options{}))
		if _, err := ch.QueueDeclarePassive(t.Context(), fmt.Sprint("queue-", n-1)); err != nil {
			t.Fatal(err)
		}
		ready := time.Since(began)
		other.mu.Lock()
		defer other.mu.Unlock()
		t.Logf("a fresh process is ready in %v at 1 ms a call: %v", ready, other.by)
		if ready > 2*time.Second {
			t.Errorf("a fresh process is ready in %v, want less than 2 s", ready)
		}
	})
}
