package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var looseChecks = []StoreCheck{
	{
		Name: "Model/Loose", run: looseRandom, Where: "virtual/doc.go",
		Rule: "Whatever two processes do, no message is lost, comes after its ack, or comes while its lease or delay goes on; and a stale receipt has no effect.",
	},
}

// loose is a model of what holds for every store, ordered and exact or not: where each message may be, but not which
// one comes next.
type loose struct {
	*walk

	queues   []virtual.QueueRef
	messages map[virtual.ID]*looseMessage
	taken    []looseTaken // every taking there was; the first is none
}

// looseMessage is a message in the model.
type looseMessage struct {
	body    string
	queue   int
	lease   time.Duration // of Put
	hidden  time.Duration // since the base: before this it cannot come
	attempt int           // -1: not known
	taking  int           // the latest one, 0: none
	open    bool          // the latest taking has not been settled
	gone    bool          // for good
	unsure  bool          // gone or not: it was acked or purged in a moment when both are right
}

type looseTaken struct {
	virtual.Taken
	m  *looseMessage
	by int
}

func looseRandom(e *storeEnv) {
	seeds, ops := 100, 60
	if !e.c.Virtual {
		seeds, ops = 3, 40
	}
	if e.c.Seeds > 0 {
		seeds = e.c.Seeds
	}
	for i := range seeds {
		m := &loose{walk: e.walk(i, 2), taken: make([]looseTaken, 1), messages: map[virtual.ID]*looseMessage{}}
		for q := range 2 {
			m.queues = append(m.queues, e.create(virtual.QueueRef{Name: fmt.Sprintf("loose-%d", q), Incarnation: fmt.Sprint(i + 1)}))
		}
		for range ops {
			m.step()
		}
		m.finish()
	}
}

// moment is a random time for leases and delays.
func (m *loose) moment() time.Duration { return m.e.units(float64(1 + m.r.IntN(4))) }

func (m *loose) step() {
	q := m.r.IntN(len(m.queues))
	switch n := m.r.IntN(20); {
	case n < 5:
		m.put()
	case n < 11:
		m.get(q)
	case n < 16:
		m.settle()
	case n < 17 && m.r.IntN(3) == 0:
		m.purge(q)
	case n < 19:
		d := m.e.units(float64(m.r.IntN(4)) + 0.37)
		if !m.e.c.Virtual {
			d /= 3
		}
		m.note("%v pass", d)
		m.e.pause(d)
	}
}

func (m *loose) put() {
	s, h := m.handle()
	var ms []*virtual.Message
	for range 1 + m.r.IntN(m.e.batch(4)) {
		q := m.r.IntN(len(m.queues))
		lease := m.moment()
		m.e.leaseOf(lease)
		x := m.e.message(m.queues[q], fmt.Sprintf("m%d", len(m.messages)+1))
		y := &looseMessage{body: string(x.Payload.Bytes()), queue: q, lease: lease}
		if m.e.has(claimDelay) && m.r.IntN(5) == 0 {
			x.Delay = min(m.moment(), m.e.traits.MaxDelay)
			y.hidden = m.now() + x.Delay
		}
		m.note("process %d puts %s into %s, delay %v", h, y.body, x.Queue.Name, x.Delay)
		m.messages[x.ID] = y
		ms = append(ms, x)
	}
	m.must(s.Put(m.e.ctx, virtual.PutRequest{Messages: ms}), "Put")
}

func (m *loose) get(q int) {
	s, h := m.handle()
	r := virtual.GetRequest{Queue: m.queues[q], Max: 1 + m.r.IntN(m.e.batch(4)), Lease: m.moment(), Need: virtual.NeedAttempt}
	if m.r.IntN(8) == 0 {
		r.Lease = 0
	}
	if m.r.IntN(3) == 0 {
		r.Wait = m.e.unit / 2
	}
	before := m.now()
	ts, _, err := s.Get(m.e.ctx, r, nil)
	m.must(err, "Get")
	m.note("process %d gets up to %d from %s under %v: %s", h, r.Max, r.Queue.Name, r.Lease, show(texts(ts)))
	if len(ts) > r.Max {
		m.fail("a Get took more than Max")
	}
	for _, t := range ts {
		m.comes(t, q)
		x := m.messages[t.ID]
		if r.Lease == 0 {
			x.gone = true
			continue
		}
		lease := r.Lease
		if m.e.traits.LeaseAtPut {
			lease = x.lease
		}
		x.hidden, x.taking, x.open = before+lease, len(m.taken), true
		m.taken = append(m.taken, looseTaken{t, x, h})
	}
}

// comes checks a message that a Get has handed out.
func (m *loose) comes(t virtual.Taken, q int) {
	m.e.Helper()
	x := m.messages[t.ID]
	body := string(t.Payload.Bytes())
	switch {
	case x == nil:
		m.fail("a message came whose id %x nobody has put", t.ID)
	case x.body != body || x.queue != q:
		m.fail("message %s of queue %d came as %s, from queue %d", x.body, x.queue, body, q)
	case x.gone:
		m.fail("message %s came after it had been removed", body)
	case m.now() < x.hidden:
		m.fail("message %s came at %v, though its lease or delay lasts to %v", body, m.now(), x.hidden)
	}
	x.unsure = false
	if x.attempt++; x.attempt > 0 && m.e.traits.ExactAttempt && t.Attempt != x.attempt {
		m.fail("message %s came with attempt %d, want %d", body, t.Attempt, x.attempt)
	}
	if x.attempt <= 0 {
		x.attempt = t.Attempt
	}
}

// settle answers one or some takings of one process: under their lease, after it, and after another has taken the message.
func (m *loose) settle() {
	s, h := m.handle()
	var st []virtual.Settlement
	var at []int
	seen := map[*looseMessage]bool{}
	for range 1 + m.r.IntN(m.e.batch(4)) {
		i := m.r.IntN(len(m.taken))
		if m.r.IntN(3) > 0 {
			i = len(m.taken) - 1 - m.r.IntN(min(6, len(m.taken)))
		}
		t := &m.taken[i]
		if i == 0 || t.by != h || seen[t.m] {
			continue
		}
		latest := t.m.taking == i
		left := t.m.hidden - m.now()
		if latest && !t.m.open || latest && left > -m.e.slack() && left < m.e.slack()/2 {
			continue // settled before; or nobody knows whether the lease goes on
		}
		kind := virtual.Kind(m.r.IntN(4))
		var d time.Duration
		switch {
		case kind == virtual.Extend:
			d = m.moment()
			if m.e.traits.LeaseAtPut {
				d = t.m.lease
			}
		case kind != virtual.Ack && m.e.has(claimDelay) && m.r.IntN(3) == 0:
			d = min(m.moment(), m.e.traits.MaxDelay)
		}
		seen[t.m] = true
		st, at = append(st, answers(kind, d, t.Taken)...), append(at, i)
		m.note("process %d settles %s: %v, for %v", h, t.m.body, kind, d)
	}
	if len(st) == 0 {
		return
	}
	before := m.now()
	err := s.Settle(m.e.ctx, st)
	for i := range st {
		m.settled(st[i], at[i], before, virtual.ItemErr(err, i))
	}
}

func (m *loose) settled(st virtual.Settlement, at int, before time.Duration, err error) {
	m.e.Helper()
	x := m.taken[at].m
	live := x.open && before < x.hidden
	if err != nil && !errors.Is(err, virtual.ErrStale) {
		m.fail("%v of %s: %v", st.Kind, x.body, err)
	}
	switch {
	case x.taking != at:
		if live && err == nil && m.e.traits.StaleTold && m.now() < x.hidden {
			m.fail("%v of %s, taken again since, was accepted", st.Kind, x.body)
		}
		return
	case !live: // a lease that merely ran out: it may count or not
		x.open, x.attempt = false, -1<<30
		x.unsure = x.unsure || st.Kind == virtual.Ack && err == nil
		return
	case err != nil:
		m.fail("%v of %s under its lease: %v", st.Kind, x.body, err)
	}
	switch st.Kind {
	case virtual.Ack:
		x.gone, x.open = true, false
	case virtual.Extend:
		x.hidden = before + st.For
	case virtual.Requeue, virtual.Return:
		x.hidden, x.open = before+st.For, false
		if st.Kind == virtual.Return {
			x.attempt--
		}
	}
}

// purge removes what is ready: what comes back just now, or is kept somewhere, may go or stay.
func (m *loose) purge(q int) {
	s, h := m.handle()
	m.note("process %d purges %s", h, m.queues[q].Name)
	_, err := s.Purge(m.e.ctx, m.queues[q])
	m.must(err, "Purge")
	for _, x := range m.messages {
		if x.queue == q && x.hidden <= m.now() {
			x.unsure = true
		}
	}
}

// finish lets all leases and delays run out and takes what is left.
func (m *loose) finish() {
	m.note("the end")
	m.e.pause(m.e.units(6))
	for q := range m.queues {
		left := map[*looseMessage]bool{}
		for _, x := range m.messages {
			if x.queue == q && !x.gone && !x.unsure {
				left[x] = true
			}
		}
		end := time.Now().Add(m.e.patience())
		for quiet := false; !quiet || len(left) > 0 && time.Now().Before(end); {
			ts, _, err := m.e.b.Get(m.e.ctx, virtual.GetRequest{Queue: m.queues[q], Max: m.e.batch(100), Wait: m.e.unit / 10, Need: virtual.NeedAttempt}, nil)
			m.must(err, "Get")
			for _, t := range ts {
				m.comes(t, q)
				m.messages[t.ID].gone = true
				delete(left, m.messages[t.ID])
			}
			quiet = len(ts) == 0
		}
		for x := range left {
			m.fail("message %s is lost", x.body)
		}
	}
}
