package conformance

import (
	"errors"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

func ak07(e *Env) {
	pub := e.confirming(0)
	all := []string{"1", "2", "3", "4", "5"}
	for _, loss := range []struct {
		what string
		lose func(l *line)
	}{
		{"the channel closes", func(l *line) { e.must(l.Close(e.ctx), "close") }},
		{"the connection closes", func(l *line) { e.must(l.Connection().Close(e.ctx), "close") }},
		{"the channel ends by an error", func(l *line) {
			_, err := l.QueueDeclarePassive(e.ctx, e.name("unknown"))
			l.refuses(err, channel.NotFound)
		}},
		{"the process is killed", func(l *line) { e.crash(1) }},
	} {
		q := pub.queue(channel.QueueOptions{Durable: true})
		for _, b := range all {
			pub.put("", q, lasting(b))
		}
		l := e.openOn(e.connect(1, ConnectOptions{}))
		ds := l.window(4, q).gets(all[:4]...)
		e.ack(ds[1])
		l.alive("an ack")
		began := time.Now()
		loss.lose(l)
		// In rig "one" the crash took the publisher with it.
		pub = e.confirming(0)
		pub.ready(q, 4, loss.what)
		s := e.open(1).consume(q, channel.ConsumeOptions{})
		back := s.gets("1", "3", "4", "5")
		e.took("messages of a lost holder came back after "+loss.what, time.Since(began), e.lease()+max(time.Second, e.unit(1)))
		e.redelivered(true, back[:3]...) // 5 may have been under way to the lost one, or not
		e.ack(back...)
		s.silent("all has come")
		s.l.alive("the acks")
	}
}

// lease is the store's lease, or 0 on a server that sees a connection end.
func (e *Env) lease() time.Duration {
	if l, ok := e.rig.(Leaser); ok {
		return l.Lease()
	}
	if e.native() {
		return 0
	}
	return 10 * time.Second
}

func ak08(e *Env) {
	pub, sub := e.pair()
	q := pub.queue()
	pub.post("", q, "long", "waiting", "never handed over")
	s := sub.window(3, q)
	d := e.first(s.gets("long"))
	other := e.open(0).window(3, q)
	for range 5 {
		e.pause(e.lease())
		if d, ok := other.within(e.unit(0.1)); ok {
			e.Fatalf("%q was delivered again while a live process works on it", d.Body)
		}
	}
	e.must(d.AckWait(e.ctx), "ack after five leases")
	e.ack(s.gets("waiting", "never handed over")...)
	sub.alive("acks after five leases")
	other.silent("all was acked")
	e.must(sub.Close(e.ctx), "close")
	pub.empty(q, "all was acked")
}

func ak10(e *Env) {
	rig := e.rig.(Freezer)
	pub, sub := e.pair()
	q := pub.queue()
	pub.post("", q, "1", "2")
	events := sub.Connection().NotifyEvents(make(chan channel.Event, 16))
	s := sub.consume(q, channel.ConsumeOptions{})
	ds := s.gets("1", "2")
	s.cancel() // or it would get what the other one requeues
	e.must(rig.Freeze(1), "freeze")
	if e.rig.Name() == "one" { // nobody else is there: the process sleeps past its lease, and past its session
		e.pause(4 * e.lease())
		e.must(rig.Thaw(1), "thaw")
	}
	other := e.open(0).consume(q, channel.ConsumeOptions{})
	lost := other.gets("1", "2") // after the lease
	e.redelivered(true, lost...)
	e.must(rig.Thaw(1), "thaw")
	// No error on the channel, no effect on the other holder.
	e.must(ds[0].Ack(false), "ack after the lease was lost")
	err := ds[1].AckWait(e.ctx)
	sub.alive("acks of lost messages")
	e.with(Stale, "AckWait says so, and an event", func() {
		e.check(errors.Is(err, channel.ErrLeaseLost), "AckWait says %v, want ErrLeaseLost", err)
		for {
			ev := receive(e, "the event of the lost lease", events)
			if ev.Kind == channel.EventLeaseLost {
				break
			}
		}
	})
	e.must(lost[0].Nack(false, true), "nack by the holder")
	again := e.first(other.gets("1"))
	e.redelivered(true, again)
	e.ack(again, lost[1])
	other.l.alive("acks by the holder")
	other.silent("all was acked")
	pub.empty(q, "all was acked")
}
