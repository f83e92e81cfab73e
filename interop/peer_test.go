package interop

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ThreeDotsLabs/watermill"
	"github.com/ThreeDotsLabs/watermill/message"
	"github.com/ThreeDotsLabs/watermill/pubsub/gochannel"
	"go.uber.org/goleak"
	"gocloud.dev/pubsub"
	"gocloud.dev/pubsub/mempubsub"
)

func TestMain(m *testing.M) {
	// A Receive of gocloud.dev that is cancelled may leave the goroutine that fetches ahead for it.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("gocloud.dev/pubsub.(*Subscription).Receive.func2"))
}

const bodySize = 256

// peer passes messages from producers to consumers within a process.
type peer struct {
	send func(body []byte) error

	// receive calls got for each message and acknowledges it after, until ctx ends.
	receive func(ctx context.Context, got func(body []byte)) error

	close func() error
}

var peers = []struct {
	name string
	open func() (*peer, error)
}{
	{"watermill-gochannel", openGoChannel},
	{"mempubsub", openMemPubSub},
}

// openGoChannel makes Watermill's. Each of its subscribers gets every message, so all consumers share one.
func openGoChannel() (*peer, error) {
	const topic = "t"
	ps := gochannel.NewGoChannel(gochannel.Config{OutputChannelBuffer: 1000}, watermill.NopLogger{})
	messages, err := ps.Subscribe(context.Background(), topic)
	if err != nil {
		return nil, err
	}
	return &peer{
		send: func(body []byte) error { return ps.Publish(topic, message.NewMessage(watermill.NewUUID(), body)) },
		receive: func(ctx context.Context, got func([]byte)) error {
			for {
				select {
				case m := <-messages:
					got(m.Payload)
					m.Ack()
				case <-ctx.Done():
					return nil
				}
			}
		},
		close: ps.Close,
	}, nil
}

func openMemPubSub() (*peer, error) {
	ctx := context.Background()
	topic := mempubsub.NewTopic()
	sub := mempubsub.NewSubscription(topic, time.Minute)
	return &peer{
		send: func(body []byte) error { return topic.Send(ctx, &pubsub.Message{Body: body}) },
		receive: func(ctx context.Context, got func([]byte)) error {
			for {
				m, err := sub.Receive(ctx)
				if ctx.Err() != nil {
					return nil
				}
				if err != nil {
					return err
				}
				got(m.Body)
				m.Ack()
			}
		},
		close: func() error { return errors.Join(sub.Shutdown(ctx), topic.Shutdown(ctx)) },
	}, nil
}

// pass sends n messages, of a body each of their own, by that many producers to as many consumers, and returns when all
// have arrived.
func (p *peer) pass(n, producers, consumers int) error {
	ctx, done := context.WithCancel(context.Background())
	defer done()
	errs := make(chan error, producers+consumers)
	var left atomic.Int64
	left.Store(int64(n))
	var all sync.WaitGroup
	for range consumers {
		all.Go(func() {
			errs <- p.receive(ctx, func(body []byte) {
				if len(body) != bodySize {
					panic(fmt.Sprintf("a body of %d bytes", len(body)))
				}
				if left.Add(-1) == 0 {
					done()
				}
			})
		})
	}
	for i := range producers {
		all.Go(func() {
			for range (n + i) / producers {
				if err := p.send(make([]byte, bodySize)); err != nil {
					errs <- err
					done()
					return
				}
			}
		})
	}
	all.Wait()
	close(errs)
	for err := range errs {
		if err != nil {
			return err
		}
	}
	if n := left.Load(); n != 0 {
		return fmt.Errorf("%d messages more or less than were sent", n)
	}
	return nil
}

var shapes = []struct{ producers, consumers int }{{1, 1}, {4, 4}}

func TestPeersPassEverything(t *testing.T) {
	for _, c := range peers {
		for _, s := range shapes {
			p, err := c.open()
			if err == nil {
				err = errors.Join(p.pass(1000, s.producers, s.consumers), p.close())
			}
			if err != nil {
				t.Errorf("%s, %dx%d: %v", c.name, s.producers, s.consumers, err)
			}
		}
	}
}

func BenchmarkPeer(b *testing.B) {
	for _, c := range peers {
		for _, s := range shapes {
			b.Run(fmt.Sprintf("%s/%dx%d", c.name, s.producers, s.consumers), func(b *testing.B) {
				p, err := c.open()
				if err != nil {
					b.Fatal(err)
				}
				b.ReportAllocs()
				b.ResetTimer()
				if err := p.pass(b.N, s.producers, s.consumers); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s")
				if err := p.close(); err != nil {
					b.Fatal(err)
				}
			})
		}
	}
}
