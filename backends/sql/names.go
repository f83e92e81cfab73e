package sql

import (
	"context"

	"github.com/dashi-mq/dashi/virtual"
)

// on runs f on a queue that exists, without what is due: reading where it can, since nothing is, else writing.
func (s *Store) on(ctx context.Context, ref virtual.QueueRef, f func(*tx, *queue) error) error {
	swept := true
	err := s.view(ctx, func(t *tx) error {
		q, err := t.load(ref)
		if err != nil || q == nil {
			return err
		}
		if swept = t.now < q.due; !swept {
			return nil
		}
		return f(t, q)
	})
	if err != nil || swept {
		return err
	}
	return s.sweptOn(ctx, ref, f)
}

// sweptOn runs f on a queue that exists, without what is due, in a transaction that writes.
func (s *Store) sweptOn(ctx context.Context, ref virtual.QueueRef, f func(*tx, *queue) error) error {
	return s.do(ctx, func(t *tx) error {
		q, err := t.load(ref)
		if err != nil || q == nil {
			return err
		}
		if err := t.sweep(q); err != nil {
			return err
		}
		return f(t, q)
	})
}

// Size counts what is ready.
func (s *Store) Size(ctx context.Context, ref virtual.QueueRef) (n int, err error) {
	err = s.on(ctx, ref, func(_ *tx, q *queue) error {
		n = int(q.ready)
		return nil
	})
	return n, err
}

// Peek looks at the head.
func (s *Store) Peek(ctx context.Context, ref virtual.QueueRef, most int, buf []virtual.Taken) ([]virtual.Taken, error) {
	before := len(buf)
	err := s.on(ctx, ref, func(t *tx, q *queue) error {
		buf = buf[:before]
		es, err := t.peek(q, fits{n: int64(most)})
		for i := range es {
			taken := t.taken(q, &es[i], nil)
			taken.Attempt-- // it has not been handed out
			buf = append(buf, taken)
		}
		return err
	})
	if err != nil {
		return buf[:before], err
	}
	return buf, nil
}

// Purge removes what is ready.
func (s *Store) Purge(ctx context.Context, ref virtual.QueueRef) (n int, err error) {
	err = s.sweptOn(ctx, ref, func(t *tx, q *queue) error {
		n = int(q.ready)
		return t.purge(q)
	})
	return n, err
}

func (t *tx) purge(q *queue) error {
	t.touch(q)
	if q.returned > 0 {
		const back = "(SELECT place FROM dashi_exception WHERE queue = ? AND state = 'ready')"
		if _, err := t.Exec("DELETE FROM dashi_message WHERE queue = ? AND place IN "+back, q.id, q.id); err != nil {
			return err
		}
		if _, err := t.Exec("DELETE FROM dashi_exception WHERE queue = ? AND state = 'ready'", q.id); err != nil {
			return err
		}
	}
	for i := range q.levels {
		l := &q.levels[i]
		if l.head == l.tail {
			continue
		}
		what := "DELETE FROM dashi_message WHERE queue = ? AND place > ? AND place <= ?"
		if q.exceptions > q.returned {
			what += " AND NOT EXISTS (SELECT 1 FROM dashi_exception e WHERE e.queue = dashi_message.queue AND e.place = dashi_message.place)"
		}
		if _, err := t.Exec(what, q.id, l.head, l.tail); err != nil {
			return err
		}
		l.head = l.tail
	}
	q.exceptions -= q.returned
	q.ready, q.bytes, q.returned = 0, 0, 0
	return t.noteHead(q)
}

// Create makes a queue.
func (s *Store) Create(ctx context.Context, ref virtual.QueueRef) error {
	return s.do(ctx, func(t *tx) error {
		q, err := t.find(ref)
		if err == nil && q == nil {
			err = virtual.ErrNoQueue
		}
		return err
	})
}

// Delete removes a queue with everything in it.
func (s *Store) Delete(ctx context.Context, ref virtual.QueueRef) (n int, err error) {
	err = s.do(ctx, func(t *tx) error {
		n = 0
		if _, err := t.Exec("DELETE FROM dashi_deleted WHERE vhost = ? AND at < ?", t.s.vhost, t.now-forget); err != nil {
			return err
		}
		_, err := t.Exec("INSERT INTO dashi_deleted (vhost, name, incarnation, at) VALUES (?, ?, ?, ?) ON CONFLICT (vhost, name, incarnation) DO UPDATE SET at = excluded.at",
			t.s.vhost, ref.Name, ref.Incarnation, t.now)
		if err != nil {
			return err
		}
		q, err := t.load(ref)
		if err != nil || q == nil {
			return err
		}
		if err := t.sweep(q); err != nil {
			return err
		}
		n = int(q.ready)
		t.wake(q, "")
		return t.drop(q)
	})
	return n, err
}

// drop removes all rows of a queue.
func (t *tx) drop(q *queue) error {
	q.gone = true
	delete(t.c.queues, q.ref)
	for _, table := range []string{"dashi_message", "dashi_exception", "dashi_holder", "dashi_take"} {
		if _, err := t.Exec("DELETE FROM "+table+" WHERE queue = ?", q.id); err != nil {
			return err
		}
	}
	_, err := t.Exec("DELETE FROM dashi_queue WHERE id = ?", q.id)
	return err
}

// List returns all queues, in no order.
func (s *Store) List(ctx context.Context) (refs []virtual.QueueRef, err error) {
	err = s.view(ctx, func(t *tx) error {
		refs = nil
		return t.Query("SELECT name, incarnation FROM dashi_queue WHERE vhost = ?", func(r Row) bool {
			refs = append(refs, virtual.QueueRef{Name: r.Text(0), Incarnation: r.Text(1)})
			return true
		}, s.vhost)
	})
	return refs, err
}
