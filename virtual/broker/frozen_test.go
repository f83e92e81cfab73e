package broker_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/registry"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// stall holds back a process's next Put of the registry's state.
type stall struct {
	mu      sync.Mutex
	armed   bool
	held    chan struct{} // closed when it is held
	release chan struct{}
}

func newStall() *stall {
	return &stall{held: make(chan struct{}), release: make(chan struct{})}
}

func (s *stall) arm() {
	s.mu.Lock()
	s.armed = true
	s.mu.Unlock()
}

func (s *stall) pass(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
	r, ok := c.Request.(*virtual.PutRequest)
	s.mu.Lock()
	mine := s.armed && ok && r.Messages[0].Queue.Name == "!registry"
	if mine {
		s.armed = false
	}
	s.mu.Unlock()
	if mine {
		close(s.held)
		<-s.release
	}
	return next(ctx)
}

// Two processes want the same thing, and the one that is first stands still for longer than the registry's lease between
// taking and putting: both have written then. The one that stood still loses, is told so, and nothing of what it was
// refused is left; what both declared besides is kept.
func TestProcessFrozenWhileItDeclaresLosesWhatOnlyOneMayHave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place, s, ctx := memory.New(), newStall(), t.Context()
		start := func(intercept virtual.Interceptor) *channel.Connection {
			_, conn := process(t, virtual.Intercept(virtual.Only(place.Open()), intercept), broker.Options{})
			return conn
		}
		pass := func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error { return next(ctx) }
		frozen, other := start(s.pass), start(pass)
		events := []chan channel.Event{frozen.NotifyEvents(make(chan channel.Event, 16)), other.NotifyEvents(make(chan channel.Event, 16))}
		ours, theirs := open(t, frozen), open(t, other)
		if _, err := ours.QueueDeclare(ctx, "q", channel.QueueOptions{Durable: true}); err != nil {
			t.Fatal(err)
		}

		s.arm()
		result := make(chan error, 1)
		go func() {
			_, err := ours.Consume(ctx, "q", channel.ConsumeOptions{Exclusive: true})
			result <- err
		}()
		<-s.held
		time.Sleep(30 * time.Second) // the lease of the state ends, and its session's
		if _, err := theirs.QueueDeclare(ctx, "beside", channel.QueueOptions{Durable: true}); err != nil {
			t.Fatal(err)
		}
		out, err := theirs.Consume(ctx, "q", channel.ConsumeOptions{Exclusive: true})
		if err != nil {
			t.Fatalf("the second, while the first stands still: %v", err)
		}
		close(s.release)
		if err := <-result; !errors.Is(err, &channel.Error{Code: channel.AccessRefused}) {
			t.Errorf("the one that stood still was told %v, want 403", err)
		}
		time.Sleep(time.Minute)
		q, err := open(t, other).QueueDeclarePassive(ctx, "q")
		if err != nil || q.Consumers != 1 {
			t.Errorf("the queue has %d consumers, %v; want the second one alone", q.Consumers, err)
		}
		if _, err := open(t, frozen).QueueDeclarePassive(ctx, "beside"); err != nil {
			t.Errorf("what was declared meanwhile is lost: %v", err)
		}
		if err := theirs.Publish(ctx, "", "q", channel.Publishing{Body: []byte("m")}); err != nil {
			t.Fatal(err)
		}
		if d := <-out; string(d.Body) != "m" {
			t.Errorf("got %q", d.Body)
		}
		told := false // whoever finds the two states
		for _, c := range events {
			for len(c) > 0 {
				e := <-c
				told = told || e.Kind == channel.EventRegistryConflict
			}
		}
		if !told {
			t.Error("nobody was told of the conflict")
		}
	})
}

// Who was taken for dead goes on at once: it does not wait for its next heartbeat to find out.
func TestProcessWhoseSessionHasEndedGoesOnAtOnce(t *testing.T) {
	for _, c := range []struct {
		name     string
		dress    func(virtual.Store) virtual.Store
		registry func(virtual.Store) virtual.Registry
	}{
		{"memory", func(s virtual.Store) virtual.Store { return s }, func(s virtual.Store) virtual.Registry {
			r, _ := virtual.As[virtual.Registry](s)
			return r
		}},
		{"five methods", virtual.Only, func(s virtual.Store) virtual.Registry { return registry.New(s, registry.Options{}) }},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				place, ctx := memory.New(), t.Context()
				b, err := broker.Open(ctx, c.dress(place.Open()), broker.Options{})
				if err != nil {
					t.Fatal(err)
				}
				defer b.Close(ctx)
				conn, err := channel.Connect(ctx, b.Connect)
				if err != nil {
					t.Fatal(err)
				}
				ch := open(t, conn)
				q, err := ch.QueueDeclare(ctx, "q", channel.QueueOptions{Durable: true})
				if err != nil {
					t.Fatal(err)
				}
				out, err := ch.Consume(ctx, q.Name, channel.ConsumeOptions{})
				if err != nil {
					t.Fatal(err)
				}
				other := c.registry(c.dress(place.Open()))
				sessions, err := other.Sessions(ctx)
				if err != nil || len(sessions) != 1 {
					t.Fatalf("sessions %q, %v", sessions, err)
				}
				if err := other.EndSession(ctx, sessions[0]); err != nil {
					t.Fatal(err)
				}
				began := time.Now()
				if _, err := open(t, conn).QueueDeclare(ctx, "other", channel.QueueOptions{Durable: true}); err != nil {
					t.Errorf("declare: %v", err)
				}
				if d := time.Since(began); d > time.Second {
					t.Errorf("it went on after %v", d)
				}
				if err := ch.Publish(ctx, "", q.Name, channel.Publishing{Body: []byte("m")}); err != nil {
					t.Errorf("publish: %v", err)
				}
				if d := <-out; string(d.Body) != "m" {
					t.Errorf("got %q", d.Body)
				}
				if q, err := ch.QueueDeclarePassive(ctx, q.Name); err != nil || q.Consumers != 1 {
					t.Errorf("its consumer is registered again: %d, %v", q.Consumers, err)
				}
			})
		})
	}
}

// A publisher makes the step of the pump that its message wakes, but only of its own process: here the other process's
// Gets stand still.
func TestPublisherDoesNotWaitForAnotherProcessThatIsFrozen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place, ctx := memory.New(), t.Context()
		frozen := make(chan struct{}, 1) // a lock: one that is waited for in a bubble
		_, theirs := process(t, virtual.Intercept(place.Open(), func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if _, ok := c.Request.(*virtual.GetRequest); ok {
				frozen <- struct{}{}
				defer func() { <-frozen }()
			}
			return next(ctx)
		}), broker.Options{})
		_, ours := process(t, place.Open(), broker.Options{})
		ch := open(t, theirs)
		declare(t, ch, "q", nil)
		ds, err := ch.Consume(ctx, "q", channel.ConsumeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		pub := open(t, ours)
		frozen <- struct{}{}
		for _, body := range []string{"a", "b"} {
			time.Sleep(time.Millisecond) // alone
			if err := pub.Publish(ctx, "", "q", channel.Publishing{Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		if err := pub.Flush(ctx); err != nil {
			t.Fatal(err)
		}
		<-frozen
		for _, want := range []string{"a", "b"} {
			if d := <-ds; string(d.Body) != want {
				t.Errorf("got %q, want %q", d.Body, want)
			}
		}
	})
}

// Commits take turns; who waits for one that stands still in the store gives up with its context.
func TestCommitThatWaitsForAnotherGivesUpWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		var applies atomic.Int32
		_, conn := process(t, virtual.Intercept(memory.New().Open(), func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if _, ok := c.Request.(*virtual.ApplyRequest); ok && applies.Add(1) == 1 {
				<-release
			}
			return next(ctx)
		}), broker.Options{})
		first, second := open(t, conn), open(t, conn)
		declare(t, first, "q", nil)
		for _, ch := range []*channel.Channel{first, second} {
			if err := errors.Join(ch.Tx(t.Context()), ch.Publish(t.Context(), "", "q", channel.Publishing{})); err != nil {
				t.Fatal(err)
			}
		}
		committed := make(chan error, 1)
		go func() { committed <- first.TxCommit(t.Context()) }()
		synctest.Wait()
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := second.TxCommit(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("second commit: %v", err)
		}
		close(release)
		if err := <-committed; err != nil {
			t.Errorf("first commit: %v", err)
		}
	})
}
