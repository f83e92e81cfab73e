package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/soak"
)

const (
	soakCleanLimit = 20 * time.Second
	soakCountLimit = 10 * time.Second // of one look at the queues
)

// soakPlace is the first process's own way to the place. It dials when it has to: the server may have been restarted.
type soakPlace struct {
	url     string
	plan    soak.Plan
	virtual bool
	conn    *dashi.Connection
}

// openSoakPlace declares all that the run needs, after removing what an earlier run of the same seed has left.
func openSoakPlace(ctx context.Context, url string, plan soak.Plan) (*soakPlace, error) {
	p := &soakPlace{url: url, plan: plan}
	err := p.do(ctx, func(ch *channel.Channel) error { return undeclareSoak(ctx, ch, plan) })
	if err == nil {
		p.virtual = p.conn.Info().Virtual
		err = declareSoak(ctx, p.conn, plan)
	}
	return p, errors.Join(err, p.close(ctx)) // nothing is to be kept open over restarts of the server
}

// do calls f with a channel.
func (p *soakPlace) do(ctx context.Context, f func(*channel.Channel) error) error {
	if p.conn == nil || p.conn.IsClosed() {
		_ = p.close(ctx)
		conn, err := dashi.Dial(ctx, p.url)
		if err != nil {
			return err
		}
		p.conn = conn
	}
	ch, err := p.conn.Channel(ctx)
	if err != nil {
		return err
	}
	if err := f(ch); err != nil {
		return err
	}
	return ch.Close(ctx)
}

// waiting counts the messages that are ready in all queues.
func (p *soakPlace) waiting(ctx context.Context) (n int, err error) {
	ctx, end := context.WithTimeout(ctx, soakCountLimit)
	defer end()
	err = p.do(ctx, func(ch *channel.Channel) error {
		for q := range p.plan.All() {
			declared, err := ch.QueueDeclarePassive(ctx, p.plan.QueueName(q))
			if err != nil {
				return fmt.Errorf("counting %s: %w", p.plan.QueueName(q), err)
			}
			n += declared.Messages
		}
		return nil
	})
	if err != nil {
		_ = p.close(ctx)
	}
	return n, err
}

// clean removes all that was declared; it tries until ctx ends.
func (p *soakPlace) clean(ctx context.Context) error {
	for {
		err := p.do(ctx, func(ch *channel.Channel) error { return undeclareSoak(ctx, ch, p.plan) })
		err = errors.Join(err, p.close(ctx))
		if err == nil || ctx.Err() != nil {
			return err
		}
		select {
		case <-time.After(soakMaxBackoff):
		case <-ctx.Done():
		}
	}
}

func (p *soakPlace) close(ctx context.Context) error {
	if p.conn == nil {
		return nil
	}
	conn := p.conn
	p.conn = nil
	return ignoreCancelled(conn.Close(ctx))
}
