package broker

import (
	"fmt"

	"github.com/dashi-mq/dashi/channel"
)

// fail makes an error that closes the channel.
func fail(code int, op, format string, a ...any) *channel.Error {
	return &channel.Error{Code: code, Op: op, Text: fmt.Sprintf(format, a...), Server: true}
}

// failConn makes an error that closes the connection.
func failConn(code int, op, format string, a ...any) *channel.Error {
	e := fail(code, op, format, a...)
	e.Connection = true
	return e
}

// unstored makes the error of a call that the store did not answer. It closes nothing.
func unstored(op string, err error) *channel.Error {
	return &channel.Error{Code: channel.InternalError, Op: op, Text: "the store failed", Server: true, Cause: err}
}

func named(method, name string) string { return fmt.Sprintf("%s %q", method, name) }

func noExchange(op, name, vhost string) *channel.Error {
	return fail(channel.NotFound, op, "no exchange '%s' in vhost '%s'", name, vhost)
}

func noQueue(op, name, vhost string) *channel.Error {
	return fail(channel.NotFound, op, "no queue '%s' in vhost '%s'", name, vhost)
}

func locked(op, name, vhost string) *channel.Error {
	return fail(channel.ResourceLocked, op, "cannot obtain exclusive access to locked queue '%s' in vhost '%s'", name, vhost)
}
