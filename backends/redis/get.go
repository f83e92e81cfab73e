package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Get takes messages from the head.
func (s *Store) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	before := len(buf)
	buf, res, err := s.get(ctx, &r, nil, false, buf)
	if err != nil || len(buf) > before || r.Wait <= 0 || r.Max <= 0 || r.Again {
		return buf, res, err
	}
	over := time.NewTimer(r.Wait)
	defer over.Stop()
	var w *waiting
	defer func() { w.done() }()
	for {
		w.done()
		if w, err = s.wait(ctx, one(s.part(r.Queue))); err != nil {
			return buf, res, err
		}
		for lost := false; !lost; {
			buf, res, err = s.get(ctx, &r, w, true, buf)
			if err != nil || len(buf) > before {
				return buf, res, err
			}
			select {
			case <-w.woken:
			case <-w.lost():
				lost = true
			case <-over.C:
				s.strike(&r, w)
				return buf, res, nil
			case <-ctx.Done():
				s.strike(&r, w)
				return buf, res, nil
			case <-s.ctx.Done():
				s.strike(&r, w)
				return buf, res, nil
			}
		}
	}
}

// get asks once. The reply is waited for when ctx has ended meanwhile, too: it may be a message without a lease.
func (s *Store) get(ctx context.Context, r *virtual.GetRequest, w *waiting, waited bool, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	none := virtual.GetResult{Ready: -1}
	if err := s.usable(ctx); err != nil {
		return buf, none, err
	}
	var getter, channel string
	if w != nil {
		getter, channel = w.name, s.handle
	}
	if r.Park != "" && r.Max > 0 {
		s.parks(r.Park, s.part(r.Queue))
	}
	h := holder(r.Holder)
	answer, err := s.run(context.WithoutCancel(ctx), s.base(r.Queue), getScript,
		id(r.Queue), max(0, r.Max), max(0, r.MaxBytes), micros(max(0, r.Lease)),
		h, strconv.FormatUint(r.Take, 10), r.Again, waited,
		strconv.FormatUint(r.Fence, 10), r.Park, rooms(r.Rooms),
		getter, channel).Slice()
	if err != nil {
		return buf, none, err
	}
	switch reason := text(answer[0]); reason {
	case "gone":
		return buf, none, virtual.ErrNoQueue
	case "fence":
		return buf, none, virtual.ErrFence
	case "holder":
		return buf, none, virtual.ErrHolder
	}
	if len(answer) < 5 {
		return buf, none, fmt.Errorf("redis: an answer to a Get has %d parts, want 5", len(answer))
	}
	d := decoder{ref: r.Queue, now: number(answer[2]), take: strconv.FormatUint(r.Take, 10)}
	if r.Lease > 0 {
		d.holder = h
	}
	buf, err = d.bundle(answer[1], buf)
	return buf, virtual.GetResult{NextIn: time.Duration(number(answer[4])) * time.Microsecond, Ready: int(number(answer[3]))}, err
}

// strike takes a Get that has waited in vain off the list of those that wait. If that fails, what comes first is held up for
// it, for a second.
func (s *Store) strike(r *virtual.GetRequest, w *waiting) {
	ctx, stop := context.WithTimeout(context.Background(), time.Second)
	defer stop()
	for range 3 {
		if s.client.HDel(ctx, s.base(r.Queue)+"w:"+id(r.Queue), "g"+w.name).Err() == nil {
			return
		}
	}
}

// rooms writes "priority:room,…".
func rooms(all []virtual.Room) string {
	var b strings.Builder
	for i, r := range all {
		if i > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%d:%d", r.Priority, r.Room)
	}
	return b.String()
}
