package memory

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Place is where messages are kept: what a server is to other stores. Handles on one place see the same queues, as
// processes do that share a server.
type Place struct {
	name string
	base time.Time // durations since then are the clock of the place

	mu       sync.Mutex
	queues   map[virtual.QueueRef]*queue
	deleted  map[virtual.QueueRef]int64 // when; pruned after forget
	marks    map[string]*mark
	due      timeline      // queues to sweep
	expiring timeline      // queues whose head expires
	tick     chan struct{} // closed when something is due earlier than those who wait know; nil: nobody waits
	waiters  map[string]func(virtual.QueueRef)
	registry registry
	free     free
	limited  []*queue // queues that have a limit in the present request
	aside    []*entry // scratch of queue.setAside
}

// forget is how long the place remembers what must not come back: deleted queues, ended sessions, marks.
const forget = int64(time.Hour)

// New makes an empty place of its own.
func New() *Place {
	return &Place{
		name:     "memory",
		base:     time.Now(),
		queues:   map[virtual.QueueRef]*queue{},
		deleted:  map[virtual.QueueRef]int64{},
		marks:    map[string]*mark{},
		due:      timeline{slot: 0},
		expiring: timeline{slot: 1},
		waiters:  map[string]func(virtual.QueueRef){},
		registry: newRegistry(),
	}
}

var (
	placesMu sync.Mutex
	places   = map[string]*Place{}
)

// Named returns the place of that name in this process, making it at first. It lasts until Forget.
func Named(name string) *Place {
	placesMu.Lock()
	defer placesMu.Unlock()
	p := places[name]
	if p == nil {
		p = New()
		places[name] = p
	}
	return p
}

// Forget drops a named place; those who hold it keep it.
func Forget(name string) {
	placesMu.Lock()
	delete(places, name)
	placesMu.Unlock()
}

// Open returns a new handle on the place: one process, as far as the place can tell.
func (p *Place) Open() *Store { return &Store{p: p, done: make(chan struct{})} }

func init() {
	virtual.Register("memory", func(_ context.Context, rawURL string) (virtual.Store, error) { return open(rawURL) })
}

func open(rawURL string) (*Store, error) {
	u, err := url.Parse(rawURL)
	if err != nil || u.Scheme != "memory" {
		return nil, fmt.Errorf("open memory store: malformed URL, want memory:// or memory://NAME")
	}
	q := u.Query()
	for k := range q {
		if k != "vhost" {
			return nil, fmt.Errorf("open memory store: unknown option %q in the URL (have vhost)", k)
		}
	}
	name := u.Host + u.Path
	if name == "" {
		return New().Open(), nil
	}
	return Named(name + "\x00" + q.Get("vhost")).Open(), nil
}

func (p *Place) now() int64 { return int64(time.Since(p.base)) }

// find returns a queue, making it at first use.
func (p *Place) find(ref virtual.QueueRef) (*queue, error) {
	if q := p.queues[ref]; q != nil {
		return q, nil
	}
	if _, gone := p.deleted[ref]; gone {
		return nil, virtual.ErrNoQueue
	}
	q := newQueue(p, ref)
	p.queues[ref] = q
	return q, nil
}

// Store is one handle on a place. It implements virtual.Store and all capabilities.
type Store struct {
	p    *Place
	once sync.Once
	done chan struct{} // closed by Close: ends what waits
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

// Traits tells what the store promises: everything but durability.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{
		Name: "memory", Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Marks: true,
		Guards: true, Fences: true, TTL: true, Ranked: true, Quick: true, Levels: 256, MaxDelay: 1 << 62,
	}
}

// Close ends what waits on this handle and refuses further calls. The place stays.
func (s *Store) Close() error {
	s.once.Do(func() { close(s.done) })
	return nil
}

// Ping proves that the handle is open.
func (s *Store) Ping(ctx context.Context) error { return s.usable(ctx) }

func (s *Store) usable(ctx context.Context) error {
	select {
	case <-s.done:
		return virtual.ErrClosed
	default:
		return ctx.Err()
	}
}

// Create makes a queue.
func (s *Store) Create(ctx context.Context, ref virtual.QueueRef) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	_, err := s.p.find(ref)
	return err
}

// Delete removes a queue with everything in it.
func (s *Store) Delete(ctx context.Context, ref virtual.QueueRef) (int, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	p := s.p
	var w wakes
	p.mu.Lock()
	now := p.now()
	if len(p.deleted) > 1024 {
		for r, at := range p.deleted {
			if now-at > forget {
				delete(p.deleted, r)
			}
		}
	}
	p.deleted[ref] = now
	q := p.queues[ref]
	n := 0
	if q != nil {
		q.sweep(now, &w)
		n = q.nready
		q.gone = true
		p.due.remove(q)
		p.expiring.remove(q)
		q.wake(now, &w)
		q.wakeGetters()
		delete(p.queues, ref)
	}
	p.mu.Unlock()
	w.fire()
	return n, nil
}

// List returns all queues, in no order.
func (s *Store) List(ctx context.Context) ([]virtual.QueueRef, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	refs := make([]virtual.QueueRef, 0, len(s.p.queues))
	for r := range s.p.queues {
		refs = append(refs, r)
	}
	return refs, nil
}
