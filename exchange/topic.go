package exchange

import (
	"slices"
	"strings"
)

// topicRouter is a topic exchange (AMQP 0-9-1, section 3.1.3.3): a trie of the patterns by words. The empty pattern,
// which has no words, is its root.
type topicRouter struct {
	root topicNode

	hashes uint32   // how many numbers for "#" nodes were given out
	free   []uint32 // numbers of those that are gone
}

// topicNode stands for patterns that begin alike. Most nodes of a large trie are leaves of one binding, therefore what only
// others need is apart.
type topicNode struct {
	end   topicEnd    // of a pattern, if one ends here
	ends  *[]topicEnd // and the others
	below *topicLevel
}

// topicEnd is a binding whose pattern ends at a node. A match reads its destination and not the binding.
type topicEnd struct {
	dst     *node
	binding *binding
}

func (n *topicNode) bind(b *binding) {
	e := topicEnd{b.dst, b}
	switch {
	case n.end.binding == nil:
		b.pos = 0
		n.end = e
		return
	case n.ends == nil:
		n.ends = &[]topicEnd{e}
	default:
		*n.ends = append(*n.ends, e)
	}
	b.pos = uint32(len(*n.ends))
}

// unbind takes a binding off its node; the last one takes its place.
func (n *topicNode) unbind(b *binding) {
	if n.ends == nil {
		n.end = topicEnd{}
		return
	}
	list := *n.ends
	last := list[len(list)-1]
	list[len(list)-1] = topicEnd{}
	list = list[:len(list)-1]
	switch {
	case len(list) == 0:
		n.ends = nil
	case cap(list) > 64 && len(list) < cap(list)/4: // give memory back
		*n.ends = slices.Clone(list)
	default:
		*n.ends = list
	}
	if last.binding == b {
		return
	}
	if b.pos == 0 {
		n.end = last
	} else {
		(*n.ends)[b.pos-1] = last
	}
	last.binding.pos = b.pos
}

// topicLevel holds the children of a node.
type topicLevel struct {
	words      topicEdges
	star, hash *topicNode
	hashNumber uint32 // dense number of hash, for the scan's bit set
	count      uint32 // of words
}

func (l *topicLevel) hasWords() bool { return l.count > 0 || l.star != nil }

func (t *topicRouter) keyed() bool { return true }

func (t *topicRouter) add(b *binding) {
	n := &t.root
	for rest, more := b.key, b.key != ""; more; {
		var word string
		word, rest, more = strings.Cut(rest, ".")
		n = t.child(n, word)
	}
	n.bind(b)
}

// child returns the child of n for a word of a pattern, and makes it if need be.
func (t *topicRouter) child(n *topicNode, word string) *topicNode {
	if n.below == nil {
		n.below = &topicLevel{}
	}
	l := n.below
	switch word {
	case "*":
		if l.star == nil {
			l.star = &topicNode{}
		}
		return l.star
	case "#":
		if l.hash == nil {
			l.hash = &topicNode{}
			if last := len(t.free) - 1; last >= 0 {
				l.hashNumber, t.free = t.free[last], t.free[:last]
			} else {
				l.hashNumber = t.hashes
				t.hashes++
			}
		}
		return l.hash
	}
	w := wordOf(word)
	c := l.words.find(&w)
	if c == nil {
		c = &topicNode{}
		l.words = l.words.with(&w, c, int(l.count))
		l.count++
	}
	return c
}

// remove takes the binding off its node, and then off the trie the nodes that nothing needs any more.
func (t *topicRouter) remove(b *binding) {
	type step struct {
		node *topicNode
		word string // that led to it
	}
	var room [32]step
	path := append(room[:0], step{node: &t.root})
	n := &t.root
	for rest, more := b.key, b.key != ""; more; {
		var word string
		word, rest, more = strings.Cut(rest, ".")
		n = t.child(n, word) // exists: b is on it
		path = append(path, step{n, word})
	}
	n.unbind(b)
	for i := len(path) - 1; i > 0; i-- {
		n, parent := path[i].node, path[i-1].node
		if n.end.binding != nil || n.below != nil {
			return
		}
		l := parent.below
		switch n {
		case l.star:
			l.star = nil
		case l.hash:
			l.hash = nil
			t.free = append(t.free, l.hashNumber)
		default:
			w := wordOf(path[i].word)
			l.words = l.words.without(&w, n, int(l.count))
			l.count--
		}
		if !l.hasWords() && l.hash == nil {
			parent.below = nil
		}
	}
}

func (t *topicRouter) route(m *Message, r *Result) (selected bool) {
	selected = t.match(m.Key, r)
	for _, key := range m.CC {
		if t.match(key, r) {
			selected = true
		}
	}
	return selected
}

// topicScan is the working memory of a match.
type topicScan struct {
	now, next []*topicNode // nodes that the words so far lead to, other than by a "#" at their end
	open      []*topicNode // "#" nodes reached; each takes any further word and so stays to the end
	seen      bitset       // the numbers of all "#" nodes reached
	numbers   []uint32     // those numbers, to clear seen
	selected  bool
}

// match reaches the destination of every pattern that fits the key.
//
// It reads the key once, keeping the set of nodes that the words so far can lead to. A node other than "#" comes into
// that set only from its parent by one word, so at most once a word. A "#" node, once in, takes any word and stays: what
// is bound there matches for certain, and seen keeps it from coming in again. So no (node, word) is visited
// twice, where following each "#" by itself takes exponential time for patterns like "#.a.#.a.#.a".
func (t *topicRouter) match(key string, r *Result) bool {
	s := &r.scan
	s.selected = false
	s.next, s.open = s.next[:0], s.open[:0]
	s.seen.grow(t.hashes)
	s.enter(&t.root, key == "", r)
	for rest, more := key, key != ""; more; {
		var word string
		word, rest, more = strings.Cut(rest, ".")
		w := wordOf(word)
		s.now, s.next = s.next, s.now[:0]
		open := len(s.open) // those that this word opens don't take it
		for _, n := range s.now {
			s.step(n, &w, !more, r)
		}
		for _, n := range s.open[:open] {
			s.step(n, &w, !more, r)
		}
		if len(s.next) == 0 && len(s.open) == 0 {
			break
		}
	}
	for _, number := range s.numbers {
		s.seen.clear(number)
	}
	s.numbers = s.numbers[:0]
	return s.selected
}

// step follows a word from a node that has children.
func (s *topicScan) step(n *topicNode, w *topicWord, last bool, r *Result) {
	if c := n.below.words.find(w); c != nil {
		s.enter(c, last, r)
	}
	if c := n.below.star; c != nil {
		s.enter(c, last, r)
	}
}

// enter adds a node to the set, and with it the "#" nodes below that need no further word.
func (s *topicScan) enter(n *topicNode, last bool, r *Result) {
	if last {
		s.reach(n, r)
	}
	if n.below == nil {
		return
	}
	if !last && n.below.hasWords() {
		s.next = append(s.next, n)
	}
	for l := n.below; l != nil && l.hash != nil; l = n.below {
		if s.seen.has(l.hashNumber) {
			return
		}
		s.seen.set(l.hashNumber)
		s.numbers = append(s.numbers, l.hashNumber)
		n = l.hash
		s.reach(n, r)
		if n.below != nil && n.below.hasWords() {
			s.open = append(s.open, n)
		}
	}
}

// reach reaches the destinations of the patterns that end at a node.
func (s *topicScan) reach(n *topicNode, r *Result) {
	if n.end.dst == nil {
		return
	}
	s.selected = true
	r.reach(n.end.dst)
	if n.ends != nil {
		for i := range *n.ends {
			r.reach((*n.ends)[i].dst)
		}
	}
}
