package conformance

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// must ends the check on an error.
func (e *storeEnv) must(err error, format string, a ...any) {
	e.Helper()
	if err != nil {
		e.Fatalf("%s: %v", fmt.Sprintf(format, a...), err)
	}
}

// is checks that an error is a certain one.
func (e *storeEnv) is(err, want error, format string, a ...any) {
	e.Helper()
	if !errors.Is(err, want) {
		e.Fatalf("%s: the error is %v, want %v", fmt.Sprintf(format, a...), err, want)
	}
}

// texts returns the bodies of takings as text.
func texts(ts []virtual.Taken) []string {
	out := make([]string, len(ts))
	for i := range ts {
		out[i] = string(ts[i].Payload.Bytes())
	}
	return out
}

// same compares texts in order, or as sets where the store keeps no order.
func (e *storeEnv) same(what string, got []virtual.Taken, want ...string) {
	e.Helper()
	g := texts(got)
	if !e.traits.Ordered {
		g = slices.Sorted(slices.Values(g))
		want = slices.Sorted(slices.Values(want))
	}
	if !slices.Equal(g, want) {
		e.Fatalf("%s: saw %s, want %s", what, show(g), show(want))
	}
}

// took checks that messages are the first ones of those that are there, or any of them where the store keeps no order. It
// returns the others.
func (e *storeEnv) took(what string, got []virtual.Taken, all ...string) (rest []string) {
	e.Helper()
	if e.traits.Ordered {
		e.same(what, got, all[:min(len(got), len(all))]...)
		return all[len(got):]
	}
	rest = slices.Clone(all)
	for _, body := range texts(got) {
		i := slices.Index(rest, body)
		if i < 0 {
			e.Fatalf("%s: saw %s, want some of %s", what, show(texts(got)), show(all))
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return rest
}

// holds takes exactly these messages from a queue that has no others, and acks them.
func (e *storeEnv) holds(s virtual.Store, q virtual.QueueRef, what string, want ...string) {
	e.Helper()
	ts := e.await(s, q, len(want), e.long(), e.patience())
	e.same(what, ts, want...)
	e.settle(s, virtual.Ack, 0, ts...)
	e.empty(s, q, what)
}

// empty checks that a Get finds nothing.
func (e *storeEnv) empty(s virtual.Store, q virtual.QueueRef, what string) {
	e.Helper()
	if ts := e.get(s, q, 1, e.long()); len(ts) > 0 {
		e.Fatalf("%s: %q can be taken from %q, want nothing", what, texts(ts)[0], q)
	}
}

// size checks the number of ready messages, waiting for it where Size may lag.
func (e *storeEnv) size(s virtual.Store, q virtual.QueueRef, want int, what string) {
	e.Helper()
	if e.traits.ExactSize {
		n, err := s.Size(e.ctx, q)
		e.must(err, "Size of %q", q)
		if n != want {
			e.Fatalf("%s: Size is %d, want %d", what, n, want)
		}
		return
	}
	e.eventually(what, func() (bool, string) {
		n, err := s.Size(e.ctx, q)
		e.must(err, "Size of %q", q)
		return n == want, fmt.Sprintf("Size is %d, want %d", n, want)
	})
}

// attempt checks how often a message was handed out, where the store knows exactly.
func (e *storeEnv) attempt(what string, t virtual.Taken, want int) {
	e.Helper()
	if e.traits.ExactAttempt && t.Attempt != want {
		e.Fatalf("%s: attempt %d, want %d", what, t.Attempt, want)
	}
}

// stale checks an answer to a receipt whose message was taken by another.
func (e *storeEnv) stale(err error, index int, what string) {
	e.Helper()
	item := virtual.ItemErr(err, index)
	if item == nil && !e.traits.StaleTold {
		return
	}
	if !errors.Is(item, virtual.ErrStale) {
		e.Fatalf("%s: the item's error is %v, want %v", what, item, virtual.ErrStale)
	}
	if _, ok := errors.AsType[*virtual.BatchError](err); !ok {
		e.Fatalf("%s: the error is a %T, want a *BatchError", what, err)
	}
}

// only checks that an error is a *BatchError that names exactly these items, in rising order.
func (e *storeEnv) only(err error, what string, want ...int) *virtual.BatchError {
	e.Helper()
	b, ok := errors.AsType[*virtual.BatchError](err)
	if !ok {
		e.Fatalf("%s: the error is %v (%T), want a *BatchError for items %v", what, err, err, want)
	}
	got := make([]int, len(b.Items))
	for i, it := range b.Items {
		got[i] = it.Index
		if it.Err == nil {
			e.Fatalf("%s: the *BatchError names item %d with a nil error", what, it.Index)
		}
	}
	if !slices.Equal(got, want) {
		e.Fatalf("%s: the *BatchError names items %v, want %v", what, got, want)
	}
	return b
}

// between checks how long something took.
func (e *storeEnv) between(what string, took, least, most time.Duration) {
	e.Helper()
	if took < least {
		e.Fatalf("%s after %v, which is before %v had passed", what, took, least)
	}
	if took > most {
		e.Fatalf("%s after %v, want %v to %v", what, took, least, most)
	}
}

// capability returns a capability that the check needs.
func capability[C any](e *storeEnv, s virtual.Store) C {
	e.Helper()
	c, ok := virtual.As[C](s)
	if !ok {
		e.Fatalf("the store offered %T on one handle and not on another", (*C)(nil))
	}
	return c
}
