package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/virtual"
)

const whereRegistry = "virtual/registry.go, Registry"

var registryChecks = []StoreCheck{
	{
		Name: "Registry/Conditions", run: registryConditions, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Condition",
		Rule: "Condition is what a Change asks of the record before: a revision, Absent, Any or Exists.",
	},
	{
		Name: "Registry/AllOrNothing", run: registryAllOrNothing, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "Update makes all changes in one step, or none: *ConflictError names those whose condition does not hold.",
	},
	{
		Name: "Registry/Ops", run: registryOps, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Op",
		Rule: "Write sets Value and Session; Touch gives an existing record a new revision; Delete removes it; Check only asks. A missing record is no error.",
	},
	{
		Name: "Registry/Revisions", run: registryRevisions, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "Revisions are one rising sequence for the whole registry. All records of one Update get the revision it returns.",
	},
	{
		Name: "Registry/Changes", run: registryChanges, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "Changes returns every record whose revision is above since, in rising order of revision, deleted ones marked; since 0 returns all that exist.",
	},
	{
		Name: "Registry/Changes/Waits", run: registryWaits, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "With none Changes waits for one, up to wait.",
	},
	{
		Name: "Registry/Changes/Follows", run: registryFollows, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "The revision returned is where to go on from: who follows misses nothing.",
	},
	{
		Name: "Registry/Values", run: registryValues, Needs: []Claim{claimRegistry}, Where: "virtual/registry.go, Record",
		Rule: "Keys are names and values are bytes: they come back as they were written. Slices are the caller's.",
	},
	{
		Name: "Registry/Race", run: registryRace, Needs: []Claim{claimRegistry}, Where: whereRegistry,
		Rule: "Update makes all changes in one step: of many that compare and set, one at a time wins.",
	},
}

// reg is a handle's registry with a session that stays.
type reg struct {
	virtual.Registry
	e       *storeEnv
	session string
}

func (e *storeEnv) registry(s virtual.Store, session string) *reg {
	e.Helper()
	g := &reg{capability[virtual.Registry](e, s), e, session}
	e.must(g.KeepAlive(e.ctx, session, e.units(2000)), "KeepAlive")
	return g
}

func (g *reg) update(changes ...virtual.Change) (uint64, error) {
	return g.Update(g.e.ctx, g.session, changes)
}

// must makes changes whose conditions hold.
func (g *reg) must(changes ...virtual.Change) uint64 {
	g.e.Helper()
	rev, err := g.update(changes...)
	g.e.must(err, "Update of %d records", len(changes))
	return rev
}

// conflict makes an Update that must not be made, and checks which records the error names at which revisions.
func (g *reg) conflict(what string, want map[string]uint64, changes ...virtual.Change) {
	e := g.e
	e.Helper()
	_, err := g.update(changes...)
	c, ok := errors.AsType[*virtual.ConflictError](err)
	if !ok {
		e.Fatalf("%s: the error is %v, want a *ConflictError", what, err)
	}
	got := map[string]uint64{}
	for _, d := range c.Differ {
		got[d.Key] = d.Rev
	}
	if fmt.Sprint(got) != fmt.Sprint(want) {
		e.Fatalf("%s: the *ConflictError names %v, want %v", what, got, want)
	}
}

// all returns the records that exist, by key.
func (g *reg) all() map[string]virtual.Record {
	e := g.e
	e.Helper()
	recs, _, reset, err := g.Changes(e.ctx, 0, 0)
	e.must(err, "Changes since 0")
	if reset {
		e.Logf("Changes since 0 says reset")
	}
	m := map[string]virtual.Record{}
	for _, r := range recs {
		if r.Deleted {
			e.Fatalf("Changes since 0 returned %q, which is deleted", r.Key)
		}
		if _, twice := m[r.Key]; twice {
			e.Fatalf("Changes since 0 returned %q twice", r.Key)
		}
		m[r.Key] = r
	}
	return m
}

// value checks a record; "" is one that does not exist.
func (g *reg) value(key, want string, rev uint64) {
	e := g.e
	e.Helper()
	r, ok := g.all()[key]
	switch {
	case want == "" && ok:
		e.Fatalf("record %q exists, want none", key)
	case want != "" && !ok:
		e.Fatalf("record %q does not exist", key)
	case want != "" && string(r.Value) != want:
		e.Fatalf("record %q is %q, want %q", key, r.Value, want)
	case want != "" && rev != 0 && r.Rev != rev:
		e.Fatalf("record %q is at %d, want %d", key, r.Rev, rev)
	}
}

func write(key, value string, cond virtual.Condition) virtual.Change {
	return virtual.Change{Key: key, Op: virtual.Write, If: cond, Value: []byte(value)}
}

func op(key string, op virtual.Op, cond virtual.Condition) virtual.Change {
	return virtual.Change{Key: key, Op: op, If: cond}
}

func registryConditions(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	g.conflict("Exists, of none", map[string]uint64{"k": 0}, write("k", "v", virtual.Exists))
	g.conflict("a revision, of none", map[string]uint64{"k": 0}, write("k", "v", 5))
	r1 := g.must(write("k", "v1", virtual.Absent))
	h.value("k", "v1", r1)
	h.conflict("Absent, of one that exists", map[string]uint64{"k": r1}, write("k", "v", virtual.Absent))
	h.conflict("another revision", map[string]uint64{"k": r1}, write("k", "v", virtual.Condition(r1+1)))
	r2 := h.must(write("k", "v2", virtual.Condition(r1)))
	g.conflict("a revision that was", map[string]uint64{"k": r2}, write("k", "v", virtual.Condition(r1)))
	r3 := g.must(write("k", "v3", virtual.Exists))
	r4 := g.must(write("k", "v4", virtual.Any))
	g.must(write("new", "n", virtual.Any))
	g.conflict("a Check", map[string]uint64{"k": r4}, op("k", virtual.Check, virtual.Condition(r3)))
	g.conflict("a Touch", map[string]uint64{"k": r4}, op("k", virtual.Touch, virtual.Absent))
	g.conflict("a Delete", map[string]uint64{"k": r4}, op("k", virtual.Delete, virtual.Condition(r2)))
	h.value("k", "v4", r4)
	h.must(op("k", virtual.Delete, virtual.Condition(r4)))
	h.conflict("Exists, of one that was deleted", map[string]uint64{"k": 0}, op("k", virtual.Check, virtual.Exists))
	h.conflict("its last revision, of one that was deleted", map[string]uint64{"k": 0}, write("k", "v", virtual.Condition(r4)))
	h.must(write("k", "v5", virtual.Absent))
	g.value("k", "v5", 0)
}

func registryAllOrNothing(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	r := g.must(write("a", "1", virtual.Absent), write("b", "1", virtual.Absent), write("c", "1", virtual.Absent))
	_, before, _, err := g.Changes(e.ctx, 0, 0)
	e.must(err, "Changes")
	h.conflict("two conditions of six do not hold", map[string]uint64{"b": r, "d": 0},
		write("a", "2", virtual.Condition(r)), write("b", "2", virtual.Absent), op("c", virtual.Delete, virtual.Any),
		op("d", virtual.Touch, virtual.Exists), write("e", "2", virtual.Absent), op("a", virtual.Check, virtual.Exists))
	recs, rev, _, err := g.Changes(e.ctx, before, 0)
	e.must(err, "Changes")
	if len(recs) > 0 {
		e.Fatalf("an Update that was refused has changed %q", recs[0].Key)
	}
	if rev < before {
		e.Fatalf("the revision fell from %d to %d", before, rev)
	}
	for _, k := range []string{"a", "b", "c"} {
		h.value(k, "1", r)
	}
	h.value("e", "", 0)
	h.must(write("a", "3", virtual.Condition(r)), op("b", virtual.Delete, virtual.Condition(r)), op("c", virtual.Check, virtual.Condition(r)),
		write("e", "3", virtual.Absent))
	g.value("a", "3", 0)
	g.value("b", "", 0)
	g.value("c", "1", r)
	g.value("e", "3", 0)
}

func registryOps(e *storeEnv) {
	g := e.registry(e.a, "a")
	r1 := g.must(virtual.Change{Key: "k", Op: virtual.Write, If: virtual.Any, Value: []byte("v"), Session: "a"})
	r2 := g.must(op("k", virtual.Touch, virtual.Any), op("missing", virtual.Touch, virtual.Any), op("missing", virtual.Delete, virtual.Absent))
	if r2 <= r1 {
		e.Fatalf("a Touch has left the revision at %d", r2)
	}
	g.value("k", "v", r2)
	g.value("missing", "", 0)
	if s := g.all()["k"].Session; s != "a" {
		e.Fatalf("a Touch has set the session of a record to %q", s)
	}
	g.must(op("k", virtual.Check, virtual.Condition(r2)), op("missing", virtual.Check, virtual.Absent))
	g.value("k", "v", r2)
	r3 := g.must(write("k", "w", virtual.Any))
	g.value("k", "w", r3)
	if s := g.all()["k"].Session; s != "" {
		e.Fatalf("a Write without a session has left the record with session %q", s)
	}
	g.must(op("k", virtual.Delete, virtual.Any))
	g.value("k", "", 0)
	g.must(op("k", virtual.Delete, virtual.Any), op("k", virtual.Touch, virtual.Any))
	g.value("k", "", 0)
	g.must(write("empty", "", virtual.Any))
	if r, ok := g.all()["empty"]; !ok || len(r.Value) != 0 {
		e.Fatalf("a record with an empty value is %v %q", ok, r.Value)
	}
}

func registryRevisions(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	last := uint64(0)
	for i := range 20 {
		by := g
		if i%2 == 1 {
			by = h
		}
		a, b := fmt.Sprintf("k%d", i%3), fmt.Sprintf("l%d", i)
		rev := by.must(write(a, "v", virtual.Any), write(b, "v", virtual.Absent))
		if rev <= last || rev == 0 {
			e.Fatalf("an Update has revision %d after one with %d", rev, last)
		}
		last = rev
		all := g.all()
		if all[a].Rev != rev || all[b].Rev != rev {
			e.Fatalf("the records of one Update are at %d and %d, want %d", all[a].Rev, all[b].Rev, rev)
		}
	}
}

// describe is records as text: "k=v" or "-k" for a deleted one.
func describe(recs []virtual.Record) []string {
	var out []string
	for _, r := range recs {
		if r.Deleted {
			out = append(out, "-"+r.Key)
		} else {
			out = append(out, r.Key+"="+string(r.Value))
		}
	}
	return out
}

func (g *reg) changes(since uint64, what string, want ...string) uint64 {
	e := g.e
	e.Helper()
	recs, rev, _, err := g.Changes(e.ctx, since, 0)
	e.must(err, "Changes since %d", since)
	for i := range recs {
		if i > 0 && recs[i].Rev < recs[i-1].Rev {
			e.Fatalf("%s: %q at %d comes after %q at %d", what, recs[i].Key, recs[i].Rev, recs[i-1].Key, recs[i-1].Rev)
		}
		if recs[i].Rev <= since || recs[i].Rev > rev {
			e.Fatalf("%s: %q is at %d, since is %d, and to go on from %d", what, recs[i].Key, recs[i].Rev, since, rev)
		}
	}
	if got := describe(recs); !slices.Equal(got, want) {
		e.Fatalf("%s: Changes since %d are %s, want %s", what, since, show(got), show(want))
	}
	return rev
}

func registryChanges(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	g.changes(0, "an empty registry")
	r1 := g.must(write("a", "1", virtual.Any))
	r2 := g.must(write("b", "1", virtual.Any))
	r3 := g.must(write("c", "1", virtual.Any))
	if got := h.changes(0, "three writes", "a=1", "b=1", "c=1"); got != r3 {
		e.Fatalf("to go on from %d, want %d", got, r3)
	}
	h.changes(r1, "above the first", "b=1", "c=1")
	h.changes(r2, "above the second", "c=1")
	h.changes(r3, "above the last")
	g.must(write("a", "2", virtual.Any))
	r5 := g.must(op("b", virtual.Delete, virtual.Any))
	h.changes(r1, "one changed, one deleted", "c=1", "a=2", "-b")
	h.changes(r3, "one changed, one deleted, above the writes", "a=2", "-b")
	h.changes(0, "all that exist", "c=1", "a=2")
	r6 := g.must(op("c", virtual.Touch, virtual.Any))
	h.changes(r5, "touched", "c=1")
	g.must(op("a", virtual.Check, virtual.Any))
	h.changes(r6, "only checked")
	g.must(write("b", "3", virtual.Absent))
	h.changes(r3, "deleted and written again", "a=2", "c=1", "b=3")
}

func registryValues(e *storeEnv) {
	g, h := e.registry(e.a, "a"), e.registry(e.b, "b")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	values := [][]byte{all, {}, {0}, bytes.Repeat([]byte("x"), 100_000)}
	var changes []virtual.Change
	for i, v := range values {
		changes = append(changes, virtual.Change{Key: fmt.Sprintf("value %d", i), If: virtual.Absent, Value: bytes.Clone(v)})
	}
	for _, k := range []string{"k", "K", "k ", "k/é", "k:1", "k.1", "k\n", "{k}", "exchange/a b*#"} {
		changes = append(changes, virtual.Change{Key: k, If: virtual.Absent, Value: []byte("of " + k)})
	}
	want := slices.Clone(changes)
	for i := range want {
		want[i].Value = bytes.Clone(want[i].Value)
	}
	g.must(changes...)
	for _, c := range changes { // the caller's
		for i := range c.Value {
			c.Value[i] = '!'
		}
	}
	clear(changes)
	got := h.all()
	if len(got) != len(want) {
		e.Errorf("%d records exist, want %d: keys that are nearly alike were taken for one", len(got), len(want))
	}
	for _, c := range want {
		if !bytes.Equal(got[c.Key].Value, c.Value) {
			e.Fatalf("record %q has come back as %d bytes, other than it was written", c.Key, len(got[c.Key].Value))
		}
	}
}
