package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/virtual"
)

// layout is the version of the keys. Another one is not read.
const layout = "1"

// longest bounds leases, delays and TTLs as they are computed with: the server's scripts count microseconds exactly up to
// the year 2255.
const longest = 100 * 365 * 24 * time.Hour

// largest is the length of a payload that Redis takes, 512 MB less what stands before it.
const largest = 512<<20 - 16

// Options say where in a server the messages are. The zero value is good.
type Options struct {
	// Prefix begins the names of all keys; "" is "dashi". It has no braces.
	Prefix string
	// Vhost is the virtual host; "" is "/". It has no braces: it is the hash tag of all keys, so that one vhost lives in one
	// slot of a cluster.
	Vhost string
}

// Store is one handle on a vhost in a Redis server. It implements virtual.Store and all capabilities.
type Store struct {
	client  goredis.UniversalClient
	owned   bool
	lines   *lines // of a client that is owned; nil: not known
	base    string // what the names of all keys begin with
	handle  string // names this handle among all
	durable bool

	ctx    context.Context // ends with Close
	close  context.CancelFunc
	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // calls, and what listens

	earsMu sync.Mutex
	ears   *ears // nil: nobody has waited yet
}

var (
	_ virtual.Store     = (*Store)(nil)
	_ virtual.Registry  = (*Store)(nil)
	_ virtual.Holders   = (*Store)(nil)
	_ virtual.Notifier  = (*Store)(nil)
	_ virtual.Expirer   = (*Store)(nil)
	_ virtual.Peeker    = (*Store)(nil)
	_ virtual.Bounded   = (*Store)(nil)
	_ virtual.Atomic    = (*Store)(nil)
	_ virtual.Namespace = (*Store)(nil)
	_ virtual.Health    = (*Store)(nil)
)

// New returns a handle on a vhost in the server of a client that is the program's own: Close leaves the client open. The client may
// retry what it likes: the store's scripts it sends once. Its ReadTimeout bounds a Get whose context has ended, and Close. New asks the server
// for its layout and whether it is durable.
func New(ctx context.Context, client goredis.UniversalClient, o Options) (*Store, error) {
	s, err := build(client, o)
	if err != nil {
		return nil, err
	}
	if err := s.ask(ctx, func() error { return s.greet(ctx) }); err != nil {
		return nil, err
	}
	return s, nil
}

func build(client goredis.UniversalClient, o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = "dashi"
	}
	if o.Vhost == "" {
		o.Vhost = "/"
	}
	if strings.ContainsAny(o.Prefix+o.Vhost, "{}") {
		return nil, errors.New("open redis store: neither prefix nor vhost may have braces")
	}
	base := o.Prefix + ":{" + o.Vhost + "}:"
	handle := make([]byte, 8)
	_, _ = rand.Read(handle) // never fails
	s := &Store{client: client, base: base, handle: hex.EncodeToString(handle)}
	s.ctx, s.close = context.WithCancel(context.Background())
	return s, nil
}

// greet checks the layout and asks whether the server keeps what it has.
func (s *Store) greet(ctx context.Context) error {
	if err := s.checkLayout(ctx); err != nil {
		return fmt.Errorf("open redis store: %w", err)
	}
	if c, err := s.client.ConfigGet(ctx, "appendonly").Result(); err == nil {
		s.durable = c["appendonly"] == "yes"
	} else if info, err := s.client.Info(ctx, "persistence").Result(); err == nil {
		s.durable = strings.Contains(info, "aof_enabled:1")
	}
	return nil
}

// checkLayout refuses a layout of another version, and writes it into a place that has none.
func (s *Store) checkLayout(ctx context.Context) error {
	key := s.base + "layout"
	is, err := s.client.Get(ctx, key).Result()
	if errors.Is(err, goredis.Nil) {
		if err = s.client.SetNX(ctx, key, layout, 0).Err(); err == nil {
			is, err = s.client.Get(ctx, key).Result()
		}
	}
	if err == nil && is != layout {
		err = fmt.Errorf("the keys under %q have layout %q, this version reads %q", s.base, is, layout)
	}
	return err
}

// Traits tells what the store promises. Durable it is where the server appends to a file, as it said at the beginning.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{
		Name: "redis", Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Marks: true,
		Guards: true, Fences: true, TTL: true, Ranked: true, Durable: s.durable, Levels: 256, MaxDelay: longest,
	}
}

// Close ends what waits on this handle and refuses further calls. Messages and leases stay. Calls that are on their way have a second
// to come to their end; then the connections are closed under them, or, where the client is the program's own, its timeouts end them.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.close()
	s.finish()
	if first && s.owned {
		return s.client.Close()
	}
	return nil
}

// Ping asks the server for an answer.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return s.ask(ctx, func() error { return s.client.Ping(ctx).Err() })
}

// enter counts a call, which Close waits for; leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return virtual.ErrClosed
	}
	s.tasks.Add(1)
	return nil
}

func (s *Store) leave() { s.tasks.Done() }

func (s *Store) usable(ctx context.Context) error {
	if s.ctx.Err() != nil {
		return virtual.ErrClosed
	}
	return ctx.Err()
}

// once is a command that the client does not send again when its reply is lost, whatever it does with others: the engine
// does, knowing what is ambiguous.
type once struct{ *goredis.Cmd }

func (once) NoRetry() bool { return true }

// run runs a script, which is the whole of a call. The server has it from its first use on; one that has lost it, by a flush
// or a restart, is told again, since it has done nothing then.
func (s *Store) run(ctx context.Context, script *script, args ...any) *goredis.Cmd {
	if err := s.enter(ctx); err != nil {
		return failed(ctx, err)
	}
	defer s.leave()
	c := goredis.NewCmd(ctx, append([]any{"evalsha", script.sha, 1, s.base}, args...)...)
	err := s.ask(ctx, func() error {
		err := s.client.Process(ctx, once{c})
		if goredis.HasErrorPrefix(err, "NOSCRIPT") {
			c = goredis.NewCmd(ctx, append([]any{"eval", script.text, 1, s.base}, args...)...)
			err = s.client.Process(ctx, once{c})
		}
		return err
	})
	if err == nil {
		return c
	}
	if s.lines != nil && ctx.Err() == nil && !isReply(err) {
		s.lines.doubt()
	}
	return failed(ctx, err)
}

// isReply reports whether an error is what the server has answered.
func isReply(err error) bool {
	_, ok := errors.AsType[goredis.Error](err)
	return ok
}

// failed is a command that was not answered.
func failed(ctx context.Context, err error) *goredis.Cmd {
	c := goredis.NewCmd(ctx)
	c.SetErr(err)
	return c
}

// id is what the queue is called in the names of keys.
func id(q virtual.QueueRef) string { return q.Incarnation + ":" + q.Name }

func refOf(id string) virtual.QueueRef {
	incarnation, name, _ := strings.Cut(id, ":")
	return virtual.QueueRef{Name: name, Incarnation: incarnation}
}

// micros is a duration as the scripts count it, rounded up.
func micros(d time.Duration) int64 {
	d = min(d, longest)
	return int64(d+time.Microsecond-1) / int64(time.Microsecond)
}
