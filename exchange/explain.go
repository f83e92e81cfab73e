package exchange

import (
	"fmt"
	"slices"
	"strings"
)

// Explanation says how a message is routed and why. It is plain data: it may be kept, and marshalled as JSON.
type Explanation struct {
	Exchange string   `json:"exchange"`
	Keys     []string `json:"keys"`  // the routing key, then those of CC and BCC
	Known    bool     `json:"known"` // false: there is no such exchange, and all below is empty

	// Hops are the exchanges that the message passes, each once, the first one first.
	Hops []Hop `json:"hops"`

	// Queues are the names of the queues reached, in alphabetical order. Where a hop chooses at random (OneOf),
	// they are all that may be reached.
	Queues []string `json:"queues"`

	// Missing are the names of alternate exchanges that were needed and do not exist.
	Missing []string `json:"missing,omitempty"`
}

// Hop is one exchange on the way.
type Hop struct {
	Exchange string `json:"exchange"`
	Kind     string `json:"kind"`

	// From is the exchange that led here first, AsAlternate whether as its alternate. Both are zero in the first hop.
	From        string `json:"from,omitempty"`
	AsAlternate bool   `json:"as_alternate,omitempty"`

	// OneOf says that one of the bindings that match is chosen at random for each message.
	OneOf bool `json:"one_of,omitempty"`

	// Bindings are those of this exchange, the matching ones first.
	Bindings []Verdict `json:"bindings"`

	// Alternate is the alternate exchange if it was used: no binding matched.
	Alternate string `json:"alternate,omitempty"`
}

// Verdict says whether a binding matches the message and why.
type Verdict struct {
	Destination string `json:"destination"`
	ToExchange  bool   `json:"to_exchange,omitempty"`
	Key         string `json:"key"`
	Args        string `json:"args,omitempty"` // in the notation of Binding.ID
	Match       bool   `json:"match"`
	Why         string `json:"why"`
}

// Explain says how m would be routed from the exchange, and why other bindings do not match. It looks at each binding of
// each exchange on the way by itself, not at the indexes that Route uses, so it is slow, and a check of them.
func (t *Topology) Explain(exchange string, m *Message) *Explanation {
	e := &Explanation{Exchange: exchange, Keys: append([]string{m.Key}, m.CC...), Hops: []Hop{}, Queues: []string{}}
	queues := make(map[string]bool)
	if exchange == "" {
		e.Known = true
		e.Hops = append(e.Hops, t.explainDefault(e.Keys, queues))
	} else if x := t.exchanges[exchange]; x != nil {
		e.Known = true
		t.explainFrom(e, x, m, queues)
	}
	for name := range queues {
		e.Queues = append(e.Queues, name)
	}
	slices.Sort(e.Queues)
	return e
}

func (t *Topology) explainDefault(keys []string, queues map[string]bool) Hop {
	hop := Hop{Kind: string(Direct), Bindings: []Verdict{}}
	for _, key := range keys {
		v := Verdict{Destination: key, Key: key, Why: "every queue is bound by its own name"}
		switch {
		case key == "":
			v.Why = "no queue is named by the empty key"
		case t.queues[key] == nil:
			v.Why = "no such queue"
		default:
			v.Match = true
			queues[key] = true
		}
		hop.Bindings = append(hop.Bindings, v)
	}
	return hop
}

func (t *Topology) explainFrom(e *Explanation, first *Exchange, m *Message, queues map[string]bool) {
	todo := []*Exchange{first}
	seen := map[*Exchange]bool{first: true}
	e.Hops = append(e.Hops, Hop{})
	visit := func(to, from *Exchange, alternate bool) {
		if !seen[to] {
			seen[to] = true
			todo = append(todo, to)
			e.Hops = append(e.Hops, Hop{From: from.Name, AsAlternate: alternate})
		}
	}
	for i := 0; i < len(todo); i++ {
		x := todo[i]
		hop := e.Hops[i]
		hop.Exchange, hop.Kind = x.Name, x.Kind
		random, _ := x.router.(*randomRouter)
		hop.OneOf = random != nil
		hop.Bindings = make([]Verdict, 0, len(x.out))
		var matching []*binding
		judge := x.judge(m, e.Keys)
		for _, b := range sorted(x.out) {
			v := Verdict{Destination: b.dst.name(), ToExchange: b.dst.exchange != nil, Key: b.key, Args: b.canonical()}
			v.Match, v.Why = judge(b)
			if v.Match {
				matching = append(matching, b)
			}
			hop.Bindings = append(hop.Bindings, v)
		}
		slices.SortStableFunc(hop.Bindings, func(a, b Verdict) int { return compareBool(b.Match, a.Match) })
		alternate := len(matching) == 0 && x.Alternate != ""
		if alternate {
			hop.Alternate = x.Alternate
		}
		e.Hops[i] = hop
		if alternate {
			if a := t.exchanges[x.Alternate]; a != nil {
				visit(a, x, true)
			} else if !slices.Contains(e.Missing, x.Alternate) {
				e.Missing = append(e.Missing, x.Alternate)
			}
		}
		for _, b := range matching {
			if b.dst.queue != nil {
				queues[b.dst.queue.Name] = true
			} else {
				visit(b.dst.exchange, x, false)
			}
		}
	}
}

// judge returns what tells of a binding of x whether it matches, and why.
func (x *Exchange) judge(m *Message, keys []string) func(*binding) (bool, string) {
	byKeys := func(one func(pattern, key string) (bool, string)) func(*binding) (bool, string) {
		return func(b *binding) (bool, string) {
			var why string
			for _, key := range keys {
				match, reason := one(b.key, key)
				if match && len(keys) > 1 {
					return true, fmt.Sprintf("%s (%q)", reason, key)
				}
				if match {
					return true, reason
				}
				why = reason
			}
			if len(keys) > 1 {
				why = fmt.Sprintf("fits none of %d keys", len(keys))
			}
			return false, why
		}
	}
	switch router := x.router.(type) {
	case *directRouter:
		return byKeys(explainDirect)
	case *topicRouter:
		return byKeys(explainTopic)
	case *headersRouter:
		return func(b *binding) (bool, string) { return ruleOf(b).explain(m.Headers) }
	case *hashRouter:
		return router.explain(m)
	case *randomRouter:
		return router.explain
	}
	return func(*binding) (bool, string) { return true, "fanout takes every message" }
}

func explainDirect(bound, key string) (bool, string) {
	if bound == key {
		return true, "equals the key"
	}
	return false, fmt.Sprintf("is not %q", key)
}

// explainTopic matches one pattern with one key, word by word, and says where it fails as far as that can be said.
func explainTopic(pattern, key string) (bool, string) {
	p, k := topicWords(pattern), topicWords(key)
	// fits[j] says whether the words of the pattern so far fit the first j words of the key.
	fits := make([]bool, len(k)+1)
	fits[0] = true
	for _, word := range p {
		if word == "#" {
			for j := range k {
				fits[j+1] = fits[j+1] || fits[j]
			}
			continue
		}
		for j := len(k) - 1; j >= 0; j-- {
			fits[j+1] = fits[j] && (word == "*" || word == k[j])
		}
		fits[0] = false
	}
	if fits[len(k)] {
		return true, "fits the key"
	}
	if slices.Contains(p, "#") {
		return false, fmt.Sprintf("does not fit %q", key)
	}
	for i, word := range p {
		if i < len(k) && word != "*" && word != k[i] {
			return false, fmt.Sprintf("word %d is %q, not %q", i+1, k[i], word)
		}
	}
	return false, fmt.Sprintf("wants %s, the key has %d", count(len(p), "word"), len(k))
}

func topicWords(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ".")
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

func (rule *headersRule) explain(headers map[string]any) (bool, string) {
	if len(rule.pairs) == 0 {
		if rule.anyOf {
			return false, "any of nothing"
		}
		return true, "nothing to compare"
	}
	for i := range rule.pairs {
		p := &rule.pairs[i]
		fits := p.fits(headers)
		switch {
		case fits && rule.anyOf:
			return true, fmt.Sprintf("header %q fits", p.name)
		case fits || rule.anyOf:
			continue
		}
		v, present := headers[p.name]
		if !present {
			return false, fmt.Sprintf("header %q is missing", p.name)
		}
		return false, fmt.Sprintf("header %q is %s, not %s", p.name, appendValue(nil, v), appendValue(nil, p.value))
	}
	if rule.anyOf {
		return false, fmt.Sprintf("none of %s fits", count(len(rule.pairs), "header"))
	}
	return true, "all headers fit"
}

func (x *hashRouter) explain(m *Message) func(*binding) (bool, string) {
	if len(x.list) == 0 {
		return nil // there is no binding to ask about
	}
	chosen := x.choose(x.hash(m))
	return func(b *binding) (bool, string) {
		if weight, _ := weightOf(b.key); weight < x.of[b.dst].weight() {
			return false, "another binding to the same destination has more weight"
		}
		if b.dst == chosen.dst {
			return true, "the hash chose it"
		}
		return false, fmt.Sprintf("the hash chose %q", chosen.dst.name())
	}
}

func (x *randomRouter) explain(b *binding) (bool, string) {
	if x.local && !b.dst.isLocal() {
		return false, "has no consumer in this process"
	}
	return true, "one is chosen at random"
}
