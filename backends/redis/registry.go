package redis

import (
	"context"
	"slices"
	"strconv"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Update makes all changes, or none.
func (s *Store) Update(ctx context.Context, session string, changes []virtual.Change) (uint64, error) {
	a := make([]any, 0, 1+5*len(changes))
	a = append(a, session)
	for _, c := range changes {
		op := [...]string{virtual.Write: "w", virtual.Touch: "t", virtual.Delete: "d", virtual.Check: "c"}[c.Op]
		want := strconv.FormatUint(uint64(c.If), 10)
		switch c.If {
		case virtual.Any:
			want = "*"
		case virtual.Exists:
			want = "+"
		}
		a = append(a, c.Key, op, want, c.Session, c.Value)
	}
	answer, err := s.run(ctx, s.home, updateScript, a...).Slice()
	if err != nil {
		return 0, err
	}
	switch text(answer[0]) {
	case "session":
		return 0, virtual.ErrSession
	case "conflict":
		return 0, &virtual.ConflictError{Differ: revisions(answer[1])}
	}
	return uint64(number(answer[1])), nil
}

// Changes returns what changed since a revision, waiting for it.
func (s *Store) Changes(ctx context.Context, since uint64, wait time.Duration) ([]virtual.Record, uint64, bool, error) {
	recs, rev, reset, _, err := s.changes(ctx, since)
	if err != nil || len(recs) > 0 || reset || wait <= 0 {
		return recs, rev, reset, err
	}
	err = s.until(ctx, wait, 0, func(*waiting) (done bool, ends time.Duration, err error) {
		recs, rev, reset, ends, err = s.changes(ctx, since)
		return len(recs) > 0 || reset, ends, err
	}, func(w *waiting) <-chan struct{} { return w.changed })
	if err == nil && len(recs) == 0 && !reset {
		err = s.usable(ctx)
	}
	return recs, rev, reset, err
}

// changes asks once. ends is when the next session ends.
func (s *Store) changes(ctx context.Context, since uint64) (recs []virtual.Record, rev uint64, reset bool, ends time.Duration, err error) {
	answer, err := s.run(ctx, s.home, changesScript, strconv.FormatUint(since, 10)).Slice()
	if err != nil {
		return nil, since, false, 0, err
	}
	if text(answer[0]) == "lost" {
		// The layout went, too. Another version may have come before us.
		if err := s.ask(ctx, func() error { return s.checkLayout(ctx) }); err != nil {
			return nil, since, false, 0, err
		}
		return nil, since, false, 0, virtual.ErrLost
	}
	rev, reset, ends = uint64(number(answer[0])), text(answer[1]) == "1", time.Duration(number(answer[2]))*time.Microsecond
	for f := range slices.Chunk(answer[3:], 5) {
		recs = append(recs, virtual.Record{
			Key: text(f[0]), Rev: uint64(number(f[1])), Deleted: text(f[2]) != "1", Session: text(f[3]), Value: []byte(text(f[4])),
		})
	}
	return recs, rev, reset, ends, nil
}

// KeepAlive opens or renews a session.
func (s *Store) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	alive, err := s.run(ctx, s.home, sessionScript, "keep", session, micros(ttl)).Int()
	if err == nil && alive == 0 {
		return virtual.ErrSession
	}
	return err
}

// EndSession ends a session with its records.
func (s *Store) EndSession(ctx context.Context, session string) error {
	return s.run(ctx, s.home, sessionScript, "end", session).Err()
}

// Sessions lists the sessions that are alive.
func (s *Store) Sessions(ctx context.Context) ([]string, error) {
	return s.run(ctx, s.home, sessionScript, "list", "").StringSlice()
}
