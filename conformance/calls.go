package conformance

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/dashi-mq/dashi/virtual"
)

// Calls counts the calls that pass through a store, by method. It is safe for concurrent use.
type Calls struct{ by sync.Map } // of method to *callCount

type callCount struct{ calls, items atomic.Int64 }

// CallCount is how often a method was called, and how many items the calls were about: messages of a Put, settlements of
// a Settle. The items of other methods are not counted, since those of a Get are not known before it returns.
type CallCount struct{ Calls, Items int64 }

// CallCounts are the counts of one moment, by the name of the method as virtual.Call has it, such as "Get" or
// "Registry.Update". A method that was not called is missing.
type CallCounts map[string]CallCount

// Counted returns s with every call counted, when it is made: a Get that waits counts from its beginning. All
// handles that are to be counted together are wrapped by CountedBy.
//
//	s, calls := conformance.Counted(place.Open())
//	before := calls.Now()
//	// ... an engine works on s ...
//	t.Log(calls.Now().Since(before)) // Get 12, Put 1 (100 items), Settle 10 (100 items)
func Counted(s virtual.Store) (virtual.Store, *Calls) {
	c := new(Calls)
	return CountedBy(s, c), c
}

// CountedBy returns s with every call counted by c, which may count for several stores.
func CountedBy(s virtual.Store, c *Calls) virtual.Store {
	return virtual.Intercept(s, func(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
		c.count(call)
		return next(ctx)
	})
}

func (c *Calls) count(call virtual.Call) {
	n, ok := c.by.Load(call.Method)
	if !ok {
		n, _ = c.by.LoadOrStore(call.Method, new(callCount))
	}
	items := 0
	switch r := call.Request.(type) {
	case *virtual.PutRequest:
		items = len(r.Messages)
	case *[]virtual.Settlement:
		items = len(*r)
	case *virtual.ApplyRequest:
		items = len(r.Messages) + len(r.Settlements)
	case *[]virtual.Change:
		items = len(*r)
	}
	n.(*callCount).calls.Add(1)
	n.(*callCount).items.Add(int64(items))
}

// Now returns the counts of this moment. Those of different methods are not read in one step.
func (c *Calls) Now() CallCounts {
	out := CallCounts{}
	for method, n := range c.by.Range {
		n := n.(*callCount)
		out[method.(string)] = CallCount{n.calls.Load(), n.items.Load()}
	}
	return out
}

// String is Now as text.
func (c *Calls) String() string { return c.Now().String() }

// Since returns what was counted after before.
func (c CallCounts) Since(before CallCounts) CallCounts {
	out := CallCounts{}
	for method, n := range c {
		was := before[method]
		if d := (CallCount{n.Calls - was.Calls, n.Items - was.Items}); d != (CallCount{}) {
			out[method] = d
		}
	}
	return out
}

// Total is how many calls there were.
func (c CallCounts) Total() (n int64) {
	for _, k := range c {
		n += k.Calls
	}
	return n
}

// String lists the methods by name with their counts, such as "Get 3, Put 2 (100 items)"; "no calls" if there were none.
func (c CallCounts) String() string {
	if len(c) == 0 {
		return "no calls"
	}
	var parts []string
	for _, method := range slices.Sorted(maps.Keys(c)) {
		n := c[method]
		part := fmt.Sprintf("%s %d", method, n.Calls)
		if n.Items > 0 {
			part += fmt.Sprintf(" (%d items)", n.Items)
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, ", ")
}
