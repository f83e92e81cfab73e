package redis_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/virtual"
)

// eachServer runs a test on a single server and, where there is one, on a Cluster, with the queues in several slots.
func eachServer(t *testing.T, f func(t *testing.T, server string)) {
	for name, get := range map[string]func(testing.TB) string{"server": serverURL, "cluster": clusterURL} {
		t.Run(name, func(t *testing.T) { f(t, with(get(t), "slots", redis.SlotsQueue)) })
	}
}

// TestAQueueStaysInItsPart: where a queue is must never change, or what is in it is lost.
func TestAQueueStaysInItsPart(t *testing.T) {
	server := serverURL(t)
	u := newPlace(t, with(server, "slots", redis.SlotsQueue))
	s, c := open(t, u), client(t, server)
	for name, part := range map[string]int{"orders": 46, "!registry": 45, "Bücher {7}": 15, "q:1": 54} {
		if want := int(crc32.ChecksumIEEE([]byte(name)) % 64); want != part {
			t.Errorf("this test says that %q is in part %d, and its sum that it is in %d", name, part, want)
		}
		must(t, s.Create(t.Context(), virtual.QueueRef{Name: name, Incarnation: "1"}), "Create")
		key := fmt.Sprintf("%s:{/#%d}part:q:1:%s", prefixOf(u), part, name)
		if n, err := c.Exists(t.Context(), key).Result(); n != 1 || err != nil {
			t.Errorf("there is no key %s: %v", key, err)
		}
	}
}

func TestQueuesAreOnAllMasters(t *testing.T) {
	server := clusterURL(t)
	u := newPlace(t, server) // which is what a Cluster has by default
	s := open(t, u)
	for i := range 100 {
		must(t, s.Create(t.Context(), virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}), "Create")
	}
	all, err := s.List(t.Context())
	if must(t, err, "List"); len(all) != 100 {
		t.Errorf("%d queues are listed, want 100", len(all))
	}
	var masters atomic.Int64
	must(t, cluster(t, server).ForEachMaster(t.Context(), func(ctx context.Context, c *goredis.Client) error {
		keys, err := c.Keys(ctx, prefixOf(u)+":*:q:*").Result()
		if len(keys) < 10 {
			t.Errorf("a master has %d of 100 queues", len(keys))
		}
		masters.Add(1)
		return err
	}), "KEYS")
	if masters.Load() < 3 {
		t.Errorf("%d masters, want three", masters.Load())
	}
}

func TestAPlaceKeepsItsSlots(t *testing.T) {
	for _, c := range []struct{ made, opened, refused string }{
		{"", redis.SlotsVhost, ""},
		{"", redis.SlotsQueue, "laid out with slots=vhost, this handle is to have slots=queue"},
		{redis.SlotsVhost, redis.SlotsQueue, "laid out with slots=vhost, this handle is to have slots=queue"},
		{redis.SlotsQueue, redis.SlotsVhost, "laid out with slots=queue, this handle is to have slots=vhost"},
		{redis.SlotsQueue, redis.SlotsQueue, ""},
		{redis.SlotsQueue, "", ""},
	} {
		t.Run(c.made+" "+c.opened, func(t *testing.T) {
			u := newPlace(t, serverURL(t))
			must(t, put(t.Context(), open(t, with(u, "slots", c.made)), "m"), "Put")
			s, err := redis.Open(t.Context(), with(u, "slots", c.opened))
			if c.refused != "" {
				if err == nil || !strings.Contains(err.Error(), c.refused) {
					t.Errorf("opening it: %v, want it refused", err)
				}
				return
			}
			must(t, err, "Open")
			defer s.Close()
			if n, err := s.Size(t.Context(), orders); n != 1 || err != nil {
				t.Errorf("there are %d messages, %v; want 1", n, err)
			}
		})
	}
}

// TestAVhostNamedLikeAPartIsApart: a part is no vhost's own.
func TestAVhostNamedLikeAPartIsApart(t *testing.T) {
	u := newPlace(t, serverURL(t))
	must(t, put(t.Context(), open(t, with(u, "slots", redis.SlotsQueue)), "m"), "Put")
	for _, vhost := range []string{"/#46", "/#46part"} {
		s := open(t, with(with(u, "slots", redis.SlotsVhost), "vhost", vhost))
		if n, err := s.Size(t.Context(), orders); n != 0 || err != nil {
			t.Errorf("vhost %s has %d messages of another one, %v", vhost, n, err)
		}
	}
}

func TestInSeveralSlotsNothingIsOneStep(t *testing.T) {
	u := newPlace(t, serverURL(t))
	whole, spread := open(t, u), open(t, newPlace(t, with(serverURL(t), "slots", redis.SlotsQueue)))
	if _, ok := virtual.As[virtual.Atomic](whole); !ok || !virtual.TraitsOf(whole).Guards {
		t.Error("slots=vhost has no Atomic, or no Guards")
	}
	if _, ok := virtual.As[virtual.Atomic](spread); ok || virtual.TraitsOf(spread).Guards {
		t.Error("slots=queue claims Atomic, or Guards")
	}
	if _, err := spread.Apply(t.Context(), virtual.ApplyRequest{}, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("Apply with slots=queue: %v, want %v", err, errors.ErrUnsupported)
	}
	for _, c := range []any{(*virtual.Registry)(nil), (*virtual.Holders)(nil), (*virtual.Notifier)(nil), (*virtual.Bounded)(nil)} {
		if !spread.Offers(c) {
			t.Errorf("slots=queue does not offer %T", c)
		}
	}
}

// counted opens a place in several slots and counts its scripts.
func counted(t *testing.T) (*redis.Store, *counts) {
	t.Helper()
	server := serverURL(t)
	c, n := client(t, server), new(counts)
	c.AddHook(n)
	s, err := redis.New(t.Context(), c, redis.Options{Prefix: prefixOf(newPlace(t, server)), Slots: redis.SlotsQueue})
	must(t, err, "New")
	t.Cleanup(func() { _ = s.Close() })
	return s, n
}

// TestWhoWaitsWatchesOnlyWhereItWaits counts the scripts of a handle that waits in many queues of few parts, many times.
func TestWhoWaitsWatchesOnlyWhereItWaits(t *testing.T) {
	s, n := counted(t)
	var queues []virtual.QueueRef
	for i := 0; len(queues) < 20; i++ {
		if name := fmt.Sprint("queue-", i); crc32.ChecksumIEEE([]byte(name))%64 < 2 {
			queues = append(queues, virtual.QueueRef{Name: name, Incarnation: "1"})
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	ready, woken, ended := make(chan struct{}), make(chan virtual.QueueRef, len(queues)), make(chan error, 1)
	go func() { ended <- s.Notify(ctx, "w", ready, func(q virtual.QueueRef) { woken <- q }) }()
	<-ready
	begin := time.Now()
	calls := int64(0)
	for range 20 {
		for _, q := range queues {
			_, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: time.Minute, Park: "w"}, nil)
			must(t, err, "Get with Park")
			must(t, s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}}}), "Put")
			if got := <-woken; got != q {
				t.Fatalf("woken for %s, want %s", got.Name, q.Name)
			}
			_, _, err = s.Get(ctx, virtual.GetRequest{Queue: q, Max: 1}, nil)
			must(t, err, "Get")
			calls += 3
		}
	}
	// A look at either part to begin with, one each 5 seconds, and all that are waited in once a minute.
	most := 4 + 3*int64(time.Since(begin)/(5*time.Second)+1)
	if watched := n.scripts.Load() - calls; watched > most {
		t.Errorf("beside %d calls, %d scripts were run in %v, want at most %d", calls, watched, time.Since(begin), most)
	}
	stop()
	<-ended
}

// TestExpireLooksEverywhere has heads expire in many parts, some before and some while it is waited for them.
func TestExpireLooksEverywhere(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		s := open(t, newPlace(t, server))
		var early, late virtual.PutRequest
		for i := range 40 {
			m := &virtual.Message{Queue: virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}, ID: virtual.ID{byte(i)}, Payload: virtual.Bytes("m"), TTL: time.Millisecond}
			if i%2 == 0 {
				early.Messages = append(early.Messages, m)
			} else {
				late.Messages = append(late.Messages, m)
			}
		}
		must(t, s.Put(t.Context(), early), "Put")
		ctx, stop := context.WithTimeout(t.Context(), limit)
		defer stop()
		came := map[virtual.ID]bool{}
		for said := false; len(came) < 40; {
			ts, _, err := s.Expire(ctx, virtual.ExpireRequest{Max: 7, Wait: limit, Lease: time.Hour}, nil)
			must(t, err, "Expire")
			if len(ts) == 0 || len(ts) > 7 {
				t.Fatalf("%d have expired at once after %d of 40, want 1 to 7", len(ts), len(came))
			}
			for _, m := range ts {
				came[m.ID] = true
			}
			if len(came) == 20 && !said {
				said = true
				go func() { _ = s.Put(ctx, late) }()
			}
		}
	})
}

// TestWhoWaitsForExpiryAsksOnlyWhereSomethingExpires counts the scripts of a handle that waits again and again.
func TestWhoWaitsForExpiryAsksOnlyWhereSomethingExpires(t *testing.T) {
	s, n := counted(t)
	begin := time.Now()
	const times = 100
	for i := range times {
		q := virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}
		must(t, s.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m"), TTL: time.Microsecond}}}), "Put")
		ts, _, err := s.Expire(t.Context(), virtual.ExpireRequest{Max: 10, Wait: limit, Lease: time.Hour}, nil)
		must(t, err, "Expire")
		if len(ts) != 1 || ts[0].Queue != q {
			t.Fatalf("%d have expired, want the one of %s", len(ts), q.Name)
		}
	}
	// Either way all parts are asked to begin with, and all are once a minute; a Put, and a few looks at its part.
	most := 10*times + 130*int64(time.Since(begin)/time.Minute+1)
	if n.scripts.Load() > most {
		t.Errorf("%d scripts were run in %v, want at most %d", n.scripts.Load(), time.Since(begin), most)
	}
}

// TestASplitPutWhoseReplyIsLostIsDoneOnce breaks the connection of a request that is in several parts: it is told, and nothing
// is sent again but by who calls.
func TestASplitPutWhoseReplyIsLostIsDoneOnce(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		c, cut := cutClient(t, server)
		s, err := redis.New(t.Context(), c, redis.Options{Prefix: prefixOf(newPlace(t, server)), Slots: redis.SlotsQueue})
		must(t, err, "New")
		defer s.Close()
		var r virtual.PutRequest
		for i := range 30 {
			r.Messages = append(r.Messages, &virtual.Message{Queue: virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}, Payload: virtual.Bytes("m")})
		}
		sizes := func() (sizes []byte) {
			for _, m := range r.Messages {
				n, err := s.Size(t.Context(), m.Queue)
				must(t, err, "Size")
				sizes = append(sizes, byte('0'+n))
			}
			return sizes
		}
		must(t, s.Put(t.Context(), r), "Put")
		cut.next.Store(true)
		if err := s.Put(t.Context(), r); err == nil {
			t.Error("a Put of which a reply was lost returned nil: it was sent again, or nothing was lost")
		}
		if n := sizes(); bytes.ContainsAny(n, "03456789") {
			t.Errorf("after two Puts the queues have %s messages, want one or two", n)
		}
		must(t, s.Put(t.Context(), r), "Put, on a connection that is good again")
		r.Producer, r.Sequence = "producer", 1
		before := sizes()
		cut.next.Store(true)
		if err := s.Put(t.Context(), r); err == nil {
			t.Error("a Put by a producer of which a reply was lost returned nil")
		}
		must(t, s.Put(t.Context(), r), "Put again")
		for i, n := range sizes() {
			if n != before[i]+1 {
				t.Errorf("queue %d had %c messages before a Put that was repeated, and has %c", i, before[i], n)
			}
		}
	})
}

// TestOneNodeOfAClusterIsEnough opens a Cluster by the URL of a single server.
func TestOneNodeOfAClusterIsEnough(t *testing.T) {
	node, _, _ := strings.Cut(clusterURL(t), "?")
	s := open(t, newPlace(t, node))
	if virtual.TraitsOf(s).Guards {
		t.Error("a Cluster has Guards by default")
	}
	for i := range 30 {
		must(t, s.Create(t.Context(), virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}), "Create")
	}
}

// TestRedirectsAreFollowed gives a client a picture of the Cluster in which all is on one node.
func TestRedirectsAreFollowed(t *testing.T) {
	server := clusterURL(t)
	c := wrongCluster(t, server)
	s, err := redis.New(t.Context(), c, redis.Options{Prefix: prefixOf(newPlace(t, server))})
	must(t, err, "New")
	defer s.Close()
	for i := range 10 {
		q := virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}
		must(t, s.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}, {Queue: orders, Payload: virtual.Bytes("m")}}}), "Put")
		if n, err := s.Size(t.Context(), q); n != 1 || err != nil {
			t.Errorf("%s has %d messages, %v; want 1", q.Name, n, err)
		}
	}
	if n, err := s.Size(t.Context(), orders); n != 10 || err != nil {
		t.Errorf("%d messages, %v; want 10", n, err)
	}
}
