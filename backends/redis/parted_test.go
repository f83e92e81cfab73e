package redis_test

import (
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/virtual"
)

// pair are two stores that are asked the same: Redis, its queues in several slots, and the reference.
type pair struct {
	t       *testing.T
	rng     *rand.Rand
	queues  []virtual.QueueRef // the last ones are deleted
	redis   *redis.Store
	memory  *memory.Store
	bodies  int
	taken   [][2]virtual.Taken // by either
	request virtual.PutRequest
	limits  []virtual.Limit
}

// TestWhatIsPartedIsPutTogether asks for several queues at once, at random, and wants what the reference says: which items
// failed and why, what was evicted, which answers are stale, which holders are lost.
func TestWhatIsPartedIsPutTogether(t *testing.T) {
	eachServer(t, func(t *testing.T, server string) {
		seed := uint64(time.Now().UnixNano())
		t.Logf("seed %d", seed)
		for i := range uint64(8) {
			p := newPair(t, server, rand.New(rand.NewPCG(seed, i)))
			for range 60 {
				p.step()
			}
			p.finish()
		}
	})
}

func newPair(t *testing.T, server string, rng *rand.Rand) *pair {
	p := &pair{t: t, rng: rng, redis: open(t, newPlace(t, server)), memory: memory.New().Open()}
	for i := range 12 {
		q := virtual.QueueRef{Name: fmt.Sprint("queue-", i), Incarnation: "1"}
		p.queues = append(p.queues, q)
		for _, s := range p.stores() {
			must(t, s.Create(t.Context(), q), "Create")
			if i >= 10 {
				_, err := s.Delete(t.Context(), q)
				must(t, err, "Delete")
			}
		}
	}
	return p
}

// whole is what is parted: requests for several queues.
type whole interface {
	virtual.Store
	virtual.Bounded
	virtual.Holders
	virtual.Namespace
}

func (p *pair) stores() [2]whole { return [2]whole{p.redis, p.memory} }

func (p *pair) step() {
	switch n := p.rng.IntN(10); {
	case n < 4:
		p.put()
	case n < 5 && p.request.Sequence > 0:
		p.send("the same Put again")
	case n < 7:
		p.get()
	case n < 9:
		p.settle()
	default:
		p.renew()
	}
}

func (p *pair) put() {
	p.request = virtual.PutRequest{Producer: "producer", Sequence: p.request.Sequence + 1}
	for range p.rng.IntN(20) {
		p.bodies++
		m := &virtual.Message{Queue: p.queues[p.rng.IntN(len(p.queues))], Payload: virtual.Bytes(fmt.Sprint("m", p.bodies))}
		m.ID[0], m.ID[1] = byte(p.bodies), byte(p.bodies>>8)
		p.request.Messages = append(p.request.Messages, m)
	}
	p.limits = nil
	for _, q := range p.queues {
		l := virtual.Limit{Queue: q, MaxLen: p.rng.IntN(4), MaxBytes: -1, Reject: p.rng.IntN(2) == 0}
		if p.rng.IntN(2) == 0 {
			l.Holder, l.Lease = "limit", time.Hour
		}
		if p.rng.IntN(3) > 0 {
			p.limits = append(p.limits, l)
		}
	}
	p.send("Put")
}

func (p *pair) send(what string) {
	var said [2]string
	for i, s := range p.stores() {
		evicted, err := s.PutBounded(p.t.Context(), p.request, p.limits, nil)
		said[i] = failures(err) + byQueue(evicted)
	}
	p.same(fmt.Sprintf("%s of %d messages under %d limits", what, len(p.request.Messages), len(p.limits)), said)
}

func (p *pair) get() {
	r := virtual.GetRequest{Queue: p.queues[p.rng.IntN(len(p.queues))], Max: 1 + p.rng.IntN(3), Lease: time.Hour}
	var got [2][]virtual.Taken
	var said [2]string
	for i, s := range p.stores() {
		var err error
		got[i], _, err = s.Get(p.t.Context(), r, nil)
		said[i] = fmt.Sprint(failures(err), bodies(got[i]))
	}
	p.same("Get from "+r.Queue.Name, said)
	for i := range got[0] {
		p.taken = append(p.taken, [2]virtual.Taken{got[0][i], got[1][i]})
	}
}

// settle answers some takings, of which those answered before are stale.
func (p *pair) settle() {
	var answers [2][]virtual.Settlement
	for range min(len(p.taken), 1+p.rng.IntN(12)) {
		both, kind := p.taken[p.rng.IntN(len(p.taken))], []virtual.Kind{virtual.Ack, virtual.Requeue}[p.rng.IntN(2)]
		if slices.ContainsFunc(answers[0], func(st virtual.Settlement) bool { return st.ID == both[0].ID }) {
			continue // who answers twice in one request is told so of either
		}
		for i, t := range both {
			answers[i] = append(answers[i], settled(kind, 0, t)...)
		}
	}
	var said [2]string
	for i, s := range p.stores() {
		said[i] = failures(s.Settle(p.t.Context(), answers[i]))
	}
	p.same(fmt.Sprintf("Settle of %d", len(answers[0])), said)
}

// renew renews a holder on queues on some of which it is not known.
func (p *pair) renew() {
	name := fmt.Sprint("holder-", p.bodies, p.rng.Uint64())
	for _, q := range p.queues[:10] {
		if p.rng.IntN(2) == 0 {
			for _, s := range p.stores() {
				_, _, err := s.Get(p.t.Context(), virtual.GetRequest{Queue: q, Max: 1, MaxBytes: 1, Lease: time.Hour, Holder: name, Take: 1, Fence: 1}, nil)
				must(p.t, err, "Get of a holder")
			}
		}
	}
	asked := slices.Clone(p.queues)
	p.rng.Shuffle(len(asked), func(i, j int) { asked[i], asked[j] = asked[j], asked[i] })
	var said [2]string
	for i, s := range p.stores() {
		lost, err := s.Renew(p.t.Context(), name, asked, time.Hour)
		must(p.t, err, "Renew")
		var names []string
		for _, q := range lost {
			names = append(names, q.Name)
		}
		slices.Sort(names)
		said[i] = fmt.Sprint(names)
	}
	p.same("Renew", said)
}

// finish compares what is left.
func (p *pair) finish() {
	var said [2]string
	for i, s := range p.stores() {
		all, err := s.List(p.t.Context())
		must(p.t, err, "List")
		var names []string
		for _, q := range all {
			n, err := s.Size(p.t.Context(), q)
			must(p.t, err, "Size")
			names = append(names, fmt.Sprint(q.Name, ": ", n))
		}
		slices.Sort(names)
		said[i] = strings.Join(names, ", ")
	}
	p.same("what is left", said)
}

func (p *pair) same(what string, said [2]string) {
	p.t.Helper()
	if said[0] != said[1] {
		p.t.Fatalf("%s: Redis says\n%s\nand the reference\n%s", what, said[0], said[1])
	}
}

// failures tells which items failed and why.
func failures(err error) string {
	batch, ok := errors.AsType[*virtual.BatchError](err)
	if !ok {
		return fmt.Sprintln(err)
	}
	var b strings.Builder
	for _, it := range batch.Items {
		fmt.Fprintln(&b, it.Index, it.Err)
	}
	return b.String()
}

// byQueue tells what came of each queue, in order, and whether it is leased.
func byQueue(ts []virtual.Taken) string {
	of := map[string]string{}
	for _, t := range ts {
		of[t.Queue.Name] += fmt.Sprintf(" %s (leased: %v)", t.Payload.Bytes(), t.Receipt != nil)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(of)) {
		fmt.Fprintln(&b, name, of[name])
	}
	return b.String()
}
