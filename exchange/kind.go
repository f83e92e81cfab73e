package exchange

import (
	"fmt"
	"strconv"
)

// Kind is the type of an exchange as exchange.declare spells it.
type Kind string

// The kinds of exchange. The first four are those of AMQP 0-9-1, section 3.1.3; the others are RabbitMQ's, see
// https://www.rabbitmq.com/docs/consistent-hash-exchange,
// https://github.com/rabbitmq/rabbitmq-server/tree/main/deps/rabbitmq_random_exchange and
// https://www.rabbitmq.com/docs/local-random-exchange.
const (
	Direct         Kind = "direct"
	Fanout         Kind = "fanout"
	Topic          Kind = "topic"
	Headers        Kind = "headers"
	ConsistentHash Kind = "x-consistent-hash"
	Random         Kind = "x-random"
	LocalRandom    Kind = "x-local-random"
)

// Names of the arguments that routing itself understands.
const (
	argAlternate    = "alternate-exchange"
	argHashHeader   = "hash-header"
	argHashProperty = "hash-property"
	argMatch        = "x-match"
)

// Known reports whether kind is the type of an exchange that this package routes. AMQP answers an unknown one with
// the connection exception 503.
func Known(kind string) bool {
	switch Kind(kind) {
	case Direct, Fanout, Topic, Headers, ConsistentHash, Random, LocalRandom:
		return true
	}
	return false
}

// CheckExchange reports what is wrong with declaring an exchange of this kind with these arguments, or nil. AMQP
// answers with the channel exception 406.
//
// "alternate-exchange" must be a string; it need not exist, and "" is no alternate. A consistent-hash exchange takes
// "hash-header" or "hash-property" (message_id, correlation_id, timestamp), not both. Other arguments are not
// looked at.
func CheckExchange(kind string, args map[string]any) error {
	if !Known(kind) {
		return fmt.Errorf("unknown exchange type %q", kind)
	}
	if _, _, err := stringArg(args, argAlternate); err != nil {
		return err
	}
	if Kind(kind) != ConsistentHash {
		return nil
	}
	_, header, err := stringArg(args, argHashHeader)
	if err != nil {
		return err
	}
	name, property, err := stringArg(args, argHashProperty)
	switch {
	case err != nil:
		return err
	case header && property:
		return fmt.Errorf("%s and %s are mutually exclusive", argHashHeader, argHashProperty)
	case property && hashProperty(name) == byKey:
		return fmt.Errorf("unsupported %s %q: expected message_id, correlation_id or timestamp", argHashProperty, name)
	}
	return nil
}

// CheckBinding reports what is wrong with a binding of this key and these arguments to an exchange of this kind, or
// nil. AMQP answers with the channel exception 406.
//
// For headers, "x-match" must be one of the strings all, any, all-with-x and any-with-x. For consistent hash,
// the key must be an integer of at least 1, the weight.
func CheckBinding(kind, key string, args map[string]any) error {
	switch Kind(kind) {
	case Headers:
		_, _, err := matchMode(args)
		return err
	case ConsistentHash:
		_, err := weightOf(key)
		return err
	}
	return nil
}

// stringArg looks up an argument that must be a string if it is there.
func stringArg(args map[string]any, name string) (value string, present bool, err error) {
	v, present := args[name]
	if !present {
		return "", false, nil
	}
	s, ok := v.(string)
	if !ok {
		return "", true, fmt.Errorf("invalid type %s for argument %s: expected a string", typeName(v), name)
	}
	return s, true, nil
}

// typeName is the Go type of an argument for a message to people.
func typeName(v any) string {
	if v == nil {
		return "void"
	}
	return fmt.Sprintf("%T", v)
}

// matchMode reads x-match: whether any matching argument is enough, and whether keys beginning "x-" count.
func matchMode(args map[string]any) (anyOf, withX bool, err error) {
	mode, present, err := stringArg(args, argMatch)
	if err != nil {
		return false, false, err
	}
	if !present {
		return false, false, nil // the specification wants it, RabbitMQ takes "all"
	}
	switch mode {
	case "all":
	case "any":
		anyOf = true
	case "all-with-x":
		withX = true
	case "any-with-x":
		anyOf, withX = true, true
	default:
		return false, false, fmt.Errorf("invalid x-match %q: expected all, any, all-with-x or any-with-x", mode)
	}
	return anyOf, withX, nil
}

// weightOf reads the binding key of a consistent-hash exchange.
func weightOf(key string) (uint64, error) {
	n, err := strconv.ParseInt(key, 10, 64)
	switch {
	case err != nil:
		return 0, fmt.Errorf("the binding key must be an integer: %q", key)
	case n < 1:
		return 0, fmt.Errorf("the binding key must be greater than 0: %q", key)
	}
	return uint64(n), nil
}
