package exchange

import (
	"hash/maphash"
	"math/bits"
)

// topicWord is a word that is looked for: once for a key, in many nodes.
type topicWord struct {
	text   string
	prefix uint64 // its first eight bytes
	hash   uint64
}

// Keys are the application's, so that hashes are not to be foreseen.
var (
	wordSeed   = maphash.MakeSeed()
	wordSecret = maphash.String(wordSeed, "secret") | 1
)

func wordOf(text string) (w topicWord) {
	w.text = text
	for i := range min(len(text), 8) {
		w.prefix |= uint64(text[i]) << (8 * i)
	}
	if len(text) > 8 {
		w.hash = maphash.String(wordSeed, text)
		return w
	}
	high, low := bits.Mul64(w.prefix^wordSecret, wordSecret+uint64(len(text))<<32)
	w.hash = high ^ low
	return w
}

// topicEdge leads to the child of a node for a word. Most words are no longer than eight bytes: to compare them, nothing
// else is read.
type topicEdge struct {
	prefix uint64
	word   string // shares memory with the key of a binding
	node   *topicNode
}

func (e *topicEdge) is(w *topicWord) bool {
	return e.prefix == w.prefix && len(e.word) == len(w.text) && (len(w.text) <= 8 || e.word == w.text)
}

// topicEdges are the edges of a node: a list while they are few, else a hash table with open addressing, whose empty
// places have no node. A map would take three reads of memory to find a word, and this takes one.
type topicEdges []topicEdge

const (
	fewAtMost   = 8
	manyAtLeast = 4 // lower than fewAtMost, so that one binding coming and going does not rebuild
)

func (t topicEdges) isTable() bool { return len(t) > fewAtMost }

func (t topicEdges) find(w *topicWord) *topicNode {
	if !t.isTable() {
		for i := range t {
			if t[i].is(w) {
				return t[i].node
			}
		}
		return nil
	}
	mask := uint64(len(t) - 1)
	for i := w.hash & mask; t[i].node != nil; i = (i + 1) & mask {
		if t[i].is(w) {
			return t[i].node
		}
	}
	return nil
}

// insert puts an edge into a table that has room.
func (t topicEdges) insert(e topicEdge, hash uint64) {
	mask := uint64(len(t) - 1)
	i := hash & mask
	for t[i].node != nil {
		i = (i + 1) & mask
	}
	t[i] = e
}

// rebuilt returns the edges in a table of that size, or in a list for size 0.
func (t topicEdges) rebuilt(size int) topicEdges {
	fresh := make(topicEdges, size, max(size, manyAtLeast))
	for _, e := range t {
		switch {
		case e.node == nil:
		case size == 0:
			fresh = append(fresh, e)
		default:
			w := wordOf(e.word)
			fresh.insert(e, w.hash)
		}
	}
	return fresh
}

// with returns the edges and one more, count being how many there are.
func (t topicEdges) with(w *topicWord, n *topicNode, count int) topicEdges {
	e := topicEdge{w.prefix, w.text, n}
	switch {
	case count < fewAtMost && !t.isTable():
		return append(t, e)
	case !t.isTable():
		t = t.rebuilt(2 * fewAtMost)
	case (count+1)*8 > len(t)*7:
		t = t.rebuilt(2 * len(t))
	}
	t.insert(e, w.hash)
	return t
}

// without returns the edges but that to n, count being how many there were.
func (t topicEdges) without(w *topicWord, n *topicNode, count int) topicEdges {
	if !t.isTable() {
		for i := range t {
			if t[i].node == n {
				last := len(t) - 1
				t[i], t[last] = t[last], topicEdge{}
				return t[:last]
			}
		}
		return t
	}
	mask := uint64(len(t) - 1)
	hole := w.hash & mask
	for t[hole].node != n {
		hole = (hole + 1) & mask
	}
	// What comes behind the hole moves up, unless it is nearer to its own place there than it would be here.
	for i := (hole + 1) & mask; t[i].node != nil; i = (i + 1) & mask {
		next := wordOf(t[i].word)
		if (i-next.hash)&mask >= (i-hole)&mask {
			t[hole] = t[i]
			hole = i
		}
	}
	t[hole] = topicEdge{}
	switch {
	case count-1 < manyAtLeast:
		return t.rebuilt(0)
	case count*8 < len(t) && len(t) > 2*fewAtMost:
		return t.rebuilt(len(t) / 2)
	}
	return t
}
