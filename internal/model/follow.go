package model

import (
	"fmt"
	"slices"
)

// Bounds of Follow: how many states it keeps, and how many ways of a step it goes. Beyond them a script fails as undecided.
const (
	maxStates = 512
	maxTries  = 4000
)

// run is one step under way in one state.
type run struct {
	step    *Step
	seen    *Step // what is followed; nil: the model goes its own way
	read    map[reader]int
	tags    map[Slot][]uint64 // given in this step
	keeps   map[int]bool      // queues, by id, that keep messages for who is dead
	late    map[int]bool      // queues whose limit is still to be looked at
	excess  map[int]int       // how many of them may have been dropped
	given   map[int]int       // how many messages of a queue went to consumers
	choices []int             // those to be taken again
	widths  []int             // how many there were at each

	visited map[string]bool // states in which other branches of this step asked before
	own     map[string]bool // those of this one
	fixed   int             // how many of the choices are taken again

	path     string // of what is put into queues now
	burst    bool   // messages are published in a row
	whole    bool   // messages come together, in one step of the store
	ways     ways
	closing  *int // the connection that is closed now
	admitted bool // and have been found to fit, where that is asked before
	declares bool // it is a declaration of a queue, whose 540 closes the channel alone
}

func newRun() *run {
	return &run{
		step: &Step{}, read: map[reader]int{}, tags: map[Slot][]uint64{}, keeps: map[int]bool{}, late: map[int]bool{}, excess: map[int]int{},
		given: map[int]int{},
	}
}

// reader is a consumer whose deliveries are followed.
type reader struct {
	slot Slot
	tag  string
}

// stray is the panic that leaves a branch which cannot lead to what was seen.
type stray struct{ why string }

// branch asks for one of n ways that nobody can see yet.
func (b *Broker) branch(n int) int {
	if n < 2 {
		return 0
	}
	r := b.run
	at := len(r.widths)
	r.widths = append(r.widths, n)
	if at == len(r.choices) {
		r.choices = append(r.choices, 0)
	}
	return r.choices[at]
}

// met leaves a branch that has come to a state in which another was before: what comes by itself can come in many orders
// that end the same. It is asked where the step is about to branch, and told where that is.
func (b *Broker) met(where ...any) {
	r := b.run
	if r.seen == nil {
		return
	}
	key := fmt.Sprint(where, b.fingerprint(), r.read, r.keeps)
	for slot, h := range r.step.Heard {
		if len(h.Confirms) > 0 {
			key += fmt.Sprint(slot, h.Confirms)
		}
	}
	if len(r.widths) >= r.fixed && r.visited[key] && !r.own[key] {
		panic(stray{"other ways lead there"})
	}
	r.visited[key], r.own[key] = true, true
}

// following returns the next delivery that a consumer was seen to get and the step has not explained yet; nil: there is none.
func (b *Broker) following(c *consumer) *Delivery {
	if b.run.seen == nil {
		return nil
	}
	h := b.run.seen.Heard[c.slot]
	if h == nil {
		return nil
	}
	n := b.run.read[reader{c.slot, c.tag}]
	for i := range h.Deliveries {
		if h.Deliveries[i].Consumer != c.tag {
			continue
		}
		if n == 0 {
			return &h.Deliveries[i]
		}
		n--
	}
	return nil
}

// Follow lets every state make a step, every way it can go, and returns the states that explain what was seen. When none
// does, why tells how the nearest differs.
func Follow(states []*Broker, seen *Step, act func(b *Broker)) (next []*Broker, why string) {
	known := map[string]bool{}
	tries := 0
	for _, s := range states {
		var choices []int
		visited := map[string]bool{}
		for {
			if tries++; tries > maxTries {
				return nil, fmt.Sprintf("undecided after %d ways", maxTries)
			}
			b, r := try(s, seen, choices, visited, act)
			switch {
			case b == nil:
				why = better(why, r.why)
			default:
				d := r.run.step.Diff(seen)
				if d != "" {
					why = better(why, d)
				} else if f := b.fingerprint(); !known[f] {
					known[f] = true
					if next = append(next, b); len(next) > maxStates {
						return nil, fmt.Sprintf("more than %d states explain it", maxStates)
					}
				}
			}
			if choices = advance(r.run); choices == nil {
				break
			}
		}
	}
	if len(next) > 0 {
		return next, ""
	}
	return nil, why
}

// Predict makes the step the model's own way, and returns what clients see.
func Predict(b *Broker, act func(b *Broker)) (*Broker, *Step) {
	next, r := try(b, nil, nil, map[string]bool{}, act)
	return next, r.run.step
}

func better(old, other string) string {
	if old == "" || other != "other ways lead there" && len(other) < len(old) {
		return other
	}
	return old
}

type tried struct {
	run *run
	why string
}

// try runs a step in a copy of a state, by the choices given and the first of the others; nil: it strayed from what was seen.
func try(s *Broker, seen *Step, choices []int, visited map[string]bool, act func(b *Broker)) (b *Broker, t tried) {
	b = s.clone()
	b.steps++
	t.run = newRun()
	t.run.seen, t.run.visited, t.run.own = seen, visited, map[string]bool{}
	t.run.choices, t.run.fixed = slices.Clone(choices), len(choices)
	b.run = t.run
	defer func() {
		switch p := recover().(type) {
		case nil:
		case stray:
			b, t.why = nil, p.why
		default:
			panic(p)
		}
	}()
	act(b)
	b.checkTags()
	b.count(t.run.step)
	b.torn = t.run.ways.several
	b.run = nil
	return b, t
}

// advance returns the next choices, depth first; nil: there are none.
func advance(r *run) []int {
	c := r.choices[:len(r.widths)]
	for len(c) > 0 {
		last := len(c) - 1
		if c[last]+1 < r.widths[last] {
			c[last]++
			return c
		}
		c = c[:last]
	}
	return nil
}
