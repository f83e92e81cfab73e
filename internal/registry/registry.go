package registry

import (
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Options are the settings of a Registry. The zero value is right for a store that may hold something.
type Options struct {
	// Lease is L, the lease of the one message while it is read or written; 0 is 4 seconds. It is raised to the store's
	// LeaseMin and LeaseStep, and to 20 measured round trips. All processes should have the same.
	Lease time.Duration
	// Fresh says that the place was just made by this process: what is not seen is not there, and nothing waits for it.
	Fresh bool
	// Poll is how long Changes goes between looks while it waits, asked anew all the time; nil is 2 seconds. 0 or less:
	// it does not look by itself, and returns what other calls see.
	Poll func() time.Duration
	// Conflict is told the keys for which a merge had to decide between two writers that did not know of each other. It is
	// called by whoever merged, without locks, and is to return soon. It may be nil.
	Conflict func(keys []string)
}

// Registry keeps records and sessions in two reserved queues of a store: it implements virtual.Registry with the five
// methods. It is safe for concurrent use, and has no goroutines while nobody calls. A process has one per store.
type Registry struct {
	store    virtual.Store
	o        Options
	topology *cell
	sessions *cell
	observer observer
	name     string // of this process, as the writer of what it does by itself

	mu    sync.Mutex
	begun bool // both queues were looked at once
}

var _ virtual.Registry = (*Registry)(nil)

// New returns a Registry on a store. It makes no call.
func New(s virtual.Store, o Options) *Registry {
	if o.Lease <= 0 {
		o.Lease = 4 * time.Second
	}
	if o.Poll == nil {
		o.Poll = func() time.Duration { return 2 * time.Second }
	}
	r := &Registry{store: s, o: o, name: rand.Text()}
	found := new(atomic.Bool)
	r.topology = newCell(s, "!registry", &r.o, found)
	r.sessions = newCell(s, "!sessions", &r.o, found)
	r.topology.decided = o.Conflict
	r.observer.seen = map[string]sight{}
	r.sessions.looked = r.observer.look
	return r
}

// begin looks at both queues at once, so that the first process on an empty store waits once for what may be hidden. Then
// each has a state, if an empty one.
func (r *Registry) begin(ctx context.Context) error {
	r.mu.Lock()
	begun := r.begun
	r.mu.Unlock()
	if begun {
		return nil
	}
	cells := []*cell{r.topology, r.sessions}
	if ns, ok := virtual.As[virtual.Namespace](r.store); ok {
		for _, c := range cells {
			if err := ns.Create(ctx, c.queue); err != nil {
				return c.wrap(err)
			}
		}
	}
	var wg sync.WaitGroup
	errs := make([]error, len(cells))
	for i, c := range cells {
		wg.Go(func() { _, errs[i] = c.read(ctx) })
	}
	wg.Wait()
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	r.mu.Lock()
	r.begun = true
	r.mu.Unlock()
	return nil
}

// Update makes all changes in one step, or none: see virtual.Registry. Where the outcome of its write was not told, or its
// lease ended meanwhile, it looks again: a *virtual.ConflictError then also names records that somebody else has on top.
// Keys that begin with a zero byte are reserved.
func (r *Registry) Update(ctx context.Context, session string, changes []virtual.Change) (uint64, error) {
	if err := r.begin(ctx); err != nil {
		return 0, err
	}
	// The caller may be gone, and use its slices again, while this runs for others.
	records := make([]record, len(changes))
	changes = slices.Clone(changes)
	bound := []string{session}
	for i, c := range changes {
		if strings.HasPrefix(c.Key, mark) {
			return 0, fmt.Errorf("registry: key %q begins with a zero byte, which is reserved", c.Key)
		}
		records[i] = record{key: c.Key, writer: session}
		switch c.Op {
		case virtual.Write:
			records[i].value, records[i].session = string(c.Value), c.Session
			if c.Session != "" && !slices.Contains(bound, c.Session) {
				bound = append(bound, c.Session)
			}
		case virtual.Delete:
			records[i].deleted = true
		}
		changes[i].Value = nil
	}
	if err := r.alive(ctx, bound); err != nil {
		return 0, err
	}
	o := &op{change: func(d *draft) error {
		for _, s := range bound {
			if d.get(mark+s) != nil {
				return virtual.ErrSession
			}
		}
		return apply(d, changes, records)
	}}
	if err := r.topology.do(ctx, o); err != nil {
		return 0, err
	}
	return o.rev, nil
}

// apply judges the conditions of changes, and makes them all or none. records are what they make.
func apply(d *draft, changes []virtual.Change, records []record) error {
	var differ []virtual.Revision
	for _, c := range changes {
		rev := live(d.get(c.Key))
		if c.If != virtual.Any && (c.If != virtual.Exists || rev == 0) && uint64(c.If) != rev {
			differ = append(differ, virtual.Revision{Key: c.Key, Rev: rev})
		}
	}
	if differ != nil {
		return &virtual.ConflictError{Differ: differ}
	}
	for i, c := range changes {
		is := d.get(c.Key)
		switch {
		case c.Op == virtual.Write:
			d.set(records[i])
		case live(is) == 0:
		case c.Op == virtual.Touch:
			d.set(record{key: c.Key, value: is.value, session: is.session, writer: records[i].writer})
		case c.Op == virtual.Delete:
			d.set(records[i])
		}
	}
	return nil
}

// Changes returns what has changed above a revision, see virtual.Registry. Without wait it reads once. With wait it
// returns as soon as this process has seen anything newer, be it by another call, and reads by itself every Options.Poll.
// reset is also said when states that did not know of each other were merged since.
func (r *Registry) Changes(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
	if err := r.begin(ctx); err != nil {
		return nil, since, false, err
	}
	if wait <= 0 {
		s, err := r.topology.read(ctx)
		if err != nil {
			return nil, since, false, err
		}
		recs, rev, reset := s.since(since)
		return recs, rev, reset, nil
	}
	looked := false
	for until := time.Now().Add(wait); ; {
		s, seen, changed := r.topology.look()
		recs, rev, reset := s.since(since)
		now := time.Now()
		behind := since > rev && !looked // the caller has it from elsewhere
		if !behind && (len(recs) > 0 || reset || !now.Before(until)) {
			return recs, rev, reset, nil
		}
		poll := r.o.Poll()
		if behind || poll > 0 && now.Sub(seen) >= poll {
			if _, err := r.topology.read(ctx); err != nil {
				return nil, since, false, err
			}
			looked = true
			continue
		}
		rest := min(until.Sub(now), time.Second) // Poll may say something else by then
		if poll > 0 {
			rest = min(rest, poll-now.Sub(seen))
		}
		t := time.NewTimer(rest)
		select {
		case <-changed:
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if err := ctx.Err(); err != nil {
			return nil, since, false, err
		}
	}
}
