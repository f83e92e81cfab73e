package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill-redisstream/pkg/redisstream"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/hibiken/asynq"
	"github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi"
	_ "github.com/dashi-mq/dashi/backends/amqp"
	_ "github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/channel"
)

// served passes n messages from so many producers to as many consumers by a server, each acknowledged, and returns when all are.
type served func(ctx context.Context, url string, n, each int) error

// servers are the peers that need one, and dashi beside them: by the environment variable of its URL.
var servers = []struct {
	name, env string
	pass      served
}{
	{"dashi-redis", "DASHI_REDIS_URL", passDashi},
	{"watermill-redisstream", "DASHI_REDIS_URL", passRedisStream},
	{"asynq", "DASHI_REDIS_URL", passAsynq},
	{"rabbitmq-confirmed", "DASHI_AMQP_URL", passDashi},
}

func TestServedPeersPassEverything(t *testing.T) {
	for _, c := range servers {
		t.Run(c.name, func(t *testing.T) {
			url := os.Getenv(c.env)
			if url == "" {
				t.Skip(c.env + " is not set")
			}
			for _, s := range shapes {
				if err := c.pass(t.Context(), url, 1000, s.producers); err != nil {
					t.Errorf("%dx%d: %v", s.producers, s.consumers, err)
				}
			}
		})
	}
}

// BenchmarkServed moves messages of 256 bytes through a server. With dashi they are persistent, published with confirms, up to
// 1,000 of them awaited, and acked each.
func BenchmarkServed(b *testing.B) {
	for _, c := range servers {
		for _, s := range shapes {
			b.Run(fmt.Sprintf("%s/%dx%d", c.name, s.producers, s.consumers), func(b *testing.B) {
				url := os.Getenv(c.env)
				if url == "" {
					b.Skip(c.env + " is not set")
				}
				if err := c.pass(b.Context(), url, b.N, s.producers); err != nil {
					b.Fatal(err)
				}
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
			})
		}
	}
}

// crowd runs producers and consumers until all messages have come, and returns the first error.
func crowd(n, each int, produce func(i, n int) error, consume func(i int, got func(body []byte), done <-chan struct{}) error) error {
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	end := sync.OnceFunc(func() { close(done) })
	errs := make(chan error, 2*each)
	var all sync.WaitGroup
	watch := func(err error) {
		if err != nil {
			errs <- err
			end()
		}
	}
	for i := range each {
		all.Go(func() {
			watch(consume(i, func(body []byte) {
				if len(body) != bodySize {
					panic(fmt.Sprintf("a body of %d bytes", len(body)))
				}
				if left.Add(-1) == 0 {
					end()
				}
			}, done))
		})
		all.Go(func() { watch(produce(i, (n+i)/each)) })
	}
	all.Wait()
	close(errs)
	if err := <-errs; err != nil {
		return err
	}
	if n := left.Load(); n != 0 {
		return fmt.Errorf("%d messages more or less than were sent", n)
	}
	return nil
}

// passDashi gives each producer and consumer a connection of its own.
func passDashi(ctx context.Context, url string, n, each int) (err error) {
	queue := fmt.Sprintf("interop-%d", time.Now().UnixNano())
	var conns []*dashi.Connection
	defer func() {
		for _, c := range conns {
			err = errors.Join(err, c.Close(context.WithoutCancel(ctx)))
		}
	}()
	open := func() (*channel.Channel, error) {
		conn, err := dashi.Dial(ctx, url)
		if err != nil {
			return nil, err
		}
		conns = append(conns, conn)
		return conn.Channel(ctx)
	}
	first, err := open()
	if err != nil {
		return err
	}
	if _, err := first.QueueDeclare(ctx, queue, channel.QueueOptions{Durable: true}); err != nil {
		return err
	}
	pubs, subs := make([]*channel.Channel, each), make([]*channel.Channel, each)
	deliveries := make([]<-chan channel.Delivery, each)
	for i := range each {
		if pubs[i], err = open(); err == nil {
			err = pubs[i].Confirm(ctx)
		}
		if err == nil {
			subs[i], err = open()
		}
		if err == nil {
			err = subs[i].Qos(ctx, 100, 0, false)
		}
		if err == nil {
			deliveries[i], err = subs[i].Consume(ctx, queue, channel.ConsumeOptions{Tag: "c"})
		}
		if err != nil {
			return err
		}
	}
	err = crowd(n, each, func(i, n int) error {
		const window = 1000
		unsure := make([]*channel.Confirmation, 0, window)
		wait := func(c *channel.Confirmation) error {
			if ok, err := c.Wait(ctx); !ok {
				return fmt.Errorf("not confirmed: %w", err)
			}
			return nil
		}
		for k := range n {
			if k >= window {
				if err := wait(unsure[k%window]); err != nil {
					return err
				}
			}
			c, err := pubs[i].PublishDeferred(ctx, "", queue, channel.Publishing{Body: make([]byte, bodySize), DeliveryMode: channel.Persistent})
			if err != nil {
				return err
			}
			if k < window {
				unsure = append(unsure, c)
			} else {
				unsure[k%window] = c
			}
		}
		for _, c := range unsure {
			if err := wait(c); err != nil {
				return err
			}
		}
		return nil
	}, func(i int, got func([]byte), done <-chan struct{}) error {
		for {
			select {
			case d := <-deliveries[i]:
				got(d.Body)
				if err := d.Ack(false); err != nil {
					return err
				}
			case <-done:
				return subs[i].Flush(ctx)
			}
		}
	})
	if err == nil {
		_, err = first.QueueDelete(ctx, queue, channel.DeleteOptions{})
	}
	return err
}

// passRedisStream publishes one message a call, as its API does, to subscribers of one group.
func passRedisStream(ctx context.Context, url string, n, each int) error {
	o, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	admin := redis.NewClient(o)
	defer admin.Close()
	topic, log := fmt.Sprintf("interop-%d", time.Now().UnixNano()), watermill.NopLogger{}
	defer admin.Del(context.WithoutCancel(ctx), topic)
	pubs, subs := make([]*redisstream.Publisher, each), make([]<-chan *message.Message, each)
	for i := range each {
		if pubs[i], err = redisstream.NewPublisher(redisstream.PublisherConfig{Client: redis.NewClient(o)}, log); err != nil {
			return err
		}
		defer pubs[i].Close()
		sub, err := redisstream.NewSubscriber(redisstream.SubscriberConfig{
			Client: redis.NewClient(o), ConsumerGroup: "g", Consumer: fmt.Sprint("c", i), OldestId: "0", DisableIndefiniteInitialBlock: true,
		}, log)
		if err != nil {
			return err
		}
		defer sub.Close()
		if subs[i], err = sub.Subscribe(ctx, topic); err != nil {
			return err
		}
	}
	err = crowd(n, each, func(i, n int) error {
		for range n {
			if err := pubs[i].Publish(topic, message.NewMessage(watermill.NewUUID(), make([]byte, bodySize))); err != nil {
				return err
			}
		}
		return nil
	}, func(i int, got func([]byte), done <-chan struct{}) error {
		for {
			select {
			case m := <-subs[i]:
				got(m.Payload)
				m.Ack()
			case <-done:
				return nil
			}
		}
	})
	for err == nil { // until the last XACK is there
		p, e := admin.XPending(ctx, topic, "g").Result()
		if err = e; err == nil && p.Count == 0 {
			break
		}
		time.Sleep(time.Millisecond)
	}
	return err
}

// passAsynq enqueues all tasks, then handles them: a server that finds its queues empty sleeps for about a second, which would be
// measured else. It has a queue of its own in the database that the URL names.
func passAsynq(ctx context.Context, url string, n, each int) error {
	o, err := redis.ParseURL(url)
	if err != nil {
		return err
	}
	admin := redis.NewClient(o)
	defer admin.Close()
	opt := asynq.RedisClientOpt{Network: o.Network, Addr: o.Addr, Username: o.Username, Password: o.Password, DB: o.DB, TLSConfig: o.TLSConfig}
	client := asynq.NewClient(opt)
	defer client.Close()
	queue := fmt.Sprintf("interop-%d", time.Now().UnixNano())
	var left atomic.Int64
	left.Store(int64(n))
	done := make(chan struct{})
	server := asynq.NewServer(opt, asynq.Config{Concurrency: 10 * each, Queues: map[string]int{queue: 1}, LogLevel: asynq.FatalLevel})
	var all sync.WaitGroup
	errs := make(chan error, each)
	for i := range each {
		all.Go(func() {
			for range (n + i) / each {
				if _, err := client.EnqueueContext(ctx, asynq.NewTask("t", make([]byte, bodySize)), asynq.Queue(queue)); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	all.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	if err := server.Start(asynq.HandlerFunc(func(_ context.Context, t *asynq.Task) error {
		if len(t.Payload()) != bodySize {
			panic(fmt.Sprintf("a body of %d bytes", len(t.Payload())))
		}
		if left.Add(-1) == 0 {
			close(done)
		}
		return nil
	})); err != nil {
		return err
	}
	defer server.Shutdown()
	<-done
	for { // until the last one is marked as done
		open := admin.LLen(ctx, "asynq:{"+queue+"}:active")
		if err := open.Err(); err != nil || open.Val() == 0 {
			return err
		}
		time.Sleep(time.Millisecond)
	}
}
