package sql

import "github.com/dashi-mq/dashi/virtual"

// schedule has the queue looked at no later than at.
func (t *tx) schedule(q *queue, at int64) {
	if at >= q.due {
		return
	}
	t.touch(q)
	q.due = at
	t.due = min(t.due, at)
	t.wakeGetters(q)
}

// sweep makes ready what is due: delays, and leases that ended.
func (t *tx) sweep(q *queue) error {
	if t.now < q.due {
		return nil
	}
	t.touch(q)
	n := q.ready
	if q.exceptions > 0 {
		if err := t.putBack(q, "due <= ?", t.now); err != nil {
			return err
		}
	}
	next, err := t.sweepHolders(q)
	if err != nil {
		return err
	}
	given := q.remaining <= t.now // up: those it was left for did not come
	if given {
		q.remaining = never
	}
	if q.due, err = t.nextDue(q); err != nil {
		return err
	}
	q.due = min(q.due, next, q.remaining)
	t.due = min(t.due, q.due)
	if q.ready > n || given && q.ready > 0 {
		t.wake(q, "")
		return t.noteHead(q)
	}
	return nil
}

// nextDue returns when the next delay, or lease of a message by itself, is over.
func (t *tx) nextDue(q *queue) (at int64, err error) {
	at = never
	if q.exceptions == 0 {
		return at, nil
	}
	err = t.Query("SELECT min(due) FROM dashi_exception WHERE queue = ? AND due IS NOT NULL", func(r Row) bool {
		at = r.time(0)
		return true
	}, q.id)
	return at, err
}

// putBack makes those exceptions ready for which a condition holds. What was handed out counts as that.
func (t *tx) putBack(q *queue, condition string, args ...any) error {
	args = append([]any{q.id}, args...)
	var n, bytes int64
	err := t.Query(`SELECT count(*), coalesce(sum(m.size), 0) FROM dashi_exception e JOIN dashi_message m ON m.queue = e.queue AND m.place = e.place
WHERE e.queue = ? AND `+condition, func(r Row) bool {
		n, bytes = r.Int(0), r.Int(1)
		return true
	}, args...)
	if err != nil || n == 0 {
		return err
	}
	t.touch(q)
	q.ready, q.returned, q.bytes = q.ready+n, q.returned+n, q.bytes+bytes
	_, err = t.Exec(`UPDATE dashi_exception SET attempts = attempts + CASE state WHEN 'delayed' THEN 0 ELSE 1 END, state = 'ready',
due = NULL, holder = NULL, take = NULL WHERE queue = ? AND `+condition, args...)
	return err
}

// sweepHolders ends the leases of holders that are over, and returns when the next is.
func (t *tx) sweepHolders(q *queue) (next int64, err error) {
	type over struct {
		name string
		idle bool
	}
	var all []over
	err = t.Query("SELECT holder, idle FROM dashi_holder WHERE queue = ? AND ends <= ?", func(r Row) bool {
		all = append(all, over{r.Text(0), r.Int(1) != 0})
		return true
	}, q.id, t.now)
	if err != nil {
		return never, err
	}
	for _, h := range all {
		if err := t.end(q, h.name, h.idle); err != nil {
			return never, err
		}
	}
	next = never
	err = t.Query("SELECT min(ends) FROM dashi_holder WHERE queue = ? AND ends IS NOT NULL", func(r Row) bool {
		next = r.time(0)
		return true
	}, q.id)
	return next, err
}

// holds is whether a holder has anything: two looks into an index, which an EXISTS need not be.
const holds = `coalesce((SELECT 1 FROM dashi_take t WHERE t.queue = h.queue AND t.holder = h.holder LIMIT 1),
(SELECT 1 FROM dashi_exception e WHERE e.queue = h.queue AND e.holder = h.holder LIMIT 1)) IS NOT NULL`

// end ends the lease of a holder: what it held is ready again, and its name is never used again. One that has nothing is forgotten
// an hour later.
func (t *tx) end(q *queue, holder string, idle bool) error {
	has := false
	err := t.Query("SELECT 1 FROM dashi_holder h WHERE queue = ? AND holder = ? AND "+holds, func(Row) bool { has = true; return true }, q.id, holder)
	if err != nil {
		return err
	}
	if !has && !idle {
		_, err = t.Exec("UPDATE dashi_holder SET idle = 1, ends = ? WHERE queue = ? AND holder = ?", t.now+forget, q.id, holder)
		return err
	}
	if !has {
		_, err = t.Exec("DELETE FROM dashi_holder WHERE queue = ? AND holder = ?", q.id, holder)
		return err
	}
	if err := t.release(q, holder); err != nil {
		return err
	}
	if _, err := t.Exec("DELETE FROM dashi_holder WHERE queue = ? AND lost < ?", q.id, t.now-forget); err != nil {
		return err
	}
	_, err = t.Exec("UPDATE dashi_holder SET ends = NULL, lost = ? WHERE queue = ? AND holder = ?", t.now, q.id, holder)
	return err
}

// release makes ready all that a holder has.
func (t *tx) release(q *queue, holder string) error {
	if err := t.putBack(q, "holder = ?", holder); err != nil {
		return err
	}
	var ranges [][2]int64
	err := t.Query("SELECT first, last FROM dashi_take WHERE queue = ? AND holder = ?", func(r Row) bool {
		ranges = append(ranges, [2]int64{r.Int(0), r.Int(1)})
		return true
	}, q.id, holder)
	if err != nil {
		return err
	}
	for _, r := range ranges {
		const members = ` FROM dashi_message m WHERE m.queue = ? AND m.place BETWEEN ? AND ?
AND NOT EXISTS (SELECT 1 FROM dashi_exception e WHERE e.queue = m.queue AND e.place = m.place)`
		err := t.Query("SELECT count(*), coalesce(sum(m.size), 0)"+members, func(r Row) bool {
			q.ready, q.returned, q.exceptions, q.bytes = q.ready+r.Int(0), q.returned+r.Int(0), q.exceptions+r.Int(0), q.bytes+r.Int(1)
			return true
		}, q.id, r[0], r[1])
		if err != nil {
			return err
		}
		if _, err := t.Exec("INSERT INTO dashi_exception (queue, place, state, attempts) SELECT m.queue, m.place, 'ready', 1"+members, q.id, r[0], r[1]); err != nil {
			return err
		}
	}
	_, err = t.Exec("DELETE FROM dashi_take WHERE queue = ? AND holder = ?", q.id, holder)
	return err
}

// nextIn returns when something becomes ready by itself. Holders are looked at only where a Get has to wait.
func (t *tx) nextIn(q *queue) (int64, error) {
	if q.due == never {
		return never, nil
	}
	at, err := t.nextDue(q)
	if err != nil || q.ready > 0 {
		return at, err
	}
	err = t.Query("SELECT min(h.ends) FROM dashi_holder h WHERE h.queue = ? AND h.ends IS NOT NULL AND "+holds, func(r Row) bool {
		at = min(at, r.time(0))
		return true
	}, q.id)
	return at, err
}

// expiry returns when the head expires. A message on its way to a waiter is left alone for that long.
func (t *tx) expiry(q *queue) (at int64, head []entry, err error) {
	head, err = t.peek(q, fits{n: 1})
	if err != nil || len(head) == 0 || head[0].ttl == 0 {
		return never, nil, err
	}
	return max(head[0].put+max(0, head[0].ttl/1000), q.owedUntil(t.now)), head, nil
}

// noteHead has an expired head noticed in time, whatever became the head.
func (t *tx) noteHead(q *queue) error {
	if !q.ttls {
		return nil
	}
	at, _, err := t.expiry(q)
	if err != nil || at == q.expires {
		return err
	}
	t.touch(q)
	t.expires = t.expires || at < q.expires
	q.expires = at
	return nil
}

// sweepAll sweeps every queue that is due.
func (t *tx) sweepAll() error {
	for _, ref := range t.dueQueues("SELECT name, incarnation FROM dashi_queue WHERE vhost = ? AND due <= ?") {
		q, err := t.load(ref)
		if err != nil {
			return err
		}
		if q != nil {
			if err := t.sweep(q); err != nil {
				return err
			}
		}
	}
	return t.err
}

// dueQueues lists queues by a statement whose parameters are the vhost and the time. What is changed in this transaction is
// written before.
func (t *tx) dueQueues(statement string) (refs []virtual.QueueRef) {
	if t.flush() != nil {
		return nil
	}
	_ = t.Query(statement, func(r Row) bool { // the transaction notes the error
		refs = append(refs, virtual.QueueRef{Name: r.Text(0), Incarnation: r.Text(1)})
		return true
	}, t.s.vhost, t.now)
	return refs
}
