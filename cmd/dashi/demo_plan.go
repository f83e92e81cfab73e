package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/dashi-mq/dashi/channel"
)

// The demo's settings.
const (
	attempts      = 3   // of the worker, before it parks a message
	retryAfter    = 200 // ms in the retry queue
	dashboardMax  = 500 // lines that may wait for the dashboard
	workBindings  = 6   // words that lead to the worker, at most
	sampleLines   = 1000
	confirmWindow = 1000
)

// station is a queue of the demo with what was counted at it.
type station struct {
	name, queue string // as drawn, and as declared
	args        channel.Table
	binds       []*demoBinding // from the exchange of lines

	routed      atomic.Int64 // copies that the bindings send here, by the demo's own matching
	given       atomic.Int64 // deliveries
	first, last atomic.Int64 // when the first and the last delivery came, in ns since the start
	left        int          // found in the queue at the end
}

// demoBinding is a binding with what went over it.
type demoBinding struct {
	pattern string
	to      *station
	n       atomic.Int64
}

// demoPlan is what the demo declares.
type demoPlan struct {
	lines, dead string // exchanges

	archive, alerts, dashboard, overflow, work, retry, parking *station

	bindings []*demoBinding // in the order in which they are drawn
}

func newPlan() *demoPlan {
	prefix := "dashi-demo-" + strings.ToLower(rand.Text()[:8]) + "."
	p := &demoPlan{lines: prefix + "lines", dead: prefix + "dead"}
	s := func(name string, args channel.Table) *station {
		return &station{name: name, queue: prefix + name, args: args}
	}
	p.archive, p.alerts, p.overflow, p.parking = s("archive", nil), s("alerts", nil), s("overflow", nil), s("parking", nil)
	p.dashboard = s("dashboard", channel.Table{
		"x-max-length": dashboardMax, "x-dead-letter-exchange": p.dead, "x-dead-letter-routing-key": "overflow",
	})
	p.work = s("work", channel.Table{"x-dead-letter-exchange": p.dead, "x-dead-letter-routing-key": "retry"})
	p.retry = s("retry", channel.Table{
		"x-message-ttl": retryAfter, "x-dead-letter-exchange": "", "x-dead-letter-routing-key": p.work.queue,
	})
	return p
}

func (p *demoPlan) stations() []*station {
	return []*station{p.archive, p.alerts, p.dashboard, p.overflow, p.work, p.retry, p.parking}
}

func (p *demoPlan) bind(to *station, patterns ...string) {
	for _, pattern := range patterns {
		b := &demoBinding{pattern: pattern, to: to}
		to.binds = append(to.binds, b)
		p.bindings = append(p.bindings, b)
	}
}

// choose makes the bindings suit the log, from a sample of its keys: by program where there are several, else by the
// first word of what is said. The commonest goes to the dashboard, the next few to the worker.
func (p *demoPlan) choose(keys []string) {
	p.bind(p.archive, "#")
	p.bind(p.alerts, "error.#", "warn.#")
	values, prefix := common(keys, 1), "*."
	if len(values) < 2 {
		values, prefix = common(keys, 2), "*.*."
	}
	pattern := func(v string) string { return prefix + v + ".#" }
	switch len(values) {
	case 0:
		p.bind(p.dashboard, "#")
		p.bind(p.work, "#")
	case 1:
		p.bind(p.dashboard, pattern(values[0]))
		p.bind(p.work, "#")
	default:
		p.bind(p.dashboard, pattern(values[0]))
		for _, v := range values[1:min(len(values), 1+workBindings)] {
			p.bind(p.work, pattern(v))
		}
	}
}

// common returns the words at a place of the keys, the most frequent first.
func common(keys []string, place int) []string {
	n := map[string]int{}
	for _, k := range keys {
		if words := strings.Split(k, "."); len(words) > place {
			n[words[place]]++
		}
	}
	return slices.SortedFunc(maps.Keys(n), func(a, b string) int {
		return cmp.Or(cmp.Compare(n[b], n[a]), cmp.Compare(a, b))
	})
}

// matches is topic matching written anew, so that the counts are a check of the library's: "*" is one word, and the
// demo's patterns have "#" at their end only.
func matches(pattern, key string) bool {
	for {
		p, morePattern, patternGoesOn := strings.Cut(pattern, ".")
		if p == "#" {
			return true
		}
		k, moreKey, keyGoesOn := strings.Cut(key, ".")
		if p != "*" && p != k {
			return false
		}
		if !keyGoesOn { // "a.#" matches "a"
			return !patternGoesOn || morePattern == "#"
		}
		if !patternGoesOn {
			return false
		}
		pattern, key = morePattern, moreKey
	}
}

// declare makes exchanges, queues and bindings. Queues are exclusive and exchanges go with their last binding, so a
// demo that is killed leaves nothing either.
func (p *demoPlan) declare(ctx context.Context, ch *channel.Channel) error {
	if err := ch.ExchangeDeclare(ctx, p.lines, channel.Topic, channel.ExchangeOptions{AutoDelete: true}); err != nil {
		return err
	}
	if err := ch.ExchangeDeclare(ctx, p.dead, channel.Direct, channel.ExchangeOptions{AutoDelete: true}); err != nil {
		return err
	}
	for _, s := range p.stations() {
		if _, err := ch.QueueDeclare(ctx, s.queue, channel.QueueOptions{Exclusive: true, Args: s.args}); err != nil {
			return err
		}
	}
	for _, s := range []*station{p.retry, p.overflow, p.parking} {
		if err := ch.QueueBind(ctx, s.queue, deadKey(p, s), p.dead, nil); err != nil {
			return err
		}
	}
	for _, b := range p.bindings {
		if err := ch.QueueBind(ctx, b.to.queue, b.pattern, p.lines, nil); err != nil {
			return err
		}
	}
	return nil
}

// deadKey is the key under which the exchange of dead letters leads to a queue.
func deadKey(p *demoPlan, s *station) string {
	if s == p.parking {
		return "parked"
	}
	return s.name
}

// remove deletes all of it; the exchanges go with their last bindings.
func (p *demoPlan) remove(ctx context.Context, ch *channel.Channel) error {
	for _, s := range p.stations() {
		if _, err := ch.QueueDelete(ctx, s.queue, channel.DeleteOptions{}); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	for _, x := range []string{p.lines, p.dead} {
		if err := ch.ExchangeDelete(ctx, x, channel.DeleteOptions{}); err != nil {
			return fmt.Errorf("clean up: %w", err)
		}
	}
	return nil
}
