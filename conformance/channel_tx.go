package conformance

import (
	"fmt"

	"github.com/dashi-mq/dashi/channel"
)

// txRows are the rows TX: transactions.
var txRows = []Row{
	{ID: "TX-01", Run: tx01},
	{ID: "TX-02", Run: tx02},
	{ID: "TX-03", Run: tx03},
	{ID: "TX-04", Run: tx04},
}

// transactional opens a channel in transaction mode.
func (e *Env) transactional(process int) *line {
	l := e.open(process)
	e.must(l.Tx(e.ctx), "tx.select")
	return l
}

// say publishes without waiting for anything.
func (l *line) say(exchange, key string, bodies ...string) {
	for _, b := range bodies {
		l.e.staged(exchange, key, text(b))
		l.e.must(l.Publish(l.e.ctx, exchange, key, text(b)), "publish to %q by %q", exchange, key)
	}
}

func (l *line) commit() { l.e.must(l.TxCommit(l.e.ctx), "tx.commit") }

func (l *line) rollback() { l.e.must(l.TxRollback(l.e.ctx), "tx.rollback") }

func tx01(e *Env) {
	pub, other := e.pair()
	q, src := pub.queue(), pub.queue()
	pub.post("", src, "1", "2", "3")

	tx := e.transactional(0)
	s := tx.window(1, src)
	e.ack(s.gets("1")...)
	tx.say("", q, "a", "b")
	// Declare, bind and get are immediate, for others too.
	x := tx.exchange(channel.Fanout)
	q2 := tx.bound(x, "")
	other.post(x, "", "routed")
	d := tx.get(q2)
	e.same("get in a transaction", []string{string(d.Body)}, []string{"routed"})
	// Publishes and acks are not, and the window stays closed.
	s.silent("the window is closed until the commit")
	other.empty(q, "nothing is committed")
	tx.commit()
	other.holds(q, "a", "b")
	two := e.first(s.gets("2"))
	// After the commit the next transaction begins.
	tx.say("", q, "c")
	e.ack(two)
	e.must(d.Ack(false), "ack of the get")
	s.silent("the window is closed until the next commit")
	other.empty(q, "nothing of the second transaction is committed")
	tx.commit()
	other.holds(q, "c")
	e.ack(s.gets("3")...)
	tx.commit()
	e.must(tx.Close(e.ctx), "close")
	// The committed acks hold.
	other.empty(src, "all acks are committed")
	other.empty(q2, "the ack of the get is committed")
	tx = e.transactional(0)
	tx.commit() // an empty one is fine
	tx.rollback()
	tx.alive("empty transactions")
}

func tx02(e *Env) {
	pub, other := e.pair()
	q, src := pub.queue(), pub.queue()
	src2, dead := pub.deadLettered(nil)
	pub.post("", src, "1", "2", "3")
	pub.post("", src2, "x")
	tx := e.transactional(1)
	s := tx.window(3, src)
	ds := s.gets("1", "2", "3")
	x := tx.get(src2)
	e.ack(ds[0])
	e.must(ds[1].Nack(false, true), "nack, requeue")
	e.must(x.Nack(false, false), "nack, no requeue")
	tx.say("", q, "never")
	tx.rollback()
	other.empty(q, "rolled back")
	other.empty(dead, "the nack was rolled back")
	s.silent("the requeue was rolled back")
	// They are unanswered again and can be answered, otherwise than before.
	e.must(ds[0].Nack(false, false), "nack after the rollback")
	e.ack(ds[1], x)
	tx.say("", q, "kept")
	tx.commit()
	other.holds(q, "kept")
	other.empty(dead, "the last answer was an ack")
	e.must(tx.Close(e.ctx), "close")
	e.redelivered(true, other.holds(src, "3")...)
	other.empty(src2, "acked")
}

func tx03(e *Env) {
	l := e.open(0)
	l.refuses(l.TxCommit(e.ctx), channel.PreconditionFailed)
	l = e.open(0)
	l.refuses(l.TxRollback(e.ctx), channel.PreconditionFailed)

	pub, other := e.pair()
	for _, end := range []struct {
		what string
		end  func(l *line)
	}{
		{"close", func(l *line) { e.must(l.Close(e.ctx), "close") }},
		{"a channel error", func(l *line) {
			_, err := l.QueueDeclarePassive(e.ctx, e.name("unknown"))
			l.refuses(err, channel.NotFound)
		}},
		{"the end of the connection", func(l *line) { e.must(l.Connection().Close(e.ctx), "close") }},
	} {
		q, src := pub.queue(), pub.queue()
		pub.post("", src, "1")
		tx := e.openOn(e.connect(0, ConnectOptions{}))
		e.must(tx.Tx(e.ctx), "tx.select")
		d := tx.get(src)
		tx.say("", q, "never")
		e.ack(d)
		tx.alive("an open transaction")
		end.end(tx)
		other.ready(src, 1, end.what+" rolls the ack back")
		e.redelivered(true, other.holds(src, "1")...)
		other.empty(q, end.what+" rolls the publish back")
	}
}

func tx04(e *Env) {
	pub, other := e.pair()
	q := pub.queue()

	// Returns come at commit, before commit-ok.
	tx := e.transactional(0)
	returns := tx.NotifyReturn(make(chan channel.Return, 4))
	m := text("back")
	m.Mandatory = true
	nowhere := e.name("nowhere")
	e.must(tx.Publish(e.ctx, "", nowhere, m), "publish")
	tx.say("", q, "kept")
	nothing(e, "a return before the commit", returns)
	tx.commit()
	select {
	case r := <-returns:
		e.check(r.ReplyCode == channel.NoRoute && r.RoutingKey == nowhere, "returned with %d by %q", r.ReplyCode, r.RoutingKey)
	default:
		e.Fatalf("the commit was answered before the return of its message")
	}
	other.holds(q, "kept")
	// None of a transaction that is rolled back.
	e.must(tx.Publish(e.ctx, "", nowhere, m), "publish")
	tx.rollback()
	nothing(e, "a return after a rollback", returns)

	// An unknown exchange and an unknown tag fail at once, and roll back.
	unknown := e.name("unknown")
	tx.say("", q, "never")
	tx.say(unknown, "", "x")
	tx.dies(channel.NotFound, unknown)
	tx = e.transactional(0)
	tx.say("", q, "never")
	e.must(tx.Ack(7, false), "ack")
	tx.dies(channel.PreconditionFailed, "unknown delivery tag 7")
	// So does a tag that was answered in the same transaction.
	tx = e.transactional(0)
	src := pub.queue()
	pub.post("", src, "1")
	d := tx.get(src)
	e.ack(d)
	tx.alive("an ack")
	e.must(d.Ack(false), "ack again")
	tx.dies(channel.PreconditionFailed, "unknown delivery tag 1")
	other.empty(q, "nothing was committed")
	other.ready(src, 1, "the ack was rolled back")

	// A message that a queue refuses fails the commit.
	e.with(Limits, "a refused message fails the commit", func() {
		full := pub.args(table{"x-max-length": int32(1), "x-overflow": "reject-publish"})
		tx = e.transactional(0)
		tx.say("", full, "1")
		tx.commit()
		for i := range 3 {
			tx.say("", full, fmt.Sprint("refused", i))
		}
		tx.refuses(tx.TxCommit(e.ctx), channel.PreconditionFailed)
		other.holds(full, "1")
	})
}
