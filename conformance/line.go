package conformance

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/dashi-mq/dashi/channel"
)

// table is short for the rows.
type table = channel.Table

// line is a channel whose helpers fail the row by themselves. The channel's own methods, which take a context, are
// there for everything else.
type line struct {
	*channel.Channel
	e        *Env
	confirms bool // in confirm mode

	mu   sync.Mutex
	tags map[uint64]bool // delivery tags seen: none comes twice
}

// seen notes a delivery of the line and checks what holds for each.
func (l *line) seen(d channel.Delivery) channel.Delivery {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d.DeliveryTag == 0 || l.tags[d.DeliveryTag] {
		l.e.Errorf("delivery tag %d of %q was given before on this channel, or is 0", d.DeliveryTag, d.Body)
	}
	l.tags[d.DeliveryTag] = true
	return d
}

// declare declares a queue under a given name.
func (l *line) declare(name string, o channel.QueueOptions) channel.Queue {
	q, err := l.QueueDeclare(l.e.ctx, name, o)
	l.e.must(err, "declare queue %q", name)
	if !o.Exclusive {
		l.e.keepQueue(q.Name)
	}
	if name != "" && q.Name != name {
		l.e.Fatalf("queue %q was declared, the answer names %q", name, q.Name)
	}
	return q
}

// queue declares a new queue, by default a transient one that stays.
func (l *line) queue(o ...channel.QueueOptions) string {
	o = append(o, channel.QueueOptions{})
	return l.declare(l.e.name("q"), o[0]).Name
}

// args declares a new queue with arguments.
func (l *line) args(t table) string { return l.queue(channel.QueueOptions{Args: t}) }

// exchange declares a new exchange, by default a transient one that stays.
func (l *line) exchange(kind string, o ...channel.ExchangeOptions) string {
	o = append(o, channel.ExchangeOptions{})
	name := l.e.name("x")
	l.e.keepExchange(name)
	l.e.must(l.ExchangeDeclare(l.e.ctx, name, kind, o[0]), "declare %s exchange %q", kind, name)
	return name
}

// bind binds a queue to an exchange.
func (l *line) bind(queue, key, exchange string, args ...table) {
	args = append(args, nil)
	l.e.must(l.QueueBind(l.e.ctx, queue, key, exchange, args[0]), "bind %q to %q by %q", queue, exchange, key)
}

// unbind removes what bind made.
func (l *line) unbind(queue, key, exchange string, args ...table) {
	args = append(args, nil)
	l.e.must(l.QueueUnbind(l.e.ctx, queue, key, exchange, args[0]), "unbind %q from %q by %q", queue, exchange, key)
}

// bound declares a new queue and binds it.
func (l *line) bound(exchange, key string, args ...table) string {
	q := l.queue()
	l.bind(q, key, exchange, args...)
	return q
}

// delete deletes a queue and returns how many ready messages it had.
func (l *line) delete(queue string) int {
	n, err := l.QueueDelete(l.e.ctx, queue, channel.DeleteOptions{})
	l.e.must(err, "delete queue %q", queue)
	return n
}

// post publishes text messages and returns when they are stored.
func (l *line) post(exchange, key string, bodies ...string) {
	ms := make([]channel.Publishing, len(bodies))
	for i, b := range bodies {
		ms[i] = text(b)
	}
	l.put(exchange, key, ms...)
}

// put publishes messages and returns when they are stored.
func (l *line) put(exchange, key string, ms ...channel.Publishing) {
	if !l.confirms {
		for _, m := range ms {
			l.e.must(l.Publish(l.e.ctx, exchange, key, m), "publish to %q by %q", exchange, key)
		}
		l.e.staged(exchange, key, ms...)
		l.flush()
		return
	}
	for i, acked := range l.outcome(exchange, key, ms...) {
		if !acked {
			l.e.Fatalf("message %d of %d to %q by %q was nacked", i+1, len(ms), exchange, key)
		}
	}
}

// outcome publishes messages on a line in confirm mode and tells which were acked.
func (l *line) outcome(exchange, key string, ms ...channel.Publishing) []bool {
	l.e.staged(exchange, key, ms...)
	cs := make([]*channel.Confirmation, len(ms))
	for i, m := range ms {
		c, err := l.PublishDeferred(l.e.ctx, exchange, key, m)
		l.e.must(err, "publish to %q by %q", exchange, key)
		cs[i] = c
	}
	out := make([]bool, len(ms))
	for i, c := range cs {
		acked, err := c.Wait(l.e.ctx)
		l.e.must(err, "confirm of message %d to %q by %q", i+1, exchange, key)
		out[i] = acked
	}
	return out
}

// flush waits until all that was published and answered on the line has taken effect.
func (l *line) flush() { l.e.must(l.Flush(l.e.ctx), "flush") }

// alive makes a round trip: the line works.
func (l *line) alive(after string) {
	l.e.Helper()
	err := l.Flush(l.e.ctx)
	if _, lost := errors.AsType[*channel.LostError](err); lost {
		err = nil // the row knows what was refused
	}
	if err != nil {
		l.e.Fatalf("after %s the channel is harmed: %v", after, err)
	}
	if err := l.Err(); err != nil {
		l.e.Fatalf("after %s the channel is closed: %v", after, err)
	}
}

// tryGet takes one message if there is one.
func (l *line) tryGet(queue string, autoAck bool) (channel.Delivery, bool) {
	d, ok, err := l.Get(l.e.ctx, queue, autoAck)
	l.e.must(err, "get from %q", queue)
	if ok {
		l.seen(d)
	}
	return d, ok
}

// get takes one message, which must be there. Where a store has no exact counts "empty" is not exact either, so
// there it asks again.
func (l *line) get(queue string) channel.Delivery { return l.mustGet(queue, false) }

func (l *line) mustGet(queue string, autoAck bool) channel.Delivery {
	l.e.Helper()
	d, ok := l.tryGet(queue, autoAck)
	if !ok && !l.e.has(Counts) {
		l.e.eventually("a message in "+queue, func() (bool, string) {
			d, ok = l.tryGet(queue, autoAck)
			return ok, "empty"
		})
	}
	if !ok {
		l.e.Fatalf("get from %q: empty, a message was expected", queue)
	}
	return d
}

// gets takes these messages, one by one.
func (l *line) gets(queue string, want ...string) []channel.Delivery {
	l.e.Helper()
	ds := make([]channel.Delivery, len(want))
	for i := range ds {
		ds[i] = l.get(queue)
	}
	return l.e.came("gets from "+queue, queue, ds, want...)
}

// empty checks that a get finds nothing.
func (l *line) empty(queue, why string) {
	l.e.Helper()
	if d, ok := l.tryGet(queue, true); ok {
		l.e.Fatalf("%q should be empty (%s), a get found %q (redelivered %v)", queue, why, d.Body, d.Redelivered)
	}
}

// ready waits until a queue has n ready messages, where counts are exact.
func (l *line) ready(queue string, n int, why string) {
	l.e.Helper()
	if !l.e.has(Counts) {
		return
	}
	l.e.eventually(fmt.Sprintf("%s: %d ready messages in %q", why, n, queue), func() (bool, string) {
		q := l.passive(queue)
		return q.Messages == n, fmt.Sprintf("%d", q.Messages)
	})
}

// consumers waits until a queue has n consumers.
func (l *line) consumers(queue string, n int, why string) {
	l.e.Helper()
	l.e.eventually(fmt.Sprintf("%s: %d consumers of %q", why, n, queue), func() (bool, string) {
		q := l.passive(queue)
		return q.Consumers == n, fmt.Sprintf("%d", q.Consumers)
	})
}

func (l *line) passive(queue string) channel.Queue {
	q, err := l.QueueDeclarePassive(l.e.ctx, queue)
	l.e.must(err, "passive declare of %q", queue)
	return q
}

// drain takes all there is.
func (l *line) drain(queue string) []channel.Delivery {
	l.e.Helper()
	var ds []channel.Delivery
	for {
		d, ok := l.tryGet(queue, true)
		if !ok {
			return ds
		}
		ds = append(ds, d)
	}
}

// takes takes n messages, fewer only if there are no more, and all there are beyond.
func (l *line) takes(queue string, n int) []channel.Delivery {
	l.e.Helper()
	var ds []channel.Delivery
	for len(ds) < n {
		d, ok := l.tryGet(queue, true)
		if !ok && !l.e.has(Counts) {
			d, ok = l.mustGet(queue, true), true
		}
		if !ok {
			return ds
		}
		ds = append(ds, d)
	}
	return append(ds, l.drain(queue)...)
}

// holds checks that a queue has exactly these messages, in order where the store keeps it, and takes them.
func (l *line) holds(queue string, want ...string) []channel.Delivery {
	l.e.Helper()
	return l.e.came("messages in "+queue, queue, l.takes(queue, len(want)), want...)
}

// exists checks whether a queue exists, on a channel of its own since the answer may close it.
func (e *Env) exists(process int, queue string) bool {
	l := e.open(process)
	_, err := l.QueueDeclarePassive(e.ctx, queue)
	if err == nil {
		e.must(l.Close(e.ctx), "close")
		return true
	}
	l.refuses(err, channel.NotFound)
	return false
}

// exchangeExists checks whether an exchange exists.
func (e *Env) exchangeExists(process int, exchange string) bool {
	l := e.open(process)
	err := l.ExchangeDeclarePassive(e.ctx, exchange)
	if err == nil {
		e.must(l.Close(e.ctx), "close")
		return true
	}
	l.refuses(err, channel.NotFound)
	return false
}

// gone waits until a queue does not exist.
func (e *Env) gone(process int, queue, why string) {
	e.Helper()
	e.eventually(fmt.Sprintf("%s: queue %q is gone", why, queue), func() (bool, string) {
		return !e.exists(process, queue), "it exists"
	})
}

// exchangeGone waits until an exchange does not exist.
func (e *Env) exchangeGone(process int, exchange, why string) {
	e.Helper()
	e.eventually(fmt.Sprintf("%s: exchange %q is gone", why, exchange), func() (bool, string) {
		return !e.exchangeExists(process, exchange), "it exists"
	})
}

// same compares texts in order, or as sets where the store keeps no order.
func (e *Env) same(what string, got, want []string) {
	e.Helper()
	if !e.has(Order) {
		e.sameSet(what, got, want)
		return
	}
	if !slices.Equal(got, want) {
		e.Fatalf("%s: saw %s, want %s", what, show(got), show(want))
	}
}

// sameSet compares texts without their order.
func (e *Env) sameSet(what string, got, want []string) {
	e.Helper()
	g, w := slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
	if !slices.Equal(g, w) {
		e.Fatalf("%s (in any order): saw %s, want %s", what, show(got), show(want))
	}
}

// check fails the row, going on, unless ok.
func (e *Env) check(ok bool, format string, a ...any) {
	e.Helper()
	if !ok {
		e.Errorf(format, a...)
	}
}

// text is a message with a text for a body.
func text(body string) channel.Publishing { return channel.Publishing{Body: []byte(body)} }

// lasting is a persistent message.
func lasting(body string) channel.Publishing {
	return channel.Publishing{Body: []byte(body), DeliveryMode: channel.Persistent}
}

// bodies returns the bodies of deliveries as text.
func bodies(ds []channel.Delivery) []string {
	out := make([]string, len(ds))
	for i := range ds {
		out[i] = string(ds[i].Body)
	}
	return out
}

// numbered returns n different texts in order.
func numbered(prefix string, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("%s%d", prefix, i+1)
	}
	return out
}

// show quotes texts, and shortens long lists.
func show(list []string) string {
	if len(list) > 24 {
		return fmt.Sprintf("%d [%s ... %s]", len(list), strings.Join(list[:12], " "), strings.Join(list[len(list)-8:], " "))
	}
	return fmt.Sprintf("%d %q", len(list), list)
}
