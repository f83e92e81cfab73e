package redis_test

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverURL returns the URL of the server to test against, or skips the test.
func serverURL(t testing.TB) string {
	t.Helper()
	u := os.Getenv("DASHI_REDIS_URL")
	if u == "" {
		t.Skip("needs a real server: DASHI_REDIS_URL is not set (scripts/servers start redis prints one)")
	}
	if _, err := url.Parse(u); err != nil {
		t.Fatal("DASHI_REDIS_URL is no URL") // err would show its password
	}
	return u
}

var places atomic.Int64

// cleaner is what a test leaves its clean-up to.
type cleaner interface{ Cleanup(f func()) }

// newPlace returns the URL of an empty place in a server: a prefix of its own, whose keys are removed at the end.
func newPlace(t cleaner, server string) string {
	prefix := fmt.Sprintf("test-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), places.Add(1))
	u, _ := url.Parse(server) // it is one, as serverURL has found
	q := u.Query()
	q.Set("prefix", prefix)
	u.RawQuery = q.Encode()
	t.Cleanup(func() { remove(server, prefix) })
	return u.String()
}

// remove removes all keys that begin with a prefix.
func remove(server, prefix string) {
	o, err := goredis.ParseURL(server)
	if err != nil {
		return
	}
	c := goredis.NewClient(o)
	defer c.Close()
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	keys := c.Scan(ctx, 0, prefix+":*", 1000).Iterator()
	for keys.Next(ctx) {
		c.Unlink(ctx, keys.Val())
	}
}

// places of the conformance suites.
func inServer(server string) func(t conformance.T) (func() (virtual.Store, error), error) {
	return func(t conformance.T) (func() (virtual.Store, error), error) {
		u := newPlace(t, server)
		return func() (virtual.Store, error) { return virtual.Open(context.Background(), u) }, nil
	}
}

func open(t testing.TB, u string) *redis.Store {
	t.Helper()
	s, err := redis.Open(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// limit bounds every wait of these tests; none comes near it.
const limit = 30 * time.Second

var orders = virtual.QueueRef{Name: "orders", Incarnation: "1"}

// put puts messages of one queue.
func put(ctx context.Context, s virtual.Store, bodies ...string) error {
	var r virtual.PutRequest
	for i, b := range bodies {
		r.Messages = append(r.Messages, &virtual.Message{Queue: orders, ID: virtual.ID{byte(i + 1)}, Payload: virtual.Bytes(b)})
	}
	return s.Put(ctx, r)
}

// bodies returns what was taken.
func bodies(ts []virtual.Taken) []string {
	var out []string
	for _, t := range ts {
		out = append(out, string(t.Payload.Bytes()))
	}
	return out
}

// settled answers what was taken.
func settled(kind virtual.Kind, d time.Duration, ts ...virtual.Taken) []virtual.Settlement {
	var out []virtual.Settlement
	for _, t := range ts {
		out = append(out, virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: kind, For: d})
	}
	return out
}
