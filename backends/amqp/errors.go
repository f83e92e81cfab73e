package amqp

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// fromError makes our error of one of the library's that is not about the end of a channel.
func fromError(err error, op string) error {
	var e *amqp091.Error
	if !errors.As(err, &e) {
		return &channel.Error{Code: channel.SyntaxError, Op: op, Text: err.Error()}
	}
	return &channel.Error{Code: e.Code, Text: plainText(e.Code, e.Reason), Op: op, Server: e.Server}
}

// plainText removes the code's name that RabbitMQ puts before its texts.
func plainText(code int, text string) string {
	if name := channel.CodeName(code); name != "" {
		text = strings.TrimPrefix(text, name)
		text = strings.TrimPrefix(text, " - ")
	}
	return text
}

// contextError keeps an ended context's cause for errors.Is, and says where it happened.
func contextError(ctx context.Context, op string) error {
	return fmt.Errorf("%s: %w", op, context.Cause(ctx))
}

// opOf names a method and the entity it is about, as errors show it.
func opOf(m channel.Method) string {
	op := channel.MethodName(m)
	switch m := m.(type) {
	case *channel.ExchangeDeclare:
		return named(op, m.Name)
	case *channel.ExchangeDelete:
		return named(op, m.Name)
	case *channel.ExchangeBind:
		return named(op, m.Destination)
	case *channel.QueueDeclare:
		return named(op, m.Name)
	case *channel.QueueDelete:
		return named(op, m.Name)
	case *channel.QueueBind:
		return named(op, m.Queue)
	case *channel.QueuePurge:
		return named(op, m.Name)
	case *channel.Consume:
		return named(op, m.Queue)
	case *channel.Get:
		return named(op, m.Queue)
	case *channel.Cancel:
		return named(op, m.Tag)
	}
	return op
}

func named(op, name string) string { return op + " " + strconv.Quote(name) }
