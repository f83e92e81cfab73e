package conformance

import (
	"context"
	"errors"

	"github.com/dashi-mq/dashi/channel"
)

func lc04(e *Env) {
	rig := e.rig.(Breaker)
	pub, sub := e.pair()
	q := pub.queue(channel.QueueOptions{Durable: true})
	s := sub.window(10, q)
	pub.put("", q, lasting("before"))
	before := e.first(s.gets("before"))
	e.must(rig.Break(1), "break")
	if e.rig.Name() != "one" { // there the publisher's store has gone too
		pub.put("", q, lasting("meanwhile"))
	}
	// A publish while the store is away fails or is nacked, and does not hang.
	other := e.confirming(1)
	f, err := other.PublishDeferred(e.ctx, "", q, lasting("lost"))
	if err == nil {
		acked, werr := f.Wait(e.ctx)
		e.check(!acked, "acked by a store that is away")
		err = werr
	}
	e.Logf("a publish while the store is away: %v", err)
	e.pause(e.unit(1))
	e.must(rig.Mend(1), "mend")
	if e.rig.Name() == "one" {
		e.eventually("the store answers again", func() (bool, string) { return pub.outcome("", q, lasting("meanwhile"))[0], "nacked" })
	}
	// The consumer is still subscribed and goes on.
	d := s.next()
	for string(d.Body) == "before" || string(d.Body) == "lost" {
		e.ack(d)
		d = s.next()
	}
	e.same("what came meanwhile", []string{string(d.Body)}, []string{"meanwhile"})
	// The old tag is of its own message, or void; never of another.
	e.must(before.Ack(false), "ack of what was delivered before")
	sub.alive("an old ack")
	e.must(sub.Close(e.ctx), "close")
	pub.eventuallyHolds(q, "meanwhile")
}

// eventuallyHolds waits until a message with this body comes out of a queue; others that may be there are taken too.
func (l *line) eventuallyHolds(queue, want string) {
	l.e.eventually(want+" in "+queue, func() (bool, string) {
		d, ok := l.tryGet(queue, true)
		return ok && string(d.Body) == want, string(d.Body)
	})
}

func lc05(e *Env) {
	conn := e.connect(1, ConnectOptions{ChannelMax: 3})
	e.check(conn.Info().ChannelMax == 3, "Info says channel-max %d, want 3", conn.Info().ChannelMax)
	var ls []*line
	for range 3 {
		ls = append(ls, e.openOn(conn))
	}
	for range 2 {
		_, err := conn.Channel(e.ctx)
		ce := e.fails(err, channel.NotAllowed)
		e.check(errors.Is(err, channel.ErrNotAllowed), "errors.Is(err, ErrNotAllowed) is false for %v", err)
		e.check(!ce.Connection, "the error says that it closes the connection: %v", ce)
	}
	for _, l := range ls {
		l.alive("one channel more than channel-max")
	}
	// A closed one makes room, one that ended by an error too.
	e.must(ls[0].Close(e.ctx), "close")
	ls[0] = e.openOn(conn)
	ls[0].alive("opening in the room of a closed one")
	_, err := ls[1].QueueDeclarePassive(e.ctx, e.name("unknown"))
	ls[1].refuses(err, channel.NotFound)
	ls[1] = e.openOn(conn)
	ls[1].alive("opening in the room of a failed one")

	// An ended context: its own error, and the channel unharmed, since nothing was sent.
	ended, cancel := context.WithCancel(e.ctx)
	cancel()
	for name, call := range inOrder(map[string]func() error{
		"Qos":          func() error { return ls[0].Qos(ended, 1, 0, false) },
		"QueueDeclare": func() error { _, err := ls[0].QueueDeclare(ended, "x", channel.QueueOptions{}); return err },
		"Publish":      func() error { return ls[0].Publish(ended, "", "x", text("x")) },
		"Consume":      func() error { _, err := ls[0].Consume(ended, "x", channel.ConsumeOptions{}); return err },
		"Get":          func() error { _, _, err := ls[0].Get(ended, "x", false); return err },
		"Channel":      func() error { _, err := conn.Channel(ended); return err },
		"Flush":        func() error { return ls[0].Flush(ended) },
	}) {
		err := call()
		e.check(errors.Is(err, context.Canceled), "%s with an ended context says %v", name, err)
		e.check(!errors.Is(err, channel.ErrClosed), "%s with an ended context says that the channel is closed: %v", name, err)
	}
	ls[0].alive("calls with an ended context")

	// A closed connection: another error.
	e.must(conn.Close(e.ctx), "close")
	_, err = conn.Channel(e.ctx)
	e.check(errors.Is(err, channel.ErrClosed), "Channel on a closed connection says %v, want ErrClosed", err)
	err = ls[0].Qos(e.ctx, 1, 0, false)
	e.check(errors.Is(err, channel.ErrClosed), "a call on a channel of a closed connection says %v, want ErrClosed", err)
	e.check(errors.Is(conn.Err(), channel.ErrClosed), "Err of a closed connection is %v, want ErrClosed", conn.Err())
}

func lc06(e *Env) {
	pub := e.confirming(0)
	q := pub.queue()
	x := pub.exchange(channel.Fanout)
	pub.bind(q, "", x)
	far := e.openOn(e.connect(1, ConnectOptions{Vhost: OtherVhost}))
	e.check(far.Connection().Info().Vhost != pub.Connection().Info().Vhost, "both vhosts are called %q", pub.Connection().Info().Vhost)
	// Nothing of one is known in the other.
	_, err := far.QueueDeclarePassive(e.ctx, q)
	far.refuses(err, channel.NotFound, q)
	far = e.openOn(far.Connection())
	far.refuses(far.ExchangeDeclarePassive(e.ctx, x), channel.NotFound, x)
	// The same names, otherwise declared, never meet.
	far = e.openOn(far.Connection())
	_, err = far.QueueDeclare(e.ctx, q, channel.QueueOptions{Durable: true})
	e.must(err, "declare in the other vhost")
	e.must(far.ExchangeDeclare(e.ctx, x, channel.Topic, channel.ExchangeOptions{}), "declare in the other vhost")
	far.bind(q, "#", x)
	pub.post(x, "k", "near")
	e.must(far.Confirm(e.ctx), "confirm.select")
	far.confirms = true
	far.post(x, "k", "far")
	e.open(1).holds(q, "near")
	far.holds(q, "far")
	far.delete(q)
	e.must(far.ExchangeDelete(e.ctx, x, channel.DeleteOptions{}), "delete in the other vhost")
	e.check(e.exists(1, q), "a delete in one vhost deleted the other's queue")
	pub.post(x, "k", "still bound")
	pub.holds(q, "still bound")
	if e.native() {
		_, err := e.rig.Connect(e.ctx, 0, ConnectOptions{Vhost: e.name("no-such-vhost")})
		e.fails(err, channel.NotAllowed)
	}
}

func lc07(e *Env) {
	for _, c := range []struct {
		name      string
		got, want int
	}{
		{"ContentTooLarge", channel.ContentTooLarge, 311}, {"NoRoute", channel.NoRoute, 312}, {"NoConsumers", channel.NoConsumers, 313},
		{"ConnectionForced", channel.ConnectionForced, 320}, {"InvalidPath", channel.InvalidPath, 402},
		{"AccessRefused", channel.AccessRefused, 403}, {"NotFound", channel.NotFound, 404}, {"ResourceLocked", channel.ResourceLocked, 405},
		{"PreconditionFailed", channel.PreconditionFailed, 406}, {"FrameError", channel.FrameError, 501}, {"SyntaxError", channel.SyntaxError, 502},
		{"CommandInvalid", channel.CommandInvalid, 503}, {"ChannelErrorCode", channel.ChannelErrorCode, 504},
		{"UnexpectedFrame", channel.UnexpectedFrame, 505}, {"ResourceError", channel.ResourceError, 506}, {"NotAllowed", channel.NotAllowed, 530},
		{"NotImplemented", channel.NotImplemented, 540}, {"InternalError", channel.InternalError, 541},
	} {
		e.check(c.got == c.want, "channel.%s is %d, want %d", c.name, c.got, c.want)
		e.check(channel.CodeName(c.want) != "", "%d has no name", c.want)
	}
	// 504: a channel that we closed.
	l := e.open(0)
	e.must(l.Close(e.ctx), "close")
	e.fails(l.Qos(e.ctx, 1, 0, false), channel.ChannelErrorCode)
	// 404, 405, 406 are of one channel.
	l = e.open(0)
	_, err := l.QueueDeclarePassive(e.ctx, e.name("unknown"))
	l.refuses(err, channel.NotFound)
	owner := e.open(0)
	q := owner.declare(e.name("q"), channel.QueueOptions{Exclusive: true}).Name
	l = e.open(1)
	_, err = l.QueueDeclarePassive(e.ctx, q)
	l.refuses(err, channel.ResourceLocked, q)
	l = e.open(0)
	_, err = l.QueueDeclare(e.ctx, q, channel.QueueOptions{Exclusive: true, AutoDelete: true})
	l.refuses(err, channel.PreconditionFailed, "auto_delete")
	// 503 and 540 are of the connection.
	l = e.openOn(e.connect(1, ConnectOptions{}))
	l.kills(l.ExchangeDeclare(e.ctx, e.name("x"), "no-such-type", channel.ExchangeOptions{}), channel.CommandInvalid)
	l = e.openOn(e.connect(1, ConnectOptions{}))
	l.kills(l.Recover(e.ctx, false), channel.NotImplemented)
	owner.alive("errors of others")
	// 320: the server ends the connection. A virtual transport is in this process and has nobody to do that.
	if e.native() {
		e.with(Restarts, "320: closed by the server", func() {
			c := e.connect(1, ConnectOptions{})
			l := e.openOn(c)
			closes := c.NotifyClose(make(chan *channel.Error, 1))
			e.must(e.rig.Restart(e.ctx), "restart")
			e.fails(receive(e, "NotifyClose", closes), channel.ConnectionForced)
			ce := e.fails(c.Err(), channel.ConnectionForced)
			e.check(ce.Server && ce.Connection, "the error does not say that the server closed the connection: %+v", ce)
			e.fails(l.Qos(e.ctx, 1, 0, false), channel.ConnectionForced)
		})
	}
	e.with(Logins, "403: a login refused", func() {
		_, err := e.rig.Connect(e.ctx, 0, ConnectOptions{Password: "wrong"})
		e.fails(err, channel.AccessRefused)
	})
}

func lc08(e *Env) {
	pub, sub := e.pair()
	x, q := e.name("x"), e.name("q")
	pub.e.keepExchange(x)
	pub.e.keepQueue(q)
	// Declare and bind without an answer; the next call of the channel finds them, and so does another process after
	// a round trip.
	e.must(pub.ExchangeDeclare(e.ctx, x, channel.Topic, channel.ExchangeOptions{NoWait: true}), "exchange.declare")
	qd, err := pub.QueueDeclare(e.ctx, q, channel.QueueOptions{NoWait: true})
	e.must(err, "queue.declare")
	e.check(qd.Name == q, "a queue declared without an answer is called %q, want %q", qd.Name, q)
	e.must(pub.QueueBind(e.ctx, q, "a.#", x, nil, channel.NoWait), "queue.bind")
	pub.post(x, "a.b", "1")
	x2 := pub.exchange(channel.Fanout)
	e.must(pub.ExchangeBind(e.ctx, x, "", x2, nil, channel.NoWait), "exchange.bind")
	pub.post(x2, "a.c", "2")
	e.must(sub.Confirm(e.ctx, channel.NoWait), "confirm.select")
	sub.confirms = true
	sub.post(x, "a.d", "3")
	s := sub.consume(q, channel.ConsumeOptions{NoWait: true})
	e.ack(s.gets("1", "2", "3")...)
	// Cancel: the chan ends, and after a round trip nothing comes any more.
	e.must(sub.Cancel(e.ctx, s.tag, channel.NoWait), "basic.cancel")
	if cause := s.ends(); cause != nil {
		e.Errorf("the cancelled consumer ended with %v", cause)
	}
	sub.flush()
	pub.consumers(q, 0, "after a cancel without an answer")
	// Unbind, purge, delete.
	e.must(pub.ExchangeUnbind(e.ctx, x, "", x2, nil, channel.NoWait), "exchange.unbind")
	pub.post(x2, "a.x", "lost")
	pub.post(x, "a.x", "purged")
	_, err = pub.QueuePurge(e.ctx, q, channel.NoWait)
	e.must(err, "queue.purge")
	pub.post(x, "a.x", "after")
	if e.has(Counts) {
		sub.holds(q, "after")
	} else {
		// A Get of the consumer may be under way still, and what it takes is not ready, so that it is not purged.
		sub.eventuallyHolds(q, "after")
	}
	_, err = pub.QueueDelete(e.ctx, q, channel.DeleteOptions{NoWait: true})
	e.must(err, "queue.delete")
	e.must(pub.ExchangeDelete(e.ctx, x, channel.DeleteOptions{NoWait: true}), "exchange.delete")
	pub.alive("calls without an answer")
	e.check(!e.exists(1, q), "the queue exists after a delete without an answer")
	e.check(!e.exchangeExists(1, x), "the exchange exists after a delete without an answer")

	// Errors close the channel, or the connection, all the same.
	unknown := e.name("unknown")
	for _, call := range []struct {
		what string
		call func(l *line) error
		code int
	}{
		{"queue.declare", func(l *line) error {
			_, err := l.QueueDeclare(e.ctx, "amq."+unknown, channel.QueueOptions{NoWait: true})
			return err
		}, channel.AccessRefused},
		{"exchange.declare", func(l *line) error {
			return l.ExchangeDeclare(e.ctx, "amq."+unknown, channel.Direct, channel.ExchangeOptions{NoWait: true})
		}, channel.AccessRefused},
		{"queue.bind", func(l *line) error { return l.QueueBind(e.ctx, unknown, "", x2, nil, channel.NoWait) }, channel.NotFound},
		{"exchange.bind", func(l *line) error { return l.ExchangeBind(e.ctx, unknown, "", x2, nil, channel.NoWait) }, channel.NotFound},
		{"queue.purge", func(l *line) error { _, err := l.QueuePurge(e.ctx, unknown, channel.NoWait); return err }, channel.NotFound},
		{"exchange.delete", func(l *line) error {
			return l.ExchangeDelete(e.ctx, "amq.direct", channel.DeleteOptions{NoWait: true})
		}, channel.AccessRefused},
		{"basic.consume", func(l *line) error {
			_, err := l.Consume(e.ctx, unknown, channel.ConsumeOptions{NoWait: true})
			return err
		}, channel.NotFound},
	} {
		l := e.open(1)
		if err := call.call(l); err != nil {
			e.Fatalf("%s without an answer: %v", call.what, err)
		}
		l.dies(call.code)
	}
	l := e.openOn(e.connect(1, ConnectOptions{}))
	err = l.ExchangeDeclare(e.ctx, unknown, "no-such-type", channel.ExchangeOptions{NoWait: true})
	e.must(err, "exchange.declare")
	l.kills(nil, channel.CommandInvalid)
}
