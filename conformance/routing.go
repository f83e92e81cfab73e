package conformance

import (
	"github.com/dashi-mq/dashi/channel"
)

// unroutable checks that a message reaches no queue.
func (l *line) unroutable(exchange, key, why string) {
	l.e.Helper()
	returns := l.NotifyReturn(make(chan channel.Return, 1))
	m := text("unroutable")
	m.Mandatory = true
	l.put(exchange, key, m)
	select {
	case r := <-returns:
		l.e.check(r.ReplyCode == channel.NoRoute, "returned with %d", r.ReplyCode)
	default:
		l.e.Errorf("a message to %q by %q was routed: %s", exchange, key, why)
	}
}

// join binds one exchange to another.
func (l *line) join(destination, key, source string, args ...table) {
	args = append(args, nil)
	l.e.must(l.ExchangeBind(l.e.ctx, destination, key, source, args[0]), "bind exchange %q to %q by %q", destination, source, key)
}

// spread publishes n messages, made by f, and returns how many each queue got.
func (e *Env) spread(pub, sub *line, n int, exchange string, queues []string, f func(i int) (key string, m channel.Publishing)) []int {
	var cs []*channel.Confirmation
	for i := range n {
		key, m := f(i)
		c, err := pub.PublishDeferred(e.ctx, exchange, key, m)
		e.must(err, "publish")
		cs = append(cs, c)
	}
	for _, c := range cs {
		acked, err := c.Wait(e.ctx)
		e.must(err, "confirm")
		e.check(acked, "nacked")
	}
	got := make([]int, len(queues))
	total := 0
	for i, q := range queues {
		if e.rig.Virtual() || !e.has(Counts) {
			got[i] = len(sub.drain(q))
		} else { // taken one by one they would take a store of files a minute
			n, err := sub.QueuePurge(e.ctx, q)
			e.must(err, "purge")
			got[i] = n
		}
		total += got[i]
	}
	if total != n {
		e.Fatalf("of %d messages %d came: %v; each goes to one queue", n, total, got)
	}
	return got
}
