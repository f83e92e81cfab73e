package redis_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/faultproxy"
	"github.com/dashi-mq/dashi/virtual"
)

// throughProxy returns the URL of an empty place in a server behind a proxy. The client's own timeouts are an hour: they end nothing
// in these tests.
func throughProxy(t testing.TB, o faultproxy.Options, timeout time.Duration) (*faultproxy.Proxy, string) {
	t.Helper()
	u, err := url.Parse(newPlace(t, serverURL(t)))
	must(t, err, "the server's URL")
	p, err := faultproxy.New(u.Host, o)
	must(t, err, "faultproxy")
	t.Cleanup(func() { _ = p.Close() })
	u.Host = p.Addr()
	q := u.Query()
	for _, name := range []string{"read_timeout", "write_timeout", "dial_timeout", "pool_timeout"} {
		q.Set(name, timeout.String())
	}
	u.RawQuery = q.Encode()
	return p, u.String()
}

// silences are ways in which a server says nothing any more.
var silences = []struct {
	name string
	fall func(*faultproxy.Proxy)
}{
	{"on open connections", func(p *faultproxy.Proxy) { p.Inject(faultproxy.Fault{Kind: faultproxy.Stall}) }},
	{"on new connections", func(p *faultproxy.Proxy) {
		p.Inject(faultproxy.Fault{Kind: faultproxy.HalfOpen})
		p.Inject(faultproxy.Fault{Kind: faultproxy.Reset})
	}},
}

// returns fails the test when f does not return long before the client's own timeouts.
func returns(t *testing.T, what string, f func() error) error {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- f() }()
	select {
	case err := <-done:
		return err
	case <-time.After(limit):
		t.Fatalf("%s does not return", what)
		return nil
	}
}

func TestCallsReturnWhenTheirContextEndsThoughTheServerIsSilent(t *testing.T) {
	for _, silence := range silences {
		t.Run(silence.name, func(t *testing.T) {
			p, u := throughProxy(t, faultproxy.Options{}, time.Hour)
			s, err := redis.Open(t.Context(), u)
			must(t, err, "Open")
			must(t, s.KeepAlive(t.Context(), "session", time.Hour), "KeepAlive")
			must(t, put(t.Context(), s, "m"), "Put")
			ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: orders, Max: 1, Lease: time.Hour}, nil)
			must(t, err, "Get")
			silence.fall(p)
			for name, call := range map[string]func(ctx context.Context) error{
				"Put":        func(ctx context.Context) error { return put(ctx, s, "m") },
				"Settle":     func(ctx context.Context) error { return s.Settle(ctx, settled(virtual.Ack, 0, ts...)) },
				"Size":       func(ctx context.Context) error { _, err := s.Size(ctx, orders); return err },
				"Purge":      func(ctx context.Context) error { _, err := s.Purge(ctx, orders); return err },
				"KeepAlive":  func(ctx context.Context) error { return s.KeepAlive(ctx, "session", time.Hour) },
				"EndSession": func(ctx context.Context) error { return s.EndSession(ctx, "session") },
				"Sessions":   func(ctx context.Context) error { _, err := s.Sessions(ctx); return err },
				"Update":     func(ctx context.Context) error { _, err := s.Update(ctx, "session", nil); return err },
				"Changes":    func(ctx context.Context) error { _, _, _, err := s.Changes(ctx, 0, time.Hour); return err },
				"Renew": func(ctx context.Context) error {
					_, err := s.Renew(ctx, "h", []virtual.QueueRef{orders}, time.Hour)
					return err
				},
				"Notify": func(ctx context.Context) error { return s.Notify(ctx, "w", nil, func(virtual.QueueRef) {}) },
				"Peek":   func(ctx context.Context) error { _, err := s.Peek(ctx, orders, 1, nil); return err },
				"Apply":  func(ctx context.Context) error { _, err := s.Apply(ctx, virtual.ApplyRequest{}, nil); return err },
				"Create": func(ctx context.Context) error { return s.Create(ctx, orders) },
				"Delete": func(ctx context.Context) error { _, err := s.Delete(ctx, orders); return err },
				"List":   func(ctx context.Context) error { _, err := s.List(ctx); return err },
				"Ping":   s.Ping,
			} {
				ctx, stop := context.WithCancel(t.Context())
				time.AfterFunc(20*time.Millisecond, stop) // not by a deadline: the client would look at that
				if err := returns(t, name, func() error { return call(ctx) }); err == nil || !errors.Is(err, context.Canceled) && !strings.Contains(err.Error(), "reset") && !strings.Contains(err.Error(), "EOF") {
					t.Errorf("%s: %v", name, err)
				}
			}
			_ = returns(t, "Close", s.Close)
		})
	}
}

func TestOpenGivesUpWithItsContextThoughTheServerIsSilent(t *testing.T) {
	p, u := throughProxy(t, faultproxy.Options{}, time.Hour)
	p.Inject(faultproxy.Fault{Kind: faultproxy.HalfOpen})
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, stop)
	err := returns(t, "Dial", func() error {
		conn, err := dashi.Dial(ctx, u)
		if err == nil {
			_ = conn.Close(ctx)
		}
		return err
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("Dial: %v", err)
	}
}

// A connection with work of all kinds under way: publishes that wait for confirms, consumers that wait, messages that are held, a Get
// whose reply does not come.
func TestCloseReturnsWithItsContextThoughTheServerIsSilent(t *testing.T) {
	for _, silence := range silences {
		t.Run(silence.name, func(t *testing.T) {
			p, u := throughProxy(t, faultproxy.Options{}, time.Hour)
			conn, err := dashi.Dial(t.Context(), u+"&lease=100ms&session_ttl=100ms")
			must(t, err, "Dial")
			ch, err := conn.Channel(t.Context())
			must(t, err, "Channel")
			_, err = ch.QueueDeclare(t.Context(), "orders", channel.QueueOptions{Durable: true, AutoDelete: true})
			must(t, err, "QueueDeclare")
			must(t, ch.Confirm(t.Context()), "Confirm")
			deliveries, err := ch.Consume(t.Context(), "orders", channel.ConsumeOptions{})
			must(t, err, "Consume")
			must(t, ch.Publish(t.Context(), "", "orders", channel.Publishing{}), "Publish")
			<-deliveries
			lost := conn.NotifyEvents(make(chan channel.Event, 100))
			silence.fall(p)
			confirm, err := ch.PublishDeferred(t.Context(), "", "orders", channel.Publishing{})
			must(t, err, "Publish")
			asked, stopAsking := context.WithCancel(t.Context())
			answered := make(chan error, 1)
			go func() { // a Get, for which the reply is waited
				_, _, err := ch.Get(asked, "orders", true)
				answered <- err
			}()
			time.AfterFunc(100*time.Millisecond, stopAsking)
			ctx, stop := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer stop()
			if err := returns(t, "Close", func() error { return conn.Close(ctx) }); err == nil {
				t.Error("Close says that it has said goodbye to a server that answers nothing")
			}
			if err := returns(t, "Get", func() error { return <-answered }); err == nil {
				t.Error("a Get was answered by a server that answers nothing")
			}
			if acked, _ := confirm.Wait(t.Context()); acked {
				t.Error("a publish was confirmed by a server that answers nothing")
			}
			for range lost { // until the connection has ended
			}
		})
	}
}

// Whose reply may be a message without a lease has it waited for when its context has ended, as long as the client waits.
func TestAGetWhoseReplyDoesNotComeIsBoundedByTheReadTimeout(t *testing.T) {
	p, u := throughProxy(t, faultproxy.Options{}, 200*time.Millisecond)
	s := open(t, u)
	must(t, put(t.Context(), s, "m"), "Put")
	silences[0].fall(p)
	ctx, stop := context.WithCancel(t.Context())
	time.AfterFunc(20*time.Millisecond, stop)
	for name, call := range map[string]func() error{
		"Get": func() error { _, _, err := s.Get(ctx, virtual.GetRequest{Queue: orders, Max: 1}, nil); return err },
		"Expire": func() error {
			_, _, err := s.Expire(ctx, virtual.ExpireRequest{Max: 1, Lease: time.Minute}, nil)
			return err
		},
	} {
		if err := returns(t, name, call); err == nil {
			t.Errorf("%s was answered by a server that answers nothing", name)
		}
	}
}
