package broker

import (
	"fmt"
	"math"
	"reflect"
	"strconv"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// maxMillis is the largest TTL and expiry, as in RabbitMQ: ten years.
const maxMillis = 315360000000

// queueArgs are the arguments of a queue that the broker knows (https://www.rabbitmq.com/queues.html#optional-arguments).
type queueArgs struct {
	ttl           int64 // ms; -1: none
	expires       int64 // ms; 0: none
	maxLen        int   // -1: none
	maxBytes      int   // -1: none
	reject        bool  // refuse at the limit
	rejectDLX     bool  // and dead-letter what is refused
	dlx           string
	hasDLX        bool
	dlKey         string
	hasDLKey      bool
	maxPriority   int // 0: none
	singleActive  bool
	deliveryLimit int  // -1: none
	counted       bool // x-delivery-count is told
	stream        bool
}

// bounded reports whether the queue has a limit.
func (a *queueArgs) bounded() bool { return a.maxLen >= 0 || a.maxBytes >= 0 }

// known lists the arguments that an equal declaration must have equal, in the order they are compared.
var known = []string{
	"x-expires", "x-message-ttl", "x-dead-letter-exchange", "x-dead-letter-routing-key", "x-max-length",
	"x-max-length-bytes", "x-single-active-consumer", "x-max-priority", "x-overflow", "x-queue-mode", "x-queue-type", "x-delivery-limit",
}

// parseQueueArgs judges the arguments of a queue. The text says what is wrong with which.
func parseQueueArgs(t channel.Table) (a queueArgs, err error) {
	a = queueArgs{ttl: -1, maxLen: -1, maxBytes: -1, deliveryLimit: -1}
	number := func(name string, least, most int64, set func(int64)) {
		v, ok := t[name]
		if !ok || err != nil {
			return
		}
		n, isInt := integer(v)
		switch {
		case !isInt:
			err = fmt.Errorf("invalid arg '%s': %v is of type %T, not an integer", name, printable(v), v)
		case n < least:
			err = fmt.Errorf("invalid arg '%s': %d is less than %d", name, n, least)
		case n > most:
			err = fmt.Errorf("invalid arg '%s': %d is more than %d", name, n, most)
		default:
			set(n)
		}
	}
	text := func(name string, set func(string) bool) {
		v, ok := t[name]
		if !ok || err != nil {
			return
		}
		s, isText := v.(string)
		if !isText {
			err = fmt.Errorf("invalid arg '%s': is of type %T, not a string", name, v)
		} else if !set(s) {
			err = fmt.Errorf("invalid arg '%s': unknown value %q", name, s)
		}
	}
	number("x-expires", 1, maxMillis, func(n int64) { a.expires = n })
	number("x-message-ttl", 0, maxMillis, func(n int64) { a.ttl = n })
	text("x-dead-letter-exchange", func(s string) bool { a.dlx, a.hasDLX = s, true; return true })
	text("x-dead-letter-routing-key", func(s string) bool { a.dlKey, a.hasDLKey = s, true; return true })
	number("x-max-length", 0, math.MaxInt32, func(n int64) { a.maxLen = int(n) })
	number("x-max-length-bytes", 0, math.MaxInt64, func(n int64) { a.maxBytes = int(n) })
	number("x-max-priority", 0, 255, func(n int64) { a.maxPriority = int(n) })
	number("x-delivery-limit", 0, math.MaxInt32, func(n int64) { a.deliveryLimit = int(n) })
	text("x-overflow", func(s string) bool {
		a.reject = s == "reject-publish" || s == "reject-publish-dlx"
		a.rejectDLX = s == "reject-publish-dlx"
		return a.reject || s == "drop-head"
	})
	text("x-queue-mode", func(s string) bool { return s == "default" || s == "lazy" })
	text("x-queue-type", func(s string) bool {
		a.counted, a.stream = s == "quorum", s == "stream"
		return s == "classic" || s == "quorum" || s == "stream"
	})
	if v, ok := t["x-single-active-consumer"]; ok && err == nil {
		if a.singleActive, ok = v.(bool); !ok {
			err = fmt.Errorf("invalid arg 'x-single-active-consumer': is of type %T, not a boolean", v)
		}
	}
	if err == nil && a.hasDLKey && !a.hasDLX {
		err = fmt.Errorf("invalid arg 'x-dead-letter-routing-key': there is no x-dead-letter-exchange")
	}
	a.counted = a.counted || a.deliveryLimit >= 0
	return a, err
}

// unsupported names an argument that the store cannot honour and why, or returns "".
func (a *queueArgs) unsupported(t virtual.Traits, exactLimits bool) string {
	if t.Name == "" {
		t.Name = "this store"
	}
	switch {
	case a.stream:
		return "x-queue-type stream needs a log that is read and not emptied, and no store has one"
	case a.maxPriority > 0 && t.Levels < 2:
		return fmt.Sprintf("x-max-priority needs priorities, and %s has none", t.Name)
	case a.maxLen >= 0 && !exactLimits && !t.ExactSize:
		return fmt.Sprintf("x-max-length needs exact counts of ready messages, and those of %s are not", t.Name)
	case a.maxBytes >= 0 && !exactLimits:
		return fmt.Sprintf("x-max-length-bytes needs a store that counts bytes (capability Bounded), and %s does not", t.Name)
	case a.deliveryLimit >= 0 && !t.ExactAttempt:
		return fmt.Sprintf("x-delivery-limit needs exact counts of attempts, and those of %s are not", t.Name)
	}
	return ""
}

// priority is the level of a message in the queue.
func (a *queueArgs) priority(p uint8) uint8 { return uint8(min(int(p), a.maxPriority)) }

// integer returns the value of any integer type.
func integer(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case int32:
		return int64(v), true
	case int16:
		return int64(v), true
	case int8:
		return int64(v), true
	case uint8:
		return int64(v), true
	case uint16:
		return int64(v), true
	case uint32:
		return int64(v), true
	case int:
		return int64(v), true
	}
	return 0, false
}

// sameArg compares two argument values as an equal declaration is: numbers by value.
func sameArg(a, b any) bool {
	x, okX := integer(a)
	y, okY := integer(b)
	if okX && okY {
		return x == y
	}
	return reflect.DeepEqual(a, b)
}

func printable(v any) any {
	switch v.(type) {
	case string, []byte, channel.Table, []any:
		return "a value"
	}
	return v
}

// parseExpiration reads the expiration property: a whole number of milliseconds, as Erlang reads integers.
func parseExpiration(s string) (int64, bool) {
	if len(s) == 0 || len(s) > 20 {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil || n < 0 || n > maxMillis || s[0] == '-' {
		return 0, false
	}
	return n, true
}

// ttlOf joins the TTL of a queue with that of a message: the smaller wins; 0 means none, Immediately a TTL of 0.
func ttlOf(queue, message int64) time.Duration {
	ms := queue
	if message >= 0 && (ms < 0 || message < ms) {
		ms = message
	}
	switch {
	case ms < 0:
		return 0
	case ms == 0:
		return virtual.Immediately
	}
	return time.Duration(ms) * time.Millisecond
}
