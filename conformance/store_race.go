package conformance

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var raceChecks = []StoreCheck{
	{
		Name: "Race/NoneTwice", run: raceNoneTwice, Where: whereGet,
		Rule: "Get leases in one atomic step: no two Gets ever hold the same message at the same time.",
	},
	{
		Name: "Race/NoneTwice/Lease0", run: raceNoneTwiceRemoved, Where: whereGet,
		Rule: "Get takes in one atomic step: without a lease as well, each message goes to one.",
	},
	{
		Name: "Race/OneHolderAtATime", run: raceOneHolder, Where: whereGet,
		Rule: "No two Gets ever hold the same message at the same time, whatever is requeued, and none is lost.",
	},
	{
		Name: "Race/AllMethods", run: raceAllMethods, Where: whereDoc,
		Rule: "All methods may be called concurrently, from one process and from many.",
	},
}

// getters is how many goroutines take at once, on each of two handles.
const getters = 8

// onBoth runs f on goroutines, half of them on each handle, and waits until all have returned.
func (e *storeEnv) onBoth(what string, n int, f func(ctx context.Context, s virtual.Store, i int) error) {
	e.Helper()
	var all []*call[struct{}]
	for i := range n {
		s := e.a
		if i%2 == 1 {
			s = e.b
		}
		all = append(all, calls(e, func(ctx context.Context) (struct{}, error) { return struct{}{}, f(ctx, s, i) }))
	}
	for _, c := range all {
		_, err := c.wait(e, what, 4*e.patience())
		e.must(err, "%s", what)
	}
}

// ledger notes who holds what.
type ledger struct {
	mu    sync.Mutex
	held  map[virtual.ID]int
	taken map[virtual.ID]int
	acked map[virtual.ID]int
}

func newLedger() *ledger {
	return &ledger{held: map[virtual.ID]int{}, taken: map[virtual.ID]int{}, acked: map[virtual.ID]int{}}
}

func (l *ledger) take(ts []virtual.Taken) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range ts {
		l.taken[t.ID]++
		l.held[t.ID]++
		if l.held[t.ID] > 1 {
			return fmt.Errorf("message %s was given to two at the same time", t.Payload.Bytes())
		}
	}
	return nil
}

// settling is called before a Settle is sent: from then on another one may take it.
func (l *ledger) settling(kind virtual.Kind, ts ...virtual.Taken) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, t := range ts {
		l.held[t.ID]--
		if kind == virtual.Ack {
			l.acked[t.ID]++
		}
	}
}

func (l *ledger) done() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.acked)
}

// volume is how many messages a race is about.
func (e *storeEnv) volume() int {
	if e.c.Virtual && !raceEnabled {
		return 2000
	}
	return 300
}

func raceNoneTwice(e *storeEnv) { e.raceOnce(e.long()) }

func raceNoneTwiceRemoved(e *storeEnv) { e.raceOnce(0) }

func (e *storeEnv) raceOnce(lease time.Duration) {
	q := e.ref("orders")
	n := e.volume()
	ms := e.messages(q, numbered("m", n)...)
	l := newLedger()
	putter := calls(e, func(ctx context.Context) (struct{}, error) {
		for rest := ms; len(rest) > 0; {
			k := min(e.batch(7), len(rest))
			if err := e.a.Put(ctx, virtual.PutRequest{Messages: rest[:k]}); err != nil {
				return struct{}{}, err
			}
			rest = rest[k:]
		}
		return struct{}{}, nil
	})
	e.onBoth("one of many that take at once", getters*2, func(ctx context.Context, s virtual.Store, i int) error {
		end := time.Now().Add(2 * e.patience())
		for l.done() < n && time.Now().Before(end) {
			ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: e.batch(1 + i%5), Wait: e.unit, Lease: lease}, nil)
			if err != nil {
				return err
			}
			if err := l.take(ts); err != nil {
				return err
			}
			l.mu.Lock()
			for _, t := range ts {
				l.acked[t.ID]++ // counted at once: with a lease this one keeps it
			}
			l.mu.Unlock()
		}
		return nil
	})
	_, err := putter.wait(e, "the producer", e.patience())
	e.must(err, "Put")
	for _, m := range ms {
		if k := l.taken[m.ID]; k != 1 {
			e.Fatalf("message %s was given %d times, want once", m.Payload.Bytes(), k)
		}
	}
	e.empty(e.a, q, "all was taken")
}

func raceOneHolder(e *storeEnv) {
	q := e.ref("orders")
	n := e.volume() / 4
	ms := e.messages(q, numbered("m", n)...)
	e.putAll(e.a, ms)
	l := newLedger()
	e.onBoth("one of many that take and requeue", getters*2, func(ctx context.Context, s virtual.Store, i int) error {
		r := rand.New(rand.NewPCG(e.c.seed(), uint64(i)))
		end := time.Now().Add(2 * e.patience())
		for l.done() < n && time.Now().Before(end) {
			ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: e.batch(1 + r.IntN(4)), Wait: e.unit / 4, Lease: e.long()}, nil)
			if err != nil {
				return err
			}
			if err := l.take(ts); err != nil {
				return err
			}
			for _, t := range ts {
				kind := []virtual.Kind{virtual.Ack, virtual.Requeue, virtual.Return}[r.IntN(3)]
				l.settling(kind, t)
				if err := s.Settle(ctx, answers(kind, 0, t)); err != nil {
					return fmt.Errorf("%v of a message under its lease: %w", kind, err)
				}
			}
		}
		return nil
	})
	for _, m := range ms {
		if k := l.acked[m.ID]; k != 1 {
			e.Fatalf("message %s was acked %d times, want once: it was %s", m.Payload.Bytes(), k, [...]string{"lost", "", "given again"}[min(k, 2)])
		}
	}
	e.empty(e.a, q, "all was acked")
}

// raceAllMethods calls everything at once: nothing is expected but that calls return, know no errors beyond those of the
// contract, and that what was put is taken once.
func raceAllMethods(e *storeEnv) {
	qs := e.refs(3)
	rounds := 60
	if !e.c.Virtual {
		rounds = 20
	}
	var mu sync.Mutex
	put, out := map[virtual.ID]bool{}, map[virtual.ID]int{}
	e.onBoth("one of many that call everything", 12, func(ctx context.Context, s virtual.Store, i int) error {
		r := rand.New(rand.NewPCG(e.c.seed()+7, uint64(i)))
		for range rounds {
			q := qs[r.IntN(len(qs))]
			var err error
			switch i % 6 {
			case 0, 1:
				ms := e.messages(q, "m", "m")
				mu.Lock()
				put[ms[0].ID], put[ms[1].ID] = true, true
				mu.Unlock()
				for _, m := range ms {
					if err = s.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{m}}); err != nil {
						return err
					}
				}
			case 2, 3:
				var ts []virtual.Taken
				ts, _, err = s.Get(ctx, virtual.GetRequest{Queue: q, Max: e.batch(3), Wait: e.unit / 50, Lease: e.long()}, nil)
				for k, t := range ts {
					kind := virtual.Kind((k + r.IntN(4)) % 4)
					var d time.Duration
					if kind == virtual.Extend {
						d = e.long()
					}
					if err := s.Settle(ctx, answers(kind, d, t)); err != nil {
						return err
					}
					if kind == virtual.Extend {
						kind = virtual.Ack
						if err := s.Settle(ctx, answers(kind, 0, t)); err != nil {
							return err
						}
					}
					if kind == virtual.Ack {
						mu.Lock()
						out[t.ID]++
						mu.Unlock()
					}
				}
			case 4:
				if r.IntN(3) == 0 {
					if p, ok := virtual.As[virtual.Peeker](s); ok {
						_, err = p.Peek(ctx, q, 2, nil)
					}
				} else {
					_, err = s.Size(ctx, q)
				}
			case 5:
				err = e.otherCalls(ctx, s, i, r)
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	e.eventually("what was put comes out", func() (bool, string) {
		for _, q := range qs {
			for _, t := range e.get(e.a, q, e.batch(10), 0) {
				out[t.ID]++
			}
		}
		return len(out) >= len(put), fmt.Sprintf("%d of %d have", len(out), len(put))
	})
	for id := range put {
		if out[id] != 1 {
			e.Fatalf("a message came out %d times, want once", out[id])
		}
	}
}

// otherCalls are calls of capabilities.
func (e *storeEnv) otherCalls(ctx context.Context, s virtual.Store, i int, r *rand.Rand) error {
	session := fmt.Sprintf("session-%d", i)
	if g, ok := virtual.As[virtual.Registry](s); ok {
		if err := g.KeepAlive(ctx, session, e.units(1000)); err != nil {
			return err
		}
		_, err := g.Update(ctx, session, []virtual.Change{{Key: fmt.Sprint(r.IntN(5)), If: virtual.Any, Value: []byte("v")}})
		if err != nil {
			return err
		}
		if _, _, _, err := g.Changes(ctx, uint64(r.IntN(20)), 0); err != nil && !errors.Is(err, virtual.ErrLost) {
			return err
		}
	}
	if x, ok := virtual.As[virtual.Expirer](s); ok {
		if _, _, err := x.Expire(ctx, virtual.ExpireRequest{Max: 1, Lease: e.long()}, nil); err != nil {
			return err
		}
	}
	if h, ok := virtual.As[virtual.Holders](s); ok {
		if _, err := h.Renew(ctx, session, []virtual.QueueRef{{Name: "queue-1", Incarnation: "1"}}, e.long()); err != nil {
			return err
		}
	}
	if _, err := s.Purge(ctx, virtual.QueueRef{Name: "queue-9", Incarnation: "1"}); err != nil && !errors.Is(err, virtual.ErrNoQueue) {
		return err
	}
	return nil
}
