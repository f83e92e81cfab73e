package conformance

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const whereGuard = "virtual/store.go, PutRequest.Guard"

var guardChecks = []StoreCheck{
	{
		Name: "Guards/Hold", run: guardsHold, Needs: []Claim{claimGuards, claimRegistry}, Where: whereGuard,
		Rule: "Guard lists records of the Registry that must have these revisions in the same step.",
	},
	{
		Name: "Guards/Differ", run: guardsDiffer, Needs: []Claim{claimGuards, claimRegistry}, Where: whereGuard,
		Rule: "Else nothing is stored, and a *GuardError names those that differ.",
	},
	{
		Name: "Guards/NoMark", run: guardsNoMark, Needs: []Claim{claimGuards, claimRegistry, claimMarks}, Where: whereGuard,
		Rule: "Else no mark is left: the same sequence may be put again with another guard.",
	},
	{
		Name: "Guards/Race", run: guardsRace, Needs: []Claim{claimGuards, claimRegistry}, Where: whereGuard,
		Rule: "Guard is checked in the same step: no message is stored behind a change that it did not know.",
	},
}

func (e *storeEnv) guarded(s virtual.Store, m *virtual.Message, guard ...virtual.Revision) error {
	return s.Put(e.ctx, virtual.PutRequest{Messages: []*virtual.Message{m}, Guard: guard})
}

// differs checks which records a GuardError names.
func (e *storeEnv) differs(err error, what string, want ...string) {
	e.Helper()
	g, ok := errors.AsType[*virtual.GuardError](err)
	if !ok {
		e.Fatalf("%s: the error is %v, want a *GuardError", what, err)
	}
	var got []string
	for _, r := range g.Differ {
		got = append(got, r.Key)
	}
	if slices.Sort(got); !slices.Equal(got, want) {
		e.Fatalf("%s: the *GuardError names %v, want %v", what, g.Differ, want)
	}
}

func guardsHold(e *storeEnv) {
	q, g := e.ref("orders"), e.registry(e.a, "a")
	r1 := g.must(write("x", "1", virtual.Any))
	e.must(e.guarded(e.b, e.message(q, "m1"), virtual.Revision{Key: "x", Rev: r1}), "Put with a guard that holds")
	r2 := g.must(op("x", virtual.Touch, virtual.Any), write("y", "1", virtual.Any))
	guard := []virtual.Revision{{Key: "x", Rev: r2}, {Key: "y", Rev: r2}, {Key: "none", Rev: 0}}
	e.must(e.guarded(e.b, e.message(q, "m2"), guard...), "Put with a guard of three that holds")
	g.must(op("y", virtual.Delete, virtual.Any), write("z", "1", virtual.Any))
	e.must(e.guarded(e.b, e.message(q, "m3"), virtual.Revision{Key: "y"}), "Put with a guard that a deleted record does not exist")
	e.holds(e.a, q, "put under guards that held", "m1", "m2", "m3")
}

func guardsDiffer(e *storeEnv) {
	q, g := e.ref("orders"), e.registry(e.a, "a")
	r1 := g.must(write("x", "1", virtual.Any), write("y", "1", virtual.Any))
	g.must(write("x", "2", virtual.Any))
	rev := func(key string, r uint64) virtual.Revision { return virtual.Revision{Key: key, Rev: r} }
	e.differs(e.guarded(e.b, e.message(q, "no"), rev("x", r1)), "one that was written since", "x")
	e.differs(e.guarded(e.b, e.message(q, "no"), rev("y", r1), rev("x", r1), rev("none", 3)), "two of three", "none", "x")
	e.differs(e.guarded(e.b, e.message(q, "no"), rev("x", 0)), "one that exists", "x")
	r3 := g.must(op("y", virtual.Touch, virtual.Any))
	e.differs(e.guarded(e.b, e.message(q, "no"), rev("y", r1)), "one that was touched since", "y")
	g.must(op("y", virtual.Delete, virtual.Any))
	e.differs(e.guarded(e.b, e.message(q, "no"), rev("y", r3)), "one that was deleted since", "y")
	e.must(g.KeepAlive(e.ctx, "short", e.units(2)), "KeepAlive")
	r4 := g.bound("of a session", "1", "short")
	e.must(e.guarded(e.b, e.message(q, "m1"), rev("of a session", r4)), "Put with a guard that holds")
	e.pause(e.units(2) + e.margin())
	e.differs(e.guarded(e.b, e.message(q, "no"), rev("of a session", r4)), "one whose session has ended by time", "of a session")
	e.holds(e.a, q, "put under guards of which one held", "m1")
}

func guardsNoMark(e *storeEnv) {
	q, g := e.ref("orders"), e.registry(e.a, "a")
	r1 := g.must(write("x", "1", virtual.Any))
	r := virtual.PutRequest{Messages: e.messages(q, "m1"), Producer: "producer", Sequence: 1, Guard: []virtual.Revision{{Key: "x", Rev: r1 + 1}}}
	e.is(e.b.Put(e.ctx, r), virtual.ErrGuard, "Put with a guard that does not hold")
	r.Guard[0].Rev = r1
	e.must(e.b.Put(e.ctx, r), "Put with the same sequence and a guard that holds")
	g.must(op("x", virtual.Touch, virtual.Any))
	e.must(e.b.Put(e.ctx, r), "the same again, the guard of which held then")
	e.holds(e.a, q, "put three times with one sequence", "m1")
}

func guardsRace(e *storeEnv) {
	q, g := e.ref("orders"), e.registry(e.a, "a")
	const rounds = 40
	for i := range rounds {
		rev := g.must(write("x", fmt.Sprint(i), virtual.Any))
		put := calls(e, func(context.Context) (error, error) {
			return e.guarded(e.b, e.message(q, "m"), virtual.Revision{Key: "x", Rev: rev}), nil
		})
		time.Sleep(time.Duration(i%3) * e.unit / 1e6) // now and then it comes between
		_, err := g.update(op("x", virtual.Touch, virtual.Any))
		e.must(err, "Update beside a Put")
		n := len(e.get(e.a, q, 1, 0)) // what is stored after the Update has returned came before it
		refused, _ := put.wait(e, "a Put with a guard", e.patience())
		late := len(e.get(e.a, q, 1, 0))
		switch {
		case refused == nil && n+late != 1:
			e.Fatalf("round %d: a Put whose guard held has stored %d messages", i, n+late)
		case refused != nil && n+late != 0:
			e.Fatalf("round %d: a Put was refused with %v, and its message is stored", i, refused)
		case late != 0:
			e.Fatalf("round %d: a message was stored behind a change of its guard", i)
		}
	}
}
