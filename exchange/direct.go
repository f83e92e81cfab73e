package exchange

// directRouter is a direct exchange: bindings by key (AMQP 0-9-1, section 3.1.3.1).
type directRouter struct {
	keys map[string][]*binding
}

func newDirect() *directRouter { return &directRouter{keys: make(map[string][]*binding)} }

func (d *directRouter) add(b *binding) { d.keys[b.key] = push(d.keys[b.key], b) }

func (d *directRouter) remove(b *binding) {
	if list := drop(d.keys[b.key], b); len(list) > 0 {
		d.keys[b.key] = list
	} else {
		delete(d.keys, b.key)
	}
}

func (d *directRouter) keyed() bool { return true }

func (d *directRouter) route(m *Message, r *Result) (selected bool) {
	selected = r.reachAll(d.keys[m.Key])
	for _, key := range m.CC {
		if r.reachAll(d.keys[key]) {
			selected = true
		}
	}
	return selected
}

// fanoutRouter is a fanout exchange (AMQP 0-9-1, section 3.1.3.2). It needs nothing but the exchange's own list.
type fanoutRouter struct{}

func (*fanoutRouter) add(*binding)    {}
func (*fanoutRouter) remove(*binding) {}
func (*fanoutRouter) keyed() bool     { return true }
