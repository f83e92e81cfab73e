package exchange

import "strings"

// topicRouter is a topic exchange (AMQP 0-9-1, section 3.1.3.3): a trie of the patterns by words. The empty pattern,
// which has no words, is its root.
type topicRouter struct {
	root topicNode

	hashes uint32   // how many numbers for "#" nodes were given out
	free   []uint32 // numbers of those that are gone
}

// topicNode is a word of patterns that begin alike. Most nodes of a large trie are leaves, therefore what only
// others need is in topicLevel.
type topicNode struct {
	word  string     // as a child by word; shares memory with the key of a binding
	bound []*binding // whose patterns end here
	below *topicLevel
}

// topicLevel holds the children of a node.
type topicLevel struct {
	few  []*topicNode          // children by word, while they are few: a map of one costs 250 bytes
	many map[string]*topicNode // and when they are not

	star, hash *topicNode
	hashNumber uint32 // dense number of hash, for the scan's bit set
}

const (
	fewAtMost   = 8
	manyAtLeast = 4 // lower than fewAtMost, so that one binding coming and going does not rebuild
)

func (l *topicLevel) find(word string) *topicNode {
	if l.many != nil {
		return l.many[word]
	}
	for _, n := range l.few {
		if n.word == word {
			return n
		}
	}
	return nil
}

func (l *topicLevel) put(n *topicNode) {
	switch {
	case l.many != nil:
		l.many[n.word] = n
	case len(l.few) < fewAtMost:
		l.few = append(l.few, n)
	default:
		l.many = make(map[string]*topicNode, 2*fewAtMost)
		for _, f := range l.few {
			l.many[f.word] = f
		}
		l.many[n.word] = n
		l.few = nil
	}
}

func (l *topicLevel) delete(n *topicNode) {
	if l.many == nil {
		for i, f := range l.few {
			if f == n {
				last := len(l.few) - 1
				l.few[i], l.few[last] = l.few[last], nil
				l.few = l.few[:last]
				return
			}
		}
		return
	}
	delete(l.many, n.word)
	if len(l.many) < manyAtLeast {
		for _, m := range l.many {
			l.few = append(l.few, m)
		}
		l.many = nil
	}
}

func (l *topicLevel) hasWords() bool { return len(l.few) > 0 || l.many != nil || l.star != nil }

func (t *topicRouter) keyed() bool { return true }

func (t *topicRouter) add(b *binding) {
	n := &t.root
	for rest, more := b.key, b.key != ""; more; {
		var word string
		word, rest, more = strings.Cut(rest, ".")
		n = t.child(n, word)
	}
	n.bound = push(n.bound, b)
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
	c := l.find(word)
	if c == nil {
		c = &topicNode{word: word}
		l.put(c)
	}
	return c
}

// remove takes the binding off its node, and then off the trie the nodes that nothing needs any more.
func (t *topicRouter) remove(b *binding) {
	var room [32]*topicNode
	path := append(room[:0], &t.root)
	n := &t.root
	for rest, more := b.key, b.key != ""; more; {
		var word string
		word, rest, more = strings.Cut(rest, ".")
		n = t.child(n, word) // exists: b is on it
		path = append(path, n)
	}
	n.bound = drop(n.bound, b)
	for i := len(path) - 1; i > 0; i-- {
		n, parent := path[i], path[i-1]
		if len(n.bound) > 0 || n.below != nil {
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
			l.delete(n)
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
		s.now, s.next = s.next, s.now[:0]
		open := len(s.open) // those that this word opens don't take it
		for _, n := range s.now {
			s.step(n, word, !more, r)
		}
		for _, n := range s.open[:open] {
			s.step(n, word, !more, r)
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
func (s *topicScan) step(n *topicNode, word string, last bool, r *Result) {
	if c := n.below.find(word); c != nil {
		s.enter(c, last, r)
	}
	if c := n.below.star; c != nil {
		s.enter(c, last, r)
	}
}

// enter adds a node to the set, and with it the "#" nodes below that need no further word.
func (s *topicScan) enter(n *topicNode, last bool, r *Result) {
	if last && r.reachAll(n.bound) {
		s.selected = true
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
		if r.reachAll(n.bound) {
			s.selected = true
		}
		if n.below != nil && n.below.hasWords() {
			s.open = append(s.open, n)
		}
	}
}
