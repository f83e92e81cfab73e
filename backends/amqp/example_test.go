package amqp_test

import (
	"context"
	"fmt"
	"time"

	_ "github.com/dashi-mq/dashi/backends/amqp"
	"github.com/dashi-mq/dashi/channel"
)

// A program publishes to a real server and reads its message back.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()

	conn, err := channel.Dial(ctx, "amqp://guest:guest@localhost/", channel.Config{Name: "example"})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer conn.Close(ctx)
	ch, err := conn.Channel(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = ch.Qos(ctx, 100, 0, false) // bounds what the server sends ahead
	q, err := ch.QueueDeclare(ctx, "", channel.QueueOptions{Exclusive: true})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = ch.Confirm(ctx)
	c, err := ch.PublishDeferred(ctx, "", q.Name, channel.Publishing{Body: []byte("hello")})
	if err != nil {
		fmt.Println(err)
		return
	}
	acked, _ := c.Wait(ctx)
	fmt.Println("stored:", acked)
	for d, err := range ch.Deliveries(ctx, q.Name, channel.ConsumeOptions{}) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("%s\n", d.Body)
		_ = d.Ack(false)
		break
	}
}
