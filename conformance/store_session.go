package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

var sessionChecks = []StoreCheck{
	{
		Name: "Sessions/ByTime", run: sessionsByTime, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Registry.KeepAlive",
		Rule: "A session ends when it was not renewed for ttl, by the store's clock; its records are deleted.",
	},
	{
		Name: "Sessions/Renewed", run: sessionsRenewed, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Registry.KeepAlive",
		Rule: "KeepAlive renews a session: it ends when it was not renewed for ttl.",
	},
	{
		Name: "Sessions/Ended", run: sessionsEnded, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Registry.EndSession",
		Rule: "EndSession ends a session: its records are deleted. Ending one that has ended, or never was, is no error.",
	},
	{
		Name: "Sessions/NeverAgain", run: sessionsNeverAgain, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Registry.KeepAlive",
		Rule: "A session that has ended is never opened again: ErrSession.",
	},
	{
		Name: "Sessions/Update", run: sessionsUpdate, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "session is the caller's, and must be alive (ErrSession).",
	},
	{
		Name: "Sessions/Wakes", run: sessionsWake, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "With none Changes waits for one: the end of a session deletes records, and wakes who waits.",
	},
	{
		Name: "Sessions/List", run: sessionsList, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Registry.Sessions",
		Rule: "Sessions lists the sessions that are alive.",
	},
	{
		Name: "Sessions/OtherWriter", run: sessionsOtherWriter, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Record.Session",
		Rule: "Session is the one the record goes with, as its last Write said; empty: it stays.",
	},
}

// bound writes a record that goes with a session.
func (g *reg) bound(key, value, session string) uint64 {
	g.e.Helper()
	return g.must(virtual.Change{Key: key, If: virtual.Any, Value: []byte(value), Session: session})
}

func sessionsByTime(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	ttl := e.units(4)
	before := time.Now()
	e.must(g.KeepAlive(e.ctx, "short", ttl), "KeepAlive")
	g.bound("goes", "1", "short")
	r := g.bound("goes too", "1", "short")
	g.must(write("stays", "1", virtual.Any))
	g.bound("of another", "1", "a")
	e.pause(ttl/2 - time.Since(before))
	h.value("goes", "1", 0)
	e.pause(ttl - time.Since(before) + e.margin())
	h.value("goes", "", 0)
	h.value("goes too", "", 0)
	h.value("stays", "1", 0)
	h.value("of another", "1", 0)
	recs, _, _, err := h.Changes(e.ctx, r, 0)
	e.must(err, "Changes")
	if got := slices.Sorted(slices.Values(describe(recs))); !slices.Equal(got, []string{"-goes", "-goes too", "of another=1", "stays=1"}) {
		e.Fatalf("Changes after a session's end are %s", show(got))
	}
}

func sessionsRenewed(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	ttl := e.units(4)
	e.must(g.KeepAlive(e.ctx, "short", ttl), "KeepAlive")
	g.bound("k", "1", "short")
	for range 4 {
		e.pause(e.units(2))
		e.must(g.KeepAlive(e.ctx, "short", ttl), "KeepAlive within ttl")
	}
	h.value("k", "1", 0)
	e.must(h.KeepAlive(e.ctx, "short", e.units(1)), "KeepAlive by another process, for less")
	e.pause(e.units(1) + e.margin())
	h.value("k", "", 0)
}

func sessionsEnded(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	e.must(g.KeepAlive(e.ctx, "short", e.units(100)), "KeepAlive")
	g.bound("goes", "1", "short")
	g.must(write("stays", "1", virtual.Any))
	for range 3 {
		e.must(h.EndSession(e.ctx, "short"), "EndSession, also of one that has ended")
	}
	e.must(h.EndSession(e.ctx, "never was"), "EndSession of one that never was")
	g.value("goes", "", 0)
	g.value("stays", "1", 0)
	g.conflict("Exists, of a record that went with its session", map[string]uint64{"goes": 0}, op("goes", virtual.Check, virtual.Exists))
}

func sessionsNeverAgain(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	e.must(g.KeepAlive(e.ctx, "ended", e.units(100)), "KeepAlive")
	e.must(g.EndSession(e.ctx, "ended"), "EndSession")
	e.must(g.KeepAlive(e.ctx, "over", e.units(1)), "KeepAlive")
	e.pause(e.units(1) + e.margin())
	for _, s := range []string{"ended", "over"} {
		e.is(g.KeepAlive(e.ctx, s, e.units(10)), virtual.ErrSession, "KeepAlive of a session that has %s", s)
		e.is(h.KeepAlive(e.ctx, s, e.units(10)), virtual.ErrSession, "KeepAlive of a session that has %s, by another process", s)
	}
	list, err := h.Sessions(e.ctx)
	e.must(err, "Sessions")
	if slices.Contains(list, "ended") || slices.Contains(list, "over") {
		e.Fatalf("Sessions lists one that has ended: %s", show(list))
	}
}

func sessionsUpdate(e *storeEnv) {
	g := e.registry(e.a, "a")
	e.must(g.KeepAlive(e.ctx, "ended", e.units(100)), "KeepAlive")
	e.must(g.EndSession(e.ctx, "ended"), "EndSession")
	e.must(g.KeepAlive(e.ctx, "over", e.units(1)), "KeepAlive")
	e.pause(e.units(1) + e.margin())
	for _, s := range []string{"ended", "over", "never was"} {
		_, err := g.Update(e.ctx, s, []virtual.Change{write("k", "v", virtual.Any)})
		e.is(err, virtual.ErrSession, "Update with session %q", s)
	}
	_, err := g.update(write("k", "v", virtual.Any), virtual.Change{Key: "l", If: virtual.Any, Value: []byte("v"), Session: "ended"})
	e.is(err, virtual.ErrSession, "Update that writes a record to go with a session that has ended")
	g.value("k", "", 0)
	g.value("l", "", 0)
}

func sessionsWake(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	for i, how := range []string{"time", "EndSession"} {
		s := fmt.Sprintf("s%d", i)
		e.must(g.KeepAlive(e.ctx, s, e.units(3)), "KeepAlive")
		rev := g.bound("k"+s, "1", s)
		c := calls(e, func(ctx context.Context) ([]virtual.Record, error) {
			recs, _, _, err := h.Changes(ctx, rev, e.units(40))
			return recs, err
		})
		e.quiet()
		if how == "EndSession" {
			e.pause(e.units(1))
			e.must(g.EndSession(e.ctx, s), "EndSession")
		}
		recs, err := c.wait(e, "Changes that waits while a session ends by "+how, e.units(40)+e.patience())
		e.must(err, "Changes")
		if got := describe(recs); !slices.Equal(got, []string{"-k" + s}) {
			e.Fatalf("Changes that waited while a session ended by %s returned %s", how, show(got))
		}
		e.between("Changes that waited while a session ended by "+how+": returned", c.took, 0, e.units(3)+e.slack())
	}
	// A session that begins while one waits ends in time as well.
	_, rev, _, err := h.Changes(e.ctx, 0, 0)
	e.must(err, "Changes")
	c := calls(e, func(ctx context.Context) ([]string, error) {
		var all []string
		for len(all) < 2 {
			recs, next, _, err := h.Changes(ctx, rev, e.units(40))
			if err != nil || len(recs) == 0 {
				return all, err
			}
			all, rev = append(all, describe(recs)...), next
		}
		return all, nil
	})
	e.quiet()
	e.must(g.KeepAlive(e.ctx, "late", e.units(2)), "KeepAlive")
	g.bound("k", "1", "late")
	all, err := c.wait(e, "Changes that waits for the end of a session that began meanwhile", e.units(80)+e.patience())
	e.must(err, "Changes")
	if !slices.Equal(all, []string{"k=1", "-k"}) {
		e.Fatalf("Changes returned %s, want k=1 and -k", show(all))
	}
	e.between("Changes that waited for the end of a session: returned", c.took, 0, e.units(2)+2*e.slack())
}

func sessionsList(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	names := []string{"s1", "s2", "S2", "s-2.1"}
	for _, s := range names {
		e.must(g.KeepAlive(e.ctx, s, e.units(100)), "KeepAlive")
	}
	e.must(g.EndSession(e.ctx, "s2"), "EndSession")
	list, err := h.Sessions(e.ctx)
	e.must(err, "Sessions")
	if got, want := slices.Sorted(slices.Values(list)), []string{"S2", "a", "b", "s-2.1", "s1"}; !slices.Equal(got, want) {
		e.Fatalf("Sessions lists %s, want %s", show(got), show(want))
	}
}

func sessionsOtherWriter(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	for _, s := range []string{"s1", "s2"} {
		e.must(g.KeepAlive(e.ctx, s, e.units(100)), "KeepAlive")
	}
	g.bound("taken over", "1", "s1")
	h.bound("taken over", "2", "s2")
	g.bound("set free", "1", "s1")
	h.must(write("set free", "2", virtual.Any))
	g.bound("touched", "1", "s1")
	h.must(op("touched", virtual.Touch, virtual.Any))
	g.bound("again", "1", "s1")
	g.must(op("again", virtual.Delete, virtual.Any))
	g.must(write("again", "2", virtual.Absent))
	e.must(g.EndSession(e.ctx, "s1"), "EndSession")
	h.value("taken over", "2", 0)
	h.value("set free", "2", 0)
	h.value("touched", "", 0)
	h.value("again", "2", 0)
	e.must(g.EndSession(e.ctx, "s2"), "EndSession")
	h.value("taken over", "", 0)
}
