package exchange

import (
	"maps"
	"slices"
	"strings"
)

// headersRule is what the arguments of a binding to a headers exchange ask for (AMQP 0-9-1, section 3.1.3.4, and
// https://www.rabbitmq.com/docs/exchanges#headers).
type headersRule struct {
	anyOf bool
	pairs []headerPair // by name; those that the mode ignores are left out
	place uint64       // of an all-binding, the one list of headersRouter.index that holds it
}

type headerPair struct {
	name  string
	value any    // nil asks for presence alone
	place uint64 // where a message with such a header looks
}

func newRule(args map[string]any) *headersRule {
	anyOf, withX, _ := matchMode(args) // checked by Bind
	rule := &headersRule{anyOf: anyOf}
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if name == argMatch || !withX && strings.HasPrefix(name, "x-") {
			continue
		}
		p := headerPair{name: name, value: args[name]}
		if p.value == nil {
			p.place = presencePlace(name)
		} else {
			p.place = valuePlace(name, p.value)
		}
		rule.pairs = append(rule.pairs, p)
	}
	return rule
}

func presencePlace(name string) uint64 { return hashText(fnvOffset, name) }

func valuePlace(name string, value any) uint64 {
	return mix(hashText(fnvOffset, name)) + hashValue(value)
}

func (p *headerPair) fits(headers map[string]any) bool {
	v, ok := headers[p.name]
	return ok && (p.value == nil || equal(p.value, v))
}

func (rule *headersRule) fits(headers map[string]any) bool {
	for i := range rule.pairs {
		if rule.pairs[i].fits(headers) == rule.anyOf {
			return rule.anyOf
		}
	}
	return !rule.anyOf
}

// noArguments is the rule of a binding that has none: "all" of nothing.
var noArguments = &headersRule{}

func ruleOf(b *binding) *headersRule {
	if b.args == nil {
		return noArguments
	}
	return b.args.rule
}

// headersRouter is a headers exchange. Comparing a message with each binding would cost more with every binding,
// so they are indexed by what a matching message must contain: an any-binding under each of its pairs, an all-binding
// under one of them. A message looks where its own headers point to and compares what it finds there.
type headersRouter struct {
	index  map[uint64][]*binding
	always []*binding // all of nothing
}

func newHeaders() *headersRouter { return &headersRouter{index: make(map[uint64][]*binding)} }

func (h *headersRouter) keyed() bool { return false }

func (h *headersRouter) add(b *binding) {
	if b.args != nil {
		b.args.rule = newRule(b.args.table)
	}
	rule := ruleOf(b)
	switch {
	case rule.anyOf:
		for i := range rule.pairs {
			place := rule.pairs[i].place
			h.index[place] = append(h.index[place], b)
		}
	case len(rule.pairs) == 0:
		h.always = push(h.always, b)
	default:
		// The pair that fewest others use tells most about a message.
		rule.place = rule.pairs[0].place
		for i := range rule.pairs {
			if p := rule.pairs[i].place; len(h.index[p]) < len(h.index[rule.place]) {
				rule.place = p
			}
		}
		h.index[rule.place] = push(h.index[rule.place], b)
	}
}

func (h *headersRouter) remove(b *binding) {
	rule := ruleOf(b)
	switch {
	case rule.anyOf:
		for i := range rule.pairs {
			h.removeAt(rule.pairs[i].place, b)
		}
	case len(rule.pairs) == 0:
		h.always = drop(h.always, b)
	default:
		h.removeAt(rule.place, b)
	}
}

func (h *headersRouter) removeAt(place uint64, b *binding) {
	list := h.index[place]
	i := int(b.pos)
	if i >= len(list) || list[i] != b { // an any-binding is in several lists, and pos is its place in none
		i = slices.Index(list, b)
	}
	last := list[len(list)-1]
	list[i] = last
	if !ruleOf(last).anyOf {
		last.pos = uint32(i)
	}
	if list = shorten(list); list == nil {
		delete(h.index, place)
	} else {
		h.index[place] = list
	}
}

func (h *headersRouter) route(m *Message, r *Result) (selected bool) {
	selected = r.reachAll(h.always)
	if len(h.index) == 0 {
		return selected
	}
	for name, value := range m.Headers {
		if h.try(h.index[presencePlace(name)], m, r) {
			selected = true
		}
		if h.try(h.index[valuePlace(name, value)], m, r) {
			selected = true
		}
	}
	return selected
}

func (h *headersRouter) try(list []*binding, m *Message, r *Result) (selected bool) {
	for _, b := range list {
		if b.args.rule.fits(m.Headers) {
			r.reach(b.dst)
			selected = true
		}
	}
	return selected
}
