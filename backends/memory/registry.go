package memory

import (
	"context"
	"maps"
	"slices"
	"sort"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// registry is the records and sessions of a place, under the place's lock.
type registry struct {
	rev      uint64
	first    uint64 // revisions below are from before a Flush
	records  map[string]*record
	log      []*record // in order of revision; one that has changed since stands further on, too
	sessions map[string]*session
	ended    map[string]int64 // sessions that were, and when they ended
	nextEnd  int64            // no session ends before
	forgot   uint64           // tombstones up to this revision may be gone
	changed  chan struct{}    // closed at the next change; nil: nobody waits
}

type record struct {
	virtual.Record
	at int64 // of a deletion
}

type session struct {
	deadline int64
	keys     map[string]struct{}
}

func newRegistry() registry {
	return registry{records: map[string]*record{}, sessions: map[string]*session{}, ended: map[string]int64{}, nextEnd: never}
}

// guard compares revisions of records; 0 is a record that does not exist.
func (p *Place) guard(g []virtual.Revision, now int64) error {
	if len(g) == 0 {
		return nil
	}
	p.endSessions(now)
	var differ []virtual.Revision
	for _, r := range g {
		if is := p.registry.revision(r.Key); is != r.Rev {
			differ = append(differ, virtual.Revision{Key: r.Key, Rev: is})
		}
	}
	if differ != nil {
		return &virtual.GuardError{Differ: differ}
	}
	return nil
}

func (g *registry) revision(key string) uint64 {
	if r := g.records[key]; r != nil && !r.Deleted {
		return r.Rev
	}
	return 0
}

// Update makes all changes, or none.
func (s *Store) Update(ctx context.Context, name string, changes []virtual.Change) (uint64, error) {
	if err := s.usable(ctx); err != nil {
		return 0, err
	}
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.endSessions(now)
	g := &p.registry
	if g.sessions[name] == nil {
		return 0, virtual.ErrSession
	}
	var differ []virtual.Revision
	for _, c := range changes {
		rev := g.revision(c.Key)
		ok := c.If == virtual.Any || c.If == virtual.Exists && rev != 0 || uint64(c.If) == rev
		if !ok {
			differ = append(differ, virtual.Revision{Key: c.Key, Rev: rev})
		}
		if c.Op == virtual.Write && c.Session != "" && g.sessions[c.Session] == nil {
			return 0, virtual.ErrSession
		}
	}
	if differ != nil {
		return 0, &virtual.ConflictError{Differ: differ}
	}
	if slices.ContainsFunc(changes, func(c virtual.Change) bool { return c.Op != virtual.Check }) {
		g.rev++
	}
	for _, c := range changes {
		g.apply(c, now)
	}
	g.announce()
	g.compact(now)
	return g.rev, nil
}

// apply gives one record its new state, at the revision of the registry.
func (g *registry) apply(c virtual.Change, now int64) {
	old := g.records[c.Key]
	exists := old != nil && !old.Deleted
	switch c.Op {
	case virtual.Check:
		return
	case virtual.Touch, virtual.Delete:
		if !exists {
			return
		}
	}
	r := &record{Record: virtual.Record{Key: c.Key, Rev: g.rev}, at: now}
	switch c.Op {
	case virtual.Write:
		r.Value, r.Session = slices.Clone(c.Value), c.Session
	case virtual.Touch:
		r.Value, r.Session = old.Value, old.Session
	case virtual.Delete:
		r.Deleted = true
	}
	if exists && old.Session != "" {
		if s := g.sessions[old.Session]; s != nil {
			delete(s.keys, c.Key)
		}
	}
	if r.Session != "" {
		g.sessions[r.Session].keys[c.Key] = struct{}{}
	}
	g.records[c.Key] = r
	g.log = append(g.log, r)
}

func (g *registry) announce() {
	if g.changed != nil {
		close(g.changed)
		g.changed = nil
	}
}

// compact drops from the log what was superseded, and tombstones that are old.
func (g *registry) compact(now int64) {
	if len(g.log) < 1024 || len(g.log) < 2*len(g.records) {
		return
	}
	kept := g.log[:0]
	for _, r := range g.log {
		if g.records[r.Key] != r {
			continue
		}
		if r.Deleted && now-r.at > forget {
			delete(g.records, r.Key)
			g.forgot = max(g.forgot, r.Rev)
			continue
		}
		kept = append(kept, r)
	}
	clear(g.log[len(kept):])
	g.log = kept
}

// endSessions ends those whose time is over.
func (p *Place) endSessions(now int64) {
	g := &p.registry
	if now < g.nextEnd {
		return
	}
	g.nextEnd = never
	for name, s := range g.sessions {
		if s.deadline <= now {
			p.endSession(name, now)
		} else {
			g.nextEnd = min(g.nextEnd, s.deadline)
		}
	}
}

func (p *Place) endSession(name string, now int64) {
	g := &p.registry
	s := g.sessions[name]
	if s == nil {
		return
	}
	if len(g.ended) >= 1024 {
		maps.DeleteFunc(g.ended, func(_ string, at int64) bool { return now-at > forget })
	}
	g.ended[name] = now
	if len(s.keys) > 0 {
		g.rev++
		for _, k := range slices.Sorted(maps.Keys(s.keys)) {
			g.apply(virtual.Change{Key: k, Op: virtual.Delete, If: virtual.Any}, now)
		}
	}
	delete(g.sessions, name)
	g.announce()
}

// Changes returns what changed since a revision, waiting for it.
func (s *Store) Changes(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
	if err := s.usable(ctx); err != nil {
		return nil, since, false, err
	}
	p := s.p
	until := never
	for {
		p.mu.Lock()
		now := p.now()
		if until == never && wait > 0 {
			until = now + int64(wait)
		}
		p.endSessions(now)
		g := &p.registry
		if since > g.rev || since != 0 && since < g.first {
			p.mu.Unlock()
			return nil, since, false, virtual.ErrLost
		}
		recs, reset := g.since(since)
		if len(recs) > 0 || reset || wait <= 0 || now >= until {
			rev := g.rev
			p.mu.Unlock()
			return recs, rev, reset, nil
		}
		if g.changed == nil {
			g.changed = make(chan struct{})
		}
		changed := g.changed
		next := until
		for _, ss := range g.sessions {
			next = min(next, ss.deadline)
		}
		p.mu.Unlock()
		if !s.sleep(ctx, next, now, changed) {
			return nil, since, false, s.usable(ctx)
		}
	}
}

func (g *registry) since(rev uint64) (recs []virtual.Record, reset bool) {
	reset = rev != 0 && rev < g.forgot
	if reset {
		rev = 0
	}
	i := sort.Search(len(g.log), func(i int) bool { return g.log[i].Rev > rev })
	for _, r := range g.log[i:] {
		if g.records[r.Key] == r && (rev != 0 || !r.Deleted) {
			recs = append(recs, r.Record)
		}
	}
	return recs, reset
}

// KeepAlive opens or renews a session.
func (s *Store) KeepAlive(ctx context.Context, name string, ttl time.Duration) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.now()
	p.endSessions(now)
	g := &p.registry
	if _, was := g.ended[name]; was {
		return virtual.ErrSession
	}
	ss := g.sessions[name]
	if ss == nil {
		ss = &session{keys: map[string]struct{}{}}
		g.sessions[name] = ss
		ss.deadline = never
	}
	if now+int64(ttl) < ss.deadline {
		g.announce() // who waits must wake at this session's end, too
	}
	ss.deadline = now + int64(ttl)
	g.nextEnd = min(g.nextEnd, ss.deadline)
	return nil
}

// EndSession ends a session with its records.
func (s *Store) EndSession(ctx context.Context, name string) error {
	if err := s.usable(ctx); err != nil {
		return err
	}
	p := s.p
	p.mu.Lock()
	defer p.mu.Unlock()
	p.endSession(name, p.now())
	return nil
}

// Sessions lists the sessions that are alive.
func (s *Store) Sessions(ctx context.Context) ([]string, error) {
	if err := s.usable(ctx); err != nil {
		return nil, err
	}
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.endSessions(s.p.now())
	return slices.Sorted(maps.Keys(s.p.registry.sessions)), nil
}
