package redis_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// process opens a connection on a place, as a process of its own.
func process(t *testing.T, u string) *channel.Channel {
	t.Helper()
	conn, err := dashi.Open(t.Context(), open(t, u), broker.Options{})
	must(t, err, "Open")
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		_ = conn.Close(ctx)
	})
	ch, err := conn.Channel(t.Context())
	must(t, err, "Channel")
	return ch
}

// TestConsumersGoOnWhenTheServerIsLost kills the connections that wake, then the server, in the middle of a stream.
func TestConsumersGoOnWhenTheServerIsLost(t *testing.T) {
	server := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	u := newPlace(t, server.url())
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	in, out, c := process(t, u), process(t, u), client(t, server.url())
	_, err := in.QueueDeclare(ctx, "orders", channel.QueueOptions{Durable: true})
	must(t, err, "QueueDeclare")
	must(t, in.Confirm(ctx), "Confirm")
	deliveries, err := out.Consume(ctx, "orders", channel.ConsumeOptions{})
	must(t, err, "Consume")
	for i := range 30 {
		switch i {
		case 10, 15:
			must(t, c.ClientKillByFilter(ctx, "TYPE", "pubsub").Err(), "CLIENT KILL")
		case 20, 25:
			server.kill()
			must(t, server.start(), "start after a kill")
		}
		passOn(ctx, t, in, deliveries, fmt.Sprint("m", i))
	}
}

// passOn publishes a message that is to be confirmed and delivered.
func passOn(ctx context.Context, t *testing.T, in *channel.Channel, deliveries <-chan channel.Delivery, body string) {
	t.Helper()
	confirm, err := in.PublishDeferred(ctx, "", "orders", channel.Publishing{Body: []byte(body), DeliveryMode: 2})
	must(t, err, "Publish")
	if acked, err := confirm.Wait(ctx); err != nil || !acked {
		t.Fatalf("%s is not confirmed: %v", body, err)
	}
	for came := ""; came != body; { // one whose ack went with the server may come again
		select {
		case d := <-deliveries:
			came = string(d.Body)
			must(t, d.Ack(false), "Ack of "+came)
		case <-ctx.Done():
			t.Fatalf("%s was confirmed and does not come", body)
		}
	}
}

// TestAWakeUpThatGotLostIsSaidAgain has a waiter woken, as far as the server knows.
func TestAWakeUpThatGotLostIsSaidAgain(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	server := startServer(t, "--appendonly", "no")
	s, c := open(t, newPlace(t, server.url())), client(t, server.url())
	ready, woken := make(chan struct{}), make(chan virtual.QueueRef, 10)
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Notify(ctx, "w", ready, func(q virtual.QueueRef) { woken <- q }) }()
	<-ready
	_, _, err := s.Get(ctx, virtual.GetRequest{Queue: orders, Max: 1, Lease: time.Minute, Park: "w"}, nil)
	must(t, err, "Get with Park")
	layouts, err := c.Keys(ctx, "*:layout").Result()
	if must(t, err, "KEYS"); len(layouts) != 1 {
		t.Fatalf("%d places in a server of one", len(layouts))
	}
	log := strings.TrimSuffix(layouts[0], "layout") + "log:w"
	must(t, c.ZAdd(ctx, log, goredis.Z{Score: 1, Member: "1:orders"}).Err(), "ZADD") // as a Put does, long ago
	select {
	case q := <-woken:
		if q != orders {
			t.Errorf("woken for %q", q.Name)
		}
	case <-time.After(limit):
		t.Error("a waiter whose wake-up got lost was not told again")
	}
	stop()
	<-ended
}
