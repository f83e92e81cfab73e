package redis_test

import (
	"context"
	"errors"
	"io"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/virtual"
)

// must ends the test at an error.
func must(t testing.TB, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// client returns a client of the program's own.
func client(t testing.TB, server string) *goredis.Client {
	t.Helper()
	o, err := goredis.ParseURL(plain(server))
	must(t, err, "the server's URL")
	o.MaxRetries = -1
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func TestTheScriptsAreLoadedAgainWhenTheServerHasForgottenThem(t *testing.T) {
	server := serverURL(t)
	s, c := open(t, newPlace(t, server)), client(t, server)
	for range 3 {
		must(t, put(t.Context(), s, "m"), "Put")
		must(t, c.ScriptFlush(t.Context()).Err(), "SCRIPT FLUSH")
		ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: orders, Max: 1, Lease: time.Minute}, nil)
		must(t, err, "Get")
		must(t, c.ScriptFlush(t.Context()).Err(), "SCRIPT FLUSH")
		must(t, s.Settle(t.Context(), settled(virtual.Ack, 0, ts...)), "Settle")
		if len(ts) != 1 {
			t.Fatalf("%d were taken, want 1", len(ts))
		}
	}
}

func TestAnotherLayoutIsRefused(t *testing.T) {
	server := serverURL(t)
	u := newPlace(t, server)
	open(t, u)
	prefix := prefixOf(u)
	must(t, client(t, server).Set(t.Context(), prefix+":{/}:layout", "7", 0).Err(), "SET")
	_, err := redis.Open(t.Context(), u)
	if err == nil || !strings.Contains(err.Error(), `layout "7", this version reads "1"`) {
		t.Errorf("opening a place of layout 7: %v", err)
	}
}

func TestErrorsShowNoPassword(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err, "Listen")
	nobody := l.Addr().String()
	_ = l.Close()
	for _, u := range []string{
		"redis://user:secret@" + nobody, "redis://user:secret@" + nobody + "/x", "redis://user:secret@" + nobody + "?colour=red",
		"redis://user:secret@" + nobody + "?max_retries=3", "redis://user:secret@" + nobody + "?slots=queue", "redis://user:secret@[::1", "redis://user:secret%zz@h", "unix://user:secret@",
		"redis://user:secret@" + nobody + "?prefix={", "rediss://user:secret@" + nobody, "redis://user:secret@" + nobody + "?db=secret",
		"redis://user:secret@" + nobody + "?dialer_retries=1&addr=" + nobody, "redis://user:secret@" + nobody + "?slots=secret", "redis://user:secret@" + nobody + "?cluster=secret",
		"redis://user:secret@" + nobody + "?dialer_retries=1&master_name=m&password=secret", "redis://" + nobody + "?dialer_retries=1&master_name=secret&password=secret",
	} {
		s, err := virtual.Open(ctx, u)
		if err == nil {
			_ = virtual.Close(s)
			t.Errorf("%s can be opened", strings.ReplaceAll(u, "secret", "…"))
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("an error shows the password: %v", err)
		}
	}
	if server := serverURL(t); server != "" { // one that asks for none refuses one
		u := strings.Replace(server, "redis://", "redis://user:secret@", 1)
		if _, err := virtual.Open(ctx, u); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("a password that is wrong: %v", err)
		}
	}
}

func TestVhostsAndPrefixesAreApart(t *testing.T) {
	u := newPlace(t, serverURL(t))
	s := open(t, u)
	must(t, put(t.Context(), s, "m"), "Put")
	if n, err := open(t, u).Size(t.Context(), orders); n != 1 || err != nil {
		t.Errorf("another handle sees %d messages, %v; want 1", n, err)
	}
	if n, err := open(t, u+"&vhost=other").Size(t.Context(), orders); n != 0 || err != nil {
		t.Errorf("another vhost sees %d messages, %v; want none", n, err)
	}
}

func TestAProgramsOwnClientStaysOpen(t *testing.T) {
	server := serverURL(t)
	u := newPlace(t, server)
	prefix := prefixOf(u)
	c := client(t, server)
	s, err := redis.New(t.Context(), c, redis.Options{Prefix: prefix})
	must(t, err, "New")
	must(t, put(t.Context(), s, "m"), "Put")
	must(t, s.Close(), "Close")
	if err := s.Ping(t.Context()); !errors.Is(err, virtual.ErrClosed) {
		t.Errorf("Ping of a closed store: %v", err)
	}
	must(t, c.Ping(t.Context()).Err(), "the client, after the store was closed")
}

// TestOutOfMemoryConsumersDrain lets a server refuse all that needs memory.
func TestOutOfMemoryConsumersDrain(t *testing.T) {
	server := startServer(t, "--appendonly", "no", "--maxmemory-policy", "noeviction")
	s := open(t, newPlace(t, server.url()))
	ctx := t.Context()
	must(t, put(ctx, s, "m1", "m2", "m3", "m4", "m5", "m6"), "Put")
	must(t, s.KeepAlive(ctx, "session", time.Minute), "KeepAlive")
	c := fill(t, server)

	refused := func(err error, what string) {
		t.Helper()
		if err == nil || !strings.Contains(err.Error(), "OOM") {
			t.Errorf("%s, out of memory: %v, want it refused", what, err)
		}
	}
	refused(put(ctx, s, "more"), "Put")
	_, err := s.PutBounded(ctx, virtual.PutRequest{Messages: []*virtual.Message{{Queue: orders, Payload: virtual.Bytes("m")}}},
		[]virtual.Limit{{Queue: orders, MaxLen: 1, MaxBytes: -1}}, nil)
	refused(err, "PutBounded")

	held, res, err := s.Get(ctx, virtual.GetRequest{Queue: orders, Max: 2, Lease: time.Minute, Holder: "h", Take: 1, Park: "w"}, nil)
	must(t, err, "Get of a holder")
	if got := bodies(held); !slices.Equal(got, []string{"m1", "m2"}) || res.Ready != 4 {
		t.Fatalf("a Get took %q and left %d, want m1 and m2 of six", got, res.Ready)
	}
	loose, _, err := s.Get(ctx, virtual.GetRequest{Queue: orders, Max: 1, Lease: time.Minute}, nil)
	must(t, err, "Get without a holder")
	lost, err := s.Renew(ctx, "h", []virtual.QueueRef{orders}, time.Minute)
	must(t, err, "Renew")
	if len(lost) > 0 {
		t.Error("Renew: the holder is lost")
	}
	must(t, s.Settle(ctx, settled(virtual.Requeue, 0, held[0])), "Requeue")
	must(t, s.Settle(ctx, settled(virtual.Return, time.Millisecond, loose[0])), "Return, delayed")
	must(t, s.Settle(ctx, settled(virtual.Extend, time.Minute, held[1])), "Extend")
	must(t, s.Settle(ctx, settled(virtual.Ack, 0, held[1])), "Ack")
	must(t, s.KeepAlive(ctx, "session", time.Minute), "KeepAlive")
	_, err = s.Apply(ctx, virtual.ApplyRequest{PutRequest: virtual.PutRequest{Messages: []*virtual.Message{{Queue: orders, Payload: virtual.Bytes("m")}}}}, nil)
	refused(err, "Apply of a message")
	out, err := s.PutBounded(ctx, virtual.PutRequest{}, []virtual.Limit{{Queue: orders, MaxLen: 4, MaxBytes: -1}}, nil)
	must(t, err, "PutBounded that only trims")
	ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: orders, Max: 10, Wait: time.Second}, nil)
	must(t, err, "Get without a lease")
	if len(out)+len(ts) < 4 {
		t.Errorf("%q was trimmed, then %q was taken: want at least four", bodies(out), bodies(ts))
	}
	must(t, c.ConfigSet(ctx, "maxmemory", "0").Err(), "CONFIG SET")
	must(t, put(ctx, s, "more"), "Put, with memory again")
}

// TestALostWakingConnectionStrandsNobody kills the connections that listen while consumers wait.
func TestALostWakingConnectionStrandsNobody(t *testing.T) {
	server := startServer(t, "--appendonly", "no")
	u := newPlace(t, server.url())
	s, other, c := open(t, u), open(t, u), client(t, server.url())
	ready := make(chan struct{})
	ended := make(chan error, 1)
	go func() { ended <- s.Notify(t.Context(), "w", ready, func(virtual.QueueRef) {}) }()
	<-ready
	got := make(chan []string, 1)
	go func() {
		ts, _, err := s.Get(t.Context(), virtual.GetRequest{Queue: orders, Max: 1, Wait: limit, Lease: time.Minute}, nil)
		if err != nil {
			t.Errorf("a Get that waits: %v", err)
		}
		got <- bodies(ts)
	}()
	waits(t, c, 1)
	n, err := c.ClientKillByFilter(t.Context(), "TYPE", "pubsub").Result()
	if must(t, err, "CLIENT KILL"); n != 1 {
		t.Fatalf("%d connections listened, want one for all that waits", n)
	}
	if err := <-ended; err == nil {
		t.Error("Notify has ended without an error, though its connection was lost")
	}
	must(t, put(t.Context(), other, "m"), "Put")
	if b := <-got; !slices.Equal(b, []string{"m"}) {
		t.Errorf("a Get that waited while the connection was lost got %q", b)
	}
}

// waits returns when so many Gets wait in a queue.
func waits(t testing.TB, c *goredis.Client, n int64) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		keys := c.Keys(t.Context(), "*:w:1:orders").Val()
		if len(keys) == 1 && c.HLen(t.Context(), keys[0]).Val() == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d Gets do not come to wait", n)
		}
	}
}

// loses is a hook that loses replies of scripts when told to.
type loses struct{ next atomic.Bool }

var errReplyLost = errors.New("the reply was lost")

func (*loses) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (*loses) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

func (l *loses) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		err := next(ctx, cmd)
		if err == nil && strings.HasPrefix(cmd.Name(), "eval") && l.next.CompareAndSwap(true, false) {
			cmd.SetErr(errReplyLost)
			return errReplyLost
		}
		return err
	}
}

// cluster returns a client of a Cluster.
func cluster(t testing.TB, server string) *goredis.ClusterClient {
	t.Helper()
	c := goredis.NewClusterClient(clusterOptions(t, server))
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func clusterOptions(t testing.TB, server string) *goredis.ClusterOptions {
	t.Helper()
	o, err := goredis.ParseClusterURL(plain(server))
	must(t, err, "the Cluster's URL")
	return o
}

// wrongCluster returns a client of a Cluster that believes that all is on one node.
func wrongCluster(t testing.TB, server string) *goredis.ClusterClient {
	t.Helper()
	o := clusterOptions(t, server)
	o.ClusterSlots = func(context.Context) ([]goredis.ClusterSlot, error) {
		return []goredis.ClusterSlot{{Start: 0, End: 16383, Nodes: []goredis.ClusterNode{{Addr: o.Addrs[0]}}}}, nil
	}
	c := goredis.NewClusterClient(o)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// cutClient returns a client that retries, of either kind, whose connections break when told to.
func cutClient(t testing.TB, server string) (goredis.UniversalClient, *cuts) {
	t.Helper()
	cut := new(cuts)
	var c goredis.UniversalClient
	if isCluster(server) {
		o := clusterOptions(t, server)
		o.Dialer, o.MaxRetries = cut.dial, 3
		c = goredis.NewClusterClient(o)
	} else {
		o, err := goredis.ParseURL(plain(server))
		must(t, err, "the server's URL")
		o.Dialer, o.MaxRetries = cut.dial, 3
		c = goredis.NewClient(o)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c, cut
}

// cuts is a dialer whose connections break, when told to, after a request was sent and before its reply is read.
type cuts struct{ next atomic.Bool }

type cutConn struct {
	net.Conn
	cuts *cuts
}

func (c *cuts) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, network, address)
	return &cutConn{conn, c}, err
}

func (c *cutConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	if c.cuts.next.CompareAndSwap(true, false) {
		_ = c.Close()
		return 0, io.EOF
	}
	return n, err
}

// TestAClientThatRetriesSendsAScriptOnce gives clients of both kinds a connection that breaks.
func TestAClientThatRetriesSendsAScriptOnce(t *testing.T) {
	server := serverURL(t)
	o, err := goredis.ParseURL(server)
	must(t, err, "the server's URL")
	one, many := new(cuts), new(cuts)
	o.Dialer, o.MaxRetries = one.dial, 3
	slots := func(context.Context) ([]goredis.ClusterSlot, error) {
		return []goredis.ClusterSlot{{Start: 0, End: 16383, Nodes: []goredis.ClusterNode{{Addr: o.Addr}}}}, nil
	}
	clients := map[string]struct {
		goredis.UniversalClient
		*cuts
	}{
		"client":  {goredis.NewClient(o), one},
		"cluster": {goredis.NewClusterClient(&goredis.ClusterOptions{ClusterSlots: slots, Dialer: many.dial, MaxRetries: 3, Password: o.Password}), many},
	}
	for name, c := range clients {
		t.Run(name, func(t *testing.T) {
			defer c.Close()
			u := newPlace(t, server)
			s, err := redis.New(t.Context(), c, redis.Options{Prefix: prefixOf(u)})
			must(t, err, "New")
			defer s.Close()
			must(t, put(t.Context(), s, "m1"), "Put")
			c.next.Store(true)
			if err := put(t.Context(), s, "m2"); err == nil {
				t.Error("a Put whose reply was lost returned nil: it was sent again, or nothing was lost")
			}
			if n, err := s.Size(t.Context(), orders); n != 2 || err != nil {
				t.Errorf("after two Puts there are %d messages, %v; want 2", n, err)
			}
		})
	}
}

func TestWhatALostReplyWasAboutIsRepeated(t *testing.T) {
	server := serverURL(t)
	u := newPlace(t, server)
	c, hook := client(t, server), &loses{}
	c.AddHook(hook)
	s, err := redis.New(t.Context(), c, redis.Options{Prefix: prefixOf(u)})
	must(t, err, "New")
	defer s.Close()
	ctx := t.Context()
	lost := func(err error, what string) {
		t.Helper()
		if !errors.Is(err, errReplyLost) {
			t.Fatalf("%s: %v, want the error of the client, said once", what, err)
		}
	}

	r := virtual.PutRequest{Producer: "p", Sequence: 1, Messages: []*virtual.Message{{Queue: orders, Payload: virtual.Bytes("m1")}, {Queue: orders, Payload: virtual.Bytes("m2")}}}
	hook.next.Store(true)
	lost(s.Put(ctx, r), "Put")
	must(t, s.Put(ctx, r), "Put again")
	if n, _ := s.Size(ctx, orders); n != 2 {
		t.Errorf("after a Put and its repetition there are %d messages, want 2", n)
	}
	g := virtual.GetRequest{Queue: orders, Max: 1, Lease: time.Minute, Holder: "h", Take: 1}
	hook.next.Store(true)
	_, _, err = s.Get(ctx, g, nil)
	lost(err, "Get")
	g.Again = true
	ts, _, err := s.Get(ctx, g, nil)
	if must(t, err, "Get again"); !slices.Equal(bodies(ts), []string{"m1"}) || ts[0].Attempt != 1 {
		t.Errorf("the Get said again took %q, want m1 for the first time", bodies(ts))
	}
	hook.next.Store(true)
	lost(s.Settle(ctx, settled(virtual.Ack, 0, ts...)), "Settle")
	if err := s.Settle(ctx, settled(virtual.Ack, 0, ts...)); err != nil && !errors.Is(err, virtual.ErrStale) {
		t.Errorf("Settle again: %v", err)
	}
	if n, _ := s.Size(ctx, orders); n != 1 {
		t.Errorf("%d messages are left, want 1", n)
	}
}
