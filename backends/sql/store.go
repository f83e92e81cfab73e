package sql

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const (
	never = int64(math.MaxInt64)

	// grace is how long what a waiter could take counts as on its way to it once it was woken; forget, how long is remembered
	// what must not come back. In microseconds, as all times.
	grace  = int64(1e6)
	forget = int64(3600e6)

	// longest bounds leases, delays and TTLs.
	longest = 100 * 365 * 24 * time.Hour
)

// Options say where in a database the messages are, and of what kind it is. The zero value is good.
type Options struct {
	// Vhost is the virtual host; "" is "/".
	Vhost string
	// Largest is the length of the largest payload that the database takes, in bytes; 0: no bound.
	Largest int
	// Volatile says that what was committed may be lost when a process or the database is killed.
	Volatile bool
}

// Store is one handle on a vhost in a database. It implements virtual.Store and all capabilities.
type Store struct {
	db     Database
	o      Options
	vhost  int64
	handle string // names this handle among all

	ctx    context.Context // ends with Close
	close  context.CancelFunc
	mu     sync.Mutex
	closed bool
	tasks  sync.WaitGroup // calls, and what listens

	calls  chan *call
	writer chan struct{} // closed when the writer has ended
	cache  cache         // of the writer

	ears ears
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

// New returns a handle on a vhost in a database, whose tables it makes or brings up to date. Close closes the database, too.
func New(ctx context.Context, db Database, o Options) (*Store, error) {
	if o.Vhost == "" {
		o.Vhost = "/"
	}
	name := make([]byte, 8)
	_, _ = rand.Read(name) // never fails
	s := &Store{db: db, o: o, handle: hex.EncodeToString(name), calls: make(chan *call, most), writer: make(chan struct{}), cache: newCache()}
	if err := s.migrate(ctx, o.Vhost); err != nil {
		return nil, fmt.Errorf("open %s store: %w", db.Name(), err)
	}
	s.ears.init(s)
	s.ctx, s.close = context.WithCancel(context.Background())
	go s.write()
	return s, nil
}

// Traits tells what the store promises.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{
		Name: s.db.Name(), Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Marks: true,
		Guards: true, Fences: true, TTL: true, Ranked: true, Durable: !s.o.Volatile, Levels: 256, MaxDelay: longest,
	}
}

// Close ends what waits on this handle and refuses further calls. Messages and leases stay.
func (s *Store) Close() error {
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	s.mu.Unlock()
	s.close()
	s.tasks.Wait()
	if !first {
		return nil
	}
	close(s.calls)
	<-s.writer
	return s.db.Close()
}

// Ping asks the database for an answer.
func (s *Store) Ping(ctx context.Context) error {
	return s.view(ctx, func(t *tx) error { return t.Query("SELECT 1", func(Row) bool { return true }) })
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

// micros is a duration as it is stored, rounded up.
func micros(d time.Duration) int64 {
	d = min(d, longest)
	return int64(d+time.Microsecond-1) / int64(time.Microsecond)
}

func duration(micros int64) time.Duration { return time.Duration(micros) * time.Microsecond }

// in returns how long it is until a time, 0 if that is never.
func in(at, now int64) time.Duration {
	if at == never {
		return 0
	}
	return duration(max(1, at-now))
}
