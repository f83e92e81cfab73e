package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/virtual"
)

// layout is the version of the keys. Another one is not read. spreadLayout is the same of a vhost whose queues are in parts.
const (
	layout       = "1"
	spreadLayout = "1 slots=queue"
)

// longest bounds leases, delays and TTLs as they are computed with: the server's scripts count microseconds exactly up to
// the year 2255.
const longest = 100 * 365 * 24 * time.Hour

// largest is the length of a payload that Redis takes, 512 MB less what stands before it.
const largest = 512<<20 - 16

// Options say where in a server the messages are. The zero value is good.
type Options struct {
	// Prefix begins the names of all keys; "" is "dashi". It has no braces.
	Prefix string
	// Vhost is the virtual host; "" is "/". It has no braces: it is the hash tag of all keys, or the beginning of it.
	Vhost string
	// Slots is SlotsVhost or SlotsQueue. A place keeps what it was made with, and is refused to who asks for the other one. "" takes
	// what the place has; a new one gets SlotsQueue on a Cluster (a *goredis.ClusterClient), else SlotsVhost.
	Slots string
	// Replicas is how many replicas are to have a message before it is stored, as WAIT tells; 0: none are asked. A fail-over to one of
	// them loses nothing then that was confirmed. Without them nothing is confirmed.
	Replicas int
	// ReplicaWait is how long a request waits for them before it has failed, and is made again; 0 is one second. It is less than
	// the client's ReadTimeout.
	ReplicaWait time.Duration
}

// Store is one handle on a vhost in a Redis server. It implements virtual.Store and all capabilities.
type Store struct {
	client goredis.UniversalClient
	owned  bool
	lines  *lines   // of a client that is owned; nil: not known
	home   string   // what the names of the vhost's own keys begin with
	parts  []string // what those of the queues' do; just home where all is in one slot
	layout string   // of the place
	handle string   // names this handle among all

	replicas int // to be waited for, so long
	patience time.Duration

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
	_ virtual.Masker    = (*Store)(nil)
)

// New returns a handle on a vhost in the server of a client that is the program's own: Close leaves the client open. The client may
// retry what it likes: the store's scripts it sends once. It reads from masters. Its ReadTimeout bounds calls whose context has ended, and Close.
// Its hooks see commands whose arguments are used again when a call has returned: what they keep they copy.
// New asks the server for its layout and whether it is durable.
func New(ctx context.Context, client goredis.UniversalClient, o Options) (*Store, error) {
	return newStore(ctx, client, o, nil)
}

// newStore is New with a client whose lines are known, and which is the store's own.
func newStore(ctx context.Context, client goredis.UniversalClient, o Options, l *lines) (*Store, error) {
	s, err := build(client, &o)
	if err != nil {
		return nil, err
	}
	s.lines, s.owned = l, l != nil
	if err := s.ask(ctx, func() error { return s.greet(ctx, o) }); err != nil {
		return nil, fmt.Errorf("open redis store: %w", err)
	}
	return s, nil
}

func build(client goredis.UniversalClient, o *Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = "dashi"
	}
	if o.Vhost == "" {
		o.Vhost = "/"
	}
	if strings.ContainsAny(o.Prefix+o.Vhost, "{}") {
		return nil, errors.New("open redis store: neither prefix nor vhost may have braces")
	}
	if o.Slots != "" && o.Slots != SlotsVhost && o.Slots != SlotsQueue {
		return nil, fmt.Errorf("open redis store: slots is neither %s nor %s", SlotsVhost, SlotsQueue)
	}
	if o.Replicas < 0 || o.ReplicaWait < 0 || o.ReplicaWait > 0 && o.ReplicaWait < time.Millisecond {
		return nil, errors.New("open redis store: neither replicas nor replica_wait may be negative, and it waits at least 1ms")
	}
	if o.ReplicaWait == 0 {
		o.ReplicaWait = time.Second
	}
	handle := make([]byte, 8)
	_, _ = rand.Read(handle) // never fails
	s := &Store{client: client, home: baseOf(o.Prefix, o.Vhost), handle: hex.EncodeToString(handle), replicas: o.Replicas, patience: o.ReplicaWait}
	s.ctx, s.close = context.WithCancel(context.Background())
	return s, nil
}

// greet finds out how the place is laid out, or lays it out if it is new, and asks whether what it has is kept.
func (s *Store) greet(ctx context.Context, o Options) error {
	cluster, isCluster := s.client.(*goredis.ClusterClient)
	mine := layout
	if o.Slots == SlotsQueue || o.Slots == "" && isCluster {
		mine = spreadLayout
	}
	is, err := s.readLayout(ctx, mine)
	if err != nil {
		return err
	}
	has := SlotsVhost
	s.layout = is
	switch is {
	case layout:
		s.parts = []string{s.home}
	case spreadLayout:
		has, s.parts = SlotsQueue, partsOf(o.Prefix, o.Vhost)
	default:
		return fmt.Errorf("the keys under %q have layout %q, this version reads %q", s.home, is, layout)
	}
	if o.Slots != "" && o.Slots != has {
		return fmt.Errorf("the keys under %q are laid out with slots=%s, this handle is to have slots=%s: all who share a place have the same", s.home, has, o.Slots)
	}
	if !isCluster {
		s.durable = durable(ctx, s.client)
		return nil
	}
	var forgets atomic.Bool
	err = cluster.ForEachMaster(ctx, func(ctx context.Context, c *goredis.Client) error {
		if !durable(ctx, c) {
			forgets.Store(true)
		}
		return nil
	})
	s.durable = err == nil && !forgets.Load()
	return err
}

// readLayout returns the layout of the place, and gives one that is new the handle's.
func (s *Store) readLayout(ctx context.Context, mine string) (string, error) {
	key := s.home + "layout"
	is, err := s.client.Get(ctx, key).Result()
	if errors.Is(err, goredis.Nil) {
		if err = s.client.SetNX(ctx, key, mine, 0).Err(); err == nil {
			is, err = s.client.Get(ctx, key).Result()
		}
	}
	return is, err
}

// checkLayout refuses a place that has another layout than it had, and writes it into one that has lost it.
func (s *Store) checkLayout(ctx context.Context) error {
	is, err := s.readLayout(ctx, s.layout)
	if err == nil && is != s.layout {
		err = fmt.Errorf("the keys under %q have layout %q, this handle has %q", s.home, is, s.layout)
	}
	return err
}

// durable asks a server whether it keeps what it has, as far as it says.
func durable(ctx context.Context, c goredis.UniversalClient) bool {
	if c, err := c.ConfigGet(ctx, "appendonly").Result(); err == nil {
		return c["appendonly"] == "yes"
	}
	info, err := c.Info(ctx, "persistence").Result()
	return err == nil && strings.Contains(info, "aof_enabled:1")
}

// Offers tells whether the store has a capability: all but Atomic where the queues are in several slots.
func (s *Store) Offers(capability any) bool {
	_, atomic := capability.(*virtual.Atomic)
	return !atomic || !s.spread()
}

// Traits tells what the store promises. Durable it is where the server, or every master, appends to a file, as it said at the beginning.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{
		Name: "redis", Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Marks: true,
		Guards: !s.spread(), Fences: true, TTL: true, Ranked: true, Durable: s.durable, Levels: 256, MaxDelay: longest,
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
