package conformance

import (
	"fmt"
	"strconv"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// ms is a duration as the arguments and expirations say it.
func ms(d time.Duration) int64 { return d.Milliseconds() }

// expiring is a message that expires.
func expiring(body string, d time.Duration) channel.Publishing {
	return channel.Publishing{Body: []byte(body), Expiration: strconv.FormatInt(ms(d), 10)}
}

func qu12(e *Env) {
	pub, sub := e.pair()
	// The smaller of both wins, whichever it is.
	q := pub.args(table{"x-message-ttl": ms(e.unit(3))})
	long := pub.args(table{"x-message-ttl": ms(e.unit(1000))})
	began := time.Now()
	pub.put("", q, text("by the queue's"), expiring("by the queue's, too", e.unit(1000)), expiring("the smaller", e.unit(1)))
	pub.put("", long, expiring("by its own", e.unit(2)))
	pub.ready(q, 3, "not expired yet")
	if time.Since(began) < e.unit(1) { // else this machine is too slow to tell
		d, ok := sub.tryGet(q, false)
		e.check(ok && (string(d.Body) == "by the queue's" || !e.has(Order)), "before its expiry a get found %q", d.Body)
		if ok {
			e.must(d.Nack(false, true), "nack")
			sub.flush()
		}
	}
	e.pause(e.unit(4) - time.Since(began))
	sub.empty(q, "all have expired")
	sub.empty(long, "its only message has expired")
	pub.ready(q, 0, "all have expired")

	// Never delivered when expired, to a consumer that comes later either.
	pub.put("", long, expiring("expired", e.unit(1)), text("good"))
	e.pause(e.unit(1.5))
	s := sub.consume(long, channel.ConsumeOptions{})
	e.ack(s.gets("good")...)
	s.silent("the other has expired")
	s.cancel()

	// Expiry acts at the head: one behind a longer-lived one is counted until it gets there.
	e.with(Order, "expiry acts at the head", func() {
		pub.put("", long, text("head"), expiring("behind", e.unit(1)))
		e.pause(e.unit(2))
		pub.ready(long, 2, "the expired one is not at the head")
		d := e.first(sub.gets(long, "head"))
		sub.empty(long, "the one behind has expired")
		e.must(d.Nack(false, true), "nack")
		sub.flush()
		pub.ready(long, 1, "the expired one was dropped")
		sub.holds(long, "head")
	})

	// Delivered in time, it does not expire while unacked.
	pub.put("", long, expiring("held", e.unit(2)))
	d := sub.get(long)
	e.pause(e.unit(3))
	e.ack(d)
	sub.alive("an ack after the message's expiry")

	// TTL 0 reaches only a consumer that is ready now.
	zero := pub.args(table{"x-message-ttl": int32(0)})
	plain := pub.queue()
	pub.put("", zero, text("lost"))
	pub.put("", plain, expiring("lost", 0))
	sub.empty(zero, "TTL 0, no consumer")
	sub.empty(plain, "expiration 0, no consumer")
	for _, c := range []struct {
		queue string
		m     channel.Publishing
	}{{zero, text("now")}, {plain, expiring("now", 0)}} {
		l := e.open(1)
		s := l.window(1, c.queue)
		pub.put("", c.queue, c.m)
		d := e.first(s.gets("now"))
		pub.put("", c.queue, c.m) // its window is full
		l.alive("a message that nobody can take")
		e.ack(d)
		s.silent("with TTL 0 it did not wait for the window")
	}

	// A bad one is refused, for an unroutable message too (PB-09 has more of them).
	for _, key := range []string{plain, e.name("nowhere")} {
		for _, bad := range []string{"-5", "soon", "315360000001"} {
			l := e.confirming(0)
			e.must(l.Publish(e.ctx, "", key, channel.Publishing{Expiration: bad}), "publish")
			l.dies(channel.PreconditionFailed)
		}
	}
}

// routes tells whether a queue exists, without using it: by a mandatory message.
func (e *Env) routes(l *line, returns chan channel.Return, queue string) bool {
	m := text("probe")
	m.Mandatory = true
	l.put("", queue, m)
	select {
	case <-returns:
		return false
	default:
		return true
	}
}

func qu13(e *Env) {
	pub := e.confirming(0)
	returns := pub.NotifyReturn(make(chan channel.Return, 64))
	sub := e.open(1)
	life := e.unit(5)
	names := map[string]string{}
	for _, use := range []string{"none", "publish", "unacked", "consumer", "get", "declare", "passive"} {
		names[use] = pub.args(table{"x-expires": ms(life)})
	}
	pub.post("", names["unacked"], "1")
	pub.post("", names["get"], "1")
	held := sub.get(names["unacked"])
	s := sub.consume(names["consumer"], channel.ConsumeOptions{})
	// Two and a half lives, in steps: some are used, some are not.
	end := time.Now().Add(life * 5 / 2)
	for time.Now().Before(end) {
		e.routes(pub, returns, names["publish"])
		sub.tryGet(names["get"], true)
		sub.declare(names["declare"], channel.QueueOptions{Args: table{"x-expires": ms(life)}})
		sub.passive(names["passive"])
		e.pause(life / 8)
	}
	for _, use := range []string{"none", "publish", "unacked"} {
		began := time.Now()
		for e.routes(pub, returns, names[use]) {
			if time.Since(began) > 10*life {
				e.Fatalf("after more than ten times its x-expires, a queue with use %q is there", use)
			}
			e.pause(e.unit(1))
		}
	}
	for _, use := range []string{"consumer", "get", "declare", "passive"} {
		e.check(e.routes(pub, returns, names[use]), "a queue in use (%s) expired", use)
	}
	e.ack(held) // its queue has gone
	sub.alive("ack of a message of an expired queue")
	// From the end of its use on, they go too.
	s.cancel()
	began := time.Now()
	for _, use := range []string{"consumer", "get", "declare", "passive"} {
		for e.routes(pub, returns, names[use]) {
			if time.Since(began) > 20*life {
				e.Fatalf("a queue that was used (%s) is there long after", use)
			}
			e.pause(e.unit(1))
		}
	}
	e.took("unused queues went", time.Since(began), 2*life)
}

func qu26(e *Env) {
	pub, sub := e.pair()
	q, dead := pub.deadLettered(nil)
	pub.put("", q, text("first"))
	for i := range 20 {
		pub.put("", q, expiring(fmt.Sprint("expired", i), e.unit(1)))
	}
	pub.put("", q, text("last"))
	pub.put("", q, expiring("at the end", e.unit(1)))
	e.pause(e.unit(2))
	e.with(Order, "only the head expires", func() { pub.ready(q, 23, "expired ones are behind the first") })
	// Without order, too, whatever takes one that lives takes none that has expired.
	live := append(sub.gets(q, "first"), sub.gets(q, "last")...)
	sub.empty(q, "the one at the end has expired")
	pub.ready(q, 0, "all expired ones are gone")
	pub.ready(dead, 21, "dead letters")
	e.check(len(pub.takes(dead, 21)) == 21, "dead letters: not 21")
	e.ack(live...)
	sub.alive("acks")
}

func qu27(e *Env) {
	pub, sub := e.pair()
	// After its expiry: expired at once, to nobody.
	q, dead := pub.deadLettered(nil)
	pub.put("", q, expiring("late", e.unit(2)))
	d := sub.get(q)
	e.pause(e.unit(3))
	e.must(d.Nack(false, true), "nack")
	sub.flush()
	pub.empty(q, "it was requeued after its expiry")
	pub.ready(dead, 1, "the expired one")
	e.check(e.death(e.first(pub.holds(dead, "late")), 0)["reason"] == "expired", "the reason is not expired")

	// Over max-length: the head goes.
	e.with(Lengths, "requeued over max-length", func() {
		for _, c := range []struct {
			overflow string
			want     []string
			dead     []string
		}{
			{"drop-head", []string{"2", "3"}, []string{"1"}},
			{"reject-publish", []string{"1", "2", "3"}, nil}, // the limit is exceeded
		} {
			q, dead := pub.deadLettered(table{"x-max-length": int32(2), "x-overflow": c.overflow})
			pub.post("", q, "1", "2")
			d := sub.get(q)
			pub.post("", q, "3")
			e.must(d.Nack(false, true), "nack")
			sub.flush()
			pub.ready(q, len(c.want), c.overflow+": after a requeue over the limit")
			pub.ready(dead, len(c.dead), c.overflow+": what was dropped")
			pub.kept(q, dead, c.want, c.dead)
		}
	})
}

func qu30(e *Env) {
	pub, sub := e.pair()
	work, retry := e.name("work"), e.name("retry")
	pub.declare(work, channel.QueueOptions{Durable: true, Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": retry}})
	wait := e.unit(3)
	pub.declare(retry, channel.QueueOptions{Durable: true, Args: table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": work, "x-message-ttl": ms(wait)}})
	pub.put("", work, lasting("job"))
	s := sub.window(1, work)
	for i := range 4 {
		d := e.first(s.gets("job"))
		e.redelivered(false, d)
		if i > 0 {
			for j, reason := range []string{"expired", "rejected"} {
				death := e.death(d, j)
				e.check(death["reason"] == reason && death["count"] == int64(i), "round %d: death %d is %v, want %s %d times", i, j, death, reason, i)
			}
		}
		began := time.Now()
		if i == 3 {
			e.ack(d)
			break
		}
		e.must(d.Nack(false, false), "nack")
		if d, early := s.within(wait / 2); early {
			e.Fatalf("%q came back before its time", d.Body)
		}
		pub.ready(work, 0, "it waits in the other queue")
		e.eventually("the message comes back", func() (bool, string) { return len(s.out) > 0, "not yet" })
		e.took("the message came back after", time.Since(began)-wait, e.unit(2))
	}
	s.silent("it was acked")
	pub.empty(work, "acked")
	pub.empty(retry, "acked")
}
