package main

import (
	"context"
	"errors"
	"fmt"
	"math/bits"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// benchRoute is how messages get to the queue.
type benchRoute struct {
	exchange, bindKey, key string
	bindArgs, headers      channel.Table
}

// benchRoutes are the routes by type of exchange. A "%d" in a key is the producer.
var benchRoutes = map[string]benchRoute{
	"default":              {},
	channel.Topic:          {bindKey: "bench.*.k.#", key: "bench.p%d.k.v"},
	channel.Direct:         {bindKey: "bench.k", key: "bench.k"},
	channel.Fanout:         {key: "bench.p%d"},
	channel.Headers:        {bindArgs: channel.Table{"x-match": "all", "bench": "k"}, headers: channel.Table{"bench": "k"}},
	channel.ConsistentHash: {bindKey: "1", key: "bench.p%d"},
	channel.Random:         {key: "bench.p%d"},
}

// declare makes exchange, queue and binding.
func (b *bench) declare(ctx context.Context) (benchRoute, error) {
	r := benchRoutes[b.cmd.Exchange]
	ch, err := b.places[0].Channel(ctx)
	if err != nil {
		return r, err
	}
	defer ch.Close(ctx)
	if _, err := ch.QueueDeclare(ctx, b.name, channel.QueueOptions{Durable: true, Args: b.args}); err != nil {
		return r, err
	}
	if b.cmd.Exchange == "default" {
		r.key = b.name
		return r, nil
	}
	r.exchange = b.name
	if err := ch.ExchangeDeclare(ctx, b.name, b.cmd.Exchange, channel.ExchangeOptions{Durable: true}); err != nil {
		return r, err
	}
	return r, ch.QueueBind(ctx, b.name, r.bindKey, b.name, r.bindArgs)
}

// leave closes all and removes what the run declared. It returns what was left in the queue.
func (b *bench) leave(ctx context.Context) (left int, err error) {
	closed := map[*dashi.Connection]bool{b.places[0]: true}
	for _, c := range b.places {
		if !closed[c] {
			closed[c] = true
			_ = c.Close(ctx) // what it held goes back to the queue, and is counted
		}
	}
	defer func() { err = errors.Join(err, b.places[0].Close(ctx)) }()
	ch, err := b.places[0].Channel(ctx)
	if err != nil {
		return 0, err
	}
	if left, err = ch.QueueDelete(ctx, b.name, channel.DeleteOptions{}); err != nil {
		return 0, err
	}
	return left, ch.ExchangeDelete(ctx, b.name, channel.DeleteOptions{})
}

// verify says what is wrong with what came.
func (b *bench) verify(left int) (wrong []error) {
	var sum consumed
	for _, c := range b.consumed {
		sum.misplaced += c.misplaced
		sum.redelivered += c.redelivered
		sum.damaged += c.damaged
	}
	for _, x := range []struct {
		n    int64
		what string
	}{
		{b.duplicates, "came twice"},
		{sum.misplaced, "came out of order"},
		{sum.redelivered, "marked redelivered"},
		{sum.damaged, "damaged"},
		{int64(left), "left in the queue"},
	} {
		if x.n != 0 {
			wrong = append(wrong, fmt.Errorf("%s %s", plural(x.n, "message"), x.what))
		}
	}
	missing := b.cmd.N
	for i := range b.seen {
		missing -= int64(bits.OnesCount64(b.seen[i].Load()))
	}
	if missing > 0 {
		wrong = append(wrong, fmt.Errorf("%s did not come", plural(missing, "message")))
	}
	return wrong
}
