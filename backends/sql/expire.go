package sql

import (
	"context"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Expire takes expired heads.
func (s *Store) Expire(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	before := len(buf)
	buf, next, err := s.expire(ctx, &r, buf)
	if err != nil || len(buf) > before || r.Wait <= 0 {
		return buf, next, err
	}
	err = s.until(ctx, r.Wait, func(w *waitCall) <-chan struct{} { return w.expires }, func() (bool, time.Duration, error) {
		buf, next, err = s.expire(ctx, &r, buf)
		return len(buf) > before, next, err
	})
	return buf, next, err
}

// expire asks once.
func (s *Store) expire(ctx context.Context, r *virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	before := len(buf)
	var next time.Duration
	err := s.do(ctx, func(t *tx) (err error) {
		buf = buf[:before]
		buf, next, err = t.expire(r, buf)
		return err
	})
	if err != nil {
		return buf[:before], 0, err
	}
	return buf, next, nil
}

func (t *tx) expire(r *virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	if err := t.sweepAll(); err != nil {
		return buf, 0, err
	}
	most := len(buf) + r.Max
	refs := []virtual.QueueRef{r.Queue}
	if r.Queue == (virtual.QueueRef{}) {
		refs = t.dueQueues("SELECT name, incarnation FROM dashi_queue WHERE vhost = ? AND expires <= ? ORDER BY expires")
	}
	at := never
	for _, ref := range refs {
		q, err := t.load(ref)
		if err != nil {
			return buf, 0, err
		}
		if q == nil {
			continue
		}
		for len(buf) < most {
			expires, head, err := t.expiry(q)
			if err != nil {
				return buf, 0, err
			}
			if expires > t.now {
				break
			}
			if buf, err = t.lendLoose(q, head, micros(r.Lease), buf); err != nil {
				return buf, 0, err
			}
		}
		if err := t.noteHead(q); err != nil {
			return buf, 0, err
		}
		at = q.expires
	}
	if t.err != nil || r.Queue != (virtual.QueueRef{}) {
		return buf, in(at, t.now), t.err
	}
	if err := t.flush(); err != nil {
		return buf, 0, err
	}
	err := t.Query("SELECT min(expires) FROM dashi_queue WHERE vhost = ? AND expires IS NOT NULL", func(row Row) bool {
		at = row.time(0)
		return true
	}, t.s.vhost)
	return buf, in(at, t.now), err
}
