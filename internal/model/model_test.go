package model

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

var (
	start = time.Unix(1e9, 0)
	slot  = Slot{0, 0}
	other = Slot{1, 0}
)

// world is a broker that goes its own way, and what its clients have seen.
type world struct {
	*testing.T
	b     *Broker
	now   time.Time
	last  *Step
	heard map[Slot][]Delivery
}

func newWorld(t *testing.T, r Rules) *world {
	w := &world{T: t, b: New(r, start), now: start, heard: map[Slot][]Delivery{}}
	for _, s := range []Slot{slot, other} {
		w.do(func(b *Broker) { b.OpenChannel(s) })
	}
	return w
}

func (w *world) do(act func(b *Broker)) *Step {
	w.Helper()
	w.b, w.last = Predict(w.b, act)
	for s, h := range w.last.Heard {
		w.heard[s] = append(w.heard[s], h.Deliveries...)
	}
	return w.last
}

// call makes a method on the first channel that must succeed.
func (w *world) call(ms ...channel.Method) *Step {
	w.Helper()
	for _, m := range ms {
		if s := w.do(func(b *Broker) { b.Call(slot, m) }); s.Reply.Code != 0 {
			w.Fatalf("%s: code %d", channel.MethodName(m), s.Reply.Code)
		}
	}
	return w.last
}

func (w *world) queue(name string, args channel.Table) {
	w.Helper()
	w.call(&channel.QueueDeclare{Name: name, Args: args})
}

func (w *world) publish(exchange, key, body string, change ...func(p *channel.Publish)) *Step {
	w.Helper()
	p := &channel.Publish{Exchange: exchange, Key: key, Publishing: channel.Publishing{Body: []byte(body)}}
	for _, c := range change {
		c(p)
	}
	return w.do(func(b *Broker) { b.Publish(slot, []*channel.Publish{p}) })
}

// pass lets time go by.
func (w *world) pass(d time.Duration) {
	w.now = w.now.Add(d)
	w.do(func(b *Broker) { b.Advance(Span{w.now, w.now}); b.Advance(Span{w.now, w.now}) })
}

// bodies lists what a queue holds, and empties it.
func (w *world) bodies(queue string) string {
	w.Helper()
	var all []string
	for {
		s := w.do(func(b *Broker) { b.Call(other, &channel.Get{Queue: queue, NoAck: true}) })
		if s.Reply.Got == nil {
			return strings.Join(all, " ")
		}
		all = append(all, string(s.Reply.Got.Message.Body))
	}
}

func (w *world) same(what string, got, want any) {
	w.Helper()
	if g, e := fmt.Sprint(got), fmt.Sprint(want); g != e {
		w.Errorf("%s: %s, want %s", what, g, e)
	}
}

func (w *world) deliveries(s Slot) string {
	var all []string
	for _, d := range w.heard[s] {
		all = append(all, d.String())
	}
	return strings.Join(all, " ")
}

func headersOf(t channel.Table) func(p *channel.Publish) {
	return func(p *channel.Publish) { p.Headers = t }
}

func expiring(ms string) func(p *channel.Publish) {
	return func(p *channel.Publish) { p.Expiration = ms }
}

func priority(n uint8) func(p *channel.Publish) {
	return func(p *channel.Publish) { p.Priority = n }
}

// The model says what AMQP's rules say, row by row of docs/semantics.md.
func TestModelKeepsTheRules(t *testing.T) {
	for _, c := range []struct {
		name string
		do   func(w *world)
	}{
		{"EX-14 topics", func(w *world) {
			for _, row := range []struct {
				pattern, key string
				match        bool
			}{
				{"#", "", true}, {"*", "", false}, {"", "", true}, {"a.*", "a.", true}, {"*.*", ".", true}, {"#.*", "", false},
				{"#.*", "a.b", true}, {"a*", "ab", false}, {"a.b#", "a.bc", false}, {"a.#.b", "a.b", true}, {"a.#.b", "a.x.y.b", true},
				{"a..b", "a..b", true}, {"a.*.b", "a..b", true}, {"#.#", "a", true}, {"*.#", "", false},
			} {
				w.same(row.pattern+" "+row.key, topic(words(row.pattern), words(row.key)), row.match)
			}
		}},
		{"EX-16 headers", func(w *world) {
			for _, row := range []struct {
				args, h channel.Table
				match   bool
			}{
				{channel.Table{}, channel.Table{}, true},
				{channel.Table{"x-match": "any"}, channel.Table{"h": "1"}, false},
				{channel.Table{"h": int64(1)}, channel.Table{"h": 1.0}, true},
				{channel.Table{"h": int64(1)}, channel.Table{"h": "1"}, false},
				{channel.Table{"h": nil}, channel.Table{"h": true}, true},
				{channel.Table{"h": "1", "k": "2"}, channel.Table{"h": "1"}, false},
				{channel.Table{"h": "1", "k": "2", "x-match": "any"}, channel.Table{"h": "1"}, true},
				{channel.Table{"h": "1", "x-h": "2"}, channel.Table{"h": "1"}, true},
				{channel.Table{"h": "1", "x-h": "2", "x-match": "all-with-x"}, channel.Table{"h": "1"}, false},
				{channel.Table{"h": "1", "x-h": "2", "x-match": "any-with-x"}, channel.Table{"x-h": "2"}, true},
				{channel.Table{"h": "1", "x-h": "2", "x-match": "any"}, channel.Table{"x-h": "2"}, false},
				{channel.Table{"h": channel.Table{"t": int64(1)}}, channel.Table{"h": channel.Table{"t": int64(1)}}, true},
				{channel.Table{"h": []any{int64(1)}}, channel.Table{"h": []any{int64(2)}}, false},
			} {
				w.same(fmt.Sprint(row.args, row.h), headers(row.args, row.h), row.match)
			}
		}},
		{"EX-18 an alternate exchange", func(w *world) {
			w.queue("q", nil)
			w.call(&channel.ExchangeDeclare{Name: "x", Type: channel.Direct, Args: channel.Table{"alternate-exchange": "y"}},
				&channel.ExchangeDeclare{Name: "y", Type: channel.Fanout}, &channel.QueueBind{Queue: "q", Exchange: "y"})
			w.publish("x", "k", "m")
			w.same("by the alternate", w.bodies("q"), "m")
		}},
		{"PB-07 CC and BCC", func(w *world) {
			for _, q := range []string{"q", "cc", "bcc"} {
				w.queue(q, nil)
			}
			w.publish("", "q", "m", headersOf(channel.Table{"CC": []any{"cc", "q", "none"}, "BCC": []any{"bcc"}}))
			for _, q := range []string{"q", "cc", "bcc"} {
				got := w.do(func(b *Broker) { b.Call(other, &channel.Get{Queue: q, NoAck: true}) }).Reply.Got
				if got == nil {
					w.Fatalf("%s got nothing", q)
				}
				_, has := got.Message.Headers["BCC"]
				w.same("BCC in "+q, has, false)
				w.same("key in "+q, got.Key, "q")
				w.same("left in "+q, got.Left, 0)
			}
			w.same("CC that is no array", w.publish("", "q", "m", headersOf(channel.Table{"CC": "q"})).Heard[slot].Closed, 406)
		}},
		{"PB-02 mandatory", func(w *world) {
			s := w.publish("", "nowhere", "m", func(p *channel.Publish) { p.Mandatory = true })
			w.same("returns", len(s.Heard[slot].Returns), 1)
		}},
		{"QU-12 expiry acts at the head", func(w *world) {
			w.queue("q", channel.Table{"x-message-ttl": int64(5000)})
			w.publish("", "q", "long")
			w.publish("", "q", "short", expiring("1000"))
			w.pass(2 * time.Second)
			w.same("ready", w.last.Counts["q"].Ready, 2)
			w.pass(4 * time.Second)
			w.same("ready", w.last.Counts["q"].Ready, 0)
		}},
		{"x-death counts", func(w *world) {
			w.queue("q", channel.Table{"x-dead-letter-exchange": ""})
			w.publish("", "q", "m")
			for want := int64(1); want < 4; want++ {
				got := w.call(&channel.Get{Queue: "q"}).Reply.Got
				w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: got.Tag, Kind: channel.Nack}) })
				got = w.call(&channel.Get{Queue: "q"}).Reply.Got
				death := got.Message.Headers["x-death"].([]any)[0].(channel.Table)
				w.same("deaths", fmt.Sprint(death["count"], death["reason"], len(got.Message.Headers["x-death"].([]any)), got.Redelivered), fmt.Sprint(want, "rejected", 1, false))
				w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: got.Tag, Kind: channel.Requeue}) })
				got = w.call(&channel.Get{Queue: "q"}).Reply.Got
				w.same("redelivered", got.Redelivered, true)
				w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: got.Tag, Kind: channel.Requeue}) })
			}
		}},
		{"a cycle without a rejection ends", func(w *world) {
			w.queue("q", channel.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "r", "x-message-ttl": int64(1000)})
			w.queue("r", channel.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "q", "x-message-ttl": int64(1000)})
			w.publish("", "q", "m")
			w.pass(1500 * time.Millisecond)
			w.same("in r", w.last.Counts["r"].Ready, 1)
			w.pass(time.Second)
			w.same("gone", w.last.Counts["q"].Ready+w.last.Counts["r"].Ready, 0)
		}},
		{"QU-14 drop-head", func(w *world) {
			w.queue("q", channel.Table{"x-max-length": int64(2), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
			w.queue("dead", nil)
			for _, m := range []string{"a", "b", "c"} {
				w.publish("", "q", m)
			}
			w.same("dead", w.bodies("dead"), "a")
			w.same("kept", w.bodies("q"), "b c")
		}},
		{"QU-14 reject-publish", func(w *world) {
			w.queue("q", channel.Table{"x-max-length": int64(1), "x-overflow": "reject-publish"})
			w.call(&channel.ConfirmSelect{})
			w.same("the first", w.publish("", "q", "a").Heard[slot].Confirms, map[uint64]bool{1: true})
			w.same("the second", w.publish("", "q", "b").Heard[slot].Confirms, map[uint64]bool{2: false})
			w.same("kept", w.bodies("q"), "a")
		}},
		{"QU-16 priorities", func(w *world) {
			w.queue("q", channel.Table{"x-max-priority": int64(2)})
			for i, p := range []uint8{0, 1, 9, 2, 1} {
				w.publish("", "q", fmt.Sprint("m", i), priority(p))
			}
			w.same("order", w.bodies("q"), "m2 m3 m1 m4 m0")
		}},
		{"QU-17 a single active consumer", func(w *world) {
			w.queue("q", channel.Table{"x-single-active-consumer": true})
			w.call(&channel.Consume{Queue: "q", Tag: "a"})
			w.do(func(b *Broker) { b.Call(other, &channel.Consume{Queue: "q", Tag: "b"}) })
			w.publish("", "q", "m")
			w.same("the first", w.deliveries(slot)+"|"+w.deliveries(other), "m→a#1|")
			w.do(func(b *Broker) { b.Close(slot) })
			w.same("the next", w.deliveries(other), "m→b#1r")
		}},
		{"QO-01 prefetch", func(w *world) {
			w.queue("q", nil)
			w.call(&channel.Qos{Count: 2}, &channel.Consume{Queue: "q", Tag: "c"})
			for _, m := range []string{"a", "b", "c"} {
				w.publish("", "q", m)
			}
			w.same("two", w.deliveries(slot), "a→c#1 b→c#2")
			w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: 1}) })
			w.same("the third", w.deliveries(slot), "a→c#1 b→c#2 c→c#3")
		}},
		{"TX-01 and TX-02", func(w *world) {
			w.queue("q", nil)
			w.publish("", "q", "a")
			w.call(&channel.TxSelect{}, &channel.Get{Queue: "q"})
			w.publish("", "q", "b")
			w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: 1}) })
			w.same("nothing yet", w.last.Counts["q"].Ready, 0)
			w.call(&channel.TxRollback{})
			w.same("what can be answered", w.b.Unacked(slot), []uint64{1})
			w.publish("", "q", "c")
			w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: 1, Kind: channel.Requeue}) })
			w.call(&channel.TxCommit{})
			w.same("in the old order", w.bodies("q"), "a c")
		}},
		{"AK-04 requeue to the old place", func(w *world) {
			w.queue("q", nil)
			for _, m := range []string{"a", "b", "c"} {
				w.publish("", "q", m)
			}
			w.call(&channel.Get{Queue: "q"}, &channel.Get{Queue: "q"})
			w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: 2, Kind: channel.Requeue}) })
			w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: 1, Kind: channel.Requeue}) })
			w.same("order", w.bodies("q"), "a b c")
		}},
		{"QU-18 a delivery limit", func(w *world) {
			w.queue("q", channel.Table{"x-delivery-limit": int64(1), "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"})
			w.queue("dead", nil)
			w.publish("", "q", "m")
			for i := range 2 {
				got := w.call(&channel.Get{Queue: "q"}).Reply.Got
				w.same("x-delivery-count", got.Message.Headers["x-delivery-count"], []any{nil, int64(1)}[i])
				w.do(func(b *Broker) { b.Settle(slot, channel.Settle{Tag: got.Tag, Kind: channel.Requeue}) })
			}
			w.same("dead", w.bodies("q")+w.bodies("dead"), "m")
		}},
		{"QU-13 x-expires", func(w *world) {
			w.queue("q", channel.Table{"x-expires": int64(2000)})
			w.pass(time.Second)
			w.call(&channel.QueueDeclare{Name: "q", Passive: true})
			w.pass(1500 * time.Millisecond)
			_, there := w.last.Counts["q"]
			w.same("used, it stays", there, true)
			w.pass(time.Second)
			_, there = w.last.Counts["q"]
			w.same("unused, it goes", there, false)
		}},
		{"QU-05 an auto-delete queue leaves no dead letters", func(w *world) {
			w.queue("dead", nil)
			w.queue("q", nil)
			w.call(&channel.QueueDeclare{Name: "a", AutoDelete: true, Args: channel.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead", "x-max-length": int64(0)}},
				&channel.Consume{Queue: "a", Tag: "c"})
			w.publish("", "a", "m")
			w.do(func(b *Broker) { b.Close(slot) })
			w.same("dead", w.last.Counts["dead"].Ready, 0)
		}},
	} {
		t.Run(c.name, func(t *testing.T) { c.do(newWorld(t, Rules{})) })
	}
}

// Follow takes each of several ways that are allowed, and says what is wrong with one that is not.
func TestFollowTakesWhatIsAllowed(t *testing.T) {
	w := newWorld(t, Rules{})
	w.queue("q", nil)
	w.call(&channel.Consume{Queue: "q", Tag: "a"})
	w.do(func(b *Broker) { b.Call(other, &channel.Consume{Queue: "q", Tag: "b"}) })
	ps := []*channel.Publish{{Key: "q", Publishing: channel.Publishing{Body: []byte("m")}}}
	to := func(s Slot, tag string, change func(d *Delivery)) *Step {
		d := Delivery{Tag: 1, Consumer: tag, Key: "q", Message: channel.Publishing{Body: []byte("m")}}
		if change != nil {
			change(&d)
		}
		return &Step{Heard: map[Slot]*Heard{s: {Deliveries: []Delivery{d}}}}
	}
	both := to(slot, "a", nil)
	both.Heard[other] = to(other, "b", nil).Heard[other]
	for _, c := range []struct {
		name string
		seen *Step
		why  string // "": it is allowed
	}{
		{"one consumer", to(slot, "a", nil), ""},
		{"the other", to(other, "b", nil), ""},
		{"nobody", &Step{}, "not delivered: m of q to a on 0.0, or m of q to b on 1.0"},
		{"both", both, "1 deliveries"},
		{"the wrong tag", to(slot, "a", func(d *Delivery) { d.Tag = 2 }), "got delivery tags [2], want them to go on at 1"},
		{"redelivered", to(slot, "a", func(d *Delivery) { d.Redelivered = true }), "not delivered: m of q"},
		{"another body", to(slot, "a", func(d *Delivery) { d.Message.Body = []byte("n") }), "not delivered: m of q"},
		{"a property that was not sent", to(slot, "a", func(d *Delivery) { d.Message.AppId = "x" }), "not delivered: m of q"},
		{"closed", &Step{Heard: map[Slot]*Heard{slot: {Closed: 404}}}, "not delivered: m of q"},
	} {
		t.Run(c.name, func(t *testing.T) {
			next, why := Follow([]*Broker{w.b}, c.seen, func(b *Broker) { b.Publish(slot, ps) })
			switch {
			case c.why == "" && (len(next) != 1 || why != ""):
				t.Errorf("%d states, %q", len(next), why)
			case c.why != "" && (len(next) > 0 || !strings.Contains(why, c.why)):
				t.Errorf("%d states, %q, want %q", len(next), why, c.why)
			}
		})
	}
}

// What nobody can see yet is kept open, and decided by what is seen later.
func TestFollowKeepsWaysOpen(t *testing.T) {
	w := newWorld(t, Rules{Late: time.Second})
	w.queue("q", channel.Table{"x-message-ttl": int64(1000)})
	w.publish("", "q", "m")
	at := w.now.Add(1500 * time.Millisecond)
	states, why := Follow([]*Broker{w.b}, &Step{}, func(b *Broker) { b.Advance(Span{at, at}) })
	if len(states) != 2 {
		t.Fatalf("%d states of a message that may have expired, %q", len(states), why)
	}
	for _, ready := range []int{0, 1} {
		count := &Step{Counts: map[string]Count{"q": {Ready: ready}}, Objects: w.last.Objects}
		next, why := Follow(states, count, func(*Broker) {})
		if len(next) != 1 {
			t.Errorf("%d ready: %d states, %q", ready, len(next), why)
		}
	}
	if next, why := Follow(states, &Step{Counts: map[string]Count{"q": {Ready: 2}}, Objects: w.last.Objects}, func(*Broker) {}); len(next) > 0 || !strings.Contains(why, "queues") {
		t.Errorf("two ready of one: %d states, %q", len(next), why)
	}
	if !slices.Equal(states[0].names(), []string{"q"}) {
		t.Error("the queue is gone")
	}
}
