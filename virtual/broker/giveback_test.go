package broker_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// A message that does not fit into its consumer's window goes back. Until it is there nothing is taken that stands behind it.
func TestWhatGoesBackIsNotOvertaken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		let := sync.OnceFunc(func() { close(release) })
		defer let()
		hold := func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if all, ok := c.Request.(*[]virtual.Settlement); ok && (*all)[0].Kind == virtual.Return {
				<-release
			}
			return next(ctx)
		}
		slow := virtual.Claim(memory.New().Open(), func(tr *virtual.Traits) { tr.Quick = false })
		_, conn := process(t, virtual.Intercept(slow, hold), broker.Options{})
		ctx := t.Context()
		ch := open(t, conn)
		check := func(err error) {
			t.Helper()
			if err != nil {
				t.Fatal(err)
			}
		}
		q, err := ch.QueueDeclare(ctx, "", channel.QueueOptions{})
		check(err)
		check(ch.Qos(ctx, 0, 100, false))
		ds, err := ch.Consume(ctx, q.Name, channel.ConsumeOptions{})
		check(err)
		publish := func(size int) {
			check(ch.Publish(ctx, "", q.Name, channel.Publishing{Body: make([]byte, size)}))
			synctest.Wait()
		}
		publish(40)
		publish(41)
		first, second := <-ds, <-ds
		publish(500) // goes back
		publish(10)
		check(first.Ack(false))
		synctest.Wait()
		select {
		case d := <-ds:
			t.Fatalf("%d bytes came before the 500 that stand before them", len(d.Body))
		default:
		}
		let()
		synctest.Wait()
		check(second.Ack(false))
		for _, want := range []int{500, 10} {
			d := <-ds
			if len(d.Body) != want {
				t.Fatalf("%d bytes came, want %d", len(d.Body), want)
			}
			check(d.Ack(false))
		}
	})
}
