package registry

import (
	"cmp"
	"crypto/rand"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const (
	// minute is the step of the counter that tombstones are aged by.
	minute = time.Minute
	// forgetAfter is how many steps of it a tombstone stays.
	forgetAfter = 60
	// maxTombstones bounds how many stay: the oldest go first.
	maxTombstones = 10_000
	// maxAncestors is how many states back a state tells what is in it.
	maxAncestors = 16
	// mark begins the keys this package uses itself, in the records of others. "\x00name" says that a session has ended.
	mark = "\x00"
)

// record is the newest of one key: a value, or that it was deleted. It is immutable.
type record struct {
	key, value string
	session    string // the one it goes with; empty: it stays
	writer     string // whose Update it is
	rev        uint64
	prev       uint64 // the revision of the record it replaced: what its writer knew of
	attempt    uint64 // of the taking it was derived from: who took later has seen more
	minute     uint64 // of the state it was made in
	deleted    bool
	enc        string // all of this, encoded: states are put together from these
}

// beats is a total order on the records of one key, so that a merge comes out the same whoever does it.
func (r *record) beats(o *record) bool {
	return cmp.Or(cmp.Compare(r.rev, o.rev), cmp.Compare(r.attempt, o.attempt), strings.Compare(r.writer, o.writer), strings.Compare(r.enc, o.enc)) > 0
}

// blind tells whether r, which beats o, was written by somebody who had not seen o, and to another end.
func (r *record) blind(o *record) bool {
	same := r.deleted == o.deleted && r.value == o.value && r.session == o.session
	return o.rev > r.prev && !same && !strings.HasPrefix(r.key, mark)
}

// live returns the revision of a record that exists, else 0.
func live(r *record) uint64 {
	if r == nil || r.deleted {
		return 0
	}
	return r.rev
}

// state is everything that one message says. It is immutable, but for index.
type state struct {
	id        virtual.ID
	ancestors []virtual.ID // all of these are in it, the last first
	rev       uint64       // the highest
	floor     uint64       // who has seen less than this has to begin anew: tombstones are gone, or states were merged
	minute    uint64
	recs      []*record           // rising by revision
	ended     map[string]struct{} // the sessions marked as ended
	index     map[string]*record  // of recs; made when needed and used by the lane of its cell only
}

func newID() (id virtual.ID) {
	_, _ = rand.Read(id[:]) // never fails
	return id
}

// covers tells whether all of o is in s, as far as s can tell.
func (s *state) covers(o virtual.ID) bool { return s.id == o || slices.Contains(s.ancestors, o) }

func (s *state) byKey() map[string]*record {
	if s.index == nil {
		s.index = make(map[string]*record, len(s.recs))
		for _, r := range s.recs {
			s.index[r.key] = r
		}
	}
	return s.index
}

// setRecs gives a new state its records, and notes which of them are marks.
func (s *state) setRecs(recs []*record) {
	s.recs = recs
	for _, r := range recs {
		if r.deleted && strings.HasPrefix(r.key, mark) {
			if s.ended == nil {
				s.ended = map[string]struct{}{}
			}
			s.ended[r.key[len(mark):]] = struct{}{}
		}
	}
}

func (s *state) hasEnded(session string) bool {
	_, ok := s.ended[session]
	return ok
}

// since returns what has changed above a revision.
func (s *state) since(rev uint64) (recs []virtual.Record, now uint64, reset bool) {
	if reset = rev != 0 && (rev < s.floor || rev > s.rev); reset {
		rev = 0
	}
	i, _ := slices.BinarySearchFunc(s.recs, rev+1, func(r *record, rev uint64) int { return cmp.Compare(r.rev, rev) })
	for _, r := range s.recs[i:] {
		if r.deleted && rev == 0 || strings.HasPrefix(r.key, mark) {
			continue
		}
		v := virtual.Record{Key: r.key, Rev: r.rev, Session: r.session, Deleted: r.deleted}
		if !r.deleted {
			v.Value = []byte(r.value)
		}
		recs = append(recs, v)
	}
	return recs, s.rev, reset
}

// merge joins states that do not know of each other. conflicts are the keys for which it had to decide between two writers.
//
// Equal revisions may mean different things in them, so that none handed out before says what its holder has seen: the
// floor rises above them all.
func merge(states []*state) (m *state, conflicts []string) {
	m = new(state)
	best := map[string]*record{}
	for _, s := range states {
		m.rev, m.minute = max(m.rev, s.rev), max(m.minute, s.minute)
		for _, r := range s.recs {
			b := best[r.key]
			if b == nil || b.enc == r.enc {
				best[r.key] = r
				continue
			}
			if b.beats(r) {
				b, r = r, b
			}
			if r.blind(b) {
				conflicts = append(conflicts, r.key)
			}
			best[r.key] = r
		}
	}
	m.rev++
	m.floor = m.rev
	recs := make([]*record, 0, len(best))
	for _, r := range best {
		// A writer that had not heard of a session's end may have left records behind.
		if r.session != "" && best[mark+r.session] != nil {
			r = (&record{key: r.key, rev: m.rev, prev: r.rev, attempt: r.attempt, minute: m.minute, deleted: true}).encode()
		}
		recs = append(recs, r)
	}
	slices.SortFunc(recs, func(a, b *record) int { return cmp.Or(cmp.Compare(a.rev, b.rev), strings.Compare(a.key, b.key)) })
	m.setRecs(recs)
	slices.Sort(conflicts)
	return m, slices.Compact(conflicts)
}

// draft is a state in the making: what is there, and what the changes judged so far make of it.
type draft struct {
	base    *state
	over    map[string]*record
	order   []string // of over, by first change
	rev     uint64
	minute  uint64
	attempt uint64

	wrote map[string]*record // by the change that is being judged; nil: nothing yet
}

// get returns the newest record of a key, a deleted one too, or nil.
func (d *draft) get(key string) *record {
	if r := d.over[key]; r != nil {
		return r
	}
	return d.base.byKey()[key]
}

// set gives a key a new record. All that one change sets has one new revision.
func (d *draft) set(r record) {
	if d.wrote == nil {
		d.wrote = map[string]*record{}
		d.rev++
	}
	r.rev, r.attempt, r.minute, r.prev = d.rev, d.attempt, d.minute, d.base.floor
	if old := d.get(r.key); old != nil {
		r.prev = old.rev
	}
	if d.over == nil {
		d.over = map[string]*record{}
	}
	if d.over[r.key] == nil {
		d.order = append(d.order, r.key)
	}
	d.over[r.key] = r.encode()
	d.wrote[r.key] = d.over[r.key]
}

// each calls f with every record that exists.
func (d *draft) each(f func(*record)) {
	for _, r := range d.base.recs {
		if d.over[r.key] == nil && !r.deleted {
			f(r)
		}
	}
	for _, key := range slices.Clone(d.order) {
		if r := d.over[key]; !r.deleted {
			f(r)
		}
	}
}

// commit makes the new state, without the tombstones whose time is over.
func (d *draft) commit(ancestors []virtual.ID) *state {
	s := &state{id: newID(), ancestors: ancestors, rev: d.rev, floor: d.base.floor, minute: d.minute}
	recs := make([]*record, 0, len(d.base.recs)+len(d.over))
	dead := 0
	add := func(r *record) {
		if r.deleted {
			if r.minute+forgetAfter < d.minute {
				s.floor = max(s.floor, r.rev)
				return
			}
			dead++
		}
		recs = append(recs, r)
	}
	for _, r := range d.base.recs {
		if d.over[r.key] == nil {
			add(r)
		}
	}
	fresh := make([]*record, len(d.order))
	for i, key := range d.order {
		fresh[i] = d.over[key]
	}
	slices.SortStableFunc(fresh, func(a, b *record) int { return cmp.Compare(a.rev, b.rev) })
	for _, r := range fresh {
		add(r)
	}
	if dead > maxTombstones {
		recs = slices.DeleteFunc(recs, func(r *record) bool {
			gone := r.deleted && dead > maxTombstones
			if gone {
				dead--
				s.floor = max(s.floor, r.rev)
			}
			return gone
		})
	}
	s.setRecs(recs)
	return s
}

// adopt hands the index of the state before to s, which has taken its place.
func (d *draft) adopt(s *state) {
	index := d.base.byKey()
	d.base.index = nil
	for key, r := range d.over {
		index[key] = r
	}
	if len(index) > len(s.recs) { // tombstones were forgotten
		index = nil
	}
	s.index = index
}
