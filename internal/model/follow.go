package model

import (
	"fmt"
	"slices"
)

// MaxStates bounds how many states Follow keeps.
const MaxStates = 512

// run is one step under way in one state.
type run struct {
	step    *Step
	seen    *Step // what is followed; nil: the model goes its own way
	read    map[reader]int
	tags    map[Slot][]uint64 // given in this step
	choices []int             // those to be taken again
	widths  []int             // how many there were at each

	declares bool // it is a declaration of a queue, whose 540 closes the channel alone
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
	for _, s := range states {
		var choices []int
		for {
			b, r := try(s, seen, choices, act)
			switch {
			case b == nil:
				why = better(why, r.why)
			default:
				d := r.run.step.Diff(seen)
				if d != "" {
					why = better(why, d)
				} else if f := b.fingerprint(); !known[f] {
					known[f] = true
					if next = append(next, b); len(next) > MaxStates {
						return nil, fmt.Sprintf("more than %d states explain it", MaxStates)
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
	next, r := try(b, nil, nil, act)
	return next, r.run.step
}

func better(old, other string) string {
	if old == "" || len(other) < len(old) {
		return other
	}
	return old
}

type tried struct {
	run *run
	why string
}

// try runs a step in a copy of a state, by the choices given and the first of the others; nil: it strayed from what was seen.
func try(s *Broker, seen *Step, choices []int, act func(b *Broker)) (b *Broker, t tried) {
	b = s.clone()
	t.run = &run{step: &Step{}, seen: seen, read: map[reader]int{}, tags: map[Slot][]uint64{}, choices: slices.Clone(choices)}
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
