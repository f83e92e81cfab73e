package memory

import (
	"container/heap"
	"maps"
	"math"

	"github.com/dashi-mq/dashi/virtual"
)

// never is a time that does not come.
const never int64 = math.MaxInt64

type state uint8

const (
	ready    state = iota // in its level's list
	returned              // ready, in the heap of those that came back
	delayed               // in the heap of those not yet due
	held                  // lent to a holder, or by itself
	gone                  // in no queue
)

// entry is a message in a queue.
type entry struct {
	msg     *virtual.Message
	seq     uint64 // place of Put
	put     int64
	due     int64 // of a delayed entry; the end of a lease without a holder
	attempt int32
	index   int32 // in a heap
	level   uint8
	state   state
	take    uint64 // of the holder

	holder     *holder
	prev, next *entry // in the holder's list, in order of taking; next also among the ready, and the free

	lease *lease // the present taking: what a valid receipt points to
}

// lease is a receipt: it names one taking of one entry. It is never used again, while entries are.
type lease struct{ e *entry }

// free holds entries that are used again, since a message comes and goes with nearly every one that goes and comes. It
// serves all queues of a place.
type free struct {
	head   *entry
	n      int
	leases []lease // not yet used
}

const (
	maxFree    = 16384 // entries kept
	leaseBlock = 64    // leases made at a time: a receipt that is kept keeps that many
)

func (f *free) entry() *entry {
	e := f.head
	if e == nil {
		return new(entry)
	}
	f.head, e.next = e.next, nil
	f.n--
	return e
}

// put takes an entry that nothing but leases points to any more, and to which none is good from now on.
func (f *free) put(e *entry) {
	*e = entry{state: gone}
	if f.n >= maxFree {
		return
	}
	f.head, e.next = e, f.head
	f.n++
}

func (f *free) lease(e *entry) *lease {
	if len(f.leases) == 0 {
		f.leases = make([]lease, leaseBlock)
	}
	l := &f.leases[0]
	f.leases = f.leases[1:]
	l.e = e
	return l
}

// holder is one lease over many entries of a queue.
type holder struct {
	name     string
	deadline int64
	take     uint64 // last Take seen
	closed   uint64 // last Take said again: its original takes nothing, even if it waits
	n        int
	head     *entry
	tail     *entry
	used     int64
}

func (h *holder) add(e *entry) {
	e.holder, e.prev, e.next = h, h.tail, nil
	if h.tail != nil {
		h.tail.next = e
	} else {
		h.head = e
	}
	h.tail = e
	h.n++
}

func (h *holder) remove(e *entry) {
	if e.prev != nil {
		e.prev.next = e.next
	} else {
		h.head = e.next
	}
	if e.next != nil {
		e.next.prev = e.prev
	} else {
		h.tail = e.prev
	}
	e.holder, e.prev, e.next = nil, nil, nil
	h.n--
}

// fifo is a list of ready entries, linked by next.
type fifo struct{ head, tail *entry }

func (f *fifo) push(e *entry) {
	if f.head == nil {
		f.head = e
	} else {
		f.tail.next = e
	}
	f.tail = e
}

func (f *fifo) pop() {
	e := f.head
	f.head, e.next = e.next, nil
	if f.head == nil {
		f.tail = nil
	}
}

// byPlace orders entries by priority, then by place of Put.
type byPlace []*entry

func before(a, b *entry) bool {
	if a.level != b.level {
		return a.level > b.level
	}
	return a.seq < b.seq
}

func (h byPlace) Len() int           { return len(h) }
func (h byPlace) Less(i, j int) bool { return before(h[i], h[j]) }
func (h byPlace) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *byPlace) Push(x any)        { *h = append(*h, x.(*entry)) }
func (h *byPlace) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// byTime orders entries by what they have due, and knows where each stands.
type byTime struct{ es []*entry }

func (h byTime) Len() int           { return len(h.es) }
func (h byTime) Less(i, j int) bool { return h.es[i].due < h.es[j].due }
func (h byTime) Swap(i, j int) {
	h.es[i], h.es[j] = h.es[j], h.es[i]
	h.es[i].index, h.es[j].index = int32(i), int32(j)
}
func (h *byTime) Push(x any) { e := x.(*entry); e.index = int32(len(h.es)); h.es = append(h.es, e) }
func (h *byTime) Pop() any {
	e := h.es[len(h.es)-1]
	h.es[len(h.es)-1] = nil
	h.es = h.es[:len(h.es)-1]
	return e
}

func (h byTime) next() int64 {
	if len(h.es) == 0 {
		return never
	}
	return h.es[0].due
}

// queue is one incarnation of a queue.
type queue struct {
	p     *Place
	ref   virtual.QueueRef
	gone  bool
	seq   uint64
	fence uint64

	levels   []fifo // ready, in order of Put, by priority
	back     byPlace
	nready   int
	bytes    int
	delayed  byTime
	loose    byTime // leases without a holder
	holders  map[string]*holder
	lost     map[string]int64 // holders that were, and when they lost their lease
	waiting  []waiting
	getters  []*getter      // Gets that wait
	slots    [2]slot        // in the place's timelines
	limit    *virtual.Limit // of the present request
	ttls     bool           // a message with a TTL has been here
	sweepDue int64          // nothing to sweep before
	rewake   int64          // when what was left for others is anybody's
}

func newQueue(p *Place, ref virtual.QueueRef) *queue {
	return &queue{p: p, ref: ref, levels: make([]fifo, 1), slots: [2]slot{{at: never}, {at: never}}, sweepDue: never, rewake: never}
}

// append stores a message at the end.
func (q *queue) append(m *virtual.Message, now int64) *entry {
	e := q.p.free.entry()
	q.seq++
	e.msg, e.seq, e.put, e.level = m, q.seq, now, m.Priority
	if m.TTL != 0 {
		q.ttls = true
	}
	if m.Delay > 0 {
		e.state, e.due = delayed, now+int64(m.Delay)
		heap.Push(&q.delayed, e)
		q.schedule(e.due)
		return e
	}
	for int(e.level) >= len(q.levels) {
		q.levels = append(q.levels, fifo{})
	}
	e.state = ready
	q.levels[e.level].push(e)
	q.nready++
	q.bytes += m.Payload.Size()
	return e
}

// putBack makes a held or delayed entry ready at its old place.
func (q *queue) putBack(e *entry) {
	e.state, e.lease = returned, nil
	heap.Push(&q.back, e)
	q.nready++
	q.bytes += e.msg.Payload.Size()
}

// head returns the entry a Get would take next, or nil.
func (q *queue) head() *entry {
	var best *entry
	for l := len(q.levels) - 1; l >= 0; l-- {
		if best = q.levels[l].head; best != nil {
			break
		}
	}
	if len(q.back) > 0 && (best == nil || before(q.back[0], best)) {
		best = q.back[0]
	}
	return best
}

// unready takes an entry that head returned out of the ready ones.
func (q *queue) unready(e *entry) {
	if e.state == returned {
		heap.Pop(&q.back)
	} else {
		q.levels[e.level].pop()
	}
	q.nready--
	q.bytes -= e.msg.Payload.Size()
}

// lend marks an entry as taken and returns what the taker sees.
func (q *queue) lend(e *entry, now int64) virtual.Taken {
	e.attempt++
	e.state = held
	e.lease = q.p.free.lease(e)
	return q.taken(e, now)
}

func (q *queue) taken(e *entry, now int64) virtual.Taken {
	t := virtual.Taken{Message: e.msg, Attempt: int(e.attempt), Age: duration(now - e.put)}
	if e.lease != nil {
		t.Receipt = e.lease
	}
	return t
}

// lendLoose lends an entry by itself.
func (q *queue) lendLoose(e *entry, now, lease int64) virtual.Taken {
	t := q.lend(e, now)
	e.due = now + lease
	heap.Push(&q.loose, e)
	q.schedule(e.due)
	return t
}

// release takes a held entry from whoever holds it.
func (q *queue) release(e *entry) {
	if e.holder != nil {
		e.holder.remove(e)
	} else {
		heap.Remove(&q.loose, int(e.index))
	}
}

func (q *queue) remove(e *entry) {
	q.release(e)
	q.p.free.put(e)
}

// sweep makes ready what is due: delays, and leases that ended.
func (q *queue) sweep(now int64, w *wakes) {
	if now < q.sweepDue {
		return
	}
	n := q.nready
	for q.delayed.next() <= now {
		q.putBack(heap.Pop(&q.delayed).(*entry))
	}
	for q.loose.next() <= now {
		q.putBack(heap.Pop(&q.loose).(*entry))
	}
	due := min(q.delayed.next(), q.loose.next())
	for name, h := range q.holders {
		switch {
		case h.n == 0 && now-h.used > forget:
			delete(q.holders, name)
		case h.n == 0:
		case h.deadline <= now:
			for h.head != nil {
				e := h.head
				h.remove(e)
				q.putBack(e)
			}
			delete(q.holders, name)
			q.lose(name, now)
		default:
			due = min(due, h.deadline)
		}
	}
	given := q.rewake <= now // up: those it was left for did not come
	if given {
		q.rewake = never
	}
	q.sweepDue = min(due, q.rewake)
	if q.nready > n || given && q.nready > 0 {
		q.wake(now, w)
	}
}

// lose remembers that the name of a holder is never to be used again.
func (q *queue) lose(name string, now int64) {
	if q.lost == nil {
		q.lost = map[string]int64{}
	}
	if len(q.lost) >= 1024 {
		maps.DeleteFunc(q.lost, func(_ string, at int64) bool { return now-at > forget })
	}
	q.lost[name] = now
}

// schedule notes that something becomes due at that time, and tells Gets that wait for longer.
func (q *queue) schedule(at int64) {
	if at < q.sweepDue {
		q.sweepDue = at
		q.wakeGetters()
	}
	q.p.schedule(&q.p.due, q, at)
}

// expiry returns when the head expires. A message on its way to a waiter is left alone for that long.
func (q *queue) expiry(now int64) int64 {
	e := q.head()
	if e == nil || e.msg.TTL == 0 {
		return never
	}
	return max(e.put+max(0, int64(e.msg.TTL)), q.owedUntil(now))
}

// noteHead has an expired head noticed in time, whatever became the head.
func (q *queue) noteHead(now int64) {
	if q.ttls {
		q.p.schedule(&q.p.expiring, q, q.expiry(now))
	}
}
