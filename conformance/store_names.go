package conformance

import (
	"strings"

	"github.com/dashi-mq/dashi/virtual"
)

var nameChecks = []StoreCheck{
	{
		Name: "Names/Odd", run: namesOdd, Where: "virtual/store.go, QueueRef",
		Rule: "Name is 1 to 255 bytes of UTF-8 (or begins with \"!\" for the engine's own queues): any of them is a queue of its own.",
	},
	{
		Name: "Names/Incarnations", run: namesIncarnations, Where: "virtual/store.go, QueueRef",
		Rule: "A queue that is deleted and declared again is a new Incarnation: nothing of the old one ever shows up in it.",
	},
	{
		Name: "Names/NameAndIncarnation", run: namesBoth, Where: "virtual/store.go, QueueRef",
		Rule: "QueueRef names a queue by its Name and its Incarnation: two parts, however a store joins them.",
	},
}

// oddNames are names that a store may take for one another, or for something else.
func oddNames() []string {
	return []string{
		"a", "A", "a ", " a", "a\n", "\na", "a\r\n", "a\t", "a\x00", "a\x00b", "\x00", "a/b", "a//b", "a/b/", "/a", "a%2Fb", "a\\b", "%", "%00",
		".", "..", "../a", "a.b", "a..b", "*", "a*", "#", "a#b", "?", "[a]", "{a}", "a:b", "a|b", "a;b", "a,b", "a'b", "a\"b", "a`b", "$a", "~",
		"-a", "_", "=", "a b c*é.fifo}", "a/b c*é.fifo}", "a/b c*é.fifo", "A/b c*é.fifo}", "é", "e\u0301", "E\u0301", "ﬁ", "fi", "日本語", "🐰",
		"null", "NaN", "0", "00", "!own", "own", "con", "aux.txt", strings.Repeat("x", 255), strings.Repeat("x", 254), strings.Repeat("x", 254) + "y",
		strings.Repeat("é", 127), strings.Repeat("é", 126) + "e", "amq.gen-1", "queue{1}",
	}
}

func namesOdd(e *storeEnv) {
	names := oddNames()
	for _, n := range names {
		e.put(e.a, e.ref(n), "body of "+n)
	}
	for _, n := range names {
		q := virtual.QueueRef{Name: n, Incarnation: "1"}
		e.size(e.b, q, 1, "queue "+show([]string{n}))
		e.holds(e.b, q, "queue "+show([]string{n}), "body of "+n)
	}
}

func namesIncarnations(e *storeEnv) {
	old := e.create(virtual.QueueRef{Name: "orders", Incarnation: "1"})
	e.put(e.a, old, "old-1", "old-2", "old-3")
	held := e.take(e.a, old, 1, e.leaseOf(e.long()))
	anew := e.create(virtual.QueueRef{Name: "orders", Incarnation: "2"})
	e.empty(e.b, anew, "a new incarnation")
	e.size(e.b, anew, 0, "a new incarnation")
	e.put(e.b, anew, "new-1")
	e.settle(e.a, virtual.Requeue, 0, held...)
	e.holds(e.b, anew, "the new incarnation", "new-1")
	e.holds(e.a, old, "the old incarnation, which nobody has deleted", "old-1", "old-2", "old-3")
}

func namesBoth(e *storeEnv) {
	refs := []virtual.QueueRef{
		{Name: "a", Incarnation: "b-c"}, {Name: "a-b", Incarnation: "c"}, {Name: "a.b", Incarnation: "c"}, {Name: "a", Incarnation: "b.c"},
		{Name: "a", Incarnation: "a"}, {Name: "a", Incarnation: "A"}, {Name: "a", Incarnation: "01"}, {Name: "a", Incarnation: "1"},
		{Name: "a0", Incarnation: "1"}, {Name: "a1", Incarnation: "1"}, {Name: "a", Incarnation: "11"}, {Name: "a\x00b", Incarnation: "c"},
		{Name: "a:b", Incarnation: "c"}, {Name: "a/b", Incarnation: "c"}, {Name: "a", Incarnation: "-"}, {Name: "a-", Incarnation: "-"},
		{Name: "a", Incarnation: strings.Repeat("0", 32)},
	}
	for _, q := range refs {
		e.create(q)
		e.put(e.a, q, q.Name+" of "+q.Incarnation)
	}
	for _, q := range refs {
		e.holds(e.b, q, "queue "+show([]string{q.Name, q.Incarnation}), q.Name+" of "+q.Incarnation)
	}
}
