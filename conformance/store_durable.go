package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var durableChecks = []StoreCheck{
	{
		Name: "Durable/Reopen", run: durableReopen, Needs: []Claim{claimDurable}, Where: "virtual/traits.go, Durable",
		Rule: "Durable: what is stored survives a restart of the store: here, that all processes go and others come.",
	},
	{
		Name: "Durable/Restart", run: durableRestart, Needs: []Claim{claimDurable}, Where: "virtual/traits.go, Durable",
		Rule: "Durable: what is stored survives a restart of the store.",
	},
}

func durableReopen(e *storeEnv) {
	e.outlives("after all handles were closed", func() { e.closeAll() })
}

func durableRestart(e *storeEnv) {
	if e.c.Restart == nil {
		e.Skipf("the place cannot be restarted: StoreConfig.Restart is not set")
	}
	e.outlives("after a restart of the store", func() {
		e.lost, e.handles = e.handles, nil
		e.must(e.c.Restart(e.T), "restart of the place")
	})
}

// outlives stores messages, settles some, ends the place and wants to find it as it was.
func (e *storeEnv) outlives(what string, end func()) {
	e.Helper()
	q, other, none := e.ref("orders"), e.ref("others"), e.ref("none")
	lease := e.leaseOf(e.units(3))
	all := numbered("m", 8)
	ms := e.put(e.a, q, all...)
	e.put(e.b, other, "o1\x00\xff", "")
	e.put(e.b, none, "acked")
	e.settle(e.b, virtual.Ack, 0, e.take(e.b, none, 1, lease)...)
	ts := e.take(e.a, q, 4, lease)
	left := e.took("taken", ts[:1], all...)
	e.settle(e.a, virtual.Ack, 0, ts[0])
	e.settle(e.a, virtual.Requeue, 0, ts[2])
	fields := e.ref("fields")
	wants := map[string]*virtual.Message{}
	for i, m := range e.messages(fields, numbered("field", 4)...) {
		if e.has(claimTTL) {
			m.TTL = []time.Duration{0, virtual.Immediately, e.units(1000), 1500 * time.Millisecond}[i]
		}
		if e.has(claimLevels) {
			m.Priority = uint8(i % e.traits.Levels)
		}
		wants[string(m.Payload.Bytes())] = m
		e.putAll(e.a, []*virtual.Message{m})
	}
	before := time.Now() // two remain leased
	end()
	s := e.handle()
	e.eventually("leases go on or end, "+what, func() (bool, string) {
		return time.Since(before) > lease, "a lease has not run out"
	})
	got := e.await(s, q, len(left), e.long(), e.patience())
	e.same(what, got, left...)
	ids := map[string]virtual.ID{}
	for i, m := range ms {
		ids[all[i]] = m.ID
	}
	for _, t := range got {
		if body := string(t.Payload.Bytes()); t.ID != ids[body] {
			e.Fatalf("%s message %s has id %x, want %x", what, body, t.ID, ids[body])
		}
		want := 1
		if slices.Contains(texts(ts), string(t.Payload.Bytes())) {
			want = 2
		}
		e.attempt(fmt.Sprintf("%s message %s", what, t.Payload.Bytes()), t, want)
	}
	for _, t := range e.take(s, fields, len(wants), e.long()) {
		want := wants[string(t.Payload.Bytes())]
		if want == nil || e.has(claimTTL) && t.TTL != want.TTL || e.has(claimLevels) && t.Priority != want.Priority {
			e.Fatalf("%s message %s has TTL %v and priority %d, was put as %+v", what, t.Payload.Bytes(), t.TTL, t.Priority, want)
		}
	}
	e.settle(s, virtual.Ack, 0, got...)
	e.holds(s, other, "another queue, "+what, "o1\x00\xff", "")
	e.empty(s, q, "all is acked, "+what)
	e.empty(s, none, "what was acked before, "+what)
	e.size(s, q, 0, "all is acked, "+what)
	e.put(s, q, "anew")
	e.holds(e.handle(), q, "put "+what, "anew")
}
