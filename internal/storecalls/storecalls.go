// Package storecalls makes calls on a store, for tests of several stores: calls of all kinds, for those that look at what it does of
// its own accord, such as which statements it has run, and the few that most tests begin with.
package storecalls

import (
	"fmt"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Queue is the queue of all messages.
var Queue = virtual.QueueRef{Name: "orders", Incarnation: "1"}

// Store is one with every capability but Notifier and Health.
type Store interface {
	virtual.Store
	virtual.Registry
	virtual.Holders
	virtual.Expirer
	virtual.Peeker
	virtual.Bounded
	virtual.Atomic
	virtual.Namespace
}

// Messages returns n messages of Queue, each changed by change if it is set.
func Messages(n int, change func(i int, m *virtual.Message)) (ms []*virtual.Message) {
	for i := range n {
		m := &virtual.Message{Queue: Queue, ID: virtual.ID{byte(i), byte(i >> 8)}, Payload: virtual.Bytes(fmt.Sprint("m", i))}
		if change != nil {
			change(i, m)
		}
		ms = append(ms, m)
	}
	return ms
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// All makes calls of all kinds: with and without holders, priorities, delays, TTLs, limits and sessions. None may fail.
func All(t testing.TB, s Store) {
	ctx, n := t.Context(), uint64(0)
	place := func(change func(int, *virtual.Message), limits ...virtual.Limit) {
		n++
		_, err := s.PutBounded(ctx, virtual.PutRequest{Messages: Messages(50, change), Producer: "p", Sequence: n}, limits, nil)
		check(t, err)
	}
	settle := func(kind virtual.Kind, d time.Duration, ts ...virtual.Taken) {
		var all []virtual.Settlement
		for _, x := range ts {
			all = append(all, virtual.Settlement{Queue: x.Queue, ID: x.ID, Receipt: x.Receipt, Kind: kind, For: d})
		}
		check(t, s.Settle(ctx, all))
	}
	place(nil)
	place(func(_ int, m *virtual.Message) { m.Priority = 4 })
	place(func(_ int, m *virtual.Message) { m.Delay = time.Nanosecond })
	place(func(_ int, m *virtual.Message) { m.TTL = time.Hour })
	g := virtual.GetRequest{Queue: Queue, Max: 20, Lease: time.Minute, Holder: "h", Take: 1, Park: "w"}
	ts, _, err := s.Get(ctx, g, nil)
	check(t, err)
	settle(virtual.Ack, 0, ts[:5]...)
	settle(virtual.Requeue, 0, ts[5:8]...)
	settle(virtual.Return, time.Nanosecond, ts[8:10]...)
	settle(virtual.Extend, time.Hour, ts[10:]...)
	g.Again = true
	_, _, err = s.Get(ctx, g, nil)
	check(t, err)
	g.Again, g.Take = false, 2
	ts, _, err = s.Get(ctx, g, nil)
	check(t, err)
	settle(virtual.Ack, 0, ts...)
	_, err = s.Renew(ctx, "h", []virtual.QueueRef{Queue}, 2*time.Hour)
	check(t, err)
	ts, _, err = s.Get(ctx, virtual.GetRequest{Queue: Queue, Max: 5, Lease: time.Minute}, nil)
	check(t, err)
	settle(virtual.Extend, time.Hour, ts...)
	_, err = s.Apply(ctx, virtual.ApplyRequest{
		PutRequest: virtual.PutRequest{Messages: Messages(2, nil)}, Settlements: []virtual.Settlement{{Queue: Queue, ID: ts[0].ID, Receipt: ts[0].Receipt}},
	}, nil)
	check(t, err)
	// A holder that is lost.
	_, _, err = s.Get(ctx, virtual.GetRequest{Queue: Queue, Max: 30, Lease: time.Microsecond, Holder: "lost", Take: 1}, nil)
	check(t, err)
	_, _, err = s.Expire(ctx, virtual.ExpireRequest{Max: 5, Wait: time.Millisecond, Lease: time.Minute}, nil)
	check(t, err)
	_, _, err = s.Expire(ctx, virtual.ExpireRequest{Queue: Queue, Max: 5, Lease: time.Minute}, nil)
	check(t, err)
	place(nil, virtual.Limit{Queue: Queue, MaxLen: 10, MaxBytes: 1000, Holder: "e", Lease: time.Minute})
	place(nil, virtual.Limit{Queue: Queue, MaxLen: 5, MaxBytes: -1})
	check(t, s.KeepAlive(ctx, "s", time.Minute))
	_, err = s.Update(ctx, "s", []virtual.Change{{Key: "k", Session: "s"}, {Key: "l"}, {Key: "l", Op: virtual.Touch, If: virtual.Any}, {Key: "k", Op: virtual.Delete, If: virtual.Any}})
	check(t, err)
	_, _, _, err = s.Changes(ctx, 0, 0)
	check(t, err)
	_, err = s.Sessions(ctx)
	check(t, err)
	check(t, s.EndSession(ctx, "s"))
	_, err = s.Peek(ctx, Queue, 5, nil)
	check(t, err)
	_, err = s.Size(ctx, Queue)
	check(t, err)
	_, _, err = s.Get(ctx, virtual.GetRequest{Queue: Queue, Max: 1}, nil)
	check(t, err)
	_, err = s.Purge(ctx, Queue)
	check(t, err)
	_, _, err = s.Get(ctx, virtual.GetRequest{Queue: Queue, Max: 1, Wait: time.Millisecond}, nil)
	check(t, err)
	_, err = s.Delete(ctx, Queue)
	check(t, err)
}
