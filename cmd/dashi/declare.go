package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// exists asks for something that is there or not, on a channel of its own, which the answer 404 closes.
func exists(ctx context.Context, conn *dashi.Connection, ask func(*channel.Channel) error) (bool, error) {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return false, err
	}
	switch err := ask(ch); {
	case errors.Is(err, channel.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	}
	return true, ch.Close(ctx)
}

func exchangeExists(ctx context.Context, conn *dashi.Connection, name string) (bool, error) {
	return exists(ctx, conn, func(ch *channel.Channel) error { return ch.ExchangeDeclarePassive(ctx, name) })
}

// useExchange takes an exchange as it is, or declares it, durable.
func useExchange(ctx context.Context, conn *dashi.Connection, ch *channel.Channel, name, kind string) (made bool, err error) {
	there, err := exchangeExists(ctx, conn, name)
	if err != nil || there {
		return false, err
	}
	return true, ch.ExchangeDeclare(ctx, name, kind, channel.ExchangeOptions{Durable: true})
}

// useQueue takes a queue as it is, or declares it, durable.
func useQueue(ctx context.Context, conn *dashi.Connection, ch *channel.Channel, name string) error {
	there, err := exists(ctx, conn, func(ch *channel.Channel) error { _, err := ch.QueueDeclarePassive(ctx, name); return err })
	if err != nil || there {
		return err
	}
	_, err = ch.QueueDeclare(ctx, name, channel.QueueOptions{Durable: true})
	return err
}

// kindOf is the type of an exchange that exists, or "" where it is not known: AMQP servers do not tell.
func kindOf(ctx context.Context, conn *dashi.Connection, name string) (string, error) {
	switch name {
	case "amq.headers", "amq.match": // in every virtual host
		return channel.Headers, nil
	}
	inspector, ok := conn.Transport().(channel.Inspector)
	if !ok {
		return "", nil
	}
	declared, err := inspector.Topology(ctx)
	if err != nil {
		return "", err
	}
	for _, x := range declared.Exchanges {
		if x.Name == name {
			return x.Type, nil
		}
	}
	return "", fmt.Errorf("exchange %q has gone", name)
}
