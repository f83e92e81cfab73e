package redis

import (
	"context"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/virtual"
)

// Purge removes what is ready. Where something is leased or delayed meanwhile, it takes time in proportion to what is ready.
func (s *Store) Purge(ctx context.Context, q virtual.QueueRef) (int, error) {
	return s.run(ctx, s.base(q), queueScript, "purge", id(q)).Int()
}

// Size counts what is ready.
func (s *Store) Size(ctx context.Context, q virtual.QueueRef) (int, error) {
	return s.run(ctx, s.base(q), queueScript, "size", id(q)).Int()
}

// Peek looks at the head.
func (s *Store) Peek(ctx context.Context, q virtual.QueueRef, most int, buf []virtual.Taken) ([]virtual.Taken, error) {
	answer, err := s.run(ctx, s.base(q), queueScript, "peek", id(q), max(0, most)).Slice()
	if err != nil || len(answer) == 0 {
		return buf, err
	}
	d := decoder{ref: q, now: number(answer[1])}
	before := len(buf)
	if buf, err = d.bundle(answer[0], buf); err != nil {
		return buf, err
	}
	for i := range buf[before:] {
		buf[before+i].Attempt-- // it has not been handed out
	}
	return buf, nil
}

// Create makes a queue.
func (s *Store) Create(ctx context.Context, q virtual.QueueRef) error {
	made, err := s.run(ctx, s.base(q), queueScript, "create", id(q)).Int()
	if err == nil && made == 0 {
		return virtual.ErrNoQueue
	}
	return err
}

// Delete removes a queue with everything in it.
func (s *Store) Delete(ctx context.Context, q virtual.QueueRef) (int, error) {
	return s.run(ctx, s.base(q), queueScript, "delete", id(q)).Int()
}

// List returns all queues, in no order.
func (s *Store) List(ctx context.Context) ([]virtual.QueueRef, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	pipe := s.client.Pipeline()
	ids := make([]*goredis.StringSliceCmd, len(s.parts))
	for i, base := range s.parts {
		ids[i] = pipe.SMembers(ctx, base+"queues")
	}
	if err := s.ask(ctx, func() error { _, err := pipe.Exec(ctx); return err }); err != nil {
		return nil, err
	}
	var refs []virtual.QueueRef
	for _, part := range ids {
		for _, id := range part.Val() {
			refs = append(refs, refOf(id))
		}
	}
	return refs, nil
}
