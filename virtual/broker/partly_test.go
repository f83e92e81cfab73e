package broker_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// deletes is a store of five methods in which a queue is deleted just before something is put there together with others.
type deletes struct {
	virtual.Store
	name string
}

func (d deletes) Put(ctx context.Context, r virtual.PutRequest) error {
	var rest []*virtual.Message
	var failed *virtual.BatchError
	for i, m := range r.Messages {
		if m.Queue.Name == d.name && len(r.Messages) > 1 {
			failed = failed.Add(i, virtual.ErrNoQueue)
			continue
		}
		rest = append(rest, m)
	}
	r.Messages = rest
	if err := d.Store.Put(ctx, r); err != nil {
		return err
	}
	return failed.Or()
}

func TestDeadLetterThatOneQueueDoesNotTakeComesOnceToTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, conn := process(t, deletes{virtual.Only(memory.New().Open()), "gone"}, broker.Options{})
		ch := open(t, conn)
		for _, q := range []string{"there", "gone"} {
			declare(t, ch, q, nil)
			if err := ch.QueueBind(t.Context(), q, "", "amq.fanout", nil); err != nil {
				t.Fatal(err)
			}
		}
		declare(t, ch, "q", channel.Table{"x-dead-letter-exchange": "amq.fanout"})
		if err := ch.Publish(t.Context(), "", "q", channel.Publishing{Body: []byte("m")}); err != nil {
			t.Fatal(err)
		}
		if err := ch.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		d, ok, err := ch.Get(t.Context(), "q", false)
		if err != nil || !ok {
			t.Fatalf("got %v, %v", ok, err)
		}
		if err := d.Reject(false); err != nil {
			t.Fatal(err)
		}
		if err := ch.Flush(t.Context()); err != nil {
			t.Fatal(err)
		}
		for q, want := range map[string]int{"q": 0, "there": 1, "gone": 0} {
			is, err := ch.QueueDeclarePassive(t.Context(), q)
			if err != nil || is.Messages != want {
				t.Errorf("%s has %d messages, want %d: %v", q, is.Messages, want, err)
			}
		}
		if err := conn.Close(t.Context()); err != nil {
			t.Error(err)
		}
		if err := b.Close(t.Context()); err != nil {
			t.Error(err)
		}
	})
}
