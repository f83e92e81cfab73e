package conformance

import (
	"fmt"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

func qu14(e *Env) {
	pub, sub := e.pair()
	if !e.has(Limits) {
		e.limitsLater(pub)
		return
	}
	returns := pub.NotifyReturn(make(chan channel.Return, 16))

	// drop-head is the default, and acks.
	for _, args := range []table{{"x-max-length": int32(3)}, {"x-max-length": int64(3), "x-overflow": "drop-head"}} {
		q, dead := pub.deadLettered(args)
		pub.post("", q, numbered("", 5)...)
		pub.ready(q, 3, "max-length 3")
		pub.ready(dead, 2, "dropped from the head")
		pub.holds(dead, "1", "2")
		// Only ready messages count.
		a, b := sub.get(q), sub.get(q)
		pub.post("", q, "6", "7")
		pub.ready(q, 3, "two more are unacked")
		e.ack(a, b)
		sub.flush()
		pub.holds(q, "5", "6", "7")
		pub.empty(dead, "nothing was over the limit")
	}

	// Bytes of bodies, and both together.
	q := pub.args(table{"x-max-length-bytes": int32(100)})
	size := func(c string, n int) string { return strings.Repeat(c, n) }
	m := text(size("a", 40))
	m.Headers = table{"h": size("x", 500)} // headers do not count
	pub.put("", q, m)
	pub.post("", q, size("b", 40), size("c", 20))
	pub.ready(q, 3, "100 of 100 bytes")
	pub.post("", q, size("d", 1))
	pub.holds(q, size("b", 40), size("c", 20), size("d", 1))
	q = pub.args(table{"x-max-length": int32(2), "x-max-length-bytes": int32(10)})
	pub.post("", q, "1", "2", "3")
	pub.holds(q, "2", "3")
	pub.post("", q, "1", size("2", 10))
	pub.holds(q, size("2", 10))

	// reject-publish: a nack, no return, nothing stored; room again when one has been taken.
	for _, overflow := range []string{"reject-publish", "reject-publish-dlx"} {
		q, dead := pub.deadLettered(table{"x-max-length": int32(2), "x-overflow": overflow})
		pub.post("", q, "1", "2")
		m := text("3")
		m.Mandatory = true
		e.check(!pub.outcome("", q, m)[0], "%s: a message over the limit was acked", overflow)
		e.check(!pub.outcome("", q, text("4"))[0], "%s: a message over the limit was acked", overflow)
		nothing(e, "a return of a refused message", returns)
		pub.ready(q, 2, overflow)
		if overflow == "reject-publish" {
			pub.empty(dead, "a refused publish is no dead letter")
		} else {
			pub.ready(dead, 2, "refused messages")
			for _, d := range pub.holds(dead, "3", "4") {
				e.check(e.death(d, 0)["reason"] == "maxlen", "the reason is %v, want maxlen", e.death(d, 0)["reason"])
			}
		}
		// Unacked ones do not count.
		d := sub.get(q)
		e.check(pub.outcome("", q, text("5"))[0], "%s: refused though there is room", overflow)
		e.check(!pub.outcome("", q, text("6"))[0], "%s: acked though it is full", overflow)
		e.ack(d)
		sub.flush()
		pub.holds(q, "2", "5")
	}
	full := pub.args(table{"x-max-length-bytes": int32(10), "x-overflow": "reject-publish"})
	pub.post("", full, "12345678")
	e.check(!pub.outcome("", full, text("123"))[0], "acked, though 8 bytes and 3 are over max-length-bytes 10")
	e.check(pub.outcome("", full, text("12"))[0], "refused, though 8 bytes and 2 are max-length-bytes 10")
	e.check(!pub.outcome("", full, text("1"))[0], "acked, though max-length-bytes is reached")
	sub.drain(full)
	pub.post("", full, "room again")

	// One of several queues refuses: nacked once, the others keep it.
	x := pub.exchange(channel.Fanout)
	a, b := pub.bound(x, ""), pub.bound(x, "")
	full = pub.args(table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
	pub.bind(full, "", x)
	results := []bool{}
	for i := range 3 {
		results = append(results, pub.outcome(x, "", text(fmt.Sprint(i)))...)
	}
	e.check(results[0] && !results[1] && !results[2], "acked: %v, want only the first", results)
	sub.holds(a, "0", "1", "2")
	sub.holds(b, "0", "1", "2")
	sub.holds(full, "0")
}

// limitsLater is what holds where a limit is kept some time later: the newest stay, and all are acked.
func (e *Env) limitsLater(pub *line) {
	q, dead := pub.deadLettered(table{"x-max-length": int32(3)})
	pub.post("", q, numbered("", 10)...)
	pub.ready(q, 3, "max-length 3, in the end")
	pub.kept(q, dead, numbered("", 10)[7:], numbered("", 10)[:7])
	e.with(Counts, "reject-publish, one message after the other", func() {
		q, dead := pub.deadLettered(table{"x-max-length": int32(2), "x-overflow": "reject-publish"})
		pub.post("", q, "1", "2")
		e.check(!pub.outcome("", q, text("3"))[0], "a message over the limit was acked")
		pub.holds(q, "1", "2")
		e.check(pub.outcome("", q, text("4"))[0], "refused though there is room")
		pub.holds(q, "4")
		pub.empty(dead, "a refused publish is no dead letter")
	})
}

// kept checks what a queue with a limit has kept, and what it has dropped: which ones, where the store keeps order, else
// how many of all.
func (l *line) kept(queue, dead string, kept, dropped []string) {
	l.e.Helper()
	gone := l.takes(dead, len(dropped)) // where that takes time, it is waited for here
	rest := l.takes(queue, len(kept))
	if l.e.has(Order) {
		l.e.same("dropped from "+queue, bodies(gone), dropped)
		l.e.same("kept in "+queue, bodies(rest), kept)
		return
	}
	l.e.sameSet("kept in "+queue+" and dropped from it", bodies(append(gone, rest...)), append(kept, dropped...))
	l.e.check(len(rest) == len(kept), "%q has kept %s, want %d of them", queue, show(bodies(rest)), len(kept))
}

// prior is a message with a priority.
func prior(body string, p uint8) channel.Publishing {
	return channel.Publishing{Body: []byte(body), Priority: p}
}

// prioritiesLoosely is what holds where the store keeps no order: of many, nearly all of the higher come before the lower.
func (e *Env) prioritiesLoosely() {
	pub, sub := e.pair()
	q := pub.args(table{"x-max-priority": int32(10)})
	const n = 50
	var want []string
	for i := range n {
		low, high := prior(fmt.Sprint("low", i), uint8(i%5)), prior(fmt.Sprint("high", i), uint8(6+i%5))
		pub.put("", q, low, high)
		want = append(want, string(low.Body), string(high.Body))
	}
	s := sub.window(1, q)
	var ds []channel.Delivery
	early := 0
	for range 2 * n {
		d := s.next()
		e.check((d.Priority > 5) == strings.HasPrefix(string(d.Body), "high"), "the priority of %q came back as %d", d.Body, d.Priority)
		if len(ds) < n && d.Priority > 5 {
			early++
		}
		ds = append(ds, d)
		e.ack(d)
	}
	e.sameSet("all messages", bodies(ds), want)
	e.check(early >= n*3/4, "of the first %d messages %d have the higher priorities", n, early)
	s.silent("all has come")
}

func qu16(e *Env) {
	if !e.has(Order) {
		e.prioritiesLoosely()
		return
	}
	pub, sub := e.pair()
	q := pub.args(table{"x-max-priority": int32(10)})
	pub.put("", q,
		text("none1"), prior("five1", 5), prior("ten1", 10), prior("one", 1), prior("above", 200), prior("five2", 5),
		prior("zero", 0), prior("ten2", 10), text("none2"), prior("nine", 9))
	want := []string{"ten1", "above", "ten2", "nine", "five1", "five2", "one", "none1", "zero", "none2"}
	s := sub.window(1, q)
	for i, w := range want {
		d := s.next()
		if string(d.Body) != w {
			e.Fatalf("message %d is %q, want %q of %v", i, d.Body, w, want)
		}
		e.check(string(d.Body) != "above" || d.Priority == 200, "the priority came back as %d, want 200 as published", d.Priority)
		if w == "nine" {
			// One that comes meanwhile overtakes; a requeued one takes its old place.
			pub.put("", q, prior("late", 10))
			e.must(d.Nack(false, true), "nack")
			e.ack(s.gets("late")...)
			d = e.first(s.gets("nine"))
			e.redelivered(true, d)
		}
		e.ack(d)
	}
	s.silent("all has come")
	// By get as well. A queue without the argument has no priorities.
	plain := pub.queue()
	for _, queue := range []string{q, plain} {
		s.cancel()
		pub.put("", queue, prior("low", 1), prior("high", 8))
	}
	pub.holds(q, "high", "low")
	pub.holds(plain, "low", "high")
	one := pub.args(table{"x-max-priority": int32(1)})
	pub.put("", one, text("low"), prior("high", 1))
	pub.holds(one, "high", "low")
	most := pub.args(table{"x-max-priority": int32(255)})
	pub.put("", most, prior("a", 254), prior("b", 255))
	pub.holds(most, "b", "a")
}

func qu28(e *Env) {
	pub, _ := e.pair()
	q, dead := pub.deadLettered(table{"x-max-priority": int32(5), "x-max-length": int32(2)})
	for _, m := range []channel.Publishing{prior("low1", 0), prior("low2", 0), prior("high", 5), prior("mid", 3), prior("low3", 0)} {
		pub.put("", q, m)
	}
	pub.ready(q, 2, "max-length 2")
	pub.ready(dead, 3, "max-length 2")
	// Each time the head goes: what would have been delivered next.
	pub.holds(dead, "high", "mid", "low1")
	pub.holds(q, "low2", "low3")
}

func qu29(e *Env) {
	pub, sub := e.pair()
	e.with(Limits, "limits kept at the publish", func() {
		// Larger than max-length-bytes: all go, the large one too.
		q, dead := pub.deadLettered(table{"x-max-length-bytes": int32(10)})
		pub.post("", q, "1", "2", strings.Repeat("x", 11)) // acked
		pub.ready(q, 0, "a message larger than the limit leaves the queue empty")
		pub.ready(dead, 3, "dropped")
		pub.holds(dead, "1", "2", strings.Repeat("x", 11))
		sub.empty(q, "a message larger than the limit leaves it empty")
		pub.post("", q, "3")
		sub.holds(q, "3")

		// max-length 0: only what a waiting consumer takes at once.
		q = pub.args(table{"x-max-length": int32(0)})
		pub.post("", q, "lost")
		sub.empty(q, "max-length 0, no consumer")
		s := sub.window(1, q)
		pub.post("", q, "taken")
		d := e.first(s.gets("taken"))
		pub.post("", q, "lost: the window is full")
		sub.alive("a message nobody can take")
		e.ack(d)
		s.silent("with max-length 0 it did not wait")
		pub.post("", q, "taken again")
		s.gets("taken again")
	})
}
