package sql

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Settle ends or changes leases.
func (s *Store) Settle(ctx context.Context, all []virtual.Settlement) error {
	return s.do(ctx, func(t *tx) error {
		failed, err := t.settle(all)
		if err != nil {
			return err
		}
		return failed.Or()
	})
}

// settle answers takings in their order. Acks that follow each other go in one statement for each run of places.
func (t *tx) settle(all []virtual.Settlement) (*virtual.BatchError, error) {
	s := &settling{tx: t}
	for i := range all {
		st := &all[i]
		if s.q == nil || s.q.ref != st.Queue {
			if err := s.turn(st.Queue); err != nil {
				return nil, err
			}
			if err := s.learn(all[i:]); err != nil {
				return nil, err
			}
		}
		r, ours := st.Receipt.(receipt)
		if !ours || s.q == nil || r.queue != s.q.id {
			s.stale = append(s.stale, i)
			continue
		}
		if err := s.one(i, st, r); err != nil {
			return nil, err
		}
	}
	if err := s.remove(); err != nil {
		return nil, err
	}
	slices.Sort(s.stale)
	var failed *virtual.BatchError
	for _, i := range s.stale {
		failed = failed.Add(i, virtual.ErrStale)
	}
	return failed, nil
}

// settling is a Settle in its transaction.
type settling struct {
	*tx
	q      *queue
	ranges []*held
	known  map[int64]exception // all exceptions from first to last; nil: not known
	first  int64
	last   int64
	acks   []ack
	stale  []int
}

// exception is what a row of dashi_exception says of a taking.
type exception struct {
	state, holder  string
	take, attempts int64
}

// held is what a Take has of a level: the row of dashi_take.
type held struct {
	holder            string
	take              uint64
	first, last, held int64
}

func (h *held) has(r receipt) bool {
	return h.holder == r.holder && h.take == r.take && h.first <= r.place && r.place <= h.last
}

// ack is a message that goes.
type ack struct {
	item  int
	place int64
	in    *held // nil: it is an exception
}

// turn goes on with another queue.
func (s *settling) turn(ref virtual.QueueRef) (err error) {
	if err := s.remove(); err != nil {
		return err
	}
	s.ranges, s.known = nil, nil
	s.q, err = s.load(ref)
	return err
}

// near is how far apart the places may be of which all exceptions are read at once.
const near = 4096

const selectExceptions = "SELECT place, state, holder, take, attempts FROM dashi_exception WHERE queue = ? AND place BETWEEN ? AND ?"

// learn reads the exceptions among the next Acks of the queue at once, where they stand close together.
func (s *settling) learn(next []virtual.Settlement) error {
	if s.q == nil || s.q.exceptions == 0 {
		return nil
	}
	n := 0
	for i := range next {
		r, ours := next[i].Receipt.(receipt)
		if next[i].Queue != s.q.ref || next[i].Kind != virtual.Ack || !ours {
			break
		}
		if n++; n == 1 {
			s.first, s.last = r.place, r.place
		}
		s.first, s.last = min(s.first, r.place), max(s.last, r.place)
	}
	if n < 2 || s.last-s.first > near {
		return nil
	}
	s.known = map[int64]exception{}
	return s.Query(selectExceptions, func(r Row) bool {
		s.known[r.Int(0)] = exception{r.Text(1), r.Text(2), r.Int(3), r.Int(4)}
		return true
	}, s.q.id, s.first, s.last)
}

// exception returns that of a place, if there is one.
func (s *settling) exception(place int64) (x exception, found bool, err error) {
	if s.known != nil && s.first <= place && place <= s.last {
		x, found = s.known[place]
		return x, found, nil
	}
	err = s.Query(selectExceptions, func(r Row) bool {
		x, found = exception{r.Text(1), r.Text(2), r.Int(3), r.Int(4)}, true
		return true
	}, s.q.id, place, place)
	return x, found, err
}

// one answers one taking.
func (s *settling) one(i int, st *virtual.Settlement, r receipt) error {
	q := s.q
	if st.Kind != virtual.Ack {
		if err := s.remove(); err != nil {
			return err
		}
		s.ranges, s.known = nil, nil // leases may end now
		if err := s.sweep(q); err != nil {
			return err
		}
	}
	v, err := s.valid(r)
	if err != nil {
		return err
	}
	if !v.good {
		s.stale = append(s.stale, i)
		return nil
	}
	if st.Kind == virtual.Ack {
		s.acks = append(s.acks, ack{i, r.place, v.in})
		return nil
	}
	size, there, err := s.size(r.place)
	if err != nil {
		return err
	}
	if !there {
		s.stale = append(s.stale, i)
		return nil
	}
	if st.Kind == virtual.Extend {
		return s.extend(r, micros(st.For))
	}
	return s.bring(r, v, st, size)
}

// validity is what is found of a receipt.
type validity struct {
	good     bool
	in       *held // it is a member of this; nil: an exception
	attempts int64
}

// valid tells whether a receipt is that of the present taking.
func (s *settling) valid(r receipt) (v validity, err error) {
	if s.q.exceptions > 0 {
		x, found, err := s.exception(r.place)
		if found || err != nil {
			want := "held"
			if r.holder == "" {
				want = "leased"
			}
			v.good = x.state == want && x.holder == r.holder && uint64(x.take) == r.take
			v.attempts = x.attempts
			return v, err
		}
	}
	if r.holder == "" {
		return v, nil
	}
	v.in, err = s.member(r)
	v.good = v.in != nil
	return v, err
}

const selectRange = `SELECT first, last, held FROM dashi_take WHERE queue = ? AND holder = ? AND take = ? AND first <= ? ORDER BY first DESC LIMIT 1`

// member returns what a receipt's message is a member of, or nil.
func (s *settling) member(r receipt) (*held, error) {
	for _, h := range s.ranges {
		if h.has(r) {
			return h, nil
		}
	}
	var h *held
	err := s.Query(selectRange, func(row Row) bool {
		h = &held{r.holder, r.take, row.Int(0), row.Int(1), row.Int(2)}
		return true
	}, s.q.id, r.holder, int64(r.take), r.place)
	if err != nil || h == nil || !h.has(r) {
		return nil, err
	}
	s.ranges = append(s.ranges, h)
	return h, nil
}

// size returns that of a message, if it is there.
func (s *settling) size(place int64) (n int64, there bool, err error) {
	err = s.Query("SELECT size FROM dashi_message WHERE queue = ? AND place = ?", func(r Row) bool {
		n, there = r.Int(0), true
		return true
	}, s.q.id, place)
	return n, there, err
}

// remove removes the messages that were acked.
func (s *settling) remove() error {
	if len(s.acks) == 0 {
		return nil
	}
	slices.SortFunc(s.acks, func(a, b ack) int { return cmp.Or(cmp.Compare(a.place, b.place), cmp.Compare(a.item, b.item)) })
	for i := 0; i < len(s.acks); {
		a := s.acks[i]
		last := a.place
		k := i + 1
		for ; k < len(s.acks) && s.acks[k].in == a.in; k++ {
			if s.acks[k].place == last {
				s.stale = append(s.stale, s.acks[k].item) // said twice
			} else if s.acks[k].place == last+1 && a.in != nil {
				last++
			} else {
				break
			}
		}
		n, err := s.Exec(deleteMessages, s.q.id, a.place, last)
		if err != nil {
			return err
		}
		if a.in == nil {
			err = s.forget(s.q, a.place)
		} else {
			err = s.lessen(a.in, n)
		}
		if err != nil {
			return err
		}
		i = k
	}
	s.acks = s.acks[:0]
	return nil
}

// lessen takes n members out of a Take.
func (s *settling) lessen(h *held, n int64) error {
	if n == 0 {
		return nil
	}
	h.held -= n
	what, args := "UPDATE dashi_take SET held = held - ? WHERE queue = ? AND holder = ? AND take = ? AND first = ?", []any{n}
	if h.held <= 0 {
		what, args = "DELETE FROM dashi_take WHERE queue = ? AND holder = ? AND take = ? AND first = ?", nil
		s.ranges = slices.DeleteFunc(s.ranges, func(x *held) bool { return x == h })
	}
	_, err := s.Exec(what, append(args, s.q.id, h.holder, int64(h.take), h.first)...)
	return err
}

func (s *settling) extend(r receipt, lease int64) error {
	if r.holder != "" {
		_, err := s.Exec("UPDATE dashi_holder SET ends = ? WHERE queue = ? AND holder = ? AND ends < ? AND idle = 0", s.now+lease, s.q.id, r.holder, s.now+lease)
		return err
	}
	_, err := s.Exec("UPDATE dashi_exception SET due = ? WHERE queue = ? AND place = ?", s.now+lease, s.q.id, r.place)
	s.schedule(s.q, s.now+lease)
	return err
}

// bring makes a message ready again, at once or later.
func (s *settling) bring(r receipt, v validity, st *virtual.Settlement, size int64) error {
	q := s.q
	if st.Kind == virtual.Requeue {
		v.attempts++
	}
	state, due := "ready", never
	if st.For > 0 {
		state, due = "delayed", s.now+micros(st.For)
		s.schedule(q, due)
	} else {
		s.touch(q)
		q.ready, q.returned, q.bytes = q.ready+1, q.returned+1, q.bytes+size
	}
	var err error
	if v.in == nil {
		err = s.change(q, r.place, state, v.attempts, due, "", 0)
	} else if err = s.except(q, r.place, state, v.attempts, due, "", 0); err == nil {
		err = s.lessen(v.in, 1)
	}
	if err != nil || due != never {
		return err
	}
	s.wake(q, "")
	return s.noteHead(q)
}

// Renew extends a holder's leases.
func (s *Store) Renew(ctx context.Context, holder string, queues []virtual.QueueRef, d time.Duration) (lost []virtual.QueueRef, err error) {
	err = s.do(ctx, func(t *tx) error {
		lost = nil
		for _, ref := range queues {
			known, err := t.renew(ref, holder, micros(d))
			if err != nil {
				return err
			}
			if !known {
				lost = append(lost, ref)
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return lost, nil
}

func (t *tx) renew(ref virtual.QueueRef, holder string, lease int64) (known bool, err error) {
	q, err := t.load(ref)
	if err != nil || q == nil {
		return false, err
	}
	if err := t.sweep(q); err != nil {
		return false, err
	}
	ends, idle := int64(0), false
	err = t.Query(selectHolder, func(r Row) bool {
		ends, idle, known = r.Int(2), r.Int(3) != 0, r[4] == nil
		return true
	}, q.id, holder)
	if err != nil || !known || idle || ends >= t.now+lease {
		return known, err
	}
	_, err = t.Exec("UPDATE dashi_holder SET ends = ? WHERE queue = ? AND holder = ?", t.now+lease, q.id, holder)
	return known, err
}
