package broker

import (
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/virtual"
)

// topology is this process's view of the registry. mu guards all of it; what is in a state is only changed under it.
type topology struct {
	mu  sync.RWMutex
	rev uint64 // all changes up to here have been applied

	routes    *exchange.Topology
	exchanges map[string]*exchangeState
	queues    map[string]*queueState // by name
	live      map[string]*queueState // by incarnation
	bindings  map[string]bindingRecord
	bySource  map[string]map[string]struct{} // exchange: keys of bindings
	byDest    map[string]map[string]struct{} // "q/" or "x/" + name: keys of bindings
	janitor   string                         // the session that is
	buries    bool                           // deletions leave graves
	graves    map[string]*grave              // by incarnation
	routing   map[string]struct{}            // sessions that route on what they know
	dead      map[virtual.QueueRef]time.Time // queues without a record, since when, until the janitor removes them from the store
}

type exchangeState struct {
	name  string
	rec   exchangeRecord
	guard virtual.Revision
	node  *exchange.Exchange
	ours  atomic.Bool // declared or used by this process
}

// delayedType returns the type an x-delayed-message exchange routes by.
func (x *exchangeState) delayed() bool { return x.rec.Type == channel.Delayed }

type queueState struct {
	name  string
	ref   virtual.QueueRef
	rec   queueRecord
	args  queueArgs
	limit *virtual.Limit // nil: none
	build uint64         // of the committer: the last one that lists the limit
	guard virtual.Revision
	node  *exchange.Queue

	session   string // an exclusive queue goes with it
	shortest  int64  // ms, the shortest life of a message published here, where that is noted; -1: not known
	used      uint64 // revision of its use record; 0: never had a consumer
	consumers map[string]*consumerState
	local     int         // consumers of this process
	ranked    atomic.Bool // the consumers differ in priority
	ours      atomic.Bool // declared or used by this process
}

type consumerState struct {
	id      string
	rec     consumerRecord
	rev     uint64
	session string
}

func newTopology() *topology {
	t := &topology{}
	t.clear()
	return t
}

func (t *topology) clear() {
	t.routes = exchange.New()
	t.exchanges = map[string]*exchangeState{}
	t.queues = map[string]*queueState{}
	t.live = map[string]*queueState{}
	t.bindings = map[string]bindingRecord{}
	t.bySource = map[string]map[string]struct{}{}
	t.byDest = map[string]map[string]struct{}{}
	t.dead = map[virtual.QueueRef]time.Time{}
	t.graves, t.routing = map[string]*grave{}, map[string]struct{}{}
}

// first returns the consumer registered first, or nil: the active one of a single-active queue.
func (q *queueState) first() *consumerState {
	var f *consumerState
	for _, c := range q.consumers {
		if f == nil || c.rev < f.rev || c.rev == f.rev && c.id < f.id {
			f = c
		}
	}
	return f
}

func (c *consumerState) idOf() string {
	if c == nil {
		return ""
	}
	return c.id
}

// effects is what a change of the view means for the broker.
type effects struct {
	gone      []*queueState          // queues that are no more
	fresh     []*queueState          // queues that are new
	consumers map[*queueState]uint64 // queues whose consumers changed
	used      []*queueState          // queues whose use record was touched
	janitor   bool                   // the janitor's lock changed
	delaying  bool                   // there is an x-delayed-message exchange
	heads     bool                   // queues whose messages expire are new, or have lost a consumer
	work      bool                   // something went that may leave others to be cleaned up
}

// apply brings the view to rev. Within one batch the order of the records does not matter: they are the latest state
// of each key.
func (t *topology) apply(records []virtual.Record, rev uint64, reset bool, session string) effects {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := effects{consumers: map[*queueState]uint64{}}
	if reset {
		records = t.missing(records)
	} else if rev <= t.rev {
		return e
	}
	for pass := range 3 {
		for _, r := range records {
			if !reset && r.Rev <= t.rev || r.Deleted != (pass == 0) {
				continue
			}
			key := r.Key[:min(2, len(r.Key))]
			nodes := key == keyExchange || key == keyQueue
			if pass == 1 && !nodes || pass == 2 && nodes {
				continue
			}
			t.applyOne(key, r, &e, session)
		}
	}
	t.rev = rev
	return e
}

// missing adds tombstones for all that is in the view and not in records.
func (t *topology) missing(records []virtual.Record) []virtual.Record {
	have := make(map[string]bool, len(records))
	for _, r := range records {
		have[r.Key] = true
	}
	lost := func(key string) {
		if !have[key] {
			records = append(records, virtual.Record{Key: key, Deleted: true})
		}
	}
	for n := range t.exchanges {
		lost(keyExchange + n)
	}
	for n, q := range t.queues {
		lost(keyQueue + n)
		lost(keyUse + q.ref.Incarnation)
		for id := range q.consumers {
			lost(keyConsumer + q.ref.Incarnation + "/" + id)
		}
	}
	for k := range t.bindings {
		lost(k)
	}
	for inc := range t.graves {
		lost(keyGrave + inc)
	}
	for s := range t.routing {
		lost(keyRoutes + s)
	}
	lost(keyJanitor)
	return records
}

func (t *topology) applyOne(key string, r virtual.Record, e *effects, session string) {
	switch name := r.Key[len(key):]; key {
	case keyExchange:
		t.applyExchange(name, r, e)
	case keyQueue:
		t.applyQueue(name, r, e)
	case keyBinding:
		t.applyBinding(r, e)
	case keyUse:
		if q := t.live[name]; q != nil {
			q.used = r.Rev
			if r.Deleted {
				q.used = 0
			}
			e.used = append(e.used, q)
		}
	case keyTouch:
		if q := t.live[name]; q != nil && !r.Deleted {
			e.used = append(e.used, q)
		}
	case keyConsumer:
		t.applyConsumer(r, e, session)
	case keyRoutes:
		t.routing[name] = struct{}{}
		if r.Deleted {
			delete(t.routing, name)
		}
	case keyGrave:
		t.applyGrave(name, r, e)
	case keyExpiring:
		if q := t.live[name]; q != nil && !r.Deleted {
			if ms, ok := decode[int64](r); ok {
				q.shortest = ms
				e.heads = true
			}
		}
	default:
		if r.Key == keyJanitor {
			t.janitor, e.janitor = r.Session, true
			if r.Deleted {
				t.janitor = ""
			}
		}
	}
}

func (t *topology) applyExchange(name string, r virtual.Record, e *effects) {
	x := t.exchanges[name]
	if r.Deleted {
		if x != nil {
			delete(t.exchanges, name)
			t.routes.RemoveExchange(name)
			e.work = true
		}
		return
	}
	rec, ok := decode[exchangeRecord](r)
	if !ok {
		return
	}
	if x != nil && x.rec.Type == rec.Type {
		x.rec, x.guard.Rev = rec, r.Rev
		return
	}
	t.routes.RemoveExchange(name)
	kind := rec.Type
	if kind == channel.Delayed {
		kind, _ = rec.Args["x-delayed-type"].(string)
	}
	node, err := t.routes.AddExchange(name, kind, channel.Table(rec.Args), rec.Internal)
	if err != nil {
		return // declared by a newer version that knows more types
	}
	x = &exchangeState{name: name, rec: rec, guard: virtual.Revision{Key: r.Key, Rev: r.Rev}, node: node}
	node.Data = x
	t.exchanges[name] = x
	e.delaying = e.delaying || x.delayed()
}

func (t *topology) applyGrave(incarnation string, r virtual.Record, e *effects) {
	if r.Deleted {
		delete(t.graves, incarnation)
		return
	}
	if name, ok := decode[string](r); ok && t.graves[incarnation] == nil {
		t.graves[incarnation] = &grave{ref: virtual.QueueRef{Name: name, Incarnation: incarnation}}
		e.work = true
	}
}

// delays reports whether there is an x-delayed-message exchange.
func (t *topology) delays() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, x := range t.exchanges {
		if x.delayed() {
			return true
		}
	}
	return false
}

// queueOf returns the queue of an incarnation, or nil.
func (t *topology) queueOf(ref virtual.QueueRef) *queueState {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.live[ref.Incarnation]
}

func (t *topology) applyQueue(name string, r virtual.Record, e *effects) {
	old := t.queues[name]
	var rec queueRecord
	if !r.Deleted {
		var ok bool
		if rec, ok = decode[queueRecord](r); !ok {
			return
		}
		if old != nil && old.ref.Incarnation == rec.Incarnation {
			old.guard.Rev = r.Rev
			return
		}
	}
	if old != nil {
		delete(t.queues, name)
		delete(t.live, old.ref.Incarnation)
		t.routes.RemoveQueue(name)
		e.gone = append(e.gone, old)
		t.dead[old.ref] = time.Now()
		e.work = true
	}
	if r.Deleted {
		return
	}
	args, err := parseQueueArgs(channel.Table(rec.Args))
	if err != nil {
		return
	}
	q := &queueState{
		name: name, ref: virtual.QueueRef{Name: name, Incarnation: rec.Incarnation}, rec: rec, args: args,
		guard: virtual.Revision{Key: r.Key, Rev: r.Rev}, node: t.routes.AddQueue(name), session: r.Session,
		consumers: map[string]*consumerState{}, shortest: -1,
	}
	if args.bounded() {
		q.limit = &virtual.Limit{Queue: q.ref, MaxLen: args.maxLen, MaxBytes: args.maxBytes, Reject: args.reject}
	}
	q.node.Data = q
	t.queues[name] = q
	t.live[rec.Incarnation] = q
	e.fresh = append(e.fresh, q)
	e.heads = e.heads || args.ttl >= 0
}

func (t *topology) applyBinding(r virtual.Record, e *effects) {
	if old, ok := t.bindings[r.Key]; ok {
		t.index(r.Key, old, false)
		delete(t.bindings, r.Key)
		if r.Deleted || t.stale(old) {
			if !t.stale(old) {
				t.routes.Unbind(old.binding())
			}
			e.work = true
		}
	}
	if r.Deleted {
		return
	}
	rec, ok := decode[bindingRecord](r)
	if !ok {
		return
	}
	t.bindings[r.Key] = rec
	t.index(r.Key, rec, true)
	if t.stale(rec) {
		e.work = true
		return
	}
	_, _ = t.routes.Bind(rec.binding()) // a missing side makes it a dangling one
}

// stale reports whether a binding leads to a queue that is no more.
func (t *topology) stale(b bindingRecord) bool {
	if b.ToExchange {
		return t.exchanges[b.Destination] == nil
	}
	q := t.queues[b.Destination]
	return q == nil || q.ref.Incarnation != b.Incarnation
}

func (t *topology) index(key string, b bindingRecord, add bool) {
	dest := keyQueue + b.Destination
	if b.ToExchange {
		dest = keyExchange + b.Destination
	}
	for _, x := range [...]struct {
		m map[string]map[string]struct{}
		k string
	}{{t.bySource, b.Source}, {t.byDest, dest}} {
		set := x.m[x.k]
		switch {
		case add && set == nil:
			x.m[x.k] = map[string]struct{}{key: {}}
		case add:
			set[key] = struct{}{}
		default:
			delete(set, key)
			if len(set) == 0 {
				delete(x.m, x.k)
			}
		}
	}
}

func (t *topology) applyConsumer(r virtual.Record, e *effects, session string) {
	incarnation, id := splitConsumer(r.Key)
	q := t.live[incarnation]
	if q == nil {
		return
	}
	if old := q.consumers[id]; old != nil && old.session == session {
		q.local--
	}
	e.consumers[q] = r.Rev
	if r.Deleted {
		delete(q.consumers, id)
		e.work, e.heads = true, true
	} else if rec, ok := decode[consumerRecord](r); ok {
		rev := r.Rev
		if old := q.consumers[id]; old != nil {
			rev = old.rev
		}
		q.consumers[id] = &consumerState{id: id, rec: rec, rev: rev, session: r.Session}
		if r.Session == session {
			q.local++
		}
	}
	q.node.Local.Store(q.local > 0)
	first, ranked := q.first(), false
	for _, c := range q.consumers {
		ranked = ranked || c.rec.Priority != first.rec.Priority
	}
	q.ranked.Store(ranked)
}

// queue returns the queue of a name, or the error of a method that must not touch it: 404, or 405 when it is
// exclusive to another connection.
func (t *topology) queue(op, name, owner, vhost string) (*queueState, *channel.Error) {
	q := t.queues[name]
	if q == nil {
		return nil, noQueue(op, name, vhost)
	}
	if q.rec.Owner != "" && q.rec.Owner != owner {
		return nil, locked(op, name, vhost)
	}
	return q, nil
}

// reserved reports whether a name is the server's.
func reserved(name string) bool { return strings.HasPrefix(name, "amq.") }
