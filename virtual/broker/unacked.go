package broker

import "github.com/dashi-mq/dashi/virtual"

// entry is a delivery that was not answered yet.
type entry struct {
	consumer *consumer // nil: it came by basic.get
	from     *tenure   // nil: the slot is empty
	msg      *virtual.Message
	receipt  virtual.Receipt
	at       int64 // when it was delivered, by b.now
	attempt  int32
	size     int32 // of the body
	inTx     bool  // answered in an open transaction
	lost     bool  // its lease was lost
}

func (e *entry) settlement(k virtual.Kind) virtual.Settlement {
	return virtual.Settlement{Queue: e.msg.Queue, ID: e.msg.ID, Receipt: e.receipt, Kind: k}
}

// death is the entry's end by a rule.
func (e *entry) death(reason string) *death {
	t := virtual.Taken{Message: e.msg, Receipt: e.receipt, Attempt: int(e.attempt)}
	d := &death{taken: t, q: e.from.pump.q, from: e.from, reason: reason}
	if e.lost {
		d.from = nil // it is not counted as held any more
	}
	return d
}

const segmentSize = 128

type segment struct {
	slots [segmentSize]entry
	n     int
}

// unacked holds entries by delivery tag in segments, which go when they are empty. Tags come in rising order.
type unacked struct {
	segments []*segment // nil where one is empty
	base     uint64     // tag of the first slot of segments[0]
	n        int
	spare    []*segment  // empty ones, to be used again: a window lies in two or three
	few      [2]*segment // room for segments
}

const maxSpare = 2

func (u *unacked) put(tag uint64, e entry) {
	if len(u.segments) == 0 {
		u.base = tag - tag%segmentSize
	}
	i := int(tag-u.base) / segmentSize
	for len(u.segments) <= i {
		u.segments = append(u.segments, nil)
	}
	s := u.segments[i]
	if s == nil {
		if last := len(u.spare) - 1; last >= 0 {
			s, u.spare = u.spare[last], u.spare[:last]
		} else {
			s = new(segment)
		}
		u.segments[i] = s
	}
	s.slots[(tag-u.base)%segmentSize] = e
	s.n++
	u.n++
}

// find returns the entry of a tag that may be answered, or nil.
func (u *unacked) find(tag uint64) *entry {
	if tag < u.base {
		return nil
	}
	i := (tag - u.base) / segmentSize
	if i >= uint64(len(u.segments)) || u.segments[i] == nil {
		return nil
	}
	e := &u.segments[i].slots[(tag-u.base)%segmentSize]
	if e.from == nil || e.inTx {
		return nil
	}
	return e
}

// drop empties the slot of a tag.
func (u *unacked) drop(tag uint64) {
	i := int(tag-u.base) / segmentSize
	s := u.segments[i]
	s.slots[(tag-u.base)%segmentSize] = entry{}
	s.n--
	u.n--
	if s.n > 0 {
		return
	}
	u.segments[i] = nil
	if len(u.spare) < maxSpare {
		u.spare = append(u.spare, s)
	}
	for len(u.segments) > 0 && u.segments[0] == nil {
		u.segments = u.segments[1:]
		u.base += segmentSize
	}
	if len(u.segments) == 0 {
		u.segments = u.few[:0]
	}
}

// each calls f for all entries up to a tag (0: all), in the order of tags. f may drop the tag it is given.
func (u *unacked) each(upTo uint64, f func(tag uint64, e *entry)) {
	segments, base := u.segments, u.base
	for i, s := range segments {
		first := base + uint64(i)*segmentSize
		if upTo != 0 && first > upTo {
			return
		}
		if s == nil {
			continue
		}
		for j := range s.slots {
			tag := first + uint64(j)
			if upTo != 0 && tag > upTo || segments[i] == nil {
				break
			}
			if s.slots[j].from != nil {
				f(tag, &s.slots[j])
			}
		}
	}
}

func (u *unacked) takeAll() []entry {
	es := make([]entry, 0, u.n)
	u.each(0, func(_ uint64, e *entry) { es = append(es, *e) })
	*u = unacked{}
	return es
}

// oldest returns when the oldest entry was delivered.
func (u *unacked) oldest() (at int64, ok bool) {
	u.each(0, func(_ uint64, e *entry) {
		if !ok || e.at < at {
			at, ok = e.at, true
		}
	})
	return at, ok
}
