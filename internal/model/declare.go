package model

import (
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

func reserved(name string) bool { return strings.HasPrefix(name, "amq.") }

var kinds = []string{channel.Direct, channel.Fanout, channel.Topic, channel.Headers}

func (b *Broker) exchangeDeclare(m *channel.ExchangeDeclare) int {
	x := b.exchanges[m.Name]
	switch {
	case m.Name == "":
		return channel.AccessRefused
	case m.Passive && x == nil:
		return channel.NotFound
	case m.Passive:
		return 0
	case m.Type != channel.Delayed && !slices.Contains(kinds, m.Type):
		return channel.CommandInvalid
	case m.Type == channel.Delayed && !slices.Contains(kinds, (&exchange{kind: m.Type, args: m.Args}).routes()):
		return channel.PreconditionFailed
	case x != nil:
		same := x.kind == m.Type && x.durable == m.Durable && x.autoDelete == m.AutoDelete && x.internal == m.Internal &&
			x.args["alternate-exchange"] == m.Args["alternate-exchange"]
		if !same {
			return channel.PreconditionFailed
		}
		return 0
	case reserved(m.Name):
		return channel.AccessRefused
	}
	if v, has := m.Args["alternate-exchange"]; has {
		if _, text := v.(string); !text {
			return channel.PreconditionFailed
		}
	}
	b.exchanges[m.Name] = &exchange{
		name: m.Name, kind: m.Type, durable: m.Durable, autoDelete: m.AutoDelete, internal: m.Internal, args: m.Args,
	}
	return 0
}

func (b *Broker) exchangeDelete(m *channel.ExchangeDelete) int {
	switch {
	case m.Name == "" || reserved(m.Name):
		return channel.AccessRefused
	case b.exchanges[m.Name] == nil:
		return 0
	}
	if m.IfUnused && slices.ContainsFunc(b.bindings, func(d binding) bool { return d.source == m.Name }) {
		return channel.PreconditionFailed
	}
	b.removeExchange(m.Name)
	return 0
}

func (b *Broker) removeExchange(name string) {
	delete(b.exchanges, name)
	b.unbind(func(d binding) bool { return d.source == name || d.toExchange && d.destination == name })
}

// unbind removes bindings, and with its last an auto-delete exchange.
func (b *Broker) unbind(which func(d binding) bool) {
	var sources []string
	b.bindings = slices.DeleteFunc(slices.Clone(b.bindings), func(d binding) bool {
		if which(d) {
			sources = append(sources, d.source)
			return true
		}
		return false
	})
	for _, s := range sources {
		x := b.exchanges[s]
		if x != nil && x.autoDelete && !slices.ContainsFunc(b.bindings, func(d binding) bool { return d.source == s }) {
			b.removeExchange(s)
		}
	}
}

func sameArgs(a, b channel.Table) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, has := b[k]; !has || !reflect.DeepEqual(v, w) { // with their types
			return false
		}
	}
	return true
}

// bind binds and unbinds; owner is the connection that asks.
func (b *Broker) bind(d binding, unbind bool, owner int) int {
	if d.source == "" || d.toExchange && d.destination == "" {
		return channel.AccessRefused
	}
	q := b.queues[d.destination]
	x := b.exchanges[d.source]
	if !unbind && x == nil {
		return channel.NotFound
	}
	same := func(o binding) bool {
		return o.source == d.source && o.destination == d.destination && o.toExchange == d.toExchange && o.key == d.key && sameArgs(o.args, d.args)
	}
	if unbind && !slices.ContainsFunc(b.bindings, same) {
		return 0 // also of a queue that is locked
	}
	locked := !d.toExchange && q.lockedFor(owner)
	if unbind && !locked {
		b.unbind(same)
		return 0
	}
	if d.toExchange && b.exchanges[d.destination] == nil || !d.toExchange && q == nil {
		return channel.NotFound
	}
	if !unbind && x.routes() == channel.Headers && !goodMatch(d.args) {
		return channel.PreconditionFailed
	}
	if locked {
		return channel.ResourceLocked
	}
	if !slices.ContainsFunc(b.bindings, same) {
		b.bindings = append(slices.Clone(b.bindings), d)
	}
	return 0
}

func goodMatch(args channel.Table) bool {
	v, has := args["x-match"]
	s, _ := v.(string)
	return !has || slices.Contains([]string{"all", "any", "all-with-x", "any-with-x"}, s)
}

func (q *queue) lockedFor(conn int) bool { return q != nil && q.exclusive && q.owner != conn }

// queueArgs are those that an equal declaration must have equal.
var queueArgs = []string{
	"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length", "x-max-length-bytes",
	"x-single-active-consumer", "x-max-priority", "x-overflow", "x-queue-type", "x-delivery-limit",
}

// badArgs reports whether a queue cannot have these arguments.
func badArgs(t channel.Table) bool {
	least := map[string]float64{
		"x-expires": 1, "x-message-ttl": 0, "x-max-length": 0, "x-max-length-bytes": 0, "x-max-priority": 0, "x-delivery-limit": 0,
	}
	for k, v := range t {
		if from, known := least[k]; known {
			n, ok := number(v)
			if !ok || n < from || k == "x-max-priority" && n > 255 {
				return true
			}
		}
	}
	if v, has := t["x-overflow"]; has && !slices.Contains([]any{"drop-head", "reject-publish", "reject-publish-dlx"}, v) {
		return true
	}
	_, key := t["x-dead-letter-routing-key"]
	_, dlx := t["x-dead-letter-exchange"]
	return key && !dlx
}

func (b *Broker) queueDeclare(ch *client, m *channel.QueueDeclare, r *Reply) int {
	name := m.Name
	q := b.queues[name]
	switch {
	case m.Passive && q == nil:
		return channel.NotFound
	case q.lockedFor(ch.slot.Conn):
		return channel.ResourceLocked
	case m.Passive:
	case reserved(name):
		return channel.AccessRefused
	case q == nil && badArgs(m.Args):
		return channel.PreconditionFailed
	case q != nil:
		if q.exclusive != m.Exclusive {
			return channel.ResourceLocked
		}
		if q.durable != m.Durable && !q.exclusive || q.autoDelete != m.AutoDelete {
			return channel.PreconditionFailed
		}
		for _, k := range queueArgs {
			if !sameValue(q.args[k], m.Args[k]) {
				return channel.PreconditionFailed
			}
		}
	default:
		if name == "" {
			b.generated++
			name = fmt.Sprint("amq.gen-", b.generated)
		}
		q = &queue{
			name: name, id: b.next(), durable: m.Durable, autoDelete: m.AutoDelete, exclusive: m.Exclusive, owner: ch.slot.Conn,
			args: m.Args,
		}
		b.queues[name] = q
	}
	b.expireHead(q)
	q.used = b.now
	ch.lastQueue = q.name
	if m.NoWait {
		return 0
	}
	r.Queue, r.Messages, r.Consumers = q.name, len(q.ready), len(q.consumers)
	return 0
}

// find returns the queue that a method names; "" is the one declared last.
func (b *Broker) find(ch *client, name string) (*queue, int) {
	if name == "" {
		name = ch.lastQueue
	}
	q := b.queues[name]
	switch {
	case q == nil:
		return nil, channel.NotFound
	case q.lockedFor(ch.slot.Conn):
		return nil, channel.ResourceLocked
	}
	return q, 0
}

func (b *Broker) queueDelete(ch *client, m *channel.QueueDelete, r *Reply) int {
	if m.Name == "" && ch.lastQueue == "" {
		return channel.NotFound
	}
	q, bad := b.find(ch, m.Name)
	if bad == channel.NotFound {
		return 0
	}
	if bad != 0 {
		return bad
	}
	b.expireHead(q)
	if m.IfEmpty && len(q.ready) > 0 || m.IfUnused && len(q.consumers) > 0 {
		return channel.PreconditionFailed
	}
	if !m.NoWait {
		r.Messages = len(q.ready)
	}
	b.removeQueue(q)
	return 0
}

// removeQueue drops a queue with its messages, its bindings and its consumers.
func (b *Broker) removeQueue(q *queue) {
	delete(b.queues, q.name)
	b.unbind(func(d binding) bool { return !d.toExchange && d.destination == q.name })
	for _, c := range q.consumers {
		if ch := b.channels[c.slot]; !c.dead && ch != nil && ch.closed == 0 {
			h := b.run.step.at(c.slot)
			h.Cancelled = append(h.Cancelled, c.tag)
		}
	}
}

func (b *Broker) queuePurge(ch *client, m *channel.QueuePurge, r *Reply) int {
	q, bad := b.find(ch, m.Name)
	if bad != 0 {
		return bad
	}
	b.expireHead(q)
	if !m.NoWait {
		r.Messages = len(q.ready)
	}
	q.ready = nil
	return 0
}
