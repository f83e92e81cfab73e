package redis

import (
	"context"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Expire takes expired heads.
func (s *Store) Expire(ctx context.Context, r virtual.ExpireRequest, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	before := len(buf)
	everywhere := s.spread() && r.Queue == (virtual.QueueRef{})
	in := s.all()
	if !everywhere {
		in = one(s.part(r.Queue))
	}
	var next time.Duration
	ask := func(w *waiting) (done bool, _ time.Duration, err error) {
		if !everywhere {
			buf, next, err = s.expire(ctx, &r, in.list()[0], r.Max, buf)
			return len(buf) > before, next, err
		}
		h := newHeads(s)
		if w != nil {
			h = w.e.heads
		}
		due := h.pass()
		if due == 0 {
			next = h.next()
			return false, next, nil
		}
		buf, next, err = s.expireAll(ctx, &r, h, due, buf)
		if w != nil {
			w.e.stir(w)
		}
		return len(buf) > before, next, err
	}
	if r.Wait <= 0 {
		_, _, err := ask(nil)
		return buf, next, err
	}
	err := s.until(ctx, r.Wait, in, ask, func(w *waiting) <-chan struct{} { return w.expiry })
	return buf, next, err
}

// expire asks one part.
func (s *Store) expire(ctx context.Context, r *virtual.ExpireRequest, part, most int, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	if err := s.usable(ctx); err != nil {
		return buf, 0, err
	}
	answer, err := s.run(context.WithoutCancel(ctx), s.parts[part], expireScript, expireArgs(r, most)...).Slice()
	if err != nil {
		return buf, 0, err
	}
	d := decoder{now: number(answer[1])}
	for _, b := range list(answer[0]) {
		if buf, err = d.bundle(b, buf); err != nil {
			return buf, 0, err
		}
	}
	return buf, expiresIn(answer), nil
}

func expireArgs(r *virtual.ExpireRequest, most int) []any {
	only := ""
	if r.Queue != (virtual.QueueRef{}) {
		only = id(r.Queue)
	}
	return []any{only, max(0, most), micros(r.Lease)}
}

// expiresIn reads when the next head expires; 0: not known.
func expiresIn(answer []any) time.Duration {
	return time.Duration(number(answer[2])) * time.Microsecond
}

// expireAll asks the parts in which a head has expired, as far as h knows. Max bounds what comes of all together: where several are
// to be asked, they are first asked, at once, whether they have anything.
func (s *Store) expireAll(ctx context.Context, r *virtual.ExpireRequest, h *heads, due partSet, buf []virtual.Taken) ([]virtual.Taken, time.Duration, error) {
	before := len(buf)
	defer func() { h.unknown(due) }() // those of which no answer was read
	if parts := due.list(); len(parts) > 1 {
		calls := make([]call, len(parts))
		for i, p := range parts {
			calls[i] = call{expireScript, s.parts[p], append(arguments(3), expireArgs(r, 0)...)}
		}
		answers, err := s.runAll(ctx, calls)
		if err != nil {
			return buf, 0, err
		}
		for i, p := range parts {
			if in := expiresIn(answers[i]); in != now {
				h.told(p, in)
				due &^= one(p)
			}
		}
	}
	for _, p := range due.list() {
		left := r.Max - (len(buf) - before)
		if left <= 0 {
			return buf, now, nil
		}
		taken, in, err := s.expire(ctx, r, p, left, buf)
		if err != nil && len(buf) > before {
			return buf, now, nil
		}
		if err != nil {
			return buf, 0, err
		}
		h.told(p, in)
		due &^= one(p)
		buf = taken
	}
	return buf, h.next(), nil
}

// now is what the scripts say of what is due already.
const now = time.Microsecond

// heads are when the next head expires in each part, as far as is known. All calls that wait for it on a handle know the same.
type heads struct {
	mu sync.Mutex
	in partSet
	at clocks
}

func newHeads(s *Store) *heads { return &heads{in: s.all(), at: make(clocks, len(s.parts))} }

// pass returns the parts to be asked, which are nobody else's to ask meanwhile.
func (h *heads) pass() partSet {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at.pass(h.in)
}

// unknown has parts asked again.
func (h *heads) unknown(parts partSet) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at.unknown(parts)
}

// told notes when a head expires; 0: none does.
func (h *heads) told(part int, in time.Duration) {
	if in > 0 {
		h.mu.Lock()
		defer h.mu.Unlock()
		h.at.nearer(part, in)
	}
}

func (h *heads) next() time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.at.next(h.in)
}
