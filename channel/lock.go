package channel

import (
	"context"
	"sync/atomic"
)

// ctxLock is a mutex whose waiters give up when their context ends. Uncontended it costs one atomic operation. n
// counts the holder and the waiters; an unlock that leaves waiters hands the lock over by a token.
type ctxLock struct {
	n     atomic.Int64
	token chan struct{}
}

func newCtxLock() *ctxLock { return &ctxLock{token: make(chan struct{}, 1)} }

func (l *ctxLock) lock(ctx context.Context) error {
	if l.n.Add(1) == 1 {
		return nil
	}
	select {
	case <-l.token:
		return nil
	case <-ctx.Done():
	}
	for {
		v := l.n.Load()
		if v == 1 { // the holder has gone and its token is ours
			<-l.token
			l.unlock()
			return ctx.Err()
		}
		if l.n.CompareAndSwap(v, v-1) {
			return ctx.Err()
		}
	}
}

func (l *ctxLock) unlock() {
	if l.n.Add(-1) > 0 {
		l.token <- struct{}{}
	}
}
