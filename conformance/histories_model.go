package conformance

import (
	"fmt"
	"slices"

	"github.com/anishathalye/porcupine"

	"github.com/dashi-mq/dashi/virtual"
)

type historyOp uint8

const (
	historyPut historyOp = iota
	historyGet
	historySettle
	historyPurge
	historySize
)

// historyInput is what a call asked of a queue, or one item of it: Put and Settle do theirs one by one.
type historyInput struct {
	op      historyOp
	queue   int
	message int          // Put, Settle
	after   int          // Put: the message before it in the batch, -1: none
	most    int          // Get
	alone   bool         // Get: no other was under way
	taking  int          // Settle
	kind    virtual.Kind // Settle
}

// historyOutput is what it was told.
type historyOutput struct {
	taken []historyTaken
	stale bool
	n     int
}

type historyTaken struct{ message, taking, attempt int }

// historyState is a queue in the model.
type historyState struct {
	there []historyMessage // in the order of their Put
	gone  []int            // the numbers of those that were there, sorted
}

type historyMessage struct {
	number  int
	attempt int
	taking  int // who has it; 0: it is ready
}

// copy returns a state that may be changed.
func (s historyState) copy() historyState {
	return historyState{slices.Clone(s.there), slices.Clone(s.gone)}
}

// remove takes the message at i out for good.
func (s *historyState) remove(i int) {
	at, _ := slices.BinarySearch(s.gone, s.there[i].number)
	s.gone = slices.Insert(s.gone, at, s.there[i].number)
	s.there = slices.Delete(s.there, i, i+1)
}

// find returns where a message is, or -1.
func (s *historyState) find(number int) int {
	return slices.IndexFunc(s.there, func(m historyMessage) bool { return m.number == number })
}

// was says whether a message was there.
func (s *historyState) was(number int) bool {
	_, ok := slices.BinarySearch(s.gone, number)
	return ok
}

// ready returns where the ready messages are, in order.
func (s *historyState) ready() (at []int) {
	for i := range s.there {
		if s.there[i].taking == 0 {
			at = append(at, i)
		}
	}
	return at
}

// historyModel is a queue by the contract of package virtual.
func historyModel(t virtual.Traits) porcupine.Model {
	return porcupine.Model{
		Partition: func(all []porcupine.Operation) (parts [][]porcupine.Operation) {
			for _, o := range all {
				q := o.Input.(historyInput).queue
				for len(parts) <= q {
					parts = append(parts, nil)
				}
				parts[q] = append(parts[q], o)
			}
			return parts
		},
		Init: func() any { return historyState{} },
		Step: func(state, input, output any) (bool, any) {
			return historyStep(&t, state.(historyState), input.(historyInput), output.(historyOutput))
		},
		Equal: func(a, b any) bool {
			x, y := a.(historyState), b.(historyState)
			return slices.Equal(x.there, y.there) && slices.Equal(x.gone, y.gone)
		},
		DescribeOperation: func(input, output any) string {
			return describeHistory(input.(historyInput), output.(historyOutput))
		},
	}
}

// historyStep says whether a call may be told this in a state, and returns the next one.
func historyStep(t *virtual.Traits, s historyState, in historyInput, out historyOutput) (bool, historyState) {
	switch in.op {
	case historyPut:
		if in.after >= 0 && s.find(in.after) < 0 && !s.was(in.after) {
			return false, s
		}
		s = s.copy()
		s.there = append(s.there, historyMessage{number: in.message})
		if !t.Ordered { // one order is as good as another
			slices.SortFunc(s.there, func(a, b historyMessage) int { return a.number - b.number })
		}
		return true, s
	case historyGet:
		return historyTake(t, s, in, out)
	case historySettle:
		return historyAnswer(s, in, out)
	case historyPurge:
		ready := s.ready()
		s = s.copy()
		for _, i := range slices.Backward(ready) {
			s.remove(i)
		}
		return out.n == len(ready), s
	default: // historySize
		return !t.ExactSize || out.n == len(s.ready()), s
	}
}

func historyTake(t *virtual.Traits, s historyState, in historyInput, out historyOutput) (bool, historyState) {
	ready := s.ready()
	if len(out.taken) > in.most || len(out.taken) > len(ready) {
		return false, s
	}
	if t.Ordered && in.alone && len(out.taken) < min(in.most, len(ready)) {
		return false, s
	}
	s = s.copy()
	for k, x := range out.taken {
		i := s.find(x.message)
		if i < 0 || s.there[i].taking != 0 || t.Ordered && i != ready[k] {
			return false, s
		}
		s.there[i].attempt++
		s.there[i].taking = x.taking
		if t.ExactAttempt && x.attempt != s.there[i].attempt {
			return false, s
		}
	}
	return true, s
}

func historyAnswer(s historyState, in historyInput, out historyOutput) (bool, historyState) {
	i := s.find(in.message)
	if i < 0 { // it was acked before: nothing happens
		return s.was(in.message), s
	}
	if s.there[i].taking != in.taking || out.stale {
		return false, s
	}
	s = s.copy()
	s.there[i].taking = 0
	switch in.kind {
	case virtual.Ack:
		s.remove(i)
	case virtual.Return:
		s.there[i].attempt--
	}
	return true, s
}

func describeHistory(in historyInput, out historyOutput) string {
	switch in.op {
	case historyPut:
		return fmt.Sprintf("put %x", in.message)
	case historyGet:
		text := fmt.Sprintf("get %d:", in.most)
		for _, x := range out.taken {
			text += fmt.Sprintf(" %x (attempt %d)", x.message, x.attempt)
		}
		return text
	case historySettle:
		text := fmt.Sprintf("%v %x", in.kind, in.message)
		if out.stale {
			text += ": stale"
		}
		return text
	case historyPurge:
		return fmt.Sprintf("purge: %d", out.n)
	}
	return fmt.Sprintf("size: %d", out.n)
}
