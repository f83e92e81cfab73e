package broker

import (
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

// turn is a consumer's share of a Get.
type turn struct {
	c     *consumer
	room  int
	share []virtual.Taken
}

// reserve makes the turns of the consumers that may take now and returns the sum of their room.
func (p *pump) reserve() int {
	p.turns = p.turns[:0]
	cs := p.list()
	if len(cs) == 0 {
		return 0
	}
	if p.q.args.singleActive {
		c := p.active(cs)
		if c == nil {
			return 0
		}
		cs = []*consumer{c}
	}
	total := 0
	for first := 0; first < len(cs) && total < p.b.getLimit; {
		end := first + 1
		for end < len(cs) && cs[end].priority == cs[first].priority {
			end++
		}
		total += p.reserveEqual(cs[first:end], p.b.getLimit-total)
		first = end
	}
	p.partial.Store(len(p.turns) < len(cs))
	return total
}

// reserveEqual makes the turns of consumers of one priority, no more than most in all: each may have its share of that,
// beginning with the one that comes next in the round, and then what the others have no room for.
func (p *pump) reserveEqual(cs []*consumer, most int) (total int) {
	next := 1 + slices.Index(cs, p.last) // 0 when the last one is not among them
	share := max(1, most/len(cs))
	from := len(p.turns)
	for i := 0; i < len(cs) && total < most; i++ {
		c := cs[(next+i)%len(cs)]
		if n := c.reserve(min(share, most-total)); n > 0 {
			p.addTurn(c, n)
			total += n
		}
	}
	for i := from; i < len(p.turns) && total < most; i++ {
		t := &p.turns[i]
		n := t.c.reserve(most - total)
		t.room += n
		total += n
	}
	return total
}

// addTurn begins a turn, using again the room for its share.
func (p *pump) addTurn(c *consumer, room int) {
	n := len(p.turns)
	p.turns = slices.Grow(p.turns, 1)[:n+1]
	t := &p.turns[n]
	*t = turn{c: c, room: room, share: t.share[:0]}
}

// rooms parts the reserved room by priority where other processes have consumers of other priorities.
func (p *pump) rooms() []virtual.Room {
	if !p.q.ranked.Load() || !p.b.traits.Ranked {
		return nil
	}
	var rooms []virtual.Room
	for i := range p.turns {
		t := &p.turns[i]
		if n := len(rooms); n > 0 && rooms[n-1].Priority == t.c.priority {
			rooms[n-1].Room += t.room
			continue
		}
		rooms = append(rooms, virtual.Room{Priority: t.c.priority, Room: t.room})
	}
	return rooms
}

func (p *pump) unreserve() {
	for i := range p.turns {
		t := &p.turns[i]
		t.c.unreserve(t.room)
		*t = turn{share: t.share[:0]}
	}
}

// handOver shares messages among the turns: the highest priority first, in the round within one priority.
func (p *pump) handOver(taken []virtual.Taken, from *tenure) {
	switch {
	case len(taken) == 0:
		return
	case len(p.turns) == 1 && len(taken) <= p.turns[0].room:
		p.last = p.turns[0].c
		p.deliver(&p.turns[0], taken, from)
		return
	}
	at := p.afterLast()
	n := 0
	for ; n < len(taken); n++ {
		t := p.choose(&at)
		if t == nil {
			break // a repeated Get gave more than there is room for now
		}
		t.share = append(t.share, taken[n])
		p.last = t.c
	}
	for i := range p.turns {
		if t := &p.turns[i]; len(t.share) > 0 {
			p.deliver(t, t.share, from)
		}
	}
	p.giveBack(taken[n:], from)
}

// afterLast returns the turn that comes after the consumer served last.
func (p *pump) afterLast() int {
	for i := range p.turns {
		if p.turns[i].c == p.last {
			return i + 1
		}
	}
	return 0
}

// choose returns the next turn of the highest priority that has room.
func (p *pump) choose(at *int) *turn {
	for first := 0; first < len(p.turns); {
		end := first
		for end < len(p.turns) && p.turns[end].c.priority == p.turns[first].c.priority {
			end++
		}
		for i := range end - first {
			k := first + (max(*at-first, 0)+i)%(end-first)
			if t := &p.turns[k]; t.room > len(t.share) {
				*at = k + 1
				return t
			}
		}
		first = end
	}
	return nil
}

func (p *pump) deliver(t *turn, taken []virtual.Taken, from *tenure) {
	n := t.c.port.deliver(t.c, taken, from)
	t.room -= len(taken)
	if t.c.noAck && n > 0 {
		for i := range taken[:n] {
			p.b.settler.add1(settleItem{msg: taken[i].Message, receipt: taken[i].Receipt, from: from})
		}
	}
	p.giveBack(taken[n:], from)
}

// giveBack returns messages that nobody has seen.
func (p *pump) giveBack(taken []virtual.Taken, from *tenure) {
	p.returning.Add(int64(len(taken)))
	for i := range taken {
		p.b.settler.add1(settleItem{msg: taken[i].Message, receipt: taken[i].Receipt, kind: virtual.Return, from: from, given: true})
	}
}
