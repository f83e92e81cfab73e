package dashi_test

import (
	"context"
	"fmt"
	"log"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	_ "github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// A program of AMQP channels, as amqp091-go's users write it. With another URL, and its backend imported, it runs on
// RabbitMQ.
func Example() {
	ctx := context.Background()
	conn, err := dashi.Dial(ctx, "memory://")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close(ctx)
	ch, err := conn.Channel(ctx)
	if err != nil {
		log.Fatal(err)
	}

	must(ch.ExchangeDeclare(ctx, "logs", channel.Topic, channel.ExchangeOptions{Durable: true}))
	q, err := ch.QueueDeclare(ctx, "", channel.QueueOptions{Exclusive: true})
	must(err)
	must(ch.QueueBind(ctx, q.Name, "*.error.#", "logs", nil))

	must(ch.Confirm(ctx))
	c, err := ch.PublishDeferred(ctx, "logs", "api.error.db", channel.Publishing{ContentType: "text/plain", Body: []byte("down")})
	must(err)
	acked, err := c.Wait(ctx)
	must(err)
	fmt.Println("stored:", acked)

	for d, err := range ch.Deliveries(ctx, q.Name, channel.ConsumeOptions{}) { // ends with the cause: cancel, close, ctx
		if err != nil {
			log.Fatal(err)
		}
		fmt.Printf("%s: %s\n", d.RoutingKey, d.Body)
		must(d.Ack(false))
		break
	}
	// Output:
	// stored: true
	// api.error.db: down
}

// Two processes on one store, here a place in memory: what one declares and publishes the other consumes.
func ExampleOpen() {
	ctx := context.Background()
	place := memory.New()
	sender, err := dashi.Open(ctx, place.Open(), broker.Options{})
	must(err)
	defer sender.Close(ctx)
	receiver, err := dashi.Open(ctx, place.Open(), broker.Options{})
	must(err)
	defer receiver.Close(ctx)

	out, err := sender.Channel(ctx)
	must(err)
	_, err = out.QueueDeclare(ctx, "jobs", channel.QueueOptions{Durable: true})
	must(err)
	must(out.Publish(ctx, "", "jobs", channel.Publishing{Body: []byte("resize picture 7")}))

	in, err := receiver.Channel(ctx)
	must(err)
	msgs, err := in.Consume(ctx, "jobs", channel.ConsumeOptions{AutoAck: true}) // or the chan people know
	must(err)
	d := <-msgs
	fmt.Println(string(d.Body))
	// Output: resize picture 7
}

func must(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
