package exchange

import (
	"cmp"
	"hash/maphash"
	"slices"
	"strconv"
)

// Binding is a way from an exchange to a queue, or to another exchange.
//
// Its identity is all of it: a binding that differs in key or arguments, be it in the type of one argument, is
// another one (AMQP 0-9-1, queue.bind and queue.unbind; RabbitMQ's exchange.bind).
type Binding struct {
	Source      string
	Destination string
	ToExchange  bool // Destination is an exchange, not a queue
	Key         string
	Args        map[string]any // to be read only
}

// ID returns a text that names the binding: equal for equal bindings and no others, whatever the order in which a
// map yields its arguments. It begins with the quoted source, is printable, and the same in every process.
func (b Binding) ID() string {
	id := make([]byte, 0, len(b.Source)+len(b.Destination)+len(b.Key)+16)
	id = strconv.AppendQuote(id, b.Source)
	id = append(id, " to "...)
	if b.ToExchange {
		id = append(id, "exchange "...)
	} else {
		id = append(id, "queue "...)
	}
	id = strconv.AppendQuote(id, b.Destination)
	id = append(id, " by "...)
	id = strconv.AppendQuote(id, b.Key)
	if len(b.Args) > 0 {
		id = append(id, ' ')
		id = appendTable(id, b.Args)
	}
	return string(id)
}

// binding is a Binding in place. Its size counts: there may be millions.
type binding struct {
	src  *Exchange
	dst  *node
	key  string
	args *arguments // nil if there are none
	next *binding   // the next of the same hash in Topology.ids

	outPos, inPos uint32 // places in src.out and dst.in
	pos           uint32 // place in the list of the router that holds it
}

// arguments are those of one binding.
type arguments struct {
	table map[string]any // a copy of our own
	text  string         // canonical
	rule  *headersRule   // what they ask for, if the source is a headers exchange
}

func (b *binding) canonical() string {
	if b.args == nil {
		return ""
	}
	return b.args.text
}

func (b *binding) public() Binding {
	p := Binding{Source: b.src.Name, Destination: b.dst.name(), ToExchange: b.dst.exchange != nil, Key: b.key}
	if b.args != nil {
		p.Args = cloneTable(b.args.table)
	}
	return p
}

// Bind adds a binding. One that is there already is not added again. An unknown side is a [*NotFoundError], the
// source before the destination; the default exchange on either side is [ErrDefault]; and what [CheckBinding] has
// against it is returned as it is. The arguments are copied.
func (t *Topology) Bind(b Binding) (added bool, err error) {
	if b.Source == "" || b.ToExchange && b.Destination == "" {
		return false, ErrDefault
	}
	src, dst, err := t.ends(b)
	if err != nil {
		return false, err
	}
	if err := CheckBinding(src.Kind, b.Key, b.Args); err != nil {
		return false, err
	}
	text := canonical(b.Args)
	hash := t.identity(src, dst, b.Key, text)
	if t.find(hash, src, dst, b.Key, text) != nil {
		return false, nil
	}
	n := &binding{src: src, dst: dst, key: b.Key, next: t.ids[hash]}
	if text != "" {
		n.args = &arguments{table: cloneTable(b.Args), text: text}
	}
	t.ids[hash] = n
	t.count++
	n.outPos = uint32(len(src.out))
	src.out = append(src.out, n)
	n.inPos = uint32(len(dst.in))
	dst.in = append(dst.in, n)
	if dst.exchange != nil {
		src.hops++
	}
	src.changes++
	src.router.add(n)
	return true, nil
}

// Unbind removes the binding that equals b in everything, the types of its arguments included. If there is none,
// nothing happens.
func (t *Topology) Unbind(b Binding) (removed bool) {
	src, dst, err := t.ends(b)
	if err != nil {
		return false
	}
	text := canonical(b.Args)
	n := t.find(t.identity(src, dst, b.Key, text), src, dst, b.Key, text)
	if n == nil {
		return false
	}
	t.unlink(n)
	return true
}

// ends looks up the two sides of a binding.
func (t *Topology) ends(b Binding) (*Exchange, *node, error) {
	src := t.exchanges[b.Source]
	if src == nil {
		return nil, nil, &NotFoundError{Kind: "exchange", Name: b.Source}
	}
	if b.ToExchange {
		if x := t.exchanges[b.Destination]; x != nil {
			return src, &x.node, nil
		}
		return nil, nil, &NotFoundError{Kind: "exchange", Name: b.Destination}
	}
	if q := t.queues[b.Destination]; q != nil {
		return src, &q.node, nil
	}
	return nil, nil, &NotFoundError{Kind: "queue", Name: b.Destination}
}

func (t *Topology) identity(src *Exchange, dst *node, key, args string) uint64 {
	h := maphash.String(t.seed, key)
	if args != "" {
		h = mix(h ^ maphash.String(t.seed, args))
	}
	return mix(h^(uint64(src.node.index)<<32|uint64(dst.index))) & t.idBits
}

func (t *Topology) find(hash uint64, src *Exchange, dst *node, key, args string) *binding {
	for b := t.ids[hash]; b != nil; b = b.next {
		if b.src == src && b.dst == dst && b.key == key && b.canonical() == args {
			return b
		}
	}
	return nil
}

// unlink takes a binding out of every place that Bind put it into.
func (t *Topology) unlink(b *binding) {
	hash := t.identity(b.src, b.dst, b.key, b.canonical())
	if first := t.ids[hash]; first != b {
		for first.next != b {
			first = first.next
		}
		first.next = b.next
	} else if b.next != nil {
		t.ids[hash] = b.next
	} else {
		delete(t.ids, hash)
	}
	t.count--

	list := b.src.out
	last := list[len(list)-1]
	list[b.outPos], last.outPos = last, b.outPos
	b.src.out = shorten(list)
	list = b.dst.in
	last = list[len(list)-1]
	list[b.inPos], last.inPos = last, b.inPos
	b.dst.in = shorten(list)

	if b.dst.exchange != nil {
		b.src.hops--
	}
	b.src.changes++
	b.src.router.remove(b)
}

// push appends to a router's list and notes the place.
func push(list []*binding, b *binding) []*binding {
	b.pos = uint32(len(list))
	return append(list, b)
}

// drop removes from a router's list; the last one takes the place.
func drop(list []*binding, b *binding) []*binding {
	last := list[len(list)-1]
	list[b.pos], last.pos = last, b.pos
	return shorten(list)
}

// shorten cuts off the last element, and gives memory back when most of it is unused.
func shorten(list []*binding) []*binding {
	n := len(list) - 1
	list[n] = nil
	list = list[:n]
	if n == 0 {
		return nil
	}
	if cap(list) > 64 && n < cap(list)/4 {
		return slices.Clone(list)
	}
	return list
}

// Len returns the number of bindings. Those of the default exchange are not counted.
func (t *Topology) Len() int { return t.count }

// Bindings yields all bindings, ordered by source, destination (queues before exchanges), key and arguments. The
// implied ones of the default exchange are not among them.
func (t *Topology) Bindings(yield func(Binding) bool) {
	names := make([]string, 0, len(t.exchanges))
	for name := range t.exchanges {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		for _, b := range sorted(t.exchanges[name].out) {
			if !yield(b.public()) {
				return
			}
		}
	}
}

// BindingsOf returns the bindings of which the exchange is the source, in the order of [Topology.Bindings].
func (t *Topology) BindingsOf(source string) []Binding {
	x := t.exchanges[source]
	if x == nil {
		return nil
	}
	return public(x.out)
}

// HasBindings reports whether the exchange is the source of any binding.
func (t *Topology) HasBindings(source string) bool {
	x := t.exchanges[source]
	return x != nil && len(x.out) > 0
}

// BindingsTo returns the bindings that lead to the queue, or with toExchange to the exchange, of that name, in the
// order of [Topology.Bindings].
func (t *Topology) BindingsTo(destination string, toExchange bool) []Binding {
	if toExchange {
		if x := t.exchanges[destination]; x != nil {
			return public(x.node.in)
		}
		return nil
	}
	if q := t.queues[destination]; q != nil {
		return public(q.node.in)
	}
	return nil
}

func public(list []*binding) []Binding {
	if len(list) == 0 {
		return nil
	}
	out := make([]Binding, 0, len(list))
	for _, b := range sorted(list) {
		out = append(out, b.public())
	}
	return out
}

// sorted returns a copy in an order that does not depend on history.
func sorted(list []*binding) []*binding {
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *binding) int {
		return cmp.Or(
			cmp.Compare(a.src.Name, b.src.Name),
			compareBool(a.dst.exchange != nil, b.dst.exchange != nil),
			cmp.Compare(a.dst.name(), b.dst.name()),
			cmp.Compare(a.key, b.key),
			cmp.Compare(a.canonical(), b.canonical()),
		)
	})
	return list
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case b:
		return -1
	}
	return 1
}
