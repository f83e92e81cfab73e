package sql

import (
	"context"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// revision returns that of a record, 0 if it does not exist.
func (t *tx) revision(key string) (rev uint64, err error) {
	if rev, ok := t.c.revisions[key]; ok {
		return rev, nil
	}
	err = t.Query("SELECT rev FROM dashi_record WHERE vhost = ? AND key = ? AND deleted IS NULL", func(r Row) bool {
		rev = uint64(r.Int(0))
		return true
	}, t.s.vhost, key)
	if err == nil {
		t.c.revisions[key] = rev
	}
	return rev, err
}

// guard tells which records have not the revisions of a guard.
func (t *tx) guard(g []virtual.Revision) error {
	if len(g) == 0 {
		return nil
	}
	if _, err := t.endSessions(); err != nil {
		return err
	}
	var differ []virtual.Revision
	for _, r := range g {
		is, err := t.revision(r.Key)
		if err != nil {
			return err
		}
		if is != r.Rev {
			differ = append(differ, virtual.Revision{Key: r.Key, Rev: is})
		}
	}
	if differ != nil {
		return &virtual.GuardError{Differ: differ}
	}
	return nil
}

// nextRevision gives the registry its next one.
func (t *tx) nextRevision() (rev int64, err error) {
	t.registry = true
	if _, err := t.Exec("UPDATE dashi_vhost SET revision = revision + 1 WHERE id = ?", t.s.vhost); err != nil {
		return 0, err
	}
	rev, _, err = t.revisions()
	return rev, err
}

// revisions returns that of the registry, and the highest of a deleted record that was forgotten.
func (t *tx) revisions() (rev, forgot int64, err error) {
	err = t.Query("SELECT revision, forgot FROM dashi_vhost WHERE id = ?", func(r Row) bool {
		rev, forgot = r.Int(0), r.Int(1)
		return true
	}, t.s.vhost)
	return rev, forgot, err
}

// endSessions ends those whose time is over, and returns when the next one ends.
func (t *tx) endSessions() (next int64, err error) {
	if t.now < t.c.sessions {
		return t.c.sessions, nil
	}
	var over []string
	err = t.Query("SELECT session FROM dashi_session WHERE vhost = ? AND ends <= ?", func(r Row) bool {
		over = append(over, r.Text(0))
		return true
	}, t.s.vhost, t.now)
	if err != nil {
		return never, err
	}
	for _, s := range over {
		if err := t.endSession(s); err != nil {
			return never, err
		}
	}
	next = never
	err = t.Query("SELECT min(ends) FROM dashi_session WHERE vhost = ? AND ends IS NOT NULL", func(r Row) bool {
		next = r.time(0)
		return true
	}, t.s.vhost)
	t.c.sessions = next
	return next, err
}

// endSession ends a session with its records.
func (t *tx) endSession(session string) error {
	n, err := t.Exec("UPDATE dashi_session SET ends = NULL, ended = ? WHERE vhost = ? AND session = ? AND ends IS NOT NULL", t.now, t.s.vhost, session)
	if err != nil || n == 0 {
		return err
	}
	t.registry = true // who waits looks at the end of the next one
	var keys []string
	err = t.Query("SELECT key FROM dashi_record WHERE vhost = ? AND session = ?", func(r Row) bool {
		keys = append(keys, r.Text(0))
		return true
	}, t.s.vhost, session)
	if err != nil || len(keys) == 0 {
		return err
	}
	rev, err := t.nextRevision()
	if err != nil {
		return err
	}
	for _, key := range keys {
		if err := t.alter(virtual.Change{Key: key, Op: virtual.Delete}, rev); err != nil {
			return err
		}
	}
	return nil
}

// alive reports whether a session is.
func (t *tx) alive(session string) (yes bool, err error) {
	err = t.Query("SELECT 1 FROM dashi_session WHERE vhost = ? AND session = ? AND ends IS NOT NULL",
		func(Row) bool { yes = true; return true }, t.s.vhost, session)
	return yes, err
}

// Update makes all changes, or none.
func (s *Store) Update(ctx context.Context, session string, changes []virtual.Change) (rev uint64, err error) {
	err = s.do(ctx, func(t *tx) error {
		if _, err := t.endSessions(); err != nil {
			return err
		}
		writes, err := t.allowed(session, changes)
		if err != nil {
			return err
		}
		now, _, err := t.revisions()
		if err == nil && writes {
			now, err = t.nextRevision()
		}
		if err != nil {
			return err
		}
		rev = uint64(now)
		for _, c := range changes {
			if err := t.alter(c, now); err != nil {
				return err
			}
		}
		return t.forgetRecords()
	})
	if err != nil {
		return 0, err
	}
	return rev, nil
}

// allowed asks the conditions of changes, and tells whether any of them writes.
func (t *tx) allowed(session string, changes []virtual.Change) (writes bool, err error) {
	if yes, err := t.alive(session); err != nil || !yes {
		if err == nil {
			err = virtual.ErrSession
		}
		return false, err
	}
	var differ []virtual.Revision
	for _, c := range changes {
		rev, err := t.revision(c.Key)
		if err != nil {
			return false, err
		}
		if c.If != virtual.Any && uint64(c.If) != rev && !(c.If == virtual.Exists && rev != 0) {
			differ = append(differ, virtual.Revision{Key: c.Key, Rev: rev})
		}
		if c.Op == virtual.Write && c.Session != "" {
			if yes, err := t.alive(c.Session); err != nil || !yes {
				if err == nil {
					err = virtual.ErrSession
				}
				return false, err
			}
		}
		writes = writes || c.Op != virtual.Check
	}
	if differ != nil {
		return false, &virtual.ConflictError{Differ: differ}
	}
	return writes, nil
}

const upsertRecord = `INSERT INTO dashi_record (vhost, key, rev, session, value) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (vhost, key) DO UPDATE SET rev = excluded.rev, session = excluded.session, value = excluded.value, deleted = NULL`

// alter makes one change, at a revision of the registry.
func (t *tx) alter(c virtual.Change, rev int64) error {
	delete(t.c.revisions, c.Key)
	var err error
	switch c.Op {
	case virtual.Write:
		_, err = t.Exec(upsertRecord, t.s.vhost, c.Key, rev, named(c.Session), c.Value)
	case virtual.Touch:
		_, err = t.Exec("UPDATE dashi_record SET rev = ? WHERE vhost = ? AND key = ? AND deleted IS NULL", rev, t.s.vhost, c.Key)
	case virtual.Delete:
		_, err = t.Exec("UPDATE dashi_record SET rev = ?, session = NULL, value = NULL, deleted = ? WHERE vhost = ? AND key = ? AND deleted IS NULL", rev, t.now, t.s.vhost, c.Key)
	}
	return err
}

// forgetRecords forgets records that were deleted an hour ago.
func (t *tx) forgetRecords() error {
	last := int64(0)
	err := t.Query("SELECT max(rev) FROM dashi_record WHERE vhost = ? AND deleted < ?", func(r Row) bool {
		last = r.Int(0)
		return true
	}, t.s.vhost, t.now-forget)
	if err != nil || last == 0 {
		return err
	}
	if _, err := t.Exec("DELETE FROM dashi_record WHERE vhost = ? AND deleted < ?", t.s.vhost, t.now-forget); err != nil {
		return err
	}
	_, err = t.Exec("UPDATE dashi_vhost SET forgot = ? WHERE id = ? AND forgot < ?", last, t.s.vhost, last)
	return err
}

// Changes returns what changed since a revision, waiting for it.
func (s *Store) Changes(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
	c, err := s.changes(ctx, since)
	if err == nil && len(c.records) == 0 && !c.reset && wait > 0 {
		err = s.until(ctx, wait, func(w *waitCall) <-chan struct{} { return w.changed }, func() (bool, time.Duration, error) {
			c, err = s.changes(ctx, since)
			return len(c.records) > 0 || c.reset, c.ends, err
		})
		if err == nil && len(c.records) == 0 && !c.reset {
			err = s.usable(ctx)
		}
	}
	if err != nil {
		return nil, since, false, err
	}
	return c.records, c.rev, c.reset, nil
}

// news is what Changes finds. ends is when the next session ends.
type news struct {
	records []virtual.Record
	rev     uint64
	reset   bool
	ends    time.Duration
}

// changes asks once.
func (s *Store) changes(ctx context.Context, since uint64) (n news, err error) {
	over := false
	look := func(t *tx, ends int64) error {
		n = news{ends: in(ends, t.now)}
		rev, forgot, err := t.revisions()
		if err != nil {
			return err
		}
		from := int64(since)
		n.rev = uint64(rev)
		if n.reset = from != 0 && from < forgot; n.reset {
			from = 0
		}
		return t.Query("SELECT key, rev, session, value, deleted FROM dashi_record WHERE vhost = ? AND rev > ? ORDER BY rev", func(r Row) bool {
			gone := r[4] != nil
			if !gone || from != 0 {
				n.records = append(n.records, virtual.Record{Key: r.Text(0), Rev: uint64(r.Int(1)), Session: r.Text(2), Value: r.Blob(3), Deleted: gone})
			}
			return true
		}, s.vhost, from)
	}
	err = s.view(ctx, func(t *tx) error {
		ends := never
		err := t.Query("SELECT min(ends) FROM dashi_session WHERE vhost = ? AND ends IS NOT NULL", func(r Row) bool {
			ends = r.time(0)
			return true
		}, s.vhost)
		if over = ends <= t.now; err != nil || over {
			return err
		}
		return look(t, ends)
	})
	if err != nil || !over {
		return n, err
	}
	err = s.do(ctx, func(t *tx) error {
		ends, err := t.endSessions()
		if err != nil {
			return err
		}
		return look(t, ends)
	})
	return n, err
}

// KeepAlive opens or renews a session.
func (s *Store) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	return s.do(ctx, func(t *tx) error {
		if _, err := t.endSessions(); err != nil {
			return err
		}
		ends, ended := never, false
		err := t.Query("SELECT ends, ended FROM dashi_session WHERE vhost = ? AND session = ?", func(r Row) bool {
			ends, ended = r.time(0), r[1] != nil
			return true
		}, s.vhost, session)
		if err != nil {
			return err
		}
		if ended {
			return virtual.ErrSession
		}
		if ends == never { // a new one: those that ended long ago go
			if _, err := t.Exec("DELETE FROM dashi_session WHERE vhost = ? AND ended < ?", s.vhost, t.now-forget); err != nil {
				return err
			}
		}
		end := t.now + micros(ttl)
		if end < ends {
			t.registry = true // who waits must wake at this session's end, too
		}
		t.c.sessions = min(t.c.sessions, end)
		_, err = t.Exec(`INSERT INTO dashi_session (vhost, session, ends) VALUES (?, ?, ?)
ON CONFLICT (vhost, session) DO UPDATE SET ends = excluded.ends`, s.vhost, session, end)
		return err
	})
}

// EndSession ends a session with its records.
func (s *Store) EndSession(ctx context.Context, session string) error {
	return s.do(ctx, func(t *tx) error { return t.endSession(session) })
}

// Sessions lists the sessions that are alive, in no order.
func (s *Store) Sessions(ctx context.Context) (all []string, err error) {
	err = s.view(ctx, func(t *tx) error {
		all = nil
		return t.Query("SELECT session FROM dashi_session WHERE vhost = ? AND ends > ?", func(r Row) bool {
			all = append(all, r.Text(0))
			return true
		}, s.vhost, t.now)
	})
	return all, err
}
