package faultproxy

import (
	"fmt"
	"strings"
	"time"
)

// Kind is what a fault does.
type Kind string

// The kinds.
const (
	// Cut ends a connection in order, by FIN, on both sides.
	Cut Kind = "cut"
	// Reset ends a connection by RST on both sides: what is on its way is lost.
	Reset Kind = "reset"
	// Stall stops forwarding. Nothing is lost, and all comes when the stall is over.
	Stall Kind = "stall"
	// Drip forwards one byte every Fault.Every.
	Drip Kind = "drip"
	// HalfOpen accepts new connections, and neither forwards nor answers, now or later: their client has to give up. It leaves open
	// connections alone.
	HalfOpen Kind = "half-open"
)

// Way is the direction that a fault looks at.
type Way string

// The ways.
const (
	Both     Way = ""         // each by itself
	Requests Way = "requests" // from the client to the target
	Replies  Way = "replies"  // from the target to the client
)

// Fault is something that goes wrong.
type Fault struct {
	Kind Kind
	// Way is what Stall and Drip hold up, and where After counts.
	Way Way
	// After lets so many bytes pass before a Cut or Reset. They are counted for each connection from Inject on. A cut after bytes ends the
	// connection right behind the last of them, in the middle of whatever they are.
	After int64
	// For is how long Stall, Drip and HalfOpen last; 0 is until Heal.
	For time.Duration
	// Every is the interval of Drip; 0 means 10 ms.
	Every time.Duration
}

func (f Fault) String() string {
	s := string(f.Kind)
	if f.For > 0 {
		s += fmt.Sprintf("=%v", f.For)
	}
	if f.After > 0 {
		s += fmt.Sprintf(" after %d bytes", f.After)
	}
	return strings.TrimRight(s+" "+string(f.Way), " ")
}

// over is when a fault ends that begins now: the zero time is never.
func (f Fault) over() time.Time {
	if f.For == 0 {
		return time.Time{}
	}
	return time.Now().Add(f.For)
}

// spell is a time during which something is so.
type spell struct {
	on    bool
	until time.Time // zero: until it is ended
}

func (s spell) now() bool { return s.on && (s.until.IsZero() || time.Now().Before(s.until)) }

// left is a channel for the end of a spell, nil if it has none of its own, and a function that lets it go.
func (s spell) left() (<-chan time.Time, func() bool) {
	if s.until.IsZero() {
		return nil, func() bool { return true }
	}
	t := time.NewTimer(time.Until(s.until))
	return t.C, t.Stop
}
