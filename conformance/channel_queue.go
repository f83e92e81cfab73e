package conformance

import (
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

// queueRows are the rows QU: queues and bindings. Time is in channel_queue_time.go, limits and priorities in
// channel_queue_limit.go, dead letters in channel_queue_dead.go, the rest in channel_queue_more.go.
var queueRows = []Row{
	{ID: "QU-01", Run: qu01},
	{ID: "QU-02", Run: qu02},
	{ID: "QU-03", Run: qu03},
	{ID: "QU-04", Run: qu04},
	{ID: "QU-05", Run: qu05},
	{ID: "QU-06", Run: qu06},
	{ID: "QU-07", Run: qu07},
	{ID: "QU-08", Run: qu08},
	{ID: "QU-09", Run: qu09},
	{ID: "QU-10", Alone: true, Run: qu10},
	{ID: "QU-11", Needs: []Need{Order}, Run: qu11},
	{ID: "QU-12", Run: qu12},
	{ID: "QU-13", Run: qu13},
	{ID: "QU-14", Needs: []Need{Lengths}, Run: qu14},
	{ID: "QU-15", Run: qu15},
	{ID: "QU-16", Needs: []Need{Priority}, Run: qu16},
	{ID: "QU-17", Run: qu17},
	{ID: "QU-18", Needs: []Need{Attempts}, Run: qu18},
	{ID: "QU-19", Run: qu19},
	{ID: "QU-20", Run: qu20},
	{ID: "QU-21", Run: qu21},
	{ID: "QU-22", Run: qu22},
	{ID: "QU-23", Run: qu23},
	{ID: "QU-24", Run: qu24},
	{ID: "QU-25", Run: qu25},
	{ID: "QU-26", Run: qu26},
	{ID: "QU-27", Run: qu27},
	{ID: "QU-28", Needs: []Need{Priority, Limits}, Run: qu28},
	{ID: "QU-29", Run: qu29},
	{ID: "QU-30", Run: qu30},
	{ID: "QU-31", Run: qu31},
}

func qu01(e *Env) {
	l := e.confirming(0)
	named := l.queue()
	a := l.declare("", channel.QueueOptions{}).Name
	b := l.declare("", channel.QueueOptions{}).Name
	for _, name := range []string{a, b} {
		e.check(strings.HasPrefix(name, "amq.gen-") && len(name) > len("amq.gen-")+10, "a generated name is %q", name)
		e.check(e.exists(1, name), "generated queue %q is not known to another process", name)
	}
	e.check(a != b, "the name %q was generated twice", a)

	// "" is the queue declared last on this channel: b, in every call.
	e.must(l.QueueBind(e.ctx, "", "key", "amq.direct", nil), "bind of the last declared queue")
	l.post("amq.direct", "key", "1")
	l.post("", b, "2", "3")
	d := l.get("")
	e.ack(d)
	l.flush()
	s := l.window(1, "")
	rest := []channel.Delivery{d}
	for range 2 {
		d := s.next()
		e.ack(d)
		rest = append(rest, d)
	}
	e.same("messages of the last declared queue", bodies(rest), []string{"1", "2", "3"})
	s.cancel()
	e.must(l.QueueUnbind(e.ctx, "", "key", "amq.direct", nil), "unbind of the last declared queue")
	l.post("amq.direct", "key", "unbound")
	l.post("", b, "4", "5")
	n, err := l.QueuePurge(e.ctx, "")
	e.must(err, "purge of the last declared queue")
	e.check(n == 2 || !e.has(Counts), "purge of the last declared queue removed %d, want 2", n)
	// A passive declare counts, and one that was declared again; the channel of another process has its own.
	l.passive(a)
	l.post("", a, "a")
	d = l.get("")
	e.check(string(d.Body) == "a", "a get after a passive declare says %q, want \"a\"", d.Body)
	e.ack(d)
	l.declare(named, channel.QueueOptions{})
	_, err = l.QueueDelete(e.ctx, "", channel.DeleteOptions{})
	e.must(err, "delete of the last declared queue")
	e.check(!e.exists(1, named), "the last declared queue is there after its delete")
	e.check(e.exists(1, a) && e.exists(1, b), "another queue was deleted instead")

	// None declared yet on this channel.
	for what, call := range inOrder(map[string]func(l *line) error{
		"bind":    func(l *line) error { return l.QueueBind(e.ctx, "", "k", "amq.direct", nil) },
		"unbind":  func(l *line) error { return l.QueueUnbind(e.ctx, "", "k", "amq.direct", nil) },
		"consume": func(l *line) error { _, err := l.Consume(e.ctx, "", channel.ConsumeOptions{}); return err },
		"get":     func(l *line) error { _, _, err := l.Get(e.ctx, "", false); return err },
		"purge":   func(l *line) error { _, err := l.QueuePurge(e.ctx, ""); return err },
		"delete":  func(l *line) error { _, err := l.QueueDelete(e.ctx, "", channel.DeleteOptions{}); return err },
	}) {
		e.doing("%s of \"\" with no queue declared", what)
		l := e.open(1)
		l.refuses(call(l), channel.NotFound)
	}
	e.doing("")
	// A passive declare of "" is none of that.
	l = e.open(0)
	l.passive(a)
	_, err = l.QueueDeclarePassive(e.ctx, "")
	l.refuses(err, channel.NotFound)
}

func qu02(e *Env) {
	pub, sub := e.pair()
	arg, n, small := "x-max-length", int32(100), any(uint8(100))
	if !e.has(Lengths) {
		arg, n, small = "x-expires", 120000000, uint32(120000000)
	}
	known := table{arg: n, "x-message-ttl": int32(60000000), "x-extra": "a"}
	name := e.name("q")
	pub.declare(name, channel.QueueOptions{Durable: true, Args: known})
	pub.post("", name, "1", "2")
	sub.window(1, name).next()
	// Equal: the counts. Numbers by value, unknown arguments not compared.
	for _, args := range []table{
		known,
		{arg: int64(n), "x-message-ttl": uint32(60000000), "x-extra": "other"},
		{arg: small, "x-message-ttl": int64(60000000)},
	} {
		q := sub.declare(name, channel.QueueOptions{Durable: true, Args: args})
		e.check(q.Consumers == 1, "an equal declare tells %d consumers, want 1", q.Consumers)
		e.with(Counts, "the number of ready messages", func() {
			e.check(q.Messages == 1, "an equal declare tells %d ready messages, want 1", q.Messages)
		})
	}
	// Different: the first difference is named, in the order durable, auto-delete, arguments.
	for _, c := range []struct {
		o    channel.QueueOptions
		code int
		word string
	}{
		{channel.QueueOptions{Durable: true, Exclusive: true, Args: known}, channel.ResourceLocked, name},
		{channel.QueueOptions{Exclusive: true, AutoDelete: true}, channel.ResourceLocked, name},
		{channel.QueueOptions{Exclusive: true, Args: table{"x-message-ttl": int32(-1)}}, channel.ResourceLocked, name},
		{channel.QueueOptions{AutoDelete: true}, channel.PreconditionFailed, "durable"},
		{channel.QueueOptions{Durable: true, AutoDelete: true}, channel.PreconditionFailed, "auto_delete"},
		{channel.QueueOptions{Durable: true}, channel.PreconditionFailed, arg[:3]}, // x-max-length or x-message-ttl, or x-expires
		{channel.QueueOptions{Durable: true, Args: table{arg: n - 1, "x-message-ttl": int32(60000000)}}, channel.PreconditionFailed, arg},
		{channel.QueueOptions{Durable: true, Args: table{arg: n, "x-message-ttl": int32(1)}}, channel.PreconditionFailed, "x-message-ttl"},
		{channel.QueueOptions{Durable: true, Args: table{arg: n, "x-message-ttl": int32(60000000), "x-expires": int32(60000)}}, channel.PreconditionFailed, "x-expires"},
		{channel.QueueOptions{Durable: true, Args: table{arg: n, "x-message-ttl": int32(60000000), "x-dead-letter-exchange": ""}}, channel.PreconditionFailed, "x-dead-letter-exchange"},
	} {
		l := e.open(1)
		_, err := l.QueueDeclare(e.ctx, name, c.o)
		l.refuses(err, c.code, c.word)
	}
	// The old one stands.
	q := pub.declare(name, channel.QueueOptions{Durable: true, Args: known})
	e.check(q.Consumers == 1, "after refused declares there are %d consumers", q.Consumers)
}

// someArgument is one that queues can have that hold no more than a thousand messages.
func (e *Env) someArgument() table {
	if e.has(Lengths) {
		return table{"x-max-length": int32(1000)}
	}
	return table{"x-dead-letter-exchange": ""}
}

func qu03(e *Env) {
	pub, sub := e.pair()
	q := pub.queue(channel.QueueOptions{Durable: true, AutoDelete: true, Args: e.someArgument()})
	p := sub.passive(q) // says nothing of durable, auto-delete and arguments, and passes
	e.check(p == channel.Queue{Name: q}, "passive declare says %+v", p)
	pub.post("", q, "1", "2", "3")
	a := sub.window(1, q)
	a.next()
	e.with(Counts, "the number of ready messages", func() {
		p := pub.passive(q)
		e.check(p.Messages == 2, "%d ready messages, want 2: one of three is unacked", p.Messages)
	})
	b := e.open(0).consume(q, channel.ConsumeOptions{AutoAck: true})
	b.take(2)
	p = sub.passive(q)
	e.check(p.Messages == 0 && p.Consumers == 2, "passive declare says %+v, want no ready message and 2 consumers", p)
	b.cancel()
	pub.consumers(q, 1, "after a cancel")
	l := e.open(1)
	unknown := e.name("unknown")
	_, err := l.QueueDeclarePassive(e.ctx, unknown)
	l.refuses(err, channel.NotFound, unknown)
	e.check(!e.exists(0, unknown), "a passive declare created the queue")
}

func qu04(e *Env) {
	owner := e.openOn(e.connect(0, ConnectOptions{}))
	q := owner.declare(e.name("q"), channel.QueueOptions{Exclusive: true}).Name
	pub := e.confirming(0) // another connection of the owner's process
	hx := pub.exchange(channel.Headers)
	owner.bind(q, "bound", hx)
	for p := range 2 {
		for what, call := range inOrder(map[string]func(l *line) error{
			"declare": func(l *line) error {
				_, err := l.QueueDeclare(e.ctx, q, channel.QueueOptions{Exclusive: true})
				return err
			},
			"declare for all": func(l *line) error { _, err := l.QueueDeclare(e.ctx, q, channel.QueueOptions{}); return err },
			"passive declare": func(l *line) error { _, err := l.QueueDeclarePassive(e.ctx, q); return err },
			"bind":            func(l *line) error { return l.QueueBind(e.ctx, q, "k", "amq.direct", nil) },
			"unbind":          func(l *line) error { return l.QueueUnbind(e.ctx, q, "bound", hx, nil) },
			"consume":         func(l *line) error { _, err := l.Consume(e.ctx, q, channel.ConsumeOptions{}); return err },
			"get":             func(l *line) error { _, _, err := l.Get(e.ctx, q, true); return err },
			"purge":           func(l *line) error { _, err := l.QueuePurge(e.ctx, q); return err },
			"delete":          func(l *line) error { _, err := l.QueueDelete(e.ctx, q, channel.DeleteOptions{}); return err },
			"delete if unused": func(l *line) error {
				_, err := l.QueueDelete(e.ctx, q, channel.DeleteOptions{IfUnused: true})
				return err
			},
		}) {
			e.doing("%s by another connection, of process %d", what, p)
			l := e.open(p)
			l.refuses(call(l), channel.ResourceLocked, q)
		}
		l := e.open(p)
		l.unbind(q, "not bound", hx)
		l.refuses(l.QueueBind(e.ctx, q, "", hx, table{"x-match": "some"}), channel.PreconditionFailed)
	}
	e.doing("")
	// Publishing to it is allowed, from anywhere; any channel of the owner may use it.
	pub.post("", q, "1")
	far := e.confirming(1)
	far.post("", q, "2")
	same := e.openOn(owner.Connection())
	e.ack(same.consume(q, channel.ConsumeOptions{}).gets("1", "2")...)
	// The owner may declare it again, with another durable.
	owner.declare(q, channel.QueueOptions{Exclusive: true})
	owner.declare(q, channel.QueueOptions{Exclusive: true, Durable: true})
	// It stays while the connection does, and goes with it: bindings, messages and all.
	e.must(same.Close(e.ctx), "close")
	x := pub.exchange(channel.Fanout, channel.ExchangeOptions{AutoDelete: true})
	owner.bind(q, "", x)
	pub.post(x, "", "3")
	e.must(owner.Close(e.ctx), "close of the channel that declared it")
	e.openOn(owner.Connection()).passive(q)
	e.must(owner.Connection().Close(e.ctx), "close")
	e.gone(1, q, "its connection closed")
	e.exchangeGone(1, x, "its last binding went with the queue")
	// Its name is free for anybody.
	far.declare(q, channel.QueueOptions{})
	far.empty(q, "a new one")

	// Also when the process is killed.
	owner = e.openOn(e.connect(1, ConnectOptions{}))
	q = owner.declare(e.name("q"), channel.QueueOptions{Exclusive: true, Durable: true}).Name
	e.crash(1)
	l := e.open(0)
	e.eventually("the queue of a killed process goes", func() (bool, string) {
		_, err := l.QueueDeclarePassive(e.ctx, q)
		if err == nil {
			return false, "it exists for all"
		}
		ce := err.(*channel.Error)
		if ce.Code == channel.ResourceLocked {
			l = e.open(0)
			return false, "it exists and is locked"
		}
		e.fails(err, channel.NotFound)
		return true, ""
	})
}

func qu05(e *Env) {
	pub, sub := e.pair()
	dead := pub.queue()
	auto := channel.QueueOptions{AutoDelete: true, Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}}
	for _, end := range []struct {
		what string
		end  func(s *stream)
	}{
		{"cancel", func(s *stream) { s.cancel() }},
		{"the end of its channel", func(s *stream) { e.must(s.l.Close(e.ctx), "close") }},
		{"the end of its connection", func(s *stream) { e.must(s.l.Connection().Close(e.ctx), "close") }},
		{"an error of its channel", func(s *stream) {
			s.l.refuses(s.l.ExchangeDeclarePassive(e.ctx, e.name("unknown")), channel.NotFound)
		}},
	} {
		q := pub.queue(auto)
		// Not before it had a consumer, and a get is none.
		pub.post("", q, "1", "2", "3", "4")
		e.ack(sub.get(q))
		sub.flush()
		e.check(e.exists(0, q), "%s: gone after a get", end.what)
		first := e.open(1).window(1, q)
		held := first.next()
		last := e.openOn(e.connect(1, ConnectOptions{})).window(1, q)
		last.next()
		e.ack(held)
		first.l.alive("ack")
		first.cancel()
		e.check(e.exists(0, q), "%s: gone while it had a consumer", end.what)
		// With the last one it goes, ready and unacked messages with it, and not as dead letters.
		end.end(last)
		e.gone(0, q, end.what)
	}
	e.pause(e.unit(1))
	pub.empty(dead, "what goes with an auto-delete queue is no dead letter")
}

func qu06(e *Env) {
	pub, sub := e.pair()
	x := pub.exchange(channel.Fanout, channel.ExchangeOptions{AutoDelete: true})
	q := pub.bound(x, "")
	pub.post("", q, "1", "2", "3")
	held := sub.get(q)
	refused := func(word string, o channel.DeleteOptions) {
		e.Helper()
		l := e.open(1)
		_, err := l.QueueDelete(e.ctx, q, o)
		l.refuses(err, channel.PreconditionFailed, word)
	}
	e.with(Counts, "if-empty", func() { refused("empty", channel.DeleteOptions{IfEmpty: true}) })
	s := e.open(0).window(1, q)
	s.next()
	refused("use", channel.DeleteOptions{IfUnused: true})
	e.with(Counts, "if-empty", func() {
		refused("empty", channel.DeleteOptions{IfUnused: true, IfEmpty: true}) // not empty first
	})
	// The number of ready ones: unacked ones do not count.
	n := sub.delete(q)
	e.check(n == 1 || !e.has(Counts), "delete tells %d messages, want 1: of three, two are unacked", n)
	e.check(!e.exists(0, q), "the queue exists after its delete")
	e.exchangeGone(0, x, "the last binding went with the queue")
	e.ack(held)
	sub.alive("ack of a message of a deleted queue")
	// Unknown is fine, and 0, with the conditions too.
	for _, o := range []channel.DeleteOptions{{}, {IfUnused: true, IfEmpty: true}} {
		n, err := sub.QueueDelete(e.ctx, q, o)
		e.must(err, "delete of an unknown queue")
		e.check(n == 0, "delete of an unknown queue tells %d", n)
	}
	// Empty but for an unacked one, and unused: deleted under both conditions.
	q = pub.queue()
	pub.post("", q, "1")
	sub.get(q)
	_, err := pub.QueueDelete(e.ctx, q, channel.DeleteOptions{IfUnused: true, IfEmpty: true})
	e.must(err, "delete of an empty, unused queue")
	// Re-declared, it is empty, and has no bindings.
	x2 := pub.exchange(channel.Fanout)
	q = pub.bound(x2, "")
	pub.delete(q)
	pub.declare(q, channel.QueueOptions{})
	pub.post(x2, "", "nowhere")
	sub.empty(q, "its bindings went with the old one")
}

func qu07(e *Env) {
	pub, sub := e.pair()
	q, dead := pub.deadLettered(nil)
	pub.post("", q, numbered("", 6)...)
	held := sub.gets(q, "1", "2")
	n, err := pub.QueuePurge(e.ctx, q)
	e.must(err, "purge")
	e.check(n == 4 || !e.has(Counts), "purge removed %d, want 4", n)
	sub.empty(q, "it was purged")
	n, err = sub.QueuePurge(e.ctx, q)
	e.must(err, "purge")
	e.check(n == 0 || !e.has(Counts), "a second purge removed %d", n)
	// The unacked ones stay, and come back.
	e.must(held[0].Nack(true, true), "nack")
	e.ack(held[1])
	sub.flush()
	pub.holds(q, "1")
	pub.empty(dead, "purged messages are no dead letters")
	// A consumer goes on.
	s := e.open(1).window(1, q)
	pub.post("", q, "a", "b", "c")
	one := e.first(s.gets("a"))
	_, err = pub.QueuePurge(e.ctx, q)
	e.must(err, "purge")
	e.ack(one)
	s.silent("the others were purged")
	pub.post("", q, "d")
	s.gets("d")
	l := e.open(1)
	unknown := e.name("unknown")
	_, err = l.QueuePurge(e.ctx, unknown)
	l.refuses(err, channel.NotFound, unknown)
}
