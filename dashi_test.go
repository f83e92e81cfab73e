package dashi_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/dashi-mq/dashi"
	_ "github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
)

func TestSmoke(t *testing.T) {
	ctx := t.Context()
	conn, err := dashi.Dial(ctx, "memory://")
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.ExchangeDeclare(ctx, "logs", channel.Topic, channel.ExchangeOptions{Durable: true}); err != nil {
		t.Fatal(err)
	}
	q, err := ch.QueueDeclare(ctx, "", channel.QueueOptions{Exclusive: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.QueueBind(ctx, q.Name, "*.error.#", "logs", nil); err != nil {
		t.Fatal(err)
	}
	if err := ch.Confirm(ctx); err != nil {
		t.Fatal(err)
	}
	for i := range 10 {
		c, err := ch.PublishDeferred(ctx, "logs", "api.error.db", channel.Publishing{ContentType: "text/plain", Body: []byte(fmt.Sprint(i))})
		if err != nil {
			t.Fatal(err)
		}
		if ok, err := c.Wait(ctx); !ok || err != nil {
			t.Fatal(ok, err)
		}
	}
	n := 0
	for d, err := range ch.Deliveries(ctx, q.Name, channel.ConsumeOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if string(d.Body) != fmt.Sprint(n) {
			t.Fatal(string(d.Body))
		}
		d.Ack(false)
		if n++; n == 10 {
			break
		}
	}
	if err := conn.Close(context.Background()); err != nil {
		t.Fatal(err)
	}
}
