package conformance

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"

	"github.com/dashi-mq/dashi/virtual"
)

// HistoryConfig says where histories are made. Open is all that is needed.
type HistoryConfig struct {
	// Name of the store, for what is printed.
	Name string
	// Open makes a place that is empty, as in StoreConfig.
	Open func(t T) (func() (virtual.Store, error), error)
	// Histories is how many are made, Processes how many handles work at the same time in each, and Operations how many
	// each does. 0: 200, 4 and 40.
	Histories, Processes, Operations int
	// Seed begins the first history; the next has the next one. 0 is one of the clock's.
	Seed uint64
}

func (c HistoryConfig) withDefaults() HistoryConfig {
	for _, n := range []struct {
		is *int
		or int
	}{{&c.Histories, 200}, {&c.Processes, 4}, {&c.Operations, 40}} {
		if *n.is == 0 {
			*n.is = n.or
		}
	}
	if c.Seed == 0 {
		c.Seed = uint64(time.Now().UnixNano())
	}
	return c
}

// RunHistories has several processes put, get, settle, purge and count on two queues of one place at the same time, notes
// when each call began and returned, and asks whether there is an order of these calls, in which each stands between its
// beginning and its end, that a queue as package virtual describes it could have gone through: that is, whether the history
// is linearizable. Leases are longer than a history, so that no clock is involved. An illegal history fails with its seed,
// and a page that shows it is written.
func RunHistories(t *testing.T, c HistoryConfig) {
	t.Helper()
	c = c.withDefaults()
	operations, overlaps, illegal, undecided := 0, 0, 0, 0
	for i := range c.Histories {
		seed := c.Seed + uint64(i)
		h, err := c.history(t.Context(), seed)
		if err != nil {
			t.Fatalf("seed %d: %v", seed, err)
		}
		operations += len(h.operations)
		overlaps += h.overlaps()
		switch err := h.verdict(); err {
		case errIllegal:
			illegal++
			t.Errorf("seed %d: %v: %s", seed, err, h.page())
		case errUndecided:
			undecided++
		}
	}
	if undecided > c.Histories/20 {
		t.Errorf("%d histories of %d: %v", undecided, c.Histories, errUndecided)
	}
	fmt.Printf("histories: %s: %d of %d operations by %d processes each, %d operations, %d of them at the same time as another, %d not linearizable, %d undecided (seed %d)\n",
		c.Name, c.Histories, c.Operations, c.Processes, operations, overlaps, illegal, undecided, c.Seed)
}

// history is what the calls of some processes were told.
type history struct {
	traits     virtual.Traits
	lease      time.Duration
	queues     []virtual.QueueRef
	clock      atomic.Int64 // of calls and returns
	alone      sync.RWMutex // held for writing by calls that are exact only when nothing else happens
	mu         sync.Mutex
	operations []porcupine.Operation
	err        error
}

// historyRound is how many calls processes make before they wait for each other, and one of them looks at what there is. In
// which order messages were put that nobody has seen yet may be tried in ever so many ways, which takes too long.
const historyRound = 4

// history makes one.
func (c HistoryConfig) history(ctx context.Context, seed uint64) (*history, error) {
	k := &caseT{name: fmt.Sprintf("history %d", seed), ctx: ctx}
	defer k.finish()
	open, err := (&Config{Open: c.Open}).place(k)
	if err != nil {
		return nil, err
	}
	h := &history{queues: []virtual.QueueRef{{Name: "a", Incarnation: "1"}, {Name: "b", Incarnation: "1"}}}
	var ps []*historian
	for i := range c.Processes {
		s, err := open()
		if err != nil {
			return nil, err
		}
		k.Cleanup(func() { _ = virtual.Close(s) })
		ps = append(ps, &historian{history: h, ctx: ctx, s: s, id: i, r: rand.New(rand.NewPCG(seed, uint64(i)))})
	}
	h.traits = virtual.TraitsOf(ps[0].s)
	h.lease = time.Hour
	if h.traits.LeaseMax > 0 {
		h.lease = min(h.lease, h.traits.LeaseMax)
	}
	if n, ok := virtual.As[virtual.Namespace](ps[0].s); ok {
		for _, q := range h.queues {
			if err := n.Create(ctx, q); err != nil {
				return nil, err
			}
		}
	}
	for done := 0; done < c.Operations; done += historyRound {
		var wg sync.WaitGroup
		for _, p := range ps {
			wg.Go(func() {
				for range min(historyRound, c.Operations-done) {
					p.step()
				}
			})
		}
		wg.Wait()
		ps[0].look()
	}
	return h, h.err
}

// historian is a process that makes its part of a history.
type historian struct {
	*history
	ctx   context.Context
	s     virtual.Store
	id    int
	r     *rand.Rand
	n     int // messages put
	held  []holding
	acked []holding // some of those it has acked
}

// holding is a taking.
type holding struct {
	virtual.Taken
	taking int // its number in the history
	queue  int
}

func (p *historian) step() {
	q := p.r.IntN(len(p.queues))
	switch n := p.r.IntN(100); {
	case n < 30:
		p.put(q)
	case n < 60:
		p.get(q, 1+p.r.IntN(3))
	case n < 94:
		p.settle()
	case n < 96:
		p.purge(q)
	default:
		p.size(q)
	}
}

// call runs f, notes what it says as one operation for each item, and when it began and ended.
func (p *historian) call(exclusive bool, inputs []historyInput, f func() []historyOutput) {
	if exclusive {
		p.alone.Lock()
		defer p.alone.Unlock()
	} else {
		p.alone.RLock()
		defer p.alone.RUnlock()
	}
	began := p.clock.Add(1)
	p.yield()
	outputs := f()
	p.yield()
	ended := p.clock.Add(1)
	p.mu.Lock()
	defer p.mu.Unlock()
	for i := range outputs {
		p.operations = append(p.operations, porcupine.Operation{
			ClientId: p.id, Input: inputs[i], Call: began, Output: outputs[i], Return: ended,
		})
	}
}

// yield lets others come in between, now and then: a store in the process is too quick for that to happen by itself.
func (p *historian) yield() {
	if p.r.IntN(2) == 0 {
		runtime.Gosched()
	}
}

// failed notes an error that is not one of the contract's.
func (p *historian) failed(what string, err error) {
	p.mu.Lock()
	p.err = errors.Join(p.err, fmt.Errorf("%s: %w", what, err))
	p.mu.Unlock()
}

func (p *historian) put(q int) {
	var inputs []historyInput
	var messages []*virtual.Message
	after := -1
	for range 1 + p.r.IntN(2) {
		p.n++
		number := p.id<<16 | p.n
		m := &virtual.Message{Queue: p.queues[q], Payload: virtual.Bytes(fmt.Sprint(number))}
		for i := range m.ID {
			m.ID[i] = byte(p.r.Uint32())
		}
		if p.traits.LeaseAtPut {
			m.Lease = p.lease
		}
		messages = append(messages, m)
		inputs = append(inputs, historyInput{op: historyPut, queue: q, message: number, after: after})
		after = number
	}
	p.call(false, inputs, func() []historyOutput {
		if err := p.s.Put(p.ctx, virtual.PutRequest{Messages: messages}); err != nil {
			p.failed("Put", err)
		}
		return make([]historyOutput, len(inputs))
	})
}

// look takes all that is ready, and returns it.
func (p *historian) look() {
	most := 100
	if p.traits.MaxBatch > 0 {
		most = min(most, p.traits.MaxBatch)
	}
	for q := range p.queues {
		before := len(p.held)
		p.get(q, most)
		took := slices.Clone(p.held[before:])
		p.held = p.held[:before]
		p.answer(took, func() virtual.Kind { return virtual.Return })
	}
}

func (p *historian) get(q, most int) {
	in := historyInput{op: historyGet, queue: q, most: most}
	p.call(false, []historyInput{in}, func() []historyOutput {
		ts, _, err := p.s.Get(p.ctx, virtual.GetRequest{Queue: p.queues[q], Max: most, Lease: p.lease, Need: virtual.NeedAttempt}, nil)
		if err != nil {
			p.failed("Get", err)
		}
		var out historyOutput
		for _, t := range ts {
			h := holding{Taken: t, taking: int(p.clock.Add(1)), queue: q}
			p.held = append(p.held, h)
			out.taken = append(out.taken, historyTaken{numberOf(t), h.taking, t.Attempt})
		}
		return []historyOutput{out}
	})
}

// numberOf is the number of a message; -1 for one that nobody has put.
func numberOf(t virtual.Taken) int {
	number := -1
	_, _ = fmt.Sscan(string(t.Payload.Bytes()), &number)
	return number
}

// settle answers a message or two of one queue, or one that it has acked before.
func (p *historian) settle() {
	var one []holding
	if len(p.acked) > 0 && p.r.IntN(8) == 0 {
		one = []holding{p.acked[p.r.IntN(len(p.acked))]}
	}
	for range 1 + p.r.IntN(2) {
		if len(one) > 0 && len(p.acked) > 0 && one[0].taking == p.acked[len(p.acked)-1].taking || len(p.held) == 0 {
			break
		}
		i := p.r.IntN(len(p.held))
		if len(one) > 0 && p.held[i].queue != one[0].queue {
			break
		}
		one = append(one, p.held[i])
		p.held = append(p.held[:i], p.held[i+1:]...)
	}
	p.answer(one, func() virtual.Kind {
		return [...]virtual.Kind{virtual.Ack, virtual.Ack, virtual.Requeue, virtual.Return}[p.r.IntN(4)]
	})
}

// answer settles takings of one queue.
func (p *historian) answer(all []holding, choose func() virtual.Kind) {
	if len(all) == 0 {
		return
	}
	var inputs []historyInput
	var settle []virtual.Settlement
	for _, h := range all {
		kind := choose()
		settle = append(settle, answer(h.Taken, kind, 0))
		inputs = append(inputs, historyInput{op: historySettle, queue: h.queue, message: numberOf(h.Taken), taking: h.taking, kind: kind})
		if kind == virtual.Ack {
			p.acked = append(p.acked, h)
		}
	}
	p.call(false, inputs, func() []historyOutput {
		err := p.s.Settle(p.ctx, settle)
		outputs := make([]historyOutput, len(inputs))
		for i := range outputs {
			switch item := virtual.ItemErr(err, i); {
			case errors.Is(item, virtual.ErrStale):
				outputs[i].stale = true
			case item != nil:
				p.failed("Settle", item)
			}
		}
		return outputs
	})
}

func (p *historian) purge(q int) {
	p.call(true, []historyInput{{op: historyPurge, queue: q}}, func() []historyOutput {
		n, err := p.s.Purge(p.ctx, p.queues[q])
		if err != nil {
			p.failed("Purge", err)
		}
		return []historyOutput{{n: n}}
	})
}

func (p *historian) size(q int) {
	p.call(true, []historyInput{{op: historySize, queue: q}}, func() []historyOutput {
		n, err := p.s.Size(p.ctx, p.queues[q])
		if err != nil {
			p.failed("Size", err)
		}
		return []historyOutput{{n: n}}
	})
}

var (
	errIllegal   = errors.New("the history is not linearizable")
	errUndecided = errors.New("it takes too long to find out whether the history is linearizable")
)

// verdict says why the history cannot be that of a queue.
func (h *history) verdict() error {
	h.markAlone()
	switch porcupine.CheckOperationsTimeout(historyModel(h.traits), h.operations, 5*time.Second) {
	case porcupine.Illegal:
		return errIllegal
	case porcupine.Unknown:
		return errUndecided
	}
	return nil
}

// page writes a page that shows the history, and returns where.
func (h *history) page() string {
	m := historyModel(h.traits)
	_, info := porcupine.CheckOperationsVerbose(m, h.operations, 10*time.Second)
	f, err := os.CreateTemp("", "history-*.html")
	if err != nil {
		return err.Error()
	}
	defer f.Close()
	if err := porcupine.Visualize(m, info, f); err != nil {
		return err.Error()
	}
	return f.Name()
}

// overlaps counts the operations that began before the one before them had ended.
func (h *history) overlaps() (n int) {
	all := slices.SortedFunc(slices.Values(h.operations), func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	ended, call := int64(0), int64(0)
	for _, o := range all {
		if o.Call < ended && o.Call != call { // items of one call do not count
			n++
		}
		ended, call = max(ended, o.Return), o.Call
	}
	return n
}

// markAlone marks the Gets that no other one of their queue overlaps: only those have to take all they can.
func (h *history) markAlone() {
	for i := range h.operations {
		in := h.operations[i].Input.(historyInput)
		in.alone = true
		for j := range h.operations {
			other := &h.operations[j]
			o := other.Input.(historyInput)
			if i != j && o.op == historyGet && o.queue == in.queue && other.Call < h.operations[i].Return && h.operations[i].Call < other.Return {
				in.alone = false
			}
		}
		h.operations[i].Input = in
	}
}
