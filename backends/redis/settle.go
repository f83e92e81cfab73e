package redis

import (
	"context"
	"net/url"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Settle ends or changes leases.
func (s *Store) Settle(ctx context.Context, all []virtual.Settlement) error {
	answers, foreign := group(all)
	var failed *virtual.BatchError
	for _, i := range foreign {
		failed = failed.Add(i, virtual.ErrStale)
	}
	in, groups := byPart(s, answers.groups, func(g *settleGroup) virtual.QueueRef { return g.ref })
	parts, calls := make([]settlements, len(in)), make([]call, len(in))
	for i := range in {
		parts[i] = settlements{groups[i]}
		calls[i] = parts[i].call(s.parts[in[i]])
	}
	stale, err := s.runAll(ctx, calls)
	if err != nil {
		return err
	}
	for i := range parts {
		order := parts[i].order()
		for _, k := range stale[i] {
			failed = failed.Add(order[number(k)], virtual.ErrStale)
		}
	}
	return sorted(failed).Or()
}

// settlements are answers in the order in which the scripts read them: by queue, holder, Take, kind and time.
type settlements struct{ groups []settleGroup }

type settleGroup struct {
	settleKey
	items           []int
	members, tokens []string // tokens: of takings without holder
}

type settleKey struct {
	ref    virtual.QueueRef
	holder string
	take   string // "" without holder
	kind   virtual.Kind
	wait   time.Duration
}

// group groups settlements, but for those with receipts of other stores. Who answers one taking twice in a request is told
// so, whichever answer counts.
func group(all []virtual.Settlement) (g settlements, foreign []int) {
	at := map[settleKey]int{}
	last := -1
	for i := range all {
		st := &all[i]
		r, ok := st.Receipt.(receipt)
		if !ok {
			foreign = append(foreign, i)
			continue
		}
		k := settleKey{ref: st.Queue, holder: r.holder, kind: st.Kind, wait: st.For}
		if r.holder != "" {
			k.take = r.token
		}
		if k.kind == virtual.Ack {
			k.wait = 0
		}
		if last < 0 || g.groups[last].settleKey != k {
			var found bool
			if last, found = at[k]; !found {
				last = len(g.groups)
				at[k] = last
				g.groups = append(g.groups, settleGroup{settleKey: k})
			}
		}
		x := &g.groups[last]
		if x.items == nil {
			n := min(len(all)-i, usual)
			x.items, x.members = make([]int, 0, n), make([]string, 0, n)
		}
		x.items, x.members = append(x.items, i), append(x.members, r.member)
		if k.take == "" {
			x.tokens = append(x.tokens, r.token)
		}
	}
	return g, foreign
}

// call is what does it, where all are in one part.
func (g *settlements) call(base string) call {
	size, what := 1, ackScript
	for i := range g.groups {
		size += 5 + 2*len(g.groups[i].items)
		if g.groups[i].kind != virtual.Ack {
			what = settleScript
		}
	}
	return call{what, base, g.args(append(arguments(size), len(g.groups)))}
}

// args appends the groups.
func (g *settlements) args(a []any) []any {
	for i := range g.groups {
		x := &g.groups[i]
		kind := [...]string{virtual.Ack: "a", virtual.Requeue: "q", virtual.Return: "r", virtual.Extend: "e"}[x.kind]
		a = append(a, id(x.ref), x.holder, kind, micros(max(0, x.wait)), len(x.items), x.take)
		for i := range x.members {
			a = append(a, &x.members[i])
		}
		for i := range x.tokens {
			a = append(a, &x.tokens[i])
		}
	}
	return a
}

// order returns the settlements' numbers in the order of args.
func (g *settlements) order() []int {
	var order []int
	for i := range g.groups {
		order = append(order, g.groups[i].items...)
	}
	return order
}

// Renew extends a holder's leases.
func (s *Store) Renew(ctx context.Context, name string, queues []virtual.QueueRef, d time.Duration) ([]virtual.QueueRef, error) {
	numbers := make([]int, len(queues))
	for i := range numbers {
		numbers[i] = i
	}
	in, items := byPart(s, numbers, func(i *int) virtual.QueueRef { return queues[*i] })
	calls := make([]call, len(in))
	for i := range in {
		a := append(arguments(2+len(items[i])), holder(name), micros(d))
		for _, k := range items[i] {
			a = append(a, id(queues[k]))
		}
		calls[i] = call{renewScript, s.parts[in[i]], a}
	}
	answers, err := s.runAll(ctx, calls)
	if err != nil {
		return nil, err
	}
	var lost []virtual.QueueRef
	for i, answer := range answers {
		for _, k := range answer {
			lost = append(lost, queues[items[i][number(k)]])
		}
	}
	return lost, nil
}

// holder is a holder's name as it stands in the names of keys, where it comes before a colon.
func holder(name string) string { return url.QueryEscape(name) }
