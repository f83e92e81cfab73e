package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/dashi-mq/dashi/virtual"
)

// crashMode is what happens at a crash point.
type crashMode uint8

const (
	crashBefore crashMode = iota // the process ends before the call
	crashInPart                  // the process ends in the middle of a call that is about several items, one by one
	crashLate                    // the process ends, and the call has its effect when another one has taken over
	crashAfter                   // the process ends when the call has had its effect
	crashReply                   // the call has its effect, its reply is lost, and the process lives on
	crashModes                   // how many there are
)

func (m crashMode) String() string {
	return [...]string{"before", "in part", "late", "after", "reply lost"}[m]
}

// crashPoint is a call, from 1 (0: none), and what happens at it.
type crashPoint struct {
	call int
	mode crashMode
}

func (p crashPoint) String() string {
	return fmt.Sprintf("crash at call %d, %v", p.call, p.mode)
}

// mortal stands between a process and its store, and ends the process at a call.
type mortal struct {
	at crashPoint

	mu    sync.Mutex
	armed bool
	items []int // of each call since
	hit   bool  // it happened
	dead  bool
	died  context.Context // ends with the process
	kill  context.CancelFunc
	owed  func(context.Context) error // the call that is still on its way
}

func newMortal(ctx context.Context, at crashPoint) *mortal {
	m := &mortal{at: at}
	m.died, m.kill = context.WithCancel(ctx)
	return m
}

// arm begins to count.
func (m *mortal) arm() {
	m.mu.Lock()
	m.armed = true
	m.mu.Unlock()
}

// end ends the process, and says whether that had happened before.
func (m *mortal) end() (early bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	early = m.dead
	m.dead = true
	m.kill()
	return early
}

// deliver has the call arrive that is still on its way.
func (m *mortal) deliver(ctx context.Context) {
	m.mu.Lock()
	owed := m.owed
	m.owed = nil
	m.mu.Unlock()
	if owed != nil {
		_ = owed(ctx) // nobody hears of it
	}
}

var (
	errDead      = errors.New("the process is dead")
	errReplyLost = errors.New("the reply is lost")
)

// meets counts a call and says whether the crash point is at it.
func (m *mortal) meets(call virtual.Call) bool {
	if !m.armed {
		return false
	}
	n := itemsOf(call)
	m.items = append(m.items, n)
	here := len(m.items) == m.at.call
	if m.at.mode == crashInPart { // calls are not always in the same order: the next one that is about several
		here = !m.hit && m.at.call > 0 && len(m.items) >= m.at.call && n > 1
	}
	if !here {
		return false
	}
	m.hit = true
	m.dead = m.at.mode != crashReply
	return true
}

func (m *mortal) pass(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
	m.mu.Lock()
	if m.dead {
		m.mu.Unlock()
		return errDead
	}
	mine := m.meets(call)
	m.mu.Unlock()
	if mine {
		switch m.at.mode {
		case crashBefore:
			m.kill()
			return errDead
		case crashLate:
			keep(call)
			m.mu.Lock()
			m.owed = next
			m.mu.Unlock()
			m.kill()
			return errDead
		case crashInPart:
			halve(call)
		}
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(m.died, stop)()
	err := next(ctx)
	if mine && m.at.mode == crashReply {
		return errReplyLost
	}
	if mine {
		m.kill()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.dead {
		return errDead
	}
	return err
}

// itemsOf is how many items a call is about that it may do one by one. What is one step by its contract has one.
func itemsOf(call virtual.Call) int {
	switch r := call.Request.(type) {
	case *virtual.PutRequest:
		if call.Method == "Put" {
			return len(r.Messages)
		}
	case *[]virtual.Settlement:
		return len(*r)
	case *virtual.GetRequest:
		return r.Max
	}
	return 1
}

// halve leaves the first half of a call's items.
func halve(call virtual.Call) {
	switch r := call.Request.(type) {
	case *virtual.PutRequest:
		r.Messages = r.Messages[:len(r.Messages)/2]
	case *[]virtual.Settlement:
		*r = (*r)[:len(*r)/2]
	case *virtual.GetRequest:
		r.Max, r.Rooms = r.Max/2, nil
	}
}

// keep has a request outlive its call, whose caller uses its slices again.
func keep(call virtual.Call) {
	switch r := call.Request.(type) {
	case *virtual.PutRequest:
		keepPut(r)
	case *virtual.ApplyRequest:
		keepPut(&r.PutRequest)
		r.Limits, r.Settlements = slices.Clone(r.Limits), slices.Clone(r.Settlements)
	case *[]virtual.Settlement:
		*r = slices.Clone(*r)
	case *[]virtual.Change:
		*r = slices.Clone(*r)
	case *virtual.GetRequest:
		r.Rooms = slices.Clone(r.Rooms)
	}
}

func keepPut(r *virtual.PutRequest) {
	r.Messages, r.Guard = slices.Clone(r.Messages), slices.Clone(r.Guard)
}
