package redis

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Put appends messages.
func (s *Store) Put(ctx context.Context, r virtual.PutRequest) error {
	_, err := s.PutBounded(ctx, r, nil, nil)
	return err
}

// PutBounded appends messages under limits.
func (s *Store) PutBounded(ctx context.Context, r virtual.PutRequest, limits []virtual.Limit, evicted []virtual.Taken) ([]virtual.Taken, error) {
	if err := checkSizes(r.Messages); err != nil {
		return evicted, err
	}
	if s.spread() {
		r.Guard = nil // a trait it does not have
	}
	parts, calls := s.split(newPut(&r, limits, len(limits) > 0 && len(r.Messages) == 0))
	answers, err := s.runAll(ctx, calls)
	for i := range parts {
		parts[i].free()
	}
	if err != nil {
		return evicted, err
	}
	return merge(parts, answers, evicted)
}

// split parts a request by where its queues are, each part with a mark of its own under the producer's name and the request's
// sequence: what is said again after an error is done where it was not, and answered by the mark where it was.
func (s *Store) split(p *put) (parts []put, calls []call) {
	in, groups := byPart(s, p.groups, func(g *putGroup) virtual.QueueRef { return g.ref })
	if len(in) == 0 {
		in, groups = []int{0}, [][]putGroup{nil} // nothing is put, and that is what the mark says
	}
	for i := range in {
		part := put{r: p.r, groups: groups[i]}
		calls = append(calls, call{putScript, s.parts[in[i]], part.args()})
		parts = append(parts, part)
	}
	return parts, calls
}

// merge puts together what became of the parts of a request. Items are numbered as in the whole.
func merge(parts []put, answers [][]any, evicted []virtual.Taken) ([]virtual.Taken, error) {
	out := evicted
	var failed *virtual.BatchError
	for i := range parts {
		var err error
		out, err = parts[i].outcome(answers[i], out, nil)
		batch, isBatch := errors.AsType[*virtual.BatchError](err)
		switch {
		case isBatch && failed == nil:
			failed = batch
		case isBatch:
			failed.Items = append(failed.Items, batch.Items...)
		case err != nil:
			return evicted, err
		}
	}
	return out, sorted(failed).Or()
}

// Apply puts and settles in one step, or does nothing. It is an error where the queues are in several slots: see Offers.
func (s *Store) Apply(ctx context.Context, r virtual.ApplyRequest, evicted []virtual.Taken) ([]virtual.Taken, error) {
	if s.spread() {
		return evicted, errors.ErrUnsupported
	}
	if err := checkSizes(r.Messages); err != nil {
		return evicted, err
	}
	p := newPut(&r.PutRequest, r.Limits, false)
	answers, foreign := group(r.Settlements)
	if len(foreign) > 0 { // receipts of another store: nothing can be done
		var failed *virtual.BatchError
		for _, i := range foreign {
			failed = failed.Add(len(r.Messages)+i, virtual.ErrStale)
		}
		return evicted, failed.Or()
	}
	a := append(p.head(arguments(0)), len(answers.groups))
	a = append(answers.args(a), len(p.groups))
	answer, err := s.make(ctx, &call{applyScript, s.home, p.body(a)}).Slice()
	p.free()
	if err != nil {
		return evicted, err
	}
	return p.outcome(answer, evicted, answers.order())
}

// margin is more than what is stored beside the body of a message.
const margin = 16 << 20

// checkSizes refuses what Redis would, before anything is stored.
func checkSizes(ms []*virtual.Message) error {
	var failed *virtual.BatchError
	for i, m := range ms {
		if m.Payload.Size() > largest-margin && (m.Payload.Size() > largest || len(m.Payload.Bytes()) > largest) {
			failed = failed.Add(i, fmt.Errorf("%w: Redis takes %d bytes", virtual.ErrTooLarge, largest))
		}
	}
	return failed.Or()
}

// usual is for how many items of a queue there is room at once: no more, since a request may name ten thousand queues.
const usual = 128

// put is a request in the order in which the script reads it: by queue.
type put struct {
	r      *virtual.PutRequest
	groups []putGroup
	buf    *[]byte // of body
}

// putGroup is what a request has for one queue.
type putGroup struct {
	ref   virtual.QueueRef
	items []int // of the request
	limit *virtual.Limit
	whole bool // they have priorities or delays
	ttls  bool
}

// newPut groups the messages by queue. trims says that limits without messages are kept as well.
func newPut(r *virtual.PutRequest, limits []virtual.Limit, trims bool) *put {
	p := &put{r: r}
	at := 0
	for i, m := range r.Messages {
		if len(p.groups) == 0 || p.groups[at].ref != m.Queue {
			at = p.group(m.Queue)
		}
		g := &p.groups[at]
		if g.items == nil {
			g.items = make([]int, 0, min(len(r.Messages)-i, usual))
		}
		g.items = append(g.items, i)
		g.whole = g.whole || m.Priority > 0 || m.Delay > 0
		g.ttls = g.ttls || m.TTL != 0
	}
	for i := range limits {
		if trims {
			p.groups[p.group(limits[i].Queue)].limit = &limits[i]
			continue
		}
		if at := slices.IndexFunc(p.groups, func(g putGroup) bool { return g.ref == limits[i].Queue }); at >= 0 {
			p.groups[at].limit = &limits[i]
		}
	}
	return p
}

func (p *put) group(ref virtual.QueueRef) int {
	at := slices.IndexFunc(p.groups, func(g putGroup) bool { return g.ref == ref })
	if at < 0 {
		at = len(p.groups)
		p.groups = append(p.groups, putGroup{ref: ref})
	}
	return at
}

// args are those of a Put.
func (p *put) args() []any {
	size := 8 + 2*len(p.r.Guard) + 8*len(p.groups)
	for i := range p.groups {
		size += 4 * len(p.groups[i].items)
	}
	a := p.head(arguments(size))
	return p.body(append(a, len(p.groups)))
}

// head appends the producer and the guard.
func (p *put) head(a []any) []any {
	a = append(a, p.r.Producer, strconv.FormatUint(p.r.Sequence, 10), len(p.r.Guard))
	for _, g := range p.r.Guard {
		a = append(a, g.Key, strconv.FormatUint(g.Rev, 10))
	}
	return a
}

// body appends the groups with their messages, whose values lie in memory that free gives back.
func (p *put) body(a []any) []any {
	n := 0
	for i := range p.groups {
		n += len(p.groups[i].items)
	}
	values := make([]value, 0, n)
	p.buf = buffers.Get().(*[]byte)
	buf := (*p.buf)[:0]
	var end tails
	for i := range p.groups {
		g := &p.groups[i]
		a = append(a, id(g.ref), len(g.items), g.whole, g.ttls)
		a = limitArgs(a, g.limit)
		for _, item := range g.items {
			m := p.r.Messages[item]
			begin := len(buf)
			buf = virtual.AppendPayload(append(buf, m.ID[:]...), m.Payload)
			values = append(values, buf[begin:len(buf):len(buf)]) // in place, even if buf moves on later
			a = append(a, end.of(m), &values[len(values)-1])
			if g.whole {
				a = append(a, int(m.Priority), micros(max(0, m.Delay)))
			}
		}
	}
	*p.buf = buf
	return a
}

// buffers are for what is sent: as large as what is stored, and needed no longer than a call takes.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

// enough is how large a buffer is kept.
const enough = 1 << 20

// free ends the use of what body has made.
func (p *put) free() {
	if p.buf != nil && cap(*p.buf) <= enough {
		buffers.Put(p.buf)
	}
	p.buf = nil
}

// value is what is stored of a message: its ID and its payload. go-redis writes a pointer to one without an allocation.
type value []byte

// MarshalBinary returns v itself.
func (v *value) MarshalBinary() ([]byte, error) { return *v, nil }

// tails makes the ends of messages' members, mostly equal ones.
type tails struct {
	size int
	ttl  time.Duration
	is   any // a string, made once; nil at first
}

func (t *tails) of(m *virtual.Message) any {
	if size := m.Payload.Size(); t.is == nil || t.size != size || t.ttl != m.TTL {
		t.size, t.ttl = size, m.TTL
		t.is = tail(size, m.TTL)
	}
	return t.is
}

// limitArgs appends a limit: length, bytes, whether it refuses, the lease of what it evicts. -1 is none.
func limitArgs(a []any, l *virtual.Limit) []any {
	if l == nil {
		return append(a, -1, -1, false, -1)
	}
	lease := int64(-1)
	if l.Holder != "" {
		lease = micros(l.Lease)
	}
	return append(a, max(-1, l.MaxLen), max(-1, l.MaxBytes), l.Reject, lease)
}

// outcome reads the answer { error, … } or { "", failed, evicted, clock }. Settlements stand behind the messages.
func (p *put) outcome(answer []any, evicted []virtual.Taken, settlements []int) ([]virtual.Taken, error) {
	switch text(answer[0]) {
	case "behind":
		return evicted, virtual.ErrSequence
	case "guard":
		return evicted, &virtual.GuardError{Differ: revisions(answer[1])}
	}
	if len(answer) < 4 {
		return evicted, nil
	}
	var order []int // of the items as the script counts them
	for _, g := range p.groups {
		order = append(order, g.items...)
	}
	for _, i := range settlements {
		order = append(order, len(p.r.Messages)+i)
	}
	failed := itemErrors(list(answer[1]), order)
	d := decoder{now: number(answer[3])}
	for _, b := range list(answer[2]) {
		var err error
		if evicted, err = d.bundle(b, evicted); err != nil {
			return evicted, err
		}
	}
	return evicted, failed.Or()
}

// itemErrors reads item, reason, ….
func itemErrors(flat []any, order []int) *virtual.BatchError {
	var failed *virtual.BatchError
	for i := 0; i+1 < len(flat); i += 2 {
		err := virtual.ErrStale
		switch text(flat[i+1]) {
		case "gone":
			err = virtual.ErrNoQueue
		case "full":
			err = virtual.ErrFull
		}
		failed = failed.Add(order[number(flat[i])], err)
	}
	return sorted(failed)
}

func sorted(b *virtual.BatchError) *virtual.BatchError {
	if b != nil {
		slices.SortFunc(b.Items, func(x, y virtual.ItemError) int { return cmp.Compare(x.Index, y.Index) })
	}
	return b
}

// revisions reads record, revision, ….
func revisions(v any) []virtual.Revision {
	var rs []virtual.Revision
	flat := list(v)
	for i := 0; i+1 < len(flat); i += 2 {
		rev, _ := strconv.ParseUint(text(flat[i+1]), 10, 64)
		rs = append(rs, virtual.Revision{Key: text(flat[i]), Rev: rev})
	}
	return rs
}
