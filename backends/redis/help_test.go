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
	"github.com/dashi-mq/dashi/internal/storecalls"
	"github.com/dashi-mq/dashi/virtual"
)

// Calls that the tests of several stores make.
var put, bodies, settled, orders = storecalls.Put, storecalls.Bodies, storecalls.Settled, storecalls.Queue

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serverURL returns the URL of the server to test against, or skips the test.
func serverURL(t testing.TB) string { return urlOf(t, "redis", "DASHI_REDIS_URL") }

// clusterURL returns the URL of a Cluster of several masters, or skips the test.
func clusterURL(t testing.TB) string { return urlOf(t, "redis-cluster", "DASHI_REDIS_CLUSTER_URL") }

func urlOf(t testing.TB, server, variable string) string {
	t.Helper()
	u := os.Getenv(variable)
	if u == "" {
		t.Skipf("needs a real server: %s is not set (scripts/servers start %s prints one)", variable, server)
	}
	if _, err := url.Parse(u); err != nil {
		t.Fatalf("%s is no URL", variable) // err would show its password
	}
	return u
}

// nightly skips a test that is too much for every change.
func nightly(t testing.TB) {
	t.Helper()
	if !isNight() {
		t.Skip("takes minutes: NIGHTLY=1 runs it")
	}
}

func isNight() bool { return os.Getenv("NIGHTLY") == "1" }

// with sets an option of a URL.
func with(rawURL, option, value string) string {
	u, _ := url.Parse(rawURL) // it is one, as urlOf has found
	q := u.Query()
	q.Set(option, value)
	u.RawQuery = q.Encode()
	return u.String()
}

// plain is a URL without the store's own options, as go-redis takes it.
func plain(rawURL string) string {
	u, _ := url.Parse(rawURL)
	q := u.Query()
	for _, option := range []string{"prefix", "vhost", "slots"} {
		q.Del(option)
	}
	u.RawQuery = q.Encode()
	return u.String()
}

// isCluster tells whether a URL names several nodes.
func isCluster(rawURL string) bool {
	u, _ := url.Parse(rawURL)
	return u.Query().Has("addr")
}

// prefixOf returns the prefix of a place.
func prefixOf(place string) string {
	u, _ := url.Parse(place)
	return u.Query().Get("prefix")
}

var places atomic.Int64

// cleaner is what a test leaves its clean-up to.
type cleaner interface{ Cleanup(f func()) }

// newPlace returns the URL of an empty place in a server: a prefix of its own, whose keys are removed at the end.
func newPlace(t cleaner, server string) string {
	prefix := fmt.Sprintf("test-%d-%d-%d", os.Getpid(), time.Now().UnixNano(), places.Add(1))
	t.Cleanup(func() { remove(server, prefix) })
	return with(server, "prefix", prefix)
}

// remove removes all keys that begin with a prefix.
func remove(server, prefix string) {
	ctx, stop := context.WithTimeout(context.Background(), 30*time.Second)
	defer stop()
	sweep := func(ctx context.Context, c *goredis.Client) error {
		keys := c.Scan(ctx, 0, prefix+":*", 1000).Iterator()
		for keys.Next(ctx) {
			c.Unlink(ctx, keys.Val())
		}
		return keys.Err()
	}
	if isCluster(server) {
		if o, err := goredis.ParseClusterURL(plain(server)); err == nil {
			c := goredis.NewClusterClient(o)
			defer c.Close()
			_ = c.ForEachMaster(ctx, sweep)
		}
		return
	}
	if o, err := goredis.ParseURL(plain(server)); err == nil {
		c := goredis.NewClient(o)
		defer c.Close()
		_ = sweep(ctx, c)
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

// counts is a hook that counts the commands of a client, those of a pipeline one by one, and the scripts among them.
type counts struct{ n, scripts atomic.Int64 }

func (*counts) DialHook(next goredis.DialHook) goredis.DialHook { return next }

func (c *counts) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	return func(ctx context.Context, cmd goredis.Cmder) error {
		c.count(cmd)
		return next(ctx, cmd)
	}
}

func (c *counts) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []goredis.Cmder) error {
		c.count(cmds...)
		return next(ctx, cmds)
	}
}

func (c *counts) count(cmds ...goredis.Cmder) {
	for _, cmd := range cmds {
		c.n.Add(1)
		if cmd.Name() == "evalsha" {
			c.scripts.Add(1)
		}
	}
}
