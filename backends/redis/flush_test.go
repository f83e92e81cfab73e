package redis_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// traffic publishes through an exchange and consumes what comes of it, in one of several processes.
type traffic struct {
	ch        *channel.Channel
	came      chan string // bodies that this process got
	confirmed atomic.Int64
	refused   atomic.Int64
}

// begin declares what all processes share, and begins to consume from one queue of all of them and from one of its own.
func begin(ctx context.Context, t *testing.T, u string) *traffic {
	t.Helper()
	x := &traffic{ch: process(t, u), came: make(chan string, 1<<16)}
	must(t, x.ch.ExchangeDeclare(ctx, "events", channel.Topic, channel.ExchangeOptions{Durable: true}), "ExchangeDeclare")
	_, err := x.ch.QueueDeclare(ctx, "shared", channel.QueueOptions{Durable: true})
	must(t, err, "QueueDeclare")
	own, err := x.ch.QueueDeclare(ctx, "", channel.QueueOptions{Exclusive: true})
	must(t, err, "QueueDeclare")
	for _, q := range []string{"shared", own.Name} {
		must(t, x.ch.QueueBind(ctx, q, "event.#", "events", nil), "QueueBind")
		ds, err := x.ch.Consume(ctx, q, channel.ConsumeOptions{})
		must(t, err, "Consume")
		go func() {
			for d := range ds {
				x.came <- q[:3] + " " + string(d.Body) // "sha" or "amq"
				_ = d.Ack(false)
			}
		}()
	}
	must(t, x.ch.Confirm(ctx), "Confirm")
	return x
}

// publish publishes until told to stop, and wants an answer to everything.
func (x *traffic) publish(ctx context.Context, t *testing.T, stop <-chan struct{}) {
	for i := 0; ; i++ {
		select {
		case <-stop:
			return
		default:
		}
		c, err := x.ch.PublishDeferred(ctx, "events", "event.new", channel.Publishing{Body: fmt.Append(nil, i), DeliveryMode: 2})
		if err != nil {
			t.Errorf("Publish: %v", err)
			return
		}
		acked, err := c.Wait(ctx)
		switch {
		case ctx.Err() != nil:
			t.Errorf("a publish was neither acked nor nacked: %v", err)
			return
		case acked:
			x.confirmed.Add(1)
		default:
			x.refused.Add(1)
		}
	}
}

// everywhere wants a publish of each process to come to the shared queue and to each process's own. Until every process has heard of the
// loss its own queue may not be there: published again, it comes.
func everywhere(ctx context.Context, t *testing.T, all []*traffic, what string) {
	t.Helper()
	for i, x := range all {
		for try := 0; ; try++ {
			body := fmt.Sprintf("%s %d %d", what, i, try)
			acked, err := func() (bool, error) {
				c, err := x.ch.PublishDeferred(ctx, "events", "event.new", channel.Publishing{Body: []byte(body), DeliveryMode: 2})
				if err != nil {
					return false, err
				}
				return c.Wait(ctx)
			}()
			if err != nil {
				t.Fatalf("%s: publish: %v", what, err)
			}
			if acked && comesToAll(ctx, t, all, body) {
				break
			}
			if ctx.Err() != nil {
				t.Fatalf("%s: what is published does not come to everybody", what)
			}
		}
	}
}

// comesToAll reports whether a message comes to the own queues of all. Of the shared queue one process gets it, which it must.
func comesToAll(ctx context.Context, t *testing.T, all []*traffic, body string) bool {
	t.Helper()
	over := time.NewTimer(time.Second)
	defer over.Stop()
	own, shared := 0, 0
	for own < len(all) || shared < 1 {
		for _, x := range all {
			select {
			case got := <-x.came:
				switch got {
				case "amq " + body:
					own++
				case "sha " + body:
					shared++
				}
				continue
			default:
			}
		}
		select {
		case <-over.C:
			if shared == 0 && ctx.Err() == nil {
				t.Fatalf("%s was confirmed and does not come to the shared queue", body)
			}
			return false
		case <-time.After(time.Millisecond):
		}
	}
	return true
}

// TestProcessesGoOnAfterAFlush flushes the server in the middle of what two processes publish and consume.
func TestProcessesGoOnAfterAFlush(t *testing.T) {
	server := startServer(t, "--appendonly", "no")
	u := newPlace(t, server.url())
	ctx, stop := context.WithTimeout(t.Context(), 2*limit)
	defer stop()
	all := []*traffic{begin(ctx, t, u), begin(ctx, t, u)}
	everywhere(ctx, t, all, "before")
	c := client(t, server.url())
	for i := range 3 {
		end := make(chan struct{})
		var wg sync.WaitGroup
		before := all[0].confirmed.Load() + all[1].confirmed.Load()
		for _, x := range all {
			wg.Go(func() { x.publish(ctx, t, end) })
		}
		goesOn(ctx, t, all, before)
		must(t, c.FlushAll(ctx).Err(), "FLUSHALL")
		goesOn(ctx, t, all, all[0].confirmed.Load()+all[1].confirmed.Load())
		close(end)
		wg.Wait()
		everywhere(ctx, t, all, fmt.Sprint("flush ", i))
	}
	layouts, err := c.Keys(ctx, "*:layout").Result()
	if must(t, err, "KEYS"); len(layouts) != 1 {
		t.Errorf("the layout was not written again: %q", layouts)
	}
	for _, x := range all {
		q, err := x.ch.QueueDeclarePassive(ctx, "shared")
		if err != nil || q.Consumers != len(all) {
			t.Errorf("the shared queue has %d consumers, %v; want one of each process", q.Consumers, err)
		}
	}
	t.Logf("confirmed %d and %d, refused %d and %d", all[0].confirmed.Load(), all[1].confirmed.Load(), all[0].refused.Load(), all[1].refused.Load())
}

// goesOn waits until some more has been confirmed.
func goesOn(ctx context.Context, t *testing.T, all []*traffic, before int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for all[0].confirmed.Load()+all[1].confirmed.Load() < before+50 {
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatal("nothing is confirmed any more")
		}
	}
}

// TestProcessesGoOnAfterTheirServerHasGoneBack has a server come back with what it had some time ago, as a replica does that had not
// heard of what came last.
func TestProcessesGoOnAfterTheirServerHasGoneBack(t *testing.T) {
	server := startServer(t, "--appendonly", "no")
	u := newPlace(t, server.url())
	ctx, stop := context.WithTimeout(t.Context(), 2*limit)
	defer stop()
	first := begin(ctx, t, u)
	everywhere(ctx, t, []*traffic{first}, "first")
	must(t, client(t, server.url()).Save(ctx).Err(), "SAVE")
	all := []*traffic{first, begin(ctx, t, u)}
	_, err := first.ch.QueueDeclare(ctx, "later", channel.QueueOptions{Durable: true})
	must(t, err, "QueueDeclare")
	must(t, first.ch.QueueBind(ctx, "later", "event.#", "events", nil), "QueueBind")
	everywhere(ctx, t, all, "all")
	server.kill()
	must(t, server.start(), "start after a kill")
	everywhere(ctx, t, all, "after")
	if q, err := first.ch.QueueDeclarePassive(ctx, "later"); err != nil || q.Messages == 0 {
		t.Errorf("a queue that was declared after what the server remembers has %d messages, %v; want some", q.Messages, err)
	}
}

// TestRevisionsRiseOverAFlush shows what tells a registry that has lost all it had from one in which little has happened.
func TestRevisionsRiseOverAFlush(t *testing.T) {
	server := startServer(t, "--appendonly", "no")
	s, ctx := open(t, newPlace(t, server.url())), t.Context()
	must(t, s.KeepAlive(ctx, "s", time.Hour), "KeepAlive")
	write := func() uint64 {
		rev, err := s.Update(ctx, "s", []virtual.Change{{Key: "k", If: virtual.Any, Session: "s"}})
		must(t, err, "Update")
		return rev
	}
	c := client(t, server.url())
	before := write()
	for range 3 {
		must(t, c.FlushAll(ctx).Err(), "FLUSHALL")
		lost := func(when string) {
			t.Helper()
			if _, rev, reset, err := s.Changes(ctx, before, 0); !errors.Is(err, virtual.ErrLost) {
				t.Errorf("%s: changes since %d are told up to %d (reset %v), %v; want ErrLost", when, before, rev, reset, err)
			}
		}
		lost("after a flush")
		must(t, s.KeepAlive(ctx, "s", time.Hour), "KeepAlive")
		after := write()
		for range 5 {
			after = write()
		}
		lost("after more was written")
		if after <= before {
			t.Errorf("revision %d comes after %d", after, before)
		}
		recs, rev, _, err := s.Changes(ctx, 0, 0)
		if err != nil || rev != after || len(recs) != 1 {
			t.Errorf("all that exists is %d records up to %d, %v", len(recs), rev, err)
		}
		if _, _, reset, err := s.Changes(ctx, rev, 0); err != nil || reset {
			t.Errorf("changes since the last revision: reset %v, %v", reset, err)
		}
		before = after
	}
}

// TestWhoWaitsForChangesHearsOfAFlush has nobody write: a session that is renewed is enough.
func TestWhoWaitsForChangesHearsOfAFlush(t *testing.T) {
	server := startServer(t, "--appendonly", "no")
	u := newPlace(t, server.url())
	s, ctx := open(t, u), t.Context()
	must(t, s.KeepAlive(ctx, "s", time.Hour), "KeepAlive")
	rev, err := s.Update(ctx, "s", []virtual.Change{{Key: "k", If: virtual.Any}})
	must(t, err, "Update")
	told := make(chan error, 1)
	go func() {
		_, _, _, err := s.Changes(ctx, rev, limit)
		told <- err
	}()
	must(t, client(t, server.url()).FlushAll(ctx).Err(), "FLUSHALL")
	must(t, open(t, u).KeepAlive(ctx, "another", time.Hour), "KeepAlive")
	if err := <-told; !errors.Is(err, virtual.ErrLost) {
		t.Errorf("Changes: %v, want ErrLost", err)
	}
}
