package registry

import (
	"context"
	"encoding/binary"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// sessionView is how long a look at the sessions is good enough to let one write. It is shorter than the marks of ended
// sessions stay.
const sessionView = 15 * time.Minute

// pulse is what a session's record in "!sessions" says; its key is the session's name. It is written again by each
// heartbeat: its new revision is the movement that others see.
type pulse struct{ ttl time.Duration }

func (p pulse) String() string {
	return string(binary.AppendUvarint([]byte{0}, uint64(p.ttl))) // the first byte is for more to be said
}

func pulseOf(r *record) (p pulse) {
	c := cursor{s: r.value}
	c.bytes(1)
	p.ttl = time.Duration(c.number())
	return p
}

// KeepAlive opens a session or renews it, see virtual.Registry. It also looks after the others: whoever is seen dead is
// ended.
func (r *Registry) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	r.observer.looksEvery(ttl)
	if err := r.begin(ctx); err != nil {
		return err
	}
	err := r.sessions.do(ctx, &op{again: true, change: func(d *draft) error {
		is := d.get(session)
		if is != nil && is.deleted || r.observer.isDead(session) || r.hasEnded(session) {
			return virtual.ErrSession
		}
		d.set(record{key: session, value: pulse{ttl}.String(), writer: session})
		return nil
	}})
	if err == nil || errors.Is(err, virtual.ErrSession) {
		_ = r.bury(ctx) // at best: who looks next does it as well
	}
	return err
}

// EndSession ends a session with its records, see virtual.Registry.
func (r *Registry) EndSession(ctx context.Context, session string) error {
	if err := r.begin(ctx); err != nil {
		return err
	}
	if err := r.alive(ctx, []string{session}); err != nil {
		if !errors.Is(err, virtual.ErrSession) {
			return err
		}
		return r.bury(ctx)
	}
	return r.end(ctx, []string{session})
}

// Sessions lists the sessions that are alive, see virtual.Registry. Whoever is seen dead is ended.
func (r *Registry) Sessions(ctx context.Context) ([]string, error) {
	if err := r.begin(ctx); err != nil {
		return nil, err
	}
	all, err := r.lookAround(ctx)
	if err != nil {
		return nil, err
	}
	return slices.Sorted(maps.Keys(all)), r.bury(ctx)
}

// lookAround reads the sessions that are alive.
func (r *Registry) lookAround(ctx context.Context) (map[string]pulse, error) {
	s, err := r.sessions.read(ctx)
	if err != nil {
		return nil, err
	}
	return r.living(s), nil
}

// living returns the sessions of a state that are alive.
func (r *Registry) living(s *state) map[string]pulse {
	all := map[string]pulse{}
	for _, rec := range s.recs {
		if !rec.deleted && !r.observer.isDead(rec.key) && !r.hasEnded(rec.key) {
			all[rec.key] = pulseOf(rec)
		}
	}
	return all
}

// hasEnded tells whether a session is marked as ended, as far as is known.
func (r *Registry) hasEnded(session string) bool {
	s, _, _ := r.topology.look()
	return s.hasEnded(session)
}

// alive tells by ErrSession that one of the sessions is not. It asks the store only when it does not know.
func (r *Registry) alive(ctx context.Context, names []string) error {
	s, seen, _ := r.sessions.look()
	for fresh := false; ; fresh = true {
		all := r.living(s)
		ok := !slices.ContainsFunc(names, func(n string) bool { _, ok := all[n]; return !ok })
		switch {
		case ok && (fresh || time.Since(seen) < sessionView):
			return nil
		case fresh:
			return virtual.ErrSession
		}
		var err error
		if s, err = r.sessions.read(ctx); err != nil {
			return err
		}
	}
}

// bury ends the sessions that were seen dead, and those whose end somebody else has begun.
func (r *Registry) bury(ctx context.Context) error {
	dead := r.observer.deaths()
	s, _, _ := r.sessions.look()
	for _, rec := range s.recs {
		if !rec.deleted && r.hasEnded(rec.key) && !slices.Contains(dead, rec.key) {
			dead = append(dead, rec.key)
		}
	}
	if len(dead) == 0 {
		return nil
	}
	return r.end(ctx, dead)
}

// end ends sessions: first their records go and a mark stays, in one write, then they themselves. Who dies in between leaves
// a session that is marked, which the next one who looks removes.
func (r *Registry) end(ctx context.Context, names []string) error {
	slices.Sort(names)
	err := r.topology.do(ctx, &op{again: true, change: func(d *draft) error {
		var bound []string
		d.each(func(rec *record) {
			if rec.session == "" {
				return
			}
			if _, ok := slices.BinarySearch(names, rec.session); ok {
				bound = append(bound, rec.key)
			}
		})
		slices.Sort(bound)
		for _, key := range bound {
			d.set(record{key: key, deleted: true, writer: r.name})
		}
		for _, name := range names {
			if d.get(mark+name) == nil {
				d.set(record{key: mark + name, deleted: true, writer: r.name})
			}
		}
		return nil
	}})
	if err != nil {
		return err
	}
	return r.sessions.do(ctx, &op{again: true, change: func(d *draft) error {
		for _, name := range names {
			if live(d.get(name)) != 0 {
				d.set(record{key: name, deleted: true, writer: r.name})
			}
		}
		return nil
	}})
}

// observer watches sessions move. It decides by this process's clock alone, and only over looks that come one after the
// other: who has been away, or could not reach the store, counts anew, since the others may have been cut off as well.
type observer struct {
	mu   sync.Mutex // leaf
	seen map[string]sight
	last time.Time     // when the last look came back
	own  time.Duration // the longest ttl of this process, which says how often it looks
	dead []string      // sorted
}

// sight is what a session looked like, and since when.
type sight struct {
	what string
	at   time.Time
	dead bool // by the store's clock
}

func (o *observer) looksEvery(ttl time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.own = max(o.own, ttl)
}

// look takes in a state of the sessions; sent is when it was asked for. Every heartbeat writes the state anew, so one that is
// older than a session's ttl, by the store's clock, says that the session has ended: to who comes anew, that is. For those
// who were there all along the store may have been away.
func (o *observer) look(s *state, sent time.Time, age time.Duration) {
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	first, away := o.last.IsZero(), sent.Sub(o.last)
	o.last = now
	o.dead = o.dead[:0]
	there := make(map[string]sight, len(s.recs))
	for _, r := range s.recs {
		if r.deleted {
			continue
		}
		ttl := pulseOf(r).ttl
		was, ok := o.seen[r.key]
		switch {
		case first && age >= ttl, ok && was.dead && was.what == r.enc:
			was = sight{r.enc, now, true}
			o.dead = append(o.dead, r.key)
		case !ok || was.what != r.enc || away > max(ttl, o.own)/2:
			was = sight{r.enc, now, false}
		case sent.Sub(was.at) >= ttl:
			o.dead = append(o.dead, r.key)
		}
		there[r.key] = was
	}
	o.seen = there
	slices.SortFunc(o.dead, strings.Compare)
}

func (o *observer) isDead(session string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	_, dead := slices.BinarySearch(o.dead, session)
	return dead
}

func (o *observer) deaths() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.Clone(o.dead)
}
