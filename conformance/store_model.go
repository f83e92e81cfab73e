package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var modelChecks = []StoreCheck{
	{
		Name: "Model/Random", run: modelRandom, Needs: []Claim{claimOrdered, claimExactSize, claimExactAttempt}, Where: "virtual/doc.go",
		Rule: "Random calls by two processes behave as a simple model of queues does: order, leases, attempts, delays, requeues, marks.",
	},
}

// model is what the contract says of a few queues, in the plainest way: lists that are searched.
type model struct {
	*walk

	queues   []virtual.QueueRef
	messages [][]*modelMessage // of each queue, in order of Put
	taken    []modelTaken      // every taking there was
	bodies   int
	sequence [2]uint64             // of each producer
	last     [2]virtual.PutRequest // of each producer
}

// modelMessage is a message in the model. Times are since the base.
type modelMessage struct {
	body     string
	priority uint8
	attempt  int
	taking   int           // the number of its present taking in taken, 0: none
	hidden   time.Duration // until when, by a lease or a delay
	put      time.Duration
}

// modelTaken is one taking.
type modelTaken struct {
	virtual.Taken
	queue int
	m     *modelMessage
	by    int // handle
}

func modelRandom(e *storeEnv) {
	seeds, ops := 300, 60
	if !e.c.Virtual {
		seeds, ops = 5, 40
	}
	if e.c.Seeds > 0 {
		seeds = e.c.Seeds
	}
	e.leaseOf(e.units(4))
	for i := range seeds {
		m := &model{walk: e.walk(i, 0), taken: make([]modelTaken, 1)}
		for q := range 3 {
			m.queues = append(m.queues, e.create(virtual.QueueRef{Name: fmt.Sprintf("queue-%d", q), Incarnation: fmt.Sprint(i + 1)}))
		}
		m.messages = make([][]*modelMessage, len(m.queues))
		for range ops {
			m.apart()
			m.step()
		}
		m.finish()
	}
}

// sweep makes ready what is due.
func (m *model) sweep() {
	for _, q := range m.messages {
		for _, x := range q {
			if x.hidden != 0 && x.hidden <= m.now() {
				x.hidden = 0
			}
		}
	}
}

// ready returns the ready messages of a queue, in order.
func (m *model) ready(q int) []*modelMessage {
	m.sweep()
	var out []*modelMessage
	for _, x := range m.messages[q] {
		if x.hidden == 0 {
			out = append(out, x)
		}
	}
	slices.SortStableFunc(out, func(a, b *modelMessage) int { return int(b.priority) - int(a.priority) })
	return out
}

func (m *model) remove(q int, x *modelMessage) {
	m.messages[q] = slices.DeleteFunc(m.messages[q], func(y *modelMessage) bool { return x == y })
}

// apart lets time pass until nothing is just about to become due: in real time the store's clock is not the model's.
func (m *model) apart() {
	if m.e.c.Virtual {
		return
	}
	for m.near() {
		m.e.pause(m.e.unit / 4)
	}
}

func (m *model) near() bool {
	for _, q := range m.messages {
		for _, x := range q {
			if d := x.hidden - m.now(); x.hidden != 0 && d > -m.e.unit/4 && d < m.e.unit/2 {
				return true
			}
		}
	}
	return false
}

// moment is a random time for leases and delays.
func (m *model) moment() time.Duration {
	return m.e.units(float64(1 + m.r.IntN(4)))
}

func (m *model) step() {
	q := m.r.IntN(len(m.queues))
	switch n := m.r.IntN(20); {
	case n < 5:
		m.put()
	case n < 6:
		m.putAgain()
	case n < 10:
		m.get(q)
	case n < 15:
		m.settle()
	case n < 16:
		m.purge(q)
	case n < 17:
		m.size(q)
	default:
		d := m.e.units(float64(m.r.IntN(4)) + 0.37)
		if !m.e.c.Virtual && m.r.IntN(3) > 0 {
			d = 0
		}
		m.note("%v pass", d)
		m.e.pause(d)
	}
}

func (m *model) put() {
	s, h := m.handle()
	e := m.e
	var ms []*virtual.Message
	var qs []int
	for range 1 + m.r.IntN(4) {
		m.bodies++
		q := m.r.IntN(len(m.queues))
		x := e.message(m.queues[q], fmt.Sprintf("m%d", m.bodies))
		if e.traits.Levels > 1 && m.r.IntN(3) == 0 {
			x.Priority = uint8(m.r.IntN(min(3, e.traits.Levels)))
		}
		if e.traits.MaxDelay > 0 && m.r.IntN(5) == 0 {
			x.Delay = min(m.moment(), e.traits.MaxDelay)
		}
		ms, qs = append(ms, x), append(qs, q)
	}
	r := virtual.PutRequest{Messages: ms}
	if e.traits.Marks {
		m.sequence[h] += uint64(1 + m.r.IntN(3))
		r.Producer, r.Sequence = fmt.Sprintf("producer-%d-%d", h, m.seed), m.sequence[h]
		m.last[h] = r
	}
	for i, x := range ms {
		m.note("process %d puts %s into %s, priority %d, delay %v", h, x.Payload.Bytes(), x.Queue.Name, x.Priority, x.Delay)
		y := &modelMessage{body: string(x.Payload.Bytes()), priority: x.Priority, put: m.now()}
		if x.Delay > 0 {
			y.hidden = m.now() + x.Delay
		}
		m.messages[qs[i]] = append(m.messages[qs[i]], y)
	}
	m.must(s.Put(e.ctx, r), "Put")
}

// putAgain repeats a producer's last request, or one before it.
func (m *model) putAgain() {
	h := m.r.IntN(2)
	r := m.last[h]
	if r.Producer == "" {
		return
	}
	s, by := m.handle()
	if m.r.IntN(3) == 0 {
		r.Sequence--
		m.note("process %d puts again with a lower sequence", by)
		if err := s.Put(m.e.ctx, r); err == nil {
			m.fail("a Put with a lower sequence was not refused")
		}
		return
	}
	m.note("process %d puts producer %d's last again", by, h)
	m.must(s.Put(m.e.ctx, r), "Put again")
}

func (m *model) get(q int) {
	s, h := m.handle()
	e := m.e
	most := 1 + m.r.IntN(4)
	lease := m.moment()
	if m.r.IntN(8) == 0 {
		lease = 0
	}
	if e.traits.LeaseAtPut && lease != 0 {
		lease = e.atPut
	}
	want := m.ready(q)
	rest := len(want)
	want = want[:min(most, len(want))]
	rest -= len(want)
	m.note("process %d gets %d from %s under %v: %d are there", h, most, m.queues[q].Name, lease, len(want))
	ts, res, err := s.Get(e.ctx, virtual.GetRequest{Queue: m.queues[q], Max: most, Lease: lease, Need: virtual.NeedAttempt | virtual.NeedAge}, nil)
	m.must(err, "Get")
	var bodies []string
	for _, x := range want {
		bodies = append(bodies, x.body)
	}
	if got := texts(ts); !slices.Equal(got, bodies) {
		m.fail("a Get took %s, want %s", show(got), show(bodies))
	}
	if res.Ready != -1 && res.Ready != rest {
		m.fail("a Get says that %d are ready, want %d", res.Ready, rest)
	}
	for i, x := range want {
		x.attempt++
		if ts[i].Attempt != x.attempt {
			m.fail("%s has come with attempt %d, want %d", x.body, ts[i].Attempt, x.attempt)
		}
		if age := m.now() - x.put; e.traits.Age && (ts[i].Age < age-e.slack()/4 || ts[i].Age > age+e.slack()/4) {
			m.fail("%s has come with Age %v, want %v", x.body, ts[i].Age, age)
		}
		if lease == 0 {
			m.remove(q, x)
			continue
		}
		x.hidden = m.now() + lease
		x.taking = len(m.taken)
		m.taken = append(m.taken, modelTaken{Taken: ts[i], queue: q, m: x, by: h})
	}
}

// settle answers a few takings of one process, old ones too.
func (m *model) settle() {
	s, h := m.handle()
	m.sweep()
	var st []virtual.Settlement
	var at []int
	for range 1 + m.r.IntN(4) {
		i := m.r.IntN(len(m.taken))
		if m.r.IntN(3) > 0 {
			i = len(m.taken) - 1 - m.r.IntN(min(6, len(m.taken)))
		}
		if i == 0 || m.taken[i].by != h || slices.Contains(at, i) {
			continue
		}
		if live, lost := m.live(i); !live && !lost {
			continue
		}
		kind := virtual.Kind(m.r.IntN(4))
		var d time.Duration
		if kind == virtual.Extend || m.r.IntN(3) == 0 && m.e.traits.MaxDelay > 0 && kind != virtual.Ack {
			d = m.moment()
		}
		st, at = append(st, answers(kind, d, m.taken[i].Taken)...), append(at, i)
	}
	if len(st) == 0 {
		return
	}
	for i := range st {
		m.note("process %d settles %s: %v, for %v", h, m.taken[at[i]].m.body, st[i].Kind, st[i].For)
	}
	err := s.Settle(m.e.ctx, st)
	for i := range st {
		m.settled(st[i], at[i], virtual.ItemErr(err, i))
	}
}

// live says that a taking's lease goes on; lost, that the message was taken by another since. Of a lease that merely ran
// out, or of one that was settled before, too little is promised to be modelled.
func (m *model) live(at int) (live, lost bool) {
	t := &m.taken[at]
	leased := t.m.taking != 0 && t.m.hidden != 0
	return leased && t.m.taking == at, leased && t.m.taking != at
}

func (m *model) settled(st virtual.Settlement, at int, err error) {
	t := &m.taken[at]
	x := t.m
	live, lost := m.live(at)
	switch {
	case lost && err == nil && m.e.traits.StaleTold:
		m.fail("%v of %s, taken again since, was accepted", st.Kind, x.body)
	case live && err != nil:
		m.fail("%v of %s under its lease: %v", st.Kind, x.body, err)
	}
	if !live {
		return
	}
	switch st.Kind {
	case virtual.Ack:
		m.remove(t.queue, x)
		x.taking = 0
		return
	case virtual.Extend:
		x.hidden = m.now() + st.For
		return
	case virtual.Return:
		x.attempt--
	}
	x.hidden, x.taking = 0, 0
	if st.For > 0 {
		x.hidden = m.now() + st.For
	}
}

func (m *model) purge(q int) {
	s, h := m.handle()
	want := m.ready(q)
	m.note("process %d purges %s: %d are ready", h, m.queues[q].Name, len(want))
	n, err := s.Purge(m.e.ctx, m.queues[q])
	m.must(err, "Purge")
	if n != len(want) {
		m.fail("Purge says %d, want %d", n, len(want))
	}
	for _, x := range want {
		m.remove(q, x)
	}
}

func (m *model) size(q int) {
	s, _ := m.handle()
	n, err := s.Size(m.e.ctx, m.queues[q])
	m.must(err, "Size")
	if want := len(m.ready(q)); n != want {
		m.fail("Size of %s is %d, want %d", m.queues[q].Name, n, want)
	}
}

// finish lets all leases and delays run out and takes what is left.
func (m *model) finish() {
	m.note("the end")
	m.e.pause(m.e.units(5))
	if m.e.traits.LeaseAtPut {
		m.e.pause(m.e.atPut)
	}
	for q := range m.queues {
		var want []string
		for _, x := range m.ready(q) {
			want = append(want, x.body)
		}
		if len(want) != len(m.messages[q]) {
			m.fail("the model itself is wrong: %d of %d are ready", len(want), len(m.messages[q]))
		}
		var ts []virtual.Taken
		for {
			got, _, err := m.e.b.Get(m.e.ctx, virtual.GetRequest{Queue: m.queues[q], Max: m.e.batch(100)}, nil)
			m.must(err, "Get")
			if len(got) == 0 {
				break
			}
			ts = append(ts, got...)
		}
		if got := texts(ts); !slices.Equal(got, want) {
			m.fail("what is left in %s is %s, want %s", m.queues[q].Name, show(got), show(want))
		}
	}
}
