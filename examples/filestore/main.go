//go:build linux || darwin || freebsd || netbsd || openbsd

// Filestore is a store of one's own for dashi, and a program that shows it at work. The store, in store.go, has the five
// methods of virtual.Store on a directory of files and nothing else; dashi makes AMQP of it. Its whole test is store_test.go.
//
// Two terminals exchange messages through a directory, without a server:
//
//	go run ./examples/filestore -dir /tmp/files consume
//	go run ./examples/filestore -dir /tmp/files publish hello world
//	seq 1000 | go run ./examples/filestore -dir /tmp/files publish
//
// Publish prints what is confirmed: from then on it is in the directory, and reaches a consumer whatever happens to any
// process. To see that, kill a consumer that works, and start another:
//
//	go build -o /tmp/filestore ./examples/filestore
//	/tmp/filestore -dir /tmp/files -work 3s consume & sleep 10; kill -9 $!
//	/tmp/filestore -dir /tmp/files consume
//
// What the first had taken and not acked comes again once its lease is over, after 10 s, marked as redelivered. Who starts
// after a kill -9 may wait some seconds: what is declared is a message, too, and the dead one may have had it in hand.
package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"os"
	"os/signal"
	"strings"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual/broker"
)

var (
	dir  = flag.String("dir", "", "the `DIRECTORY` of the store; needed")
	onto = flag.String("queue", "texts", "the `NAME` of the queue")
	work = flag.Duration("work", 0, "how long consume works on each message before it acks it")
)

func main() {
	log.SetFlags(0)
	flag.Usage = func() {
		fmt.Fprintln(os.Stderr, "filestore -dir DIRECTORY [FLAG ...] consume\nfilestore -dir DIRECTORY [FLAG ...] publish [TEXT ...]")
		flag.PrintDefaults()
	}
	flag.Parse()
	do := map[string]func(context.Context, *channel.Channel) error{"consume": consume, "publish": publish}[flag.Arg(0)]
	if do == nil || *dir == "" {
		flag.Usage()
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, do); err != nil && !errors.Is(err, context.Canceled) {
		log.Fatal(err)
	}
}

// run opens the store, a connection on it and a channel, declares the queue and calls do.
func run(ctx context.Context, do func(context.Context, *channel.Channel) error) error {
	fresh := os.Mkdir(*dir, 0o700) == nil // then nobody has declared anything there, and none has to be waited for
	store, err := Open(*dir)
	if err != nil {
		return err
	}
	conn, err := dashi.Open(ctx, store, broker.Options{Fresh: fresh})
	if err != nil {
		return err
	}
	defer conn.Close(context.Background()) // what was taken and not acked goes back at once
	ch, err := conn.Channel(ctx)
	if err != nil {
		return err
	}
	if _, err = ch.QueueDeclare(ctx, *onto, channel.QueueOptions{Durable: true}); err != nil {
		return err
	}
	return do(ctx, ch)
}

// consume prints and acks what comes, until ^C.
func consume(ctx context.Context, ch *channel.Channel) error {
	for d, err := range ch.Deliveries(ctx, *onto, channel.ConsumeOptions{}) {
		if err != nil {
			return err
		}
		fmt.Printf("%s%s\n", d.Body, map[bool]string{true: " (redelivered)"}[d.Redelivered])
		time.Sleep(*work)
		d.Ack(false) // an error comes with the next delivery
	}
	return nil
}

// publish publishes its arguments, or else the lines of its input, one after the other, and prints what is confirmed.
func publish(ctx context.Context, ch *channel.Channel) error {
	in := io.Reader(os.Stdin)
	if flag.NArg() > 1 {
		in = strings.NewReader(strings.Join(flag.Args()[1:], "\n"))
	}
	texts, err := bufio.NewScanner(in), ch.Confirm(ctx)
	for err == nil && texts.Scan() {
		c, err := ch.PublishDeferred(ctx, "", *onto, channel.Publishing{DeliveryMode: channel.Persistent, Body: texts.Bytes()})
		if err != nil {
			return err
		}
		if acked, err := c.Wait(ctx); !acked {
			return fmt.Errorf("%q may be stored or not: acked %t, %v", texts.Text(), acked, err)
		}
		fmt.Println("confirmed:", texts.Text())
	}
	return errors.Join(err, texts.Err())
}
