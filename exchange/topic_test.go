package exchange

import (
	"fmt"
	"strings"
	"testing"
)

// EX-14.
func TestTopicPatterns(t *testing.T) {
	tests := []struct {
		pattern, key string
		want         bool
		proves       string
	}{
		{"a.b", "a.b", true, "words are compared"},
		{"a.b", "a.c", false, "words are compared"},
		{"a.b", "a", false, "a pattern is not a prefix"},
		{"a", "a.b", false, "a pattern is not a prefix"},
		{"*", "a", true, "* is one word"},
		{"*", "a.b", false, "* is one word"},
		{"a.*.c", "a.b.c", true, "* in the middle"},
		{"a.*.c", "a.c", false, "* is not zero words"},
		{"a.*.c", "a.b.b.c", false, "* is not two words"},
		{"#", "", true, "the empty key has no words"},
		{"", "", true, "the empty pattern has no words"},
		{"", "a", false, "the empty pattern has no words"},
		{"*", "", false, "the empty key has no words"},
		{"#", "a", true, "# is one word"},
		{"#", "a.b.c", true, "# is many words"},
		{"a.#", "a", true, "# at the end is none"},
		{"a.#", "a.b.c", true, "# at the end is many"},
		{"a.#", "b", false, "what is before # counts"},
		{"#.a", "a", true, "# at the beginning is none"},
		{"#.a", "b.c.a", true, "# at the beginning is many"},
		{"#.a", "a.b", false, "what follows # must be the end"},
		{"a.#.b", "a.b", true, "# in the middle is none"},
		{"a.#.b", "a.x.y.b", true, "# in the middle is many"},
		{"a.#.b", "a.b.c", false, "# in the middle"},
		{"a.#.b", "a.b.c.b", true, "# takes as much as it needs"},
		{"#.#", "", true, "two # are none"},
		{"#.#", "a", true, "two # are one"},
		{"#.a.#", "x.a.y", true, "# on both sides"},
		{"#.a.#", "a", true, "# on both sides, none"},
		{"#.a.#", "x.y", false, "# on both sides"},
		{"#.a.#.a.#", "a", false, "two words a are needed"},
		{"#.a.#.a.#", "x.a.x.a.x", true, "three #"},
		{"#.*", "", false, "#.* needs one word"},
		{"#.*", "a", true, "#.* needs one word"},
		{"*.#", "a.b", true, "*.# needs one word"},
		{"*.#", "", false, "*.# needs one word"},
		{"#.*.#.*", "a", false, "needs two words"},
		{"#.*.#.*", "a.b", true, "needs two words"},
		{"a.*.b", "a..b", true, "an empty middle word is a word"},
		{"a.b", "a..b", false, "an empty middle word is a word"},
		{"a..b", "a..b", true, "a pattern can have one too"},
		{"a.*", "a.", true, "an empty last word is a word"},
		{"a", "a.", false, "an empty last word is a word"},
		{"a.", "a", false, "an empty last word is a word"},
		{"*.*", ".", true, "a dot is two empty words"},
		{".", ".", true, "a dot is two empty words"},
		{"*", ".", false, "a dot is two empty words"},
		{"*.a", ".a", true, "an empty first word is a word"},
		{"a*", "ab", false, "a* is a literal"},
		{"a*", "a*", true, "a* is a literal"},
		{"a.b#", "a.bc", false, "b# is a literal"},
		{"a.b#", "a.b#", true, "b# is a literal"},
		{"*", "*", true, "* in a key is a word"},
		{"a", "*", false, "* in a key is no wildcard"},
		{"a", "#", false, "# in a key is no wildcard"},
		{"*", "#", true, "# in a key is a word"},
		{"A", "a", false, "case counts"},
		{"ä.*", "ä.ß", true, "words are bytes"},
		{strings.Repeat("*.", 40) + "*", strings.Repeat("a.", 40) + "a", true, "more words than any fixed array"},
	}
	for _, tt := range tests {
		t.Run(tt.pattern+" "+tt.key, func(t *testing.T) {
			top := build(t, "topic x", "queue q other")
			bind(t, top, Binding{Source: "x", Destination: "q", Key: tt.pattern})
			bind(t, top, Binding{Source: "x", Destination: "other", Key: "never.matches.anything"})
			want := ""
			if tt.want {
				want = "q"
			}
			if got := reached(t, top, "x", &Message{Key: tt.key}); got != want {
				t.Errorf("pattern %q, key %q: reached %q, want %q: %s", tt.pattern, tt.key, got, want, tt.proves)
			}
			if naiveTopic(tt.pattern, tt.key) != tt.want {
				t.Error("the naive matcher of the fuzz test is wrong here")
			}
			if got, why := explainTopic(tt.pattern, tt.key); got != tt.want {
				t.Errorf("Explain says %v, %s", got, why)
			}
		})
	}
}

// EX-15.
func TestTopicQueueWithSeveralMatchingPatternsIsReachedOnce(t *testing.T) {
	top := build(t, "topic x", "queue q r", "x -> q #", "x -> q a.*", "x -> q *.b", "x -> q a.b", "x -> q a.#.b", "x -> r a.b")
	if got := reached(t, top, "x", &Message{Key: "a.b"}); got != "q r" {
		t.Errorf("reached %q", got)
	}
	// Each of them is a binding of its own: the others go on when one goes.
	for _, key := range []string{"#", "a.*", "*.b", "a.b"} {
		if !top.Unbind(Binding{Source: "x", Destination: "q", Key: key}) {
			t.Fatalf("no binding %q", key)
		}
		if got := reached(t, top, "x", &Message{Key: "a.b"}); got != "q r" {
			t.Errorf("without %q: reached %q", key, got)
		}
	}
	top.Unbind(Binding{Source: "x", Destination: "q", Key: "a.#.b"})
	if got := reached(t, top, "x", &Message{Key: "a.b"}); got != "r" {
		t.Errorf("without any: reached %q", got)
	}
}

// Following every "#" by itself would take longer than the test may run.
func TestTopicManyHashesTakeNoExponentialTime(t *testing.T) {
	top := build(t, "topic x", "queue q r")
	pattern := strings.Repeat("#.a.", 40)
	bind(t, top, Binding{Source: "x", Destination: "q", Key: pattern + "b"})
	bind(t, top, Binding{Source: "x", Destination: "r", Key: pattern + "#"})
	if got := reached(t, top, "x", &Message{Key: strings.Repeat("a.", 126) + "a"}); got != "r" {
		t.Errorf("reached %q", got)
	}
	if got := reached(t, top, "x", &Message{Key: strings.Repeat("a.", 126) + "b"}); got != "q r" {
		t.Errorf("reached %q", got)
	}
}

func TestTopicTrieIsEmptyAfterTheLastBinding(t *testing.T) {
	rnd := newRand(7)
	top := build(t, "topic x", "queue q")
	router := top.Exchange("x").router.(*topicRouter)
	for range 20 {
		var bound []Binding
		for range 300 {
			words := make([]string, rnd.IntN(5))
			for i := range words {
				words[i] = pick(rnd, []string{"*", "#", "", "a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k"})
			}
			b := Binding{Source: "x", Destination: "q", Key: strings.Join(words, ".")}
			if added, _ := top.Bind(b); added {
				bound = append(bound, b)
			}
		}
		rnd.Shuffle(len(bound), func(i, j int) { bound[i], bound[j] = bound[j], bound[i] })
		for _, b := range bound {
			if !top.Unbind(b) {
				t.Fatalf("lost %s", b.ID())
			}
		}
		if router.root.below != nil || router.root.end.binding != nil {
			t.Fatal("nodes are left in the trie")
		}
		if len(router.free) != int(router.hashes) {
			t.Fatalf("%d numbers of # nodes given out, %d came back", router.hashes, len(router.free))
		}
		if len(top.ids) != 0 || top.Len() != 0 || top.HasBindings("x") || len(top.BindingsTo("q", false)) != 0 {
			t.Fatal("bindings are left")
		}
	}
}

// FuzzTopic compares the trie with the definition: patterns one a line, before and after half of them were removed.
func FuzzTopic(f *testing.F) {
	f.Add("#\n*\n\na.b\na.*\n#.b", "a.b")
	f.Add("#.a.#.a\n#.#\n*.#.*\na..b", "a.a.a")
	f.Add(".\n*.*\n#.\n.#", ".")
	f.Add("a*\na.b#\n*\n#", "a.*")
	f.Add("a\nb\nc\nd\ne\nf\ng\nh\ni\nj\n*", "i")
	f.Fuzz(func(t *testing.T, patterns, key string) {
		list := strings.Split(patterns, "\n")
		if len(patterns) > 200 || strings.Count(key, ".") > 12 || strings.Count(patterns, "#") > 12 {
			t.Skip("the definition takes exponential time")
		}
		top := build(t, "topic x")
		var r Result
		check := func(list []string) {
			t.Helper()
			if !top.Route(&r, "x", &Message{Key: key}) {
				t.Fatal("unknown exchange")
			}
			got := make(map[string]bool)
			for _, q := range r.Queues {
				if got[q.Name] {
					t.Fatalf("%s is there twice", q.Name)
				}
				got[q.Name] = true
			}
			for i, pattern := range list {
				want := naiveTopic(pattern, key)
				if name := fmt.Sprint(i); got[name] != want {
					t.Fatalf("pattern %q, key %q: %v, want %v", pattern, key, got[name], want)
				} else if want {
					delete(got, name)
				}
				if match, _ := explainTopic(pattern, key); match != want {
					t.Fatalf("pattern %q, key %q: Explain says %v, want %v", pattern, key, match, want)
				}
			}
			if len(got) > 0 {
				t.Fatalf("reached what is not bound: %v", got)
			}
		}
		for i, pattern := range list {
			name := fmt.Sprint(i)
			top.AddQueue(name)
			bind(t, top, Binding{Source: "x", Destination: name, Key: pattern})
		}
		check(list)
		half := len(list) / 2
		for i, pattern := range list[half:] {
			if !top.Unbind(Binding{Source: "x", Destination: fmt.Sprint(half + i), Key: pattern}) {
				t.Fatal("a binding is lost")
			}
		}
		check(list[:half])
		for i := range list {
			top.RemoveQueue(fmt.Sprint(i))
		}
		check(nil)
		if router := top.Exchange("x").router.(*topicRouter); router.root.below != nil {
			t.Fatal("nodes are left in the trie")
		}
	})
}

func TestTopicMatchAllocatesNothing(t *testing.T) {
	top := build(t, "topic x")
	for i := range 10_000 {
		name := fmt.Sprint("q", i%100)
		top.AddQueue(name)
		bind(t, top, Binding{Source: "x", Destination: name, Key: topicPattern(i)})
	}
	keys := make([]string, 1000)
	for i := range keys {
		keys[i] = topicKey(i)
	}
	router := top.Exchange("x").router.(*topicRouter)
	var r Result
	for _, key := range keys { // the buffers grow
		top.walk(&r, top.Exchange("x"), &Message{Key: key})
		r.Queues, r.Exchanges = r.Queues[:0], r.Exchanges[:0]
	}
	i, found := 0, 0
	if n := testing.AllocsPerRun(1000, func() {
		i++
		if router.match(keys[i%len(keys)], &r) {
			found++
		}
		r.unmark()
		r.Queues = r.Queues[:0]
	}); n != 0 {
		t.Errorf("a match allocates %v times", n)
	}
	if found == 0 {
		t.Error("the keys match nothing, which proves little")
	}
}
