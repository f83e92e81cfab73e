package broker

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/dashi-mq/dashi/virtual"
)

// batches cuts requests to what the store takes in one (traits MaxBatch and MaxBatchBytes). In a store without order
// the parts go at once, as many as the trait InFlight says.
type batches struct {
	virtual.Store
	t virtual.Traits
}

// part is a piece of a batch: items from first to end.
type part struct{ first, end int }

// cut makes the parts of n items, whose sizes count where the store bounds them.
func (s *batches) cut(n int, size func(i int) int) []part {
	most := n
	if s.t.MaxBatch > 0 {
		most = s.t.MaxBatch
	}
	var parts []part
	for i := 0; i < n; {
		p := part{first: i}
		for bytes := 0; i < n && i-p.first < most; i++ {
			if s.t.MaxBatchBytes > 0 && size != nil {
				if bytes += size(i); bytes > s.t.MaxBatchBytes && i > p.first {
					break
				}
			}
		}
		p.end = i
		parts = append(parts, p)
	}
	return parts
}

// each does all parts and joins what they say of their items. After a part that was not answered nobody knows; the
// others are done all the same.
func (s *batches) each(parts []part, do func(k int, p part) error) error {
	errs := make([]error, len(parts))
	if s.t.InFlight > 1 && !s.t.Ordered {
		var wg sync.WaitGroup
		slots := make(chan struct{}, s.t.InFlight)
		for k, p := range parts {
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				errs[k] = do(k, p)
			})
		}
		wg.Wait()
	} else {
		for k, p := range parts {
			if errs[k] = do(k, p); errs[k] != nil && !told(errs[k]) {
				break // in an ordered store the rest must not overtake
			}
		}
	}
	var all *virtual.BatchError
	for k, p := range parts {
		if errs[k] == nil {
			continue
		}
		b, isBatch := errors.AsType[*virtual.BatchError](errs[k])
		if !isBatch {
			return errs[k]
		}
		for _, it := range b.Items {
			all = all.Add(p.first+it.Index, it.Err)
		}
	}
	return all.Or()
}

// Put gives each part a mark of its own.
func (s *batches) Put(ctx context.Context, r virtual.PutRequest) error {
	parts := s.cut(len(r.Messages), func(i int) int { return len(r.Messages[i].Payload.Bytes()) })
	if len(parts) <= 1 {
		return s.Store.Put(ctx, r)
	}
	return s.each(parts, func(k int, p part) error {
		one := r
		one.Messages = r.Messages[p.first:p.end]
		if r.Producer != "" {
			one.Producer = fmt.Sprintf("%s.%d", r.Producer, k)
		}
		return s.Store.Put(ctx, one)
	})
}

// Get asks for no more than one request brings.
func (s *batches) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	if s.t.MaxBatch > 0 {
		r.Max = min(r.Max, s.t.MaxBatch)
	}
	return s.Store.Get(ctx, r, buf)
}

func (s *batches) Settle(ctx context.Context, st []virtual.Settlement) error {
	parts := s.cut(len(st), nil)
	if len(parts) <= 1 {
		return s.Store.Settle(ctx, st)
	}
	return s.each(parts, func(_ int, p part) error { return s.Store.Settle(ctx, st[p.first:p.end]) })
}
