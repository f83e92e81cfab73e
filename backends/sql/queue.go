package sql

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

// levelShift parts the places of priorities: a place is the number of the message, less 2^45 for each priority, so that places
// order a queue.
const levelShift = 45

// queue is a row of dashi_queue.
type queue struct {
	ref   virtual.QueueRef
	id    int64
	dirty bool
	gone  bool // deleted in this transaction

	ready, bytes         int64
	last                 int64
	levels               []level // the highest priority first
	returned, exceptions int64
	token                int64
	fence                uint64
	ttls                 bool
	due, expires         int64
	remaining            int64
	waiting              []waiting

	limit *virtual.Limit // of the present call
}

// level is one priority of a queue. What is behind head, up to tail, and no exception, is fresh: ready, and never taken.
type level struct{ priority, head, tail int64 }

// MarshalJSON writes [priority, head, tail].
func (l level) MarshalJSON() ([]byte, error) {
	return json.Marshal([3]int64{l.priority, l.head, l.tail})
}

// UnmarshalJSON reads it.
func (l *level) UnmarshalJSON(b []byte) error {
	var f [3]int64
	err := json.Unmarshal(b, &f)
	l.priority, l.head, l.tail = f[0], f[1], f[2]
	return err
}

const selectQueue = `SELECT id, ready, bytes, last, levels, returned, exceptions, token, fence, ttls, due, expires, remaining, waiting
FROM dashi_queue WHERE vhost = ? AND name = ? AND incarnation = ?`

// load returns a queue, or nil if it does not exist.
func (t *tx) load(ref virtual.QueueRef) (*queue, error) {
	if q := t.c.queues[ref]; q != nil {
		return q, nil
	}
	var q *queue
	var bad error
	err := t.Query(selectQueue, func(r Row) bool {
		q = &queue{
			ref: ref, id: r.Int(0), ready: r.Int(1), bytes: r.Int(2), last: r.Int(3), returned: r.Int(5), exceptions: r.Int(6),
			token: r.Int(7), fence: uint64(r.Int(8)), ttls: r.Int(9) != 0, due: r.time(10), expires: r.time(11), remaining: r.time(12),
		}
		if bad = json.Unmarshal([]byte(r.Text(4)), &q.levels); bad == nil {
			bad = json.Unmarshal([]byte(r.Text(13)), &q.waiting)
		}
		return true
	}, t.s.vhost, ref.Name, ref.Incarnation)
	if bad != nil {
		return nil, t.fail(fmt.Errorf("queue %q: row %d of dashi_queue is damaged: %w", ref.Name, q.id, bad))
	}
	if err == nil && q != nil {
		t.c.queues[ref] = q
	}
	return q, err
}

// find returns a queue, making it at first use; nil if it was deleted.
func (t *tx) find(ref virtual.QueueRef) (*queue, error) {
	q, err := t.load(ref)
	if q != nil || err != nil {
		return q, err
	}
	gone := false
	if err := t.Query("SELECT 1 FROM dashi_deleted WHERE vhost = ? AND name = ? AND incarnation = ?",
		func(Row) bool { gone = true; return true }, t.s.vhost, ref.Name, ref.Incarnation); gone || err != nil {
		return nil, err
	}
	if _, err := t.Exec("INSERT INTO dashi_queue (vhost, name, incarnation) VALUES (?, ?, ?)", t.s.vhost, ref.Name, ref.Incarnation); err != nil {
		return nil, err
	}
	return t.load(ref)
}

// touch has the queue written before the transaction ends.
func (t *tx) touch(q *queue) {
	if !q.dirty {
		q.dirty = true
		t.dirty = append(t.dirty, q)
	}
}

const updateQueue = `UPDATE dashi_queue SET ready = ?, bytes = ?, last = ?, levels = ?, returned = ?, exceptions = ?, token = ?, fence = ?,
ttls = ?, due = ?, expires = ?, remaining = ?, waiting = ? WHERE id = ?`

func (q *queue) save(t *tx) error {
	q.dirty = false
	if q.gone {
		return nil
	}
	levels, err := json.Marshal(q.levels)
	if err != nil {
		return err
	}
	waits := []byte("[]")
	if len(q.waiting) > 0 {
		if waits, err = json.Marshal(q.waiting); err != nil {
			return err
		}
	}
	ttls := int64(0)
	if q.ttls {
		ttls = 1
	}
	_, err = t.Exec(updateQueue, q.ready, q.bytes, q.last, string(levels), q.returned, q.exceptions, q.token, int64(q.fence),
		ttls, nullable(q.due), nullable(q.expires), nullable(q.remaining), string(waits), q.id)
	return err
}

// level returns that of a priority, making it at first.
func (q *queue) level(priority int64) *level {
	at, found := slices.BinarySearchFunc(q.levels, priority, func(l level, p int64) int { return int(p - l.priority) })
	if !found {
		none := -priority << levelShift
		q.levels = slices.Insert(q.levels, at, level{priority, none, none})
	}
	return &q.levels[at]
}

func priorityOf(place int64) int64 { return -(place >> levelShift) }

const insertMessage = "INSERT INTO dashi_message (queue, place, id, put, ttl, size, payload) VALUES (?, ?, ?, ?, ?, ?, ?)"

// append stores a message at the end.
func (t *tx) append(q *queue, m *virtual.Message) error {
	t.touch(q)
	q.last++
	l := q.level(int64(m.Priority))
	place := q.last - l.priority<<levelShift
	var ttl any
	if m.TTL != 0 {
		ttl, q.ttls = int64(m.TTL), true
	}
	size := int64(m.Payload.Size())
	if _, err := t.Exec(insertMessage, q.id, place, m.ID[:], t.now, ttl, size, m.Payload.Bytes()); err != nil {
		return err
	}
	fresh := l.tail > l.head
	l.tail = place
	if m.Delay <= 0 {
		q.ready++
		q.bytes += size
		return nil
	}
	if !fresh {
		l.head = place // nothing to find on the way
	}
	due := t.now + micros(m.Delay)
	t.schedule(q, due)
	return t.except(q, place, "delayed", 0, due, "", 0)
}

const insertException = "INSERT INTO dashi_exception (queue, place, state, attempts, due, holder, take) VALUES (?, ?, ?, ?, ?, ?, ?)"

// except makes an exception of a message that is none.
func (t *tx) except(q *queue, place int64, state string, attempts, due int64, holder string, take int64) error {
	t.touch(q)
	q.exceptions++
	_, err := t.Exec(insertException, q.id, place, state, attempts, nullable(due), named(holder), take)
	return err
}

// change gives an exception another state.
func (t *tx) change(q *queue, place int64, state string, attempts, due int64, holder string, take int64) error {
	t.touch(q)
	_, err := t.Exec("UPDATE dashi_exception SET state = ?, attempts = ?, due = ?, holder = ?, take = ? WHERE queue = ? AND place = ?",
		state, attempts, nullable(due), named(holder), take, q.id, place)
	return err
}

func named(holder string) any {
	if holder == "" {
		return nil
	}
	return holder
}

// entry is a message that is ready.
type entry struct {
	place, put, ttl, size int64
	id                    virtual.ID
	payload               []byte
	back                  bool // it is an exception
	attempts              int64
}

func (e *entry) read(r Row, from int) {
	e.place, e.put, e.ttl, e.size, e.payload = r.Int(from), r.Int(from+2), r.Int(from+3), r.Int(from+4), r.Blob(from+5)
	copy(e.id[:], r.Blob(from+1))
}

const (
	columns     = "m.place, m.id, m.put, m.ttl, m.size, m.payload"
	selectFresh = "SELECT " + columns + " FROM dashi_message m WHERE m.queue = ? AND m.place > ? AND m.place <= ? ORDER BY m.place LIMIT ?"
	selectRest  = "SELECT " + columns + ` FROM dashi_message m WHERE m.queue = ? AND m.place > ? AND m.place <= ?
AND NOT EXISTS (SELECT 1 FROM dashi_exception e WHERE e.queue = m.queue AND e.place = m.place) ORDER BY m.place LIMIT ?`
	selectReturned = "SELECT e.attempts, " + columns + ` FROM dashi_exception e JOIN dashi_message m ON m.queue = e.queue AND m.place = e.place
WHERE e.queue = ? AND e.state = 'ready' ORDER BY e.place LIMIT ?`
)

// fits bounds the entries of a list: n of them, no more than bytes but the first.
type fits struct{ n, bytes int64 }

func (f fits) more(es []entry, sum *int64) bool {
	*sum += es[len(es)-1].size
	return int64(len(es)) < f.n && (f.bytes <= 0 || *sum <= f.bytes)
}

// peek returns the first messages that are ready, in order, up to the one that is too many.
func (t *tx) peek(q *queue, f fits) ([]entry, error) {
	if f.n <= 0 || q.ready == 0 {
		return nil, nil
	}
	var es []entry
	sum := int64(0)
	if q.returned > 0 {
		err := t.Query(selectReturned, func(r Row) bool {
			e := entry{back: true, attempts: r.Int(0)}
			e.read(r, 1)
			es = append(es, e)
			return f.more(es, &sum)
		}, q.id, f.n)
		if err != nil {
			return nil, err
		}
	}
	back := len(es)
	fresh := es[back:]
	sum = 0
	what := selectFresh
	if q.exceptions > 0 {
		what = selectRest
	}
	n := min(f.n, q.ready-q.returned) // no look further than the last one
	for _, l := range q.levels {
		if l.head == l.tail || int64(len(fresh)) >= n {
			continue
		}
		more := true
		err := t.Query(what, func(r Row) bool {
			var e entry
			e.read(r, 0)
			fresh = append(fresh, e)
			more = f.more(fresh, &sum)
			return more
		}, q.id, l.head, l.tail, n-int64(len(fresh)))
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
	}
	if back > 0 {
		es = append(es[:back:back], fresh...)
		inOrder(es)
	} else {
		es = fresh
	}
	return es[:min(int64(len(es)), f.n)], nil
}

func inOrder(es []entry) {
	slices.SortFunc(es, func(a, b entry) int { return cmp.Compare(a.place, b.place) })
}

// runs calls f for each run of places that follow each other, which are in order.
func runs(places []int64, f func(first, last int64) error) error {
	for i := 0; i < len(places); {
		k := i + 1
		for k < len(places) && places[k] == places[k-1]+1 {
			k++
		}
		if err := f(places[i], places[k-1]); err != nil {
			return err
		}
		i = k
	}
	return nil
}

// unready takes out of the counts what was ready.
func (t *tx) unready(q *queue, es []entry) {
	t.touch(q)
	for i := range es {
		q.ready--
		q.bytes -= es[i].size
		if es[i].back {
			q.returned--
		}
	}
}

// remove removes messages that were ready, wherever they stand.
func (t *tx) remove(q *queue, es []entry) error {
	t.unready(q, es)
	places := make([]int64, len(es))
	for i := range es {
		places[i] = es[i].place
		if es[i].back {
			if err := t.forget(q, es[i].place); err != nil {
				return err
			}
		}
	}
	return runs(places, func(first, last int64) error {
		_, err := t.Exec(deleteMessages, q.id, first, last)
		return err
	})
}

const deleteMessages = "DELETE FROM dashi_message WHERE queue = ? AND place BETWEEN ? AND ?"

// forget removes the exception of a message that goes.
func (t *tx) forget(q *queue, place int64) error {
	t.touch(q)
	q.exceptions--
	_, err := t.Exec("DELETE FROM dashi_exception WHERE queue = ? AND place = ?", q.id, place)
	return err
}

// lendLoose leases messages that were ready, each by itself, and appends what the taker sees.
func (t *tx) lendLoose(q *queue, es []entry, lease int64, buf []virtual.Taken) ([]virtual.Taken, error) {
	t.unready(q, es)
	due := t.now + lease
	for i := range es {
		e := &es[i]
		q.token++
		var err error
		if e.back {
			err = t.change(q, e.place, "leased", e.attempts, due, "", q.token)
		} else {
			err = t.except(q, e.place, "leased", e.attempts, due, "", q.token)
		}
		if err != nil {
			return buf, err
		}
		buf = append(buf, t.taken(q, e, receipt{q.id, e.place, "", uint64(q.token)}))
	}
	if len(es) > 0 {
		t.schedule(q, due)
	}
	return buf, nil
}
