package channel

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Reply codes of AMQP 0-9-1 (section 1.2 of the reference) as RabbitMQ uses them.
const (
	ReplySuccess       = 200
	ContentTooLarge    = 311 // channel
	NoRoute            = 312 // only in a Return
	NoConsumers        = 313 // only in a Return
	ConnectionForced   = 320 // closed by an operator, or the server stops
	InvalidPath        = 402 // connection
	AccessRefused      = 403 // channel; connection when logging in
	NotFound           = 404 // channel
	ResourceLocked     = 405 // channel
	PreconditionFailed = 406 // channel
	FrameError         = 501 // connection
	SyntaxError        = 502 // connection
	CommandInvalid     = 503 // connection
	ChannelErrorCode   = 504 // a closed channel or connection was used
	UnexpectedFrame    = 505 // connection
	ResourceError      = 506 // connection
	NotAllowed         = 530 // connection
	NotImplemented     = 540 // connection; channel where dashi refuses an argument its store cannot honour
	InternalError      = 541 // connection
)

var codeNames = map[int]string{
	ReplySuccess: "SUCCESS", ContentTooLarge: "CONTENT_TOO_LARGE", NoRoute: "NO_ROUTE", NoConsumers: "NO_CONSUMERS",
	ConnectionForced: "CONNECTION_FORCED", InvalidPath: "INVALID_PATH", AccessRefused: "ACCESS_REFUSED", NotFound: "NOT_FOUND",
	ResourceLocked: "RESOURCE_LOCKED", PreconditionFailed: "PRECONDITION_FAILED", FrameError: "FRAME_ERROR",
	SyntaxError: "SYNTAX_ERROR", CommandInvalid: "COMMAND_INVALID", ChannelErrorCode: "CHANNEL_ERROR",
	UnexpectedFrame: "UNEXPECTED_FRAME", ResourceError: "RESOURCE_ERROR", NotAllowed: "NOT_ALLOWED",
	NotImplemented: "NOT_IMPLEMENTED", InternalError: "INTERNAL_ERROR",
}

// CodeName returns the specification's name of a reply code, such as "NOT_FOUND", or "" for an unknown code.
func CodeName(code int) string { return codeNames[code] }

// Error is an AMQP error. Two errors match under errors.Is when the target is an *Error whose non-zero fields are
// equal: errors.Is(err, &channel.Error{Code: channel.NotFound}) asks for the code alone.
type Error struct {
	// Code is the reply code.
	Code int
	// Text says what was wrong, without the code and its name. It never holds a password or a body.
	Text string
	// Op is the method that failed with the entity it named, such as `queue.declare "jobs"`; may be empty.
	Op string
	// Server says that the other side found the error; false: this process did, before sending anything.
	Server bool
	// Connection says that the error closes, or closed, the whole connection.
	Connection bool
	// Cause is what the store or the network said, if anything.
	Cause error
}

// Error returns the code, its name, the failing call and what was wrong.
func (e *Error) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", e.Code)
	if n := codeNames[e.Code]; n != "" {
		b.WriteByte(' ')
		b.WriteString(n)
	}
	if e.Op != "" {
		b.WriteByte(' ')
		b.WriteString(e.Op)
	}
	if e.Text != "" {
		b.WriteString(": ")
		b.WriteString(e.Text)
	}
	if e.Cause != nil {
		fmt.Fprintf(&b, " (%v)", e.Cause)
	}
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Cause }

// Is reports whether target is an *Error whose non-zero fields e has.
func (e *Error) Is(target error) bool {
	t, ok := target.(*Error)
	return ok && (t.Code == 0 || t.Code == e.Code) && (t.Text == "" || t.Text == e.Text) &&
		(t.Op == "" || t.Op == e.Op) && (!t.Server || e.Server) && (!t.Connection || e.Connection) && t.Cause == nil
}

// Errors of this package. ErrClosed matches every error of a call on a channel or connection that we closed
// ourselves; when the server closed it, calls return the server's error instead.
var (
	ErrClosed     = &Error{Code: ChannelErrorCode, Text: "channel/connection is closed"}
	ErrNotAllowed = &Error{Code: NotAllowed}
	ErrNotFound   = &Error{Code: NotFound}
	// ErrCancelled is the cause with which the deliveries of a consumer end that the server cancelled, because its
	// queue was deleted or lost.
	ErrCancelled = errors.New("consumer cancelled by the server")
	// ErrLeaseLost says that a message was not settled because another consumer holds it by now.
	ErrLeaseLost = errors.New("lease lost: the message went to another consumer")

	errNoChannel = errors.New("delivery was not received from a channel")
)

// LostError lists the confirm numbers that were refused since the last Flush, in rising order.
type LostError struct {
	Numbers []uint64
	Cause   error // the store's first error, if known
}

// Error tells how many messages were refused and why.
func (e *LostError) Error() string {
	s := fmt.Sprintf("%d published messages were not stored, numbers %v", len(e.Numbers), e.Numbers[:min(len(e.Numbers), 10)])
	if e.Cause != nil {
		s += fmt.Sprintf(" (%v)", e.Cause)
	}
	return s
}

// Unwrap returns the store's error.
func (e *LostError) Unwrap() error { return e.Cause }

// invalid makes the error of an argument that is refused before anything is sent; the channel is unharmed.
func invalid(op, format string, a ...any) *Error {
	return &Error{Code: SyntaxError, Op: op, Text: fmt.Sprintf(format, a...)}
}

// contextErr keeps an ended context's error as it is, so that errors.Is(err, context.Canceled) holds, and says where
// it happened.
func contextErr(ctx context.Context, op string) error {
	return fmt.Errorf("%s: %w", op, context.Cause(ctx))
}
