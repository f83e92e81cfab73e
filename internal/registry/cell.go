package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// retries is how often a step whose outcome is not known, or that was too slow, is made again.
const retries = 4

// errSlow is why a write was given up that never came to its Put in time.
var errSlow = errors.New("the lease of the registry's state has ended too often before it was written")

// cell is a queue that holds one state, and this process's view of it. What its callers want is done on a lane, a
// goroutine that lives while somebody waits, turn by turn: all that is asked for while one turn runs goes into the next.
// So no question is answered from a look that began before it.
type cell struct {
	store  virtual.Store
	traits virtual.Traits
	peeker virtual.Peeker // nil: none
	queue  virtual.QueueRef
	o      *Options
	codec  codec
	found  *atomic.Bool // something was seen in this or the other queue: the place is not empty
	// looked is told of every state that was there, when the look that showed it was sent, and how old it is by the store's
	// clock, 0 where that is not known. May be nil.
	looked func(s *state, sent time.Time, age time.Duration)
	// decided is told which keys a merge has decided. May be nil.
	decided func(keys []string)

	// The lane's own.
	roundTrip  time.Duration
	gaps       map[virtual.ID]gap
	doubted    map[virtual.ID]doubt
	minuteIs   uint64 // the highest minute seen
	minuteFrom time.Time

	mu      sync.Mutex
	next    *turn // what to do next; nil: nothing
	running bool  // there is a lane

	known   *state // written by the lane, under mu; nil: not looked yet
	seen    time.Time
	changed chan struct{}
}

func newCell(s virtual.Store, name string, o *Options, found *atomic.Bool) *cell {
	c := &cell{
		found: found,
		store: s, traits: virtual.TraitsOf(s), queue: virtual.QueueRef{Name: name, Incarnation: "1"}, o: o,
		gaps: map[virtual.ID]gap{}, doubted: map[virtual.ID]doubt{}, changed: make(chan struct{}),
	}
	c.peeker, _ = virtual.As[virtual.Peeker](s)
	return c
}

// turn is what the lane does at a time.
type turn struct {
	ops     []*op
	waiting int // callers that have not left
	started bool
	cancel  context.CancelFunc
	ctx     context.Context
	done    chan struct{}
}

// op is what one caller wants.
type op struct {
	// change looks at a draft and changes it, or returns why not and leaves it alone. It is called again, on another
	// draft, when a step is repeated. nil only reads.
	change func(d *draft) error
	// again says that the change may be made twice, and is, rather than to call what came between a conflict.
	again bool
	gone  bool // nobody waits for it any more

	rev   uint64
	err   error
	wrote map[string]*record // by the present try
	tried map[string]*trial  // by those whose outcome is not known
	made  []made             // by these
}

// made is a state that may have been stored, and the revision that an op has in it.
type made struct {
	id  virtual.ID
	rev uint64
}

// trial is what may have become of a key.
type trial struct {
	before uint64            // the revision it had
	made   map[string]uint64 // what a try left on top of it, encoded, and the revision of this op in that try
}

// look returns what is known, since when, and a channel that is closed when something else is.
func (c *cell) look() (s *state, seen time.Time, changed <-chan struct{}) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known, c.seen, c.changed
}

// read brings the view up to now.
func (c *cell) read(ctx context.Context) (*state, error) {
	if err := c.do(ctx, &op{}); err != nil {
		return nil, err
	}
	s, _, _ := c.look()
	return s, nil
}

// do has the lane do o, and waits. When ctx ends it returns at once, unless it is the last to wait for what runs: that is
// then cancelled and awaited.
func (c *cell) do(ctx context.Context, o *op) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	if c.next == nil {
		c.next = &turn{done: make(chan struct{})}
		c.next.ctx, c.next.cancel = context.WithCancel(context.WithoutCancel(ctx))
	}
	t := c.next
	t.ops = append(t.ops, o)
	t.waiting++
	if !c.running {
		c.running = true
		go c.run()
	}
	c.mu.Unlock()
	select {
	case <-t.done:
		return o.err
	case <-ctx.Done():
	}
	c.mu.Lock()
	t.waiting--
	last := t.waiting == 0
	switch {
	case last && t.started:
		t.cancel()
	case last && c.next == t:
		t.cancel()
		c.next = nil
	case !t.started:
		o.gone = true
	}
	c.mu.Unlock()
	if last && t.started {
		<-t.done
	}
	return ctx.Err()
}

// run is the lane.
func (c *cell) run() {
	for {
		c.mu.Lock()
		t := c.next
		c.next = nil
		if t == nil {
			c.running = false
			c.mu.Unlock()
			return
		}
		t.started = true
		t.ops = slices.DeleteFunc(t.ops, func(o *op) bool { return o.gone })
		c.mu.Unlock()
		if err := c.step(t.ctx, t.ops); err != nil {
			for _, o := range t.ops {
				o.rev, o.err = 0, err
			}
		}
		t.cancel()
		close(t.done)
	}
}

// step reads, or writes what ops change, and sets their outcomes. An error is that of all.
func (c *cell) step(ctx context.Context, ops []*op) error {
	reading := !slices.ContainsFunc(ops, func(o *op) bool { return o.change != nil })
	if reading && c.peeker != nil {
		sent := time.Now()
		s, age, ok, err := c.peek(ctx)
		if err != nil {
			return c.wrap(err)
		}
		if ok {
			if c.looked != nil {
				c.looked(s, sent, age)
			}
			c.install(s, sent)
			return nil
		}
	}
	for try := 0; ; try++ {
		done, err := c.try(ctx, ops)
		switch {
		case done:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case try >= retries, fatal(err):
			return c.wrap(err)
		}
	}
}

// try makes a step once. done is false, with a reason, when its outcome is not known or it was given up.
func (c *cell) try(ctx context.Context, ops []*op) (done bool, err error) {
	t, err := c.take(ctx)
	if err != nil {
		return false, &takeError{err}
	}
	// What this process has seen it does not forget, should it not be there. Who sees nothing writes an empty state: it is
	// the first, and whatever is put later is more.
	tops := t.tops()
	if c.known != nil && !slices.ContainsFunc(tops, func(s *state) bool { return s.rev >= c.known.rev }) {
		tops = append(tops, c.known)
	}
	base, decided := join(tops)
	differ := len(tops) != 1 || t.renew || tops[0] == c.known && len(t.tops()) == 0
	if c.looked != nil {
		c.looked(base, t.sent, t.age(c.traits))
	}
	d := &draft{base: base, rev: base.rev, minute: c.minuteOf(base.minute), attempt: uint64(t.attempt())}
	for _, o := range ops {
		o.judge(d)
	}
	if d.over == nil && !differ { // whether that gets there does not matter to what was read
		if ctx.Err() == nil && !t.empty() {
			_ = c.settle(ctx, t, virtual.Return)
		}
		c.install(base, t.sent)
		return true, nil
	}
	if t.late(2) {
		c.giveBack(ctx, t, virtual.Return)
		return false, errSlow
	}
	s := d.commit(ancestors(t, tops))
	if err := c.write(ctx, t, s); err != nil {
		for _, o := range ops {
			o.doubt(d, s.id)
		}
		c.giveBack(ctx, t, virtual.Requeue) // no harm: what is gone stays so
		return false, err
	}
	d.adopt(s)
	c.install(s, t.sent)
	if c.looked != nil {
		c.looked(s, t.sent, 0)
	}
	if c.decided != nil && len(decided) > 0 {
		c.decided(decided)
	}
	return true, nil
}

// join merges states, where there are more than one that say something.
func join(states []*state) (*state, []string) {
	states = slices.DeleteFunc(slices.Clone(states), func(s *state) bool { return s.rev == 0 })
	switch len(states) {
	case 0:
		return new(state), nil
	case 1:
		return states[0], nil
	}
	return merge(states)
}

// ancestors are the states that are in one made of this, as far back as it is worth to know.
func ancestors(t *taking, tops []*state) (ids []virtual.ID) {
	for _, s := range tops {
		ids = append(ids, s.id)
	}
	for _, g := range t.groups {
		if g.drop && g.state != nil {
			ids = append(ids, g.id)
		}
	}
	for _, s := range tops {
		ids = append(ids, s.ancestors...)
	}
	return ids[:min(len(ids), maxAncestors)]
}

// write puts a state and acks what it was made of. Nothing is acked before all of the state is stored.
func (c *cell) write(ctx context.Context, t *taking, s *state) error {
	if err := c.put(ctx, s); err != nil {
		return err
	}
	if t.empty() {
		return nil
	}
	if err := c.settle(ctx, t, virtual.Ack); err != nil {
		return err
	}
	if t.late(1) { // not every store tells that a lease had ended
		return errSlow
	}
	return nil
}

// install makes s what is known.
func (c *cell) install(s *state, sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen = sent
	if c.known != s {
		c.known = s
		close(c.changed)
		c.changed = make(chan struct{})
	}
}

// minuteOf advances the counter of a state by the minutes that have passed since this process first saw its value.
func (c *cell) minuteOf(m uint64) uint64 {
	now := time.Now()
	if m > c.minuteIs || c.minuteFrom.IsZero() {
		c.minuteIs, c.minuteFrom = m, now
	}
	n := now.Sub(c.minuteFrom) / minute
	c.minuteIs += uint64(n)
	c.minuteFrom = c.minuteFrom.Add(n * minute)
	return c.minuteIs
}

// judge decides o on a draft and applies it.
func (o *op) judge(d *draft) {
	o.rev, o.err, o.wrote = d.rev, nil, nil
	if o.change == nil {
		return
	}
	if o.resolve(d) {
		return
	}
	d.wrote = nil
	o.err = o.change(d)
	o.wrote, o.rev = d.wrote, d.rev
}

// resolve finds out what became of earlier tries: done when what is there was made of one, and no merge has decided since;
// done when all of it is on top; a conflict when somebody else is.
func (o *op) resolve(d *draft) (decided bool) {
	for _, m := range o.made {
		if d.base.covers(m.id) && d.base.floor < m.rev {
			o.rev = m.rev
			return true
		}
	}
	mine, rev := 0, uint64(0)
	var differ []virtual.Revision
	for key, t := range o.tried {
		is := d.get(key)
		if is == nil {
			is = &record{deleted: true}
		}
		if made := t.made[is.enc]; made != 0 {
			mine, rev = mine+1, max(rev, made)
		} else if is.rev != t.before {
			differ = append(differ, virtual.Revision{Key: key, Rev: live(is)})
		}
	}
	switch {
	case len(o.tried) == 0:
		return false
	case mine == len(o.tried):
		o.rev = rev
		return true
	case len(differ) > 0 && !o.again:
		slices.SortFunc(differ, func(a, b virtual.Revision) int { return strings.Compare(a.Key, b.Key) })
		o.err = &virtual.ConflictError{Differ: differ}
		return true
	}
	return false
}

// doubt notes what a try wrote whose outcome is not known. What later ops of the same try made of it counts as well: all
// of them are stored together.
func (o *op) doubt(d *draft, id virtual.ID) {
	if len(o.wrote) > 0 {
		o.made = append(o.made, made{id, o.rev})
	}
	for key, r := range o.wrote {
		if o.tried == nil {
			o.tried = map[string]*trial{}
		}
		t := o.tried[key]
		if t == nil {
			t = &trial{made: map[string]uint64{}}
			o.tried[key] = t
		}
		t.before = 0
		if old := d.base.byKey()[key]; old != nil {
			t.before = old.rev
		}
		t.made[d.over[key].enc] = r.rev
	}
}

// takeError is an error that came before anything was changed by the step.
type takeError struct{ error }

func (e *takeError) Unwrap() error { return e.error }

// fatal tells whether another try would end the same, or is the caller's to make.
func fatal(err error) bool {
	var t *takeError
	for _, e := range []error{virtual.ErrClosed, virtual.ErrTooLarge, virtual.ErrFull, virtual.ErrNoQueue} {
		if errors.Is(err, e) {
			return true
		}
	}
	return errors.As(err, &t)
}

func (c *cell) wrap(err error) error { return fmt.Errorf("registry: %w", err) }
