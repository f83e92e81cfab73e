package registry

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// taking is what a step has taken and what that means.
type taking struct {
	sent  time.Time     // before the first request that took something: the leases began after it
	lease time.Duration // the shortest of them

	groups []*group
	renew  bool // what was taken is in doubt no more: it is to be written anew, for others to see
}

// group is the messages of one state.
type group struct {
	state *state // nil: parts are missing
	id    virtual.ID
	flags byte
	parts [][]byte // by number
	have  int
	taken []virtual.Taken
	drop  bool // it is in another one, or will never be complete
	tried int  // the highest attempt: above 1 somebody has taken it before, and never answered
}

func (t *taking) empty() bool { return len(t.groups) == 0 }

func (t *taking) complete() bool {
	return slices.ContainsFunc(t.groups, func(g *group) bool { return g.have == len(g.parts) })
}

func (t *taking) partial() bool {
	return slices.ContainsFunc(t.groups, func(g *group) bool { return g.have < len(g.parts) })
}

// tops returns the states that are not known to be in another one.
func (t *taking) tops() (tops []*state) {
	for _, g := range t.groups {
		if g.state != nil && !g.drop {
			tops = append(tops, g.state)
		}
	}
	return tops
}

// late tells whether more than 1/n of the lease is over.
func (t *taking) late(n time.Duration) bool { return time.Since(t.sent) >= t.lease/n }

// attempt is the highest of what was taken.
func (t *taking) attempt() (n int) {
	for _, g := range t.groups {
		n = max(n, g.tried)
	}
	return n
}

// age is how long ago what was taken was put, by the store's clock; 0 where that is not known.
func (t *taking) age(traits virtual.Traits) time.Duration {
	if !traits.Age || len(t.groups) != 1 {
		return 0
	}
	var age time.Duration
	for i, m := range t.groups[0].taken {
		if i == 0 || m.Age < age {
			age = m.Age
		}
	}
	return age
}

// add sorts messages into the states they are parts of.
func (t *taking) add(q virtual.QueueRef, taken []virtual.Taken) (err error) {
	for _, m := range taken {
		if m.Granted > 0 {
			t.lease = min(t.lease, m.Granted)
		} else if m.Lease > 0 {
			t.lease = min(t.lease, m.Lease)
		}
		p, bad := parsePart(q, m.Payload.Bytes())
		i := slices.IndexFunc(t.groups, func(g *group) bool { return g.id == p.id })
		if i < 0 || bad != nil {
			i = len(t.groups)
			t.groups = append(t.groups, &group{id: p.id, flags: p.flags, parts: make([][]byte, max(p.n, 1))})
		}
		g := t.groups[i]
		g.tried = max(g.tried, m.Attempt)
		g.taken = append(g.taken, m) // also one that is not understood: it goes back
		switch {
		case bad != nil:
			err = bad
		case p.n != len(g.parts):
			err = fmt.Errorf("queue %q: %w", q.Name, errDamaged)
		case g.parts[p.i] == nil:
			g.parts[p.i] = p.chunk
			g.have++
		}
	}
	return err
}

// take takes all that is ready. With nothing there it waits until everything that may be hidden has come back.
func (c *cell) take(ctx context.Context) (*taking, error) {
	begun := time.Now()
	pause := time.Millisecond
	for t := (&taking{}); ; {
		lease := c.lease()
		sent := time.Now()
		if t.empty() {
			t.sent, t.lease = sent, lease
		}
		r := virtual.GetRequest{Queue: c.queue, Max: c.batch(), MaxBytes: c.traits.MaxBatchBytes, Lease: lease}
		if c.traits.ExactAttempt {
			r.Need = virtual.NeedAttempt
		}
		if c.traits.Age && c.looked != nil {
			r.Need |= virtual.NeedAge
		}
		if !t.complete() {
			r.Wait = max(0, min(c.patience()-sent.Sub(begun), lease/4)) // in short slices: the lease may have begun as early as a slice did
		}
		got, res, err := c.store.Get(ctx, r, nil)
		if err == nil {
			err = ctx.Err() // what was taken comes back when the lease ends
		}
		if err == nil {
			err = t.add(c.queue, got)
		}
		if len(got) > 0 {
			c.found.Store(true)
		}
		if err != nil {
			c.giveBack(ctx, t, virtual.Return)
			return nil, err
		}
		more := len(got) == r.Max || res.Ready > 0 || t.partial() || r.MaxBytes > 0 && sizeOf(got) > r.MaxBytes/2
		if len(got) > 0 && more {
			continue
		}
		now := time.Now()
		over := now.Sub(begun) >= c.patience()
		if t.empty() && over {
			return t, nil
		}
		if t.complete() || !t.empty() && (t.late(2) || over) {
			v, err := c.sort(ctx, t)
			switch {
			case err != nil:
				c.giveBack(ctx, t, virtual.Return)
				return nil, err
			case v == good:
				return t, nil
			case v == torn && now.Sub(begun) > 5*lease:
				c.giveBack(ctx, t, virtual.Return)
				return nil, fmt.Errorf("queue %q: parts of the registry's state are missing", c.queue.Name)
			case v == stale: // there is better to wait for
				_ = c.settle(ctx, t, virtual.Return)
				begun = now
			default: // somebody else may hold what is missing, and wait for this
				c.giveBack(ctx, t, virtual.Return)
			}
			if v == doubtful {
				begun, pause = now, lease/10
			}
			t = &taking{}
		}
		if now.Sub(sent) < r.Wait*9/10 || r.Wait == 0 { // a store may return early
			if err := sleep(ctx, pause/2+rand.N(pause)); err != nil {
				c.giveBack(ctx, t, virtual.Return)
				return nil, err
			}
			pause = min(2*pause, max(20*time.Millisecond, pause))
		}
	}
}

// verdict is what is to be thought of a taking.
type verdict int

const (
	good     verdict = iota
	torn             // parts of all states are missing
	stale            // this process knows better: there is more, and it is hidden
	doubtful         // there may be more
)

// sort decodes what is complete and decides what may go.
func (c *cell) sort(ctx context.Context, t *taking) (verdict, error) {
	for _, g := range t.groups {
		if g.have == len(g.parts) {
			var err error
			if g.state, err = c.decode(g); err != nil {
				return torn, err
			}
		}
	}
	v := torn
	for _, g := range t.groups {
		inAnother := slices.ContainsFunc(t.groups, func(o *group) bool { return o != g && o.state != nil && o.state.covers(g.id) })
		outdated := c.known != nil && c.known.id != g.id && (c.known.covers(g.id) || g.state != nil && g.state.rev == 0 && c.known.rev > 0)
		switch {
		case inAnother, g.state == nil && c.abandoned(g, t.complete()):
			g.drop = true
		case outdated:
			g.drop = true
			if v == torn {
				v = stale
			}
		case g.state != nil && c.doubts(t, g):
			v = doubtful
		case g.state != nil && v != doubtful:
			v = good
		}
	}
	if !slices.ContainsFunc(t.groups, func(g *group) bool { return !g.drop }) && v == torn {
		v = good // of what was there nothing will ever be whole
	}
	return v, nil
}

// doubts tells whether a state that was taken may have a successor that is hidden. It may when somebody has taken it before
// and never answered: who put the new state may have died before acking this one, and a third may have the new one. To
// write on top of this then would be a fork. What is hidden by the living is back soon, what is hidden by the dead within
// a lease, so that after a lease of looks there is none. Then the state is written anew.
func (c *cell) doubts(t *taking, g *group) bool {
	if !c.traits.ExactAttempt || g.tried <= 1 {
		return false
	}
	if len(c.doubted) >= 64 {
		clear(c.doubted)
	}
	d := c.doubted[g.id]
	if d.tried != g.tried { // and again
		d = doubt{g.tried, time.Now()}
		c.doubted[g.id] = d
	}
	if time.Since(d.since) < c.lease()*6/5 {
		return true
	}
	t.renew = true
	return false
}

// doubt is when a state was first seen that had been taken so often.
type doubt struct {
	tried int
	since time.Time
}

// decode returns the state of a group that is complete. One that is known is not decoded again.
func (c *cell) decode(g *group) (*state, error) {
	if c.known != nil && c.known.id == g.id {
		return c.known, nil
	}
	b := g.parts[0]
	if len(g.parts) > 1 {
		b = slices.Concat(g.parts...)
	}
	return c.codec.decode(c.queue, g.id, g.flags, b)
}

// abandoned tells whether a state of which parts are missing will never be complete: its writer has died between two
// Puts or between two Acks. Both times what it was made of, or what was made of it, is complete somewhere, unless it was
// the first of all. Parts that somebody else holds are back within a lease; to be sure the same parts have to be missing
// over two, in each of many looks.
func (c *cell) abandoned(g *group, another bool) bool {
	missing := make([]byte, len(g.parts))
	for i, p := range g.parts {
		if p == nil {
			missing[i] = 1
		}
	}
	was, known := c.gaps[g.id]
	now := time.Now()
	if !known || was.missing != string(missing) {
		if len(c.gaps) >= 64 {
			clear(c.gaps)
		}
		c.gaps[g.id] = gap{string(missing), now, 1}
		return false
	}
	was.looks++
	c.gaps[g.id] = was
	gone := now.Sub(was.since) > 2*c.lease() && was.looks >= 3 && (another || g.flags&flagRoot != 0)
	if gone {
		delete(c.gaps, g.id)
	}
	return gone
}

// gap is which parts of a state are missing, and since when.
type gap struct {
	missing string
	since   time.Time
	looks   int
}

// peek reads without taking. It finds nothing while somebody has the state, and ok is false whenever it is not simply there.
func (c *cell) peek(ctx context.Context) (s *state, age time.Duration, ok bool, err error) {
	taken, err := c.peeker.Peek(ctx, c.queue, c.batch(), nil)
	if err != nil || len(taken) == 0 {
		return nil, 0, false, err
	}
	t := &taking{}
	if err := t.add(c.queue, taken); err != nil {
		return nil, 0, false, err
	}
	if len(t.groups) != 1 || t.partial() || c.traits.ExactAttempt && slices.ContainsFunc(taken, func(m virtual.Taken) bool { return m.Attempt > 0 }) {
		return nil, 0, false, nil
	}
	s, err = c.decode(t.groups[0])
	if err != nil || c.known != nil && s != c.known && (s.rev < c.known.rev || c.known.covers(s.id)) {
		return nil, 0, false, err
	}
	return s, t.age(c.traits), true, nil
}

// put stores a state.
func (c *cell) put(ctx context.Context, s *state) error {
	size := 0
	for _, bound := range []int{c.traits.MaxBody, c.traits.MaxBatchBytes} {
		if bound > 0 && (size == 0 || bound < size) {
			size = bound
		}
	}
	if size > 0 {
		size = max(size-headerRoom, size/2)
	}
	parts, err := c.codec.encode(s, size)
	if err != nil {
		return err
	}
	var ms []*virtual.Message
	bytes := 0
	flush := func() error {
		if len(ms) == 0 {
			return nil
		}
		defer func(began time.Time) { c.measure(time.Since(began)) }(time.Now())
		err := c.store.Put(ctx, virtual.PutRequest{Messages: ms})
		ms, bytes = nil, 0
		return err
	}
	for _, p := range parts {
		if len(ms) == c.batch() || c.traits.MaxBatchBytes > 0 && bytes+len(p) > c.traits.MaxBatchBytes {
			if err := flush(); err != nil {
				return err
			}
		}
		m := &virtual.Message{Queue: c.queue, ID: newID(), Payload: virtual.Bytes(p)}
		if c.traits.LeaseAtPut {
			m.Lease = c.lease()
		}
		ms, bytes = append(ms, m), bytes+len(p)
	}
	return flush()
}

// settle answers everything taken: states by kind, what may go by Ack, parts of what is not complete by Return.
func (c *cell) settle(ctx context.Context, t *taking, kind virtual.Kind) (err error) {
	var all []virtual.Settlement
	for _, g := range t.groups {
		k := kind
		switch {
		case g.drop:
			k = virtual.Ack
		case g.state == nil:
			k = virtual.Return
		}
		for _, m := range g.taken {
			all = append(all, virtual.Settlement{Queue: c.queue, ID: m.ID, Receipt: m.Receipt, Kind: k})
		}
	}
	for some := range slices.Chunk(all, c.batch()) {
		began := time.Now()
		err = errors.Join(err, c.store.Settle(ctx, some))
		c.measure(time.Since(began))
	}
	return err
}

// giveBack returns everything taken, at best: what does not get there comes back when its lease ends. Return says that
// nothing was put, Requeue that it may have been: whoever takes it next then has doubts.
func (c *cell) giveBack(ctx context.Context, t *taking, kind virtual.Kind) {
	for _, g := range t.groups {
		g.drop = false
	}
	if ctx.Err() == nil && !t.empty() {
		_ = c.settle(ctx, t, kind)
	}
}

func (c *cell) batch() int {
	if c.traits.MaxBatch > 0 {
		return c.traits.MaxBatch
	}
	return 256
}

// lease is L.
func (c *cell) lease() time.Duration {
	l := max(c.o.Lease, c.traits.LeaseMin, c.traits.LeaseStep, 20*c.roundTrip)
	if c.traits.LeaseMax > 0 {
		l = min(l, c.traits.LeaseMax)
	}
	return l
}

// measure notes how long a call took, as a running mean in which one outlier counts little.
func (c *cell) measure(d time.Duration) {
	c.roundTrip += (min(d, time.Second) - c.roundTrip) / 8
}

// patience is how long to wait for the first message: until everything hidden by somebody, alive or dead, has come back. Who
// knows that there must be one waits longer: it can only be that others are quicker, that they have died one after the
// other, or that the store has lost it.
func (c *cell) patience() time.Duration {
	switch {
	case c.known != nil || !c.o.Fresh && c.found.Load():
		return 5 * c.lease()
	case c.o.Fresh:
		return 0
	}
	return c.lease() * 6 / 5
}

func sizeOf(taken []virtual.Taken) (n int) {
	for _, t := range taken {
		n += t.Payload.Size()
	}
	return n
}

// sleep waits, or returns ctx's error.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
