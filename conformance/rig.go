package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Rig is a place where rows run: two processes on one broker or store. Every row gets a Rig of its own and writes
// through process 0 what it reads through process 1, so what one process declares must hold in the other.
type Rig interface {
	// Name is "one" (both processes are one broker), "two" (two brokers on one place), "five" (two brokers on a
	// store that shows the five methods only) or "native" (a real AMQP server).
	Name() string
	// Connect opens a connection of process 0 or 1. After Crash the process starts anew with the next Connect.
	Connect(ctx context.Context, process int, o ConnectOptions) (*channel.Connection, error)
	// Crash kills a process: nothing it has open says goodbye. In rig "one" both numbers are the same process.
	Crash(process int) error
	// Restart ends the store or server and starts it again with what it had made durable, or returns
	// errors.ErrUnsupported.
	Restart(ctx context.Context) error
	// Unit is the unit of time for TTLs and waits: short, but long beside what a call takes.
	Unit() time.Duration
	// Virtual says that time is that of a testing/synctest bubble.
	Virtual() bool
	// Lacks tells why the rig cannot give a row what it needs.
	Lacks(need Need) (reason string, lacks bool)
	// Close ends everything. Connections still open are dropped.
	Close() error
}

// ConnectOptions say how a Rig connects; the zero value is the usual connection.
type ConnectOptions struct {
	// Vhost names a second virtual host; empty is the usual one. OtherVhost is one that exists beside it.
	Vhost string
	// ChannelMax bounds the channels of the connection; 0 leaves it as it is.
	ChannelMax int
	// ConsumerTimeout closes channels that hold a message for longer; 0 leaves it as it is.
	ConsumerTimeout time.Duration
	// Password is a password to log in with instead of the right one.
	Password string
}

// OtherVhost is the virtual host that rigs with TwoVhosts have beside the usual one.
const OtherVhost = "other"

// Need is something a row or a clause of it cannot do without.
type Need string

// What rows need. The first group are traits of stores, marked (s) in the table: where one is missing the row is
// reported as refused. The others depend on the rig: where one is missing the row is skipped.
const (
	Order    Need = "order"    // first in, first out
	Counts   Need = "counts"   // exact numbers of ready messages
	Priority Need = "priority" // x-max-priority
	Attempts Need = "attempts" // exact numbers of attempts
	Lengths  Need = "lengths"  // x-max-length at all
	Limits   Need = "limits"   // x-max-length kept at the publish by the store, and x-max-length-bytes
	Ranks    Need = "ranks"    // consumer priorities across processes
	Stale    Need = "stale"    // who answers a message that another one has by now is told
	Sessions Need = "sessions" // the end of the last session is seen, though nobody was there

	Plus           Need = "plus"            // beyond RabbitMQ, marked (+)
	HashExchange   Need = "hash exchange"   // x-consistent-hash, marked (p)
	RandomExchange Need = "random exchange" // x-random, marked (p)
	Restarts       Need = "restart"         // Rig.Restart works, and the store keeps what is durable
	TwoVhosts      Need = "two vhosts"      // ConnectOptions.Vhost OtherVhost
	Logins         Need = "logins"          // a wrong password is refused
	Notice         Need = "notice"          // an idle consumer is woken, it does not poll
	Faults         Need = "faults"          // the Rig is a Breaker
	Freezes        Need = "freezes"         // the Rig is a Freezer
	Foreign        Need = "foreign"         // the Rig is a Planter
	BodyLimit      Need = "body limit"      // the Rig is a BodyLimiter
)

// trait says that the need is a trait of the store.
func (n Need) trait() bool {
	switch n {
	case Order, Counts, Priority, Attempts, Lengths, Limits, Ranks, Stale, Sessions:
		return true
	}
	return false
}

// Breaker is a Rig whose store can be made to fail.
type Breaker interface {
	// Break makes every store call of a process fail until Mend, as if the store had gone away.
	Break(process int) error
	Mend(process int) error
}

// Freezer is a Rig whose processes can be paused.
type Freezer interface {
	// Freeze holds back every store call of a process, those of its timers too, until Thaw, as if the process had
	// been stopped; for longer than leases, sessions and anything else it would have to renew.
	Freeze(process int) error
	Thaw(process int) error
}

// Planter is a Rig that can put a payload into the store which no broker wrote.
type Planter interface {
	Plant(ctx context.Context, queue string, payload []byte) error
}

// BodyLimiter is a Rig whose store takes bodies only up to a limit.
type BodyLimiter interface {
	// MaxBody returns a number of bytes that is certainly too large, by one.
	MaxBody() int
}

// Leaser is a Rig that knows how long a lease is.
type Leaser interface {
	Lease() time.Duration
}

// errNoRestart is what rigs without a restart return.
var errNoRestart = errors.ErrUnsupported
