package conformance

import (
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dashi-mq/dashi/channel"
)

func ex12(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Direct)
	a, b, both := sub.bound(x, "a"), sub.bound(x, "b"), sub.bound(x, "a")
	sub.bind(both, "b", x)
	sub.bind(both, "a", x, table{"other": true}) // bound twice under one key
	empty := sub.bound(x, "")
	for _, key := range []string{"a", "b", "", "A", "a.b", "*", "#", "a ", "nowhere"} {
		pub.post(x, key, "by "+key)
	}
	sub.holds(a, "by a")
	sub.holds(b, "by b")
	sub.holds(both, "by a", "by b")
	sub.holds(empty, "by ")
	d := sub.bound(x, "é*#.")
	pub.post(x, "é*#.", "by é*#.")
	sub.holds(d, "by é*#.")
}

func ex13(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Fanout)
	var queues []string
	for i := range 6 {
		q := sub.queue()
		sub.bind(q, fmt.Sprint("key", i), x)
		if i%2 == 0 {
			sub.bind(q, "another", x) // still one copy
		}
		queues = append(queues, q)
	}
	keys := []string{"", "key1", "whatever", "a.b.c", "#"}
	for _, k := range keys {
		pub.post(x, k, "by "+k)
	}
	for _, q := range queues {
		ds := sub.holds(q, "by ", "by key1", "by whatever", "by a.b.c", "by #")
		for _, d := range ds {
			e.check(d.Exchange == x && string(d.Body) == "by "+d.RoutingKey, "%q came from %q by %q", d.Body, d.Exchange, d.RoutingKey)
		}
	}

	// Nothing published, by any process, after the bind returned is missed: while both processes publish without a
	// stop, a bind begins with some message and has every later one.
	n, rounds := 40, 8
	if !e.rig.Virtual() {
		n, rounds = 200, 8
	}
	x = pub.exchange(channel.Fanout)
	var wg sync.WaitGroup
	stop := make(chan struct{})
	var mu sync.Mutex
	confirmed := [2]int{} // how many of each process are stored
	for p := range 2 {
		l := e.confirming(p)
		wg.Go(func() {
			for i := range n * rounds {
				select {
				case <-stop:
					return
				default:
				}
				c, err := l.PublishDeferred(e.ctx, x, "", text(fmt.Sprintf("%d %d", p, i)))
				if err != nil {
					e.Errorf("publish: %v", err)
					return
				}
				if acked, err := c.Wait(e.ctx); err != nil || !acked {
					e.Errorf("confirm: %v, %v", acked, err)
					return
				}
				mu.Lock()
				confirmed[p] = i + 1
				mu.Unlock()
			}
		})
	}
	type begun struct {
		queue string
		from  [2]int // the first message of each process that began after the bind returned, at the latest
	}
	var binds []begun
	for range rounds {
		q := sub.queue()
		sub.bind(q, "", x)
		mu.Lock()
		c := confirmed
		mu.Unlock()
		binds = append(binds, begun{q, [2]int{c[0] + 1, c[1] + 1}}) // the one under way may have been routed before
		e.pause(e.unit(0.1))
	}
	close(stop)
	wg.Wait()
	if e.Failed() {
		return
	}
	for _, b := range binds {
		least := 0 // what it must have
		for p := range 2 {
			least += max(0, confirmed[p]-b.from[p])
		}
		var got [2][]int
		for _, d := range sub.takes(b.queue, least) {
			var p, i int
			fmt.Sscan(string(d.Body), &p, &i)
			got[p] = append(got[p], i)
		}
		for p := range 2 {
			if !e.has(Order) {
				slices.Sort(got[p])
			}
			from, seen := b.from[p], got[p]
			if len(seen) == 0 {
				if confirmed[p] > from {
					e.Fatalf("after its bind returned, a queue missed all messages of process %d from %d to %d", p, from, confirmed[p]-1)
				}
				continue
			}
			if seen[0] > from {
				e.Fatalf("after its bind returned, a queue missed messages %d to %d of process %d", from, seen[0]-1, p)
			}
			for k, i := range seen {
				if i != seen[0]+k {
					e.Fatalf("a bound queue got message %d of process %d, want %d", i, p, seen[0]+k)
				}
			}
			e.check(seen[len(seen)-1] == confirmed[p]-1, "a bound queue got messages of process %d up to %d, want %d", p, seen[len(seen)-1], confirmed[p]-1)
		}
	}
}

// topicMatches says whether a pattern matches a key, in the plainest way: it is what the broker is compared with.
func topicMatches(pattern, key string) bool {
	words := func(s string) []string {
		if s == "" {
			return nil
		}
		return strings.Split(s, ".")
	}
	var match func(p, k []string) bool
	match = func(p, k []string) bool {
		switch {
		case len(p) == 0:
			return len(k) == 0
		case p[0] == "#":
			return match(p[1:], k) || len(k) > 0 && match(p, k[1:])
		case len(k) == 0:
			return false
		}
		return (p[0] == "*" || p[0] == k[0]) && match(p[1:], k[1:])
	}
	return match(words(pattern), words(key))
}

func ex14(e *Env) {
	// What the row says, word by word.
	for _, c := range []struct {
		pattern, key string
		want         bool
	}{
		{"#", "", true}, {"", "", true}, {"*", "", false}, {"a.*.b", "a..b", true}, {"a.b", "a..b", false}, {"a.*", "a.", true}, {"a.*", "a", false},
		{"*.*", ".", true}, {"#.*", "", false}, {"#.*", "a", true}, {"#.*", "a.b.c", true}, {"a*", "ab", false}, {"a*", "a*", true}, {"a.b#", "a.b#", true},
		{"a.b#", "a.bc", false}, {"*", "*", true}, {"a.*", "a.*", true}, {"#", "a.b.c", true}, {"a.#", "a", true}, {"a.#.b", "a.b", true},
		{"a.#.b", "a.x.y.b", true}, {"a.#.b", "a.x.y", false}, {"#.a.#", "a", true}, {"#.#", "", true}, {"*.#", "", false}, {"", "a", false}, {"#.b", "b", true},
	} {
		if topicMatches(c.pattern, c.key) != c.want {
			e.Fatalf("the suite itself is wrong: pattern %q, key %q, want %v", c.pattern, c.key, c.want)
		}
	}
	patterns := []string{
		"", "#", "*", "a", "a.b", "a.b.c", "*.b", "a.*", "*.*", "*.*.*", "a.#", "#.a", "#.b", "#.b.#", "a.#.b", "a.*.b", "*.#", "#.*", "#.#", "#.*.#", "#.a.#.b.#",
		"a*", "a.b#", "*a", "a..b", "..", ".", ".a", "a.", "*.a.*", "#.c.*", "*.b.#", "a.*.#.c", "A.b", "a.#.#", "é.*", "#.*.*", "*.#.*",
	}
	keys := []string{
		"", "a", "b", "a.b", "a.b.c", "a..b", "a.", ".a", ".", "..", "a.*", "*", "#", "ab", "a*", "a.b#", "a.x.y.b", "b.a", "b.a.b", "c.c", "a.c", "a.b.c.d.e", "A.b", "a.b.", "é.x",
	}
	pub, sub := e.pair()
	x := pub.exchange(channel.Topic)
	queues := make([]string, len(patterns))
	for i, p := range patterns {
		queues[i] = sub.bound(x, p)
	}
	for _, k := range keys {
		pub.post(x, k, k)
	}
	for i, p := range patterns {
		var want []string
		for _, k := range keys {
			if topicMatches(p, k) {
				want = append(want, k)
			}
		}
		got := bodies(sub.takes(queues[i], len(want)))
		if !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
			e.Errorf("pattern %q: matched %s, want %s", p, show(got), show(want))
		}
	}
	// Patterns come and go, others stay.
	for i := range patterns {
		if i%2 == 0 {
			sub.unbind(queues[i], patterns[i], x)
		}
	}
	for _, k := range keys {
		pub.post(x, k, k)
	}
	for i, p := range patterns {
		n := 0
		for _, k := range keys {
			if i%2 == 1 && topicMatches(p, k) {
				n++
			}
		}
		got := sub.takes(queues[i], n)
		e.check(len(got) == n, "after half of the patterns were unbound, %q (bound: %v) matched %d keys, want %d", p, i%2 == 1, len(got), n)
	}
}

func ex15(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Topic)
	q := sub.queue()
	patterns := []string{"#", "a.*", "a.b", "*.b", "a.#", "#.b", "*.*"}
	for _, p := range patterns {
		sub.bind(q, p, x)
	}
	sub.bind(q, "a.b", x, table{"again": true})
	other := sub.bound(x, "a.b")
	pub.post(x, "a.b", "one copy")
	sub.holds(q, "one copy")
	sub.holds(other, "one copy")
	// As long as any of them is left.
	for _, p := range patterns {
		pub.post(x, "a.b", "before "+p)
		sub.holds(q, "before "+p)
		sub.unbind(q, p, x)
	}
	pub.post(x, "a.b", "by the one with arguments")
	sub.holds(q, "by the one with arguments")
	sub.unbind(q, "a.b", x, table{"again": true})
	pub.post(x, "a.b", "lost")
	sub.empty(q, "all were unbound")
}
