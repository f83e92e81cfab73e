package redis_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual/broker"
)

func TestWhatProcessesRelyOn(t *testing.T) {
	conformance.RunProcesses(t, conformance.Config{Name: "redis", Open: inServer(serverURL(t))})
}

// TestAThousandIdleQueuesAreSilent counts what a process asks that waits at a thousand queues. The connection that wakes pings the
// server every five seconds beside that.
func TestAThousandIdleQueuesAreSilent(t *testing.T) {
	queues, lasts := 1000, 10*time.Second
	if os.Getenv("NIGHTLY") == "" {
		lasts = 4 * time.Second
	}
	server := serverURL(t)
	u := newPlace(t, server)
	c, count := client(t, server), &counts{}
	c.AddHook(count)
	s, err := redis.New(t.Context(), c, redis.Options{Prefix: u[strings.Index(u, "prefix=")+len("prefix="):]})
	must(t, err, "New")
	defer s.Close()
	ctx, stop := context.WithTimeout(t.Context(), 4*limit)
	defer stop()
	b, err := broker.Open(ctx, s, broker.Options{})
	must(t, err, "Open")
	defer b.Close(ctx)
	conn, err := channel.Connect(ctx, b.Connect)
	must(t, err, "Connect")
	ch, err := conn.Channel(ctx)
	must(t, err, "Channel")
	for i := range queues {
		name := fmt.Sprint("q", i)
		_, err := ch.QueueDeclare(ctx, name, channel.QueueOptions{Durable: true})
		must(t, err, "QueueDeclare")
		_, err = ch.Consume(ctx, name, channel.ConsumeOptions{})
		must(t, err, "Consume")
	}
	before, began := count.n.Load(), time.Now()
	over := time.NewTimer(lasts)
	defer over.Stop()
	<-over.C
	n, took := count.n.Load()-before, time.Since(began)
	fmt.Printf("redis: %d idle, consumed queues: %d commands in %.1f s\n", queues, n, took.Seconds())
	if float64(n) > 2*took.Seconds() {
		t.Errorf("%d idle queues cost %d commands in %v, want at most two a second", queues, n, took)
	}
	before = count.n.Load()
	must(t, ch.Publish(ctx, "", "q7", channel.Publishing{}), "Publish") // the count counts
	must(t, ch.Flush(ctx), "Flush")
	if count.n.Load() == before {
		t.Error("a publish costs no command: nothing was counted")
	}
}
