package script

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// A comparison earns trust by finding what is wrong. Each of these engines is wrong in one thing, and random scripts must
// show it.
var wrongEngines = []struct {
	leans string // what scripts lean to where that is; "": to anything
	name  string
	make  func() wrong // for each run
}{
	// Arguments and flags of what is declared.
	{"narrow priorities", "x-max-priority is ignored", withoutArgs("x-max-priority")},
	{"narrow time", "x-message-ttl is ignored", withoutArgs("x-message-ttl")},
	{"narrow time", "x-expires is ignored", withoutArgs("x-expires")},
	{"narrow limits", "x-max-length is ignored", withoutArgs("x-max-length")},
	{"narrow limits", "x-max-length-bytes is ignored", withoutArgs("x-max-length-bytes")},
	{"narrow limits confirms", "x-overflow is ignored", withoutArgs("x-overflow")},
	{"limits deaths", "reject-publish-dlx is reject-publish", withArg("x-overflow", func(v any) any { return instead(v, "reject-publish-dlx", "reject-publish") })},
	{"deaths", "dead letters are dropped", withoutArgs("x-dead-letter-exchange", "x-dead-letter-routing-key")},
	{"deaths", "x-dead-letter-routing-key is ignored", withoutArgs("x-dead-letter-routing-key")},
	{"narrow windows", "x-single-active-consumer is ignored", withoutArgs("x-single-active-consumer")},
	{"narrow attempts", "x-delivery-limit is ignored", withoutArgs("x-delivery-limit")},
	{"narrow attempts", "x-delivery-limit is one more", withArg("x-delivery-limit", oneMore)},
	{"narrow limits", "x-max-length is one more", withArg("x-max-length", oneMore)},
	{"narrow priorities", "x-max-priority is one more", withArg("x-max-priority", oneMore)},
	{"narrow", "an auto-delete queue stays", method(func(m *channel.QueueDeclare) { m.AutoDelete = false })},
	{"narrow exclusive", "an exclusive queue is everybody's", method(func(m *channel.QueueDeclare) { m.Exclusive = false })},
	{"narrow again", "durable is not compared", method(func(m *channel.QueueDeclare) { m.Durable = false })},
	{"narrow again", "a passive declare of a queue declares", method(func(m *channel.QueueDeclare) { m.Passive = false })},
	{"narrow again", "a passive declare of an exchange finds any", method(func(m *channel.ExchangeDeclare) {
		if m.Passive {
			m.Name = "amq.direct"
		}
	})},
	{"narrow deletes", "if-unused is ignored", method(func(m *channel.QueueDelete) { m.IfUnused = false })},
	{"narrow deletes", "if-empty is ignored", method(func(m *channel.QueueDelete) { m.IfEmpty = false })},
	{"narrow deletes", "if-unused of an exchange is ignored", method(func(m *channel.ExchangeDelete) { m.IfUnused = false })},
	{"topics deletes", "an alternate exchange is ignored", method(func(m *channel.ExchangeDeclare) { delete(m.Args, "alternate-exchange") })},
	{"narrow again", "an internal exchange is like any other", method(func(m *channel.ExchangeDeclare) { m.Internal = false })},
	{"deletes topics", "an auto-delete exchange stays", method(func(m *channel.ExchangeDeclare) { m.AutoDelete = false })},

	// Routing.
	{"narrow topics", "# is one word", keys("#", "*")},
	{"narrow topics", "* is any number of words", keys("*", "#")},
	{"narrow topics", "a topic is taken for a direct key", method(func(m *channel.ExchangeDeclare) {
		m.Type = instead(m.Type, channel.Topic, channel.Direct).(string)
	})},
	{"narrow headers", "any header is all headers", match("any", "all")},
	{"narrow headers", "all headers are any header", match("all", "any")},
	{"narrow headers", "headers with x- count for all", match("all", "all-with-x")},
	{"narrow headers", "headers with x- do not count for any-with-x", match("any-with-x", "any")},
	{"narrow headers", "the value of a header does not matter", method(func(m *channel.QueueBind) {
		for k := range m.Args {
			if k != "x-match" {
				m.Args[k] = nil
			}
		}
	})},

	// Publishing.
	{"narrow time", "an expiration is ignored", publishing(func(p *channel.Publish) { p.Expiration = "" })},
	{"narrow priorities", "a priority is ignored", publishing(func(p *channel.Publish) { p.Priority = 0 })},
	{"", "mandatory is ignored", publishing(func(p *channel.Publish) { p.Mandatory = false })},
	{"", "all is mandatory", publishing(func(p *channel.Publish) { p.Mandatory = true })},
	{"", "CC is ignored", publishing(func(p *channel.Publish) { rename(p.Headers, "CC", "cc") })},
	{"", "BCC is ignored", publishing(func(p *channel.Publish) { delete(p.Headers, "BCC") })},
	{"", "BCC is CC", publishing(func(p *channel.Publish) { rename(p.Headers, "BCC", "CC") })},
	{"", "BCC stays in the headers", showBCC},
	{"", "x-delay is ignored", publishing(func(p *channel.Publish) { rename(p.Headers, "x-delay", "x-later") })},
	{"", "the delivery mode is lost", publishing(func(p *channel.Publish) { p.DeliveryMode = 0 })},
	{"", "what is returned has another key", func() wrong {
		return wrong{returned: func(r *channel.Return) bool { r.RoutingKey += "."; return true }}
	}},
	{"narrow confirms limits", "what is refused is confirmed", func() wrong { return wrong{confirm: func(bool) bool { return true }} }},
	{"narrow confirms", "what is confirmed is refused", func() wrong { return wrong{confirm: func(bool) bool { return false }} }},

	// Deliveries.
	{"", "redelivered is lost", delivering(func(d *channel.Delivered) { d.Redelivered = false })},
	{"deaths", "dead letters have no x-death", delivering(func(d *channel.Delivered) { delete(d.Headers, "x-death") })},
	{"narrow deaths", "x-death counts once", delivering(func(d *channel.Delivered) { eachDeath(d, func(t channel.Table) { t["count"] = int64(1) }) })},
	{"narrow time deaths", "x-death says rejected", delivering(func(d *channel.Delivered) { eachDeath(d, func(t channel.Table) { t["reason"] = "rejected" }) })},
	{"narrow time deaths", "x-death forgets the expiration", delivering(func(d *channel.Delivered) { eachDeath(d, func(t channel.Table) { delete(t, "original-expiration") }) })},
	{"deaths", "the first death is the last", delivering(func(d *channel.Delivered) {
		if deaths, _ := d.Headers["x-death"].([]any); len(deaths) > 0 {
			d.Headers["x-first-death-queue"] = deaths[0].(channel.Table)["queue"]
		}
	})},
	{"narrow attempts", "x-delivery-count is lost", delivering(func(d *channel.Delivered) { delete(d.Headers, "x-delivery-count") })},
	{"narrow time deaths", "a dead letter expires again", delivering(func(d *channel.Delivered) {
		eachDeath(d, func(t channel.Table) {
			if e, has := t["original-expiration"].(string); has {
				d.Expiration = e
			}
		})
	})},

	// Consumers and windows.
	{"narrow", "the priority of consumers is ignored", method(func(m *channel.Consume) { delete(m.Args, "x-priority") })},
	{"narrow", "an exclusive consumer is like any other", method(func(m *channel.Consume) { m.Exclusive = false })},
	{"narrow", "no-ack is ignored", method(func(m *channel.Consume) { m.NoAck = false })},
	{"", "a get takes for good", method(func(m *channel.Get) { m.NoAck = true })},
	{"narrow windows", "prefetch is ignored", method(func(m *channel.Qos) { m.Count = 0 })},
	{"narrow windows", "prefetch is one more", method(func(m *channel.Qos) {
		if m.Count > 0 {
			m.Count++
		}
	})},
	{"narrow windows", "a global window is one for each consumer", method(func(m *channel.Qos) { m.Global = false })},
	{"narrow windows", "a window for each consumer is global", method(func(m *channel.Qos) { m.Global = true })},
	{"", "a cancel does nothing", swallow[*channel.Cancel]},
	{"", "a server's cancel is not told", func() wrong { return wrong{deaf: true} }},

	// Answers.
	{"", "a requeue drops", settling(func(_ *wrongPort, s *channel.Settle) bool {
		if s.Kind == channel.Requeue {
			s.Kind = channel.Ack
		}
		return true
	})},
	{"", "a nack without requeue requeues", settling(func(_ *wrongPort, s *channel.Settle) bool {
		if s.Kind == channel.Nack {
			s.Kind = channel.Requeue
		}
		return true
	})},
	{"narrow deaths", "a nack without requeue is an ack", settling(func(_ *wrongPort, s *channel.Settle) bool {
		if s.Kind == channel.Nack {
			s.Kind = channel.Ack
		}
		return true
	})},
	{"narrow", "multiple is single", settling(func(_ *wrongPort, s *channel.Settle) bool { s.Multiple = s.Multiple && s.Tag == 0; return true })},
	{"", "single is multiple", settling(func(_ *wrongPort, s *channel.Settle) bool { s.Multiple = true; return true })},
	{"", "acks are not sent", settling(func(_ *wrongPort, s *channel.Settle) bool { return s.Kind != channel.Ack })},
	{"narrow", "a recover does nothing", swallow[*channel.Recover]},
	{"", "a close loses what was not acked", func() wrong {
		return wrong{closing: func(c *wrongPort) {
			_ = c.Port.Settle(channel.Settle{Multiple: true, Method: Ack}) // it may have ended
		}}
	}},

	// Transactions.
	{"narrow transactions", "a transaction takes effect at once", swallow[*channel.TxSelect]},
	{"narrow transactions", "a commit forgets acks", settling(func(c *wrongPort, s *channel.Settle) bool { return !c.tx })},
	{"narrow transactions", "a rollback does nothing", swallow[*channel.TxRollback]},
	{"narrow transactions", "a commit rolls back", func() wrong {
		return wrong{method: func(c *wrongPort, m channel.Method) bool {
			if _, commits := m.(*channel.TxCommit); commits {
				_, _ = c.Port.Call(context.Background(), &channel.TxRollback{}) // an error ends the channel, too
				return false
			}
			return true
		}}
	}},

	// Counts.
	{"", "a get tells one more than there are", replying(func(_ *channel.Get, r *channel.Reply) {
		if r.Delivery != nil {
			r.Delivery.MessageCount++
		}
	})},
	{"narrow deletes", "a purge tells one less", replying(func(_ *channel.QueuePurge, r *channel.Reply) { r.Messages = max(0, r.Messages-1) })},
	{"narrow deletes", "a purge does nothing", swallow[*channel.QueuePurge]},
	{"narrow deletes", "a delete tells nothing", replying(func(_ *channel.QueueDelete, r *channel.Reply) { r.Messages = 0 })},
	{"narrow again", "a declare counts no consumers", replying(func(_ *channel.QueueDeclare, r *channel.Reply) { r.Consumers = 0 })},
	{"deletes", "an unbind does nothing", method(func(m *channel.QueueBind) { m.Unbind = false })},

	// Stores.
	{"narrow", "what is requeued goes to the end", storing(anew)},
	{"", "a message for two queues reaches the first", storing(func(s *wrongStore) {
		s.put = func(ms []*virtual.Message) []*virtual.Message {
			other := slices.IndexFunc(ms, func(m *virtual.Message) bool { return m.Queue != ms[0].Queue })
			if other < 0 {
				return ms
			}
			return ms[:other]
		}
	})},
	{"narrow time", "messages live twice as long", storing(func(s *wrongStore) { s.put = each(func(m *virtual.Message) { m.TTL *= 2 }) })},
	{"narrow priorities", "the lowest priority comes first", storing(func(s *wrongStore) { s.put = each(func(m *virtual.Message) { m.Priority = 255 - m.Priority }) })},
	{"", "what is seen counts as unseen", storing(func(s *wrongStore) {
		s.settle = func(_ context.Context, all []virtual.Settlement) []virtual.Settlement {
			all = slices.Clone(all)
			for i := range all {
				if all[i].Kind == virtual.Requeue {
					all[i].Kind = virtual.Return
				}
			}
			return all
		}
	})},
	{"narrow limits", "a full queue that drops refuses", storing(func(s *wrongStore) { s.limit = func(l *virtual.Limit) { l.Reject = true } })},
	{"limits deaths", "what is pushed out is lost", storing(func(s *wrongStore) {
		s.evicted = func([]virtual.Taken) []virtual.Taken { return nil }
	})},
	{"narrow time deaths", "what expired unseen is lost", storing(func(s *wrongStore) { s.expired = func(*virtual.Taken) bool { return false } })},
	{"narrow time", "messages look older than they are", storing(func(s *wrongStore) {
		s.taken = func(ts []virtual.Taken) {
			for i := range ts {
				ts[i].Age *= 3
			}
		}
	})},
	{"narrow crashes", "what a killed process held is lost", storing(func(s *wrongStore) { s.forgets = true })},
}

func oneMore(v any) any {
	if n, ok := v.(int64); ok && n > 0 {
		return n + 1
	}
	return v
}

func instead(v, of, with any) any {
	if v == of {
		return with
	}
	return v
}

func rename(t channel.Table, from, to string) {
	if v, has := t[from]; has {
		delete(t, from)
		t[to] = v
	}
}

// method makes an engine that takes methods of one kind for others.
func method[M any, P interface {
	*M
	channel.Method
}](change func(m P)) func() wrong {
	return func() wrong {
		return wrong{method: func(_ *wrongPort, m channel.Method) bool {
			if m, is := m.(P); is {
				change(m)
			}
			return true
		}}
	}
}

// swallow makes an engine that answers methods of one kind and does nothing.
func swallow[P channel.Method]() wrong {
	return wrong{method: func(_ *wrongPort, m channel.Method) bool { _, is := m.(P); return !is }}
}

func replying[P channel.Method](change func(m P, r *channel.Reply)) func() wrong {
	return func() wrong {
		return wrong{reply: func(m channel.Method, r *channel.Reply) {
			if m, is := m.(P); is {
				change(m, r)
			}
		}}
	}
}

func withoutArgs(keys ...string) func() wrong {
	return method(func(m *channel.QueueDeclare) {
		for _, k := range keys {
			delete(m.Args, k)
		}
	})
}

func withArg(key string, change func(any) any) func() wrong {
	return method(func(m *channel.QueueDeclare) {
		if v, has := m.Args[key]; has {
			m.Args[key] = change(v)
		}
	})
}

// keys makes an engine that takes a word of bindings of queues for another.
func keys(from, to string) func() wrong {
	return method(func(m *channel.QueueBind) {
		words := strings.Split(m.Key, ".")
		for i := range words {
			words[i] = instead(words[i], from, to).(string)
		}
		m.Key = strings.Join(words, ".")
	})
}

func match(from, to string) func() wrong {
	return method(func(m *channel.QueueBind) {
		if m.Args["x-match"] == from {
			m.Args["x-match"] = to
		}
	})
}

func publishing(change func(p *channel.Publish)) func() wrong {
	return func() wrong { return wrong{publish: change} }
}

func delivering(change func(d *channel.Delivered)) func() wrong {
	return func() wrong { return wrong{deliver: change} }
}

func settling(change func(c *wrongPort, s *channel.Settle) bool) func() wrong {
	return func() wrong { return wrong{settle: change} }
}

func storing(change func(s *wrongStore)) func() wrong {
	return func() wrong { return wrong{store: change} }
}

// each changes copies of messages.
func each(change func(m *virtual.Message)) func([]*virtual.Message) []*virtual.Message {
	return func(ms []*virtual.Message) []*virtual.Message {
		changed := make([]*virtual.Message, len(ms))
		for i, m := range ms {
			c := *m
			change(&c)
			changed[i] = &c
		}
		return changed
	}
}

func eachDeath(d *channel.Delivered, do func(t channel.Table)) {
	deaths, _ := d.Headers["x-death"].([]any)
	for _, v := range deaths {
		if t, ok := v.(channel.Table); ok {
			do(t)
		}
	}
}

// showBCC remembers the blind copies of all messages, and shows them.
func showBCC() wrong {
	var mu sync.Mutex
	blind := map[string]any{}
	return wrong{
		publish: func(p *channel.Publish) {
			mu.Lock()
			defer mu.Unlock()
			if v, has := p.Headers["BCC"]; has {
				blind[p.MessageId] = v
			}
		},
		deliver: func(d *channel.Delivered) {
			mu.Lock()
			defer mu.Unlock()
			if v, has := blind[d.MessageId]; has {
				if d.Headers == nil {
					d.Headers = channel.Table{}
				}
				d.Headers["BCC"] = v
			}
		},
	}
}

// traceWrong is trace on rig one with an engine that is wrong.
func traceWrong(t *testing.T, make func() wrong, s Script) (err error) {
	synctest.Test(t, func(t *testing.T) {
		w := make()
		rig, end, _ := rigOn("one", func(s *memory.Store) virtual.Store {
			if w.store == nil {
				return s
			}
			c := &wrongStore{Store: s}
			w.store(c)
			return c
		})
		connect := rig.Connect
		rig.Connect = func(ctx context.Context, process int) (*channel.Connection, error) {
			return wrongConnection(ctx, &w, func() (*channel.Connection, error) { return connect(ctx, process) })
		}
		_, err = Run(context.Background(), rig, s)
		err = errors.Join(err, end())
	})
	return err
}

// most is how many scripts a wrong engine may pass.
const most = 300

// TestScriptsCatchWrongEngines shows each wrong engine by the first script that it does not pass and the right one does.
// Under the race detector every eighth is tried.
func TestScriptsCatchWrongEngines(t *testing.T) {
	_, _, p := virtualRig("one")
	tried, caught, worst := 0, 0, 0
	passes := map[string]bool{} // scripts of the right engine
	for i, w := range wrongEngines {
		if raceEnabled && i%8 != 0 {
			continue
		}
		tried++
		t.Run(w.name, func(t *testing.T) {
			p := p
			if w.leans != "" {
				p.Leans = strings.Fields(w.leans)
			}
			for seed := uint64(1); seed <= most; seed++ {
				s := Generate(seed, p)
				err := traceWrong(t, w.make, s)
				if !differs(err) {
					continue
				}
				key := fmt.Sprint(w.leans, seed)
				if _, known := passes[key]; !known {
					passes[key] = traceWrong(t, func() wrong { return wrong{} }, s) == nil
				}
				if !passes[key] {
					continue
				}
				caught++
				worst = max(worst, int(seed))
				t.Logf("script %d: %v", seed, err)
				return
			}
			t.Errorf("%d scripts do not catch an engine where %s", most, w.name)
		})
	}
	of := ""
	if tried < len(wrongEngines) {
		of = fmt.Sprintf(" of %d, with the race detector", len(wrongEngines))
	}
	fmt.Printf("scripts: %d wrong engines%s, %d caught, by %d scripts at most\n", tried, of, caught, worst)
}
