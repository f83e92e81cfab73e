package broker

import (
	"log/slog"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Options are the settings of one process on a store. The zero value is good.
type Options struct {
	// User is who the connections are; empty means "guest". A user-id property must equal it.
	User string
	// Vhost names what the store is, for errors and Info; empty means "/".
	Vhost string
	// URL names the store in errors and Info, without a password.
	URL string

	// Lease is how long messages stay with a process that stopped renewing; 0 means 10 s, and the least is 30 ms or the
	// store's own.
	Lease time.Duration
	// Barrier is how old a process's view of the bindings may be when it routes by it, in a store that cannot check that in
	// the step of a Put (trait Guards). A bind, unbind or deletion waits as long where other processes publish;
	// one that publishes asks for changes twice in that time. 0 means a second.
	Barrier time.Duration
	// Fresh says that the place has just been made and nothing is in it: the first process on a store without the
	// capability Registry then does not wait, for up to 5 s, for records that a process killed may have had in hand.
	Fresh bool
	// SessionTTL is how long a process counts as alive that stopped saying so; 0 means 30 s,
	// and the least is 30 ms.
	SessionTTL time.Duration
	// ConsumerTimeout closes a channel that leaves a delivery unanswered for longer; 0 means 30 minutes, below 0 never.
	ConsumerTimeout time.Duration
	// ChannelMax bounds the channels of a connection; 0 means 2047, below 0 none.
	ChannelMax int

	// Logger gets what an operator may want to know; nil means none.
	Logger *slog.Logger
}

// leastTime is the least lease and session TTL: below it a process could not renew in time.
const leastTime = 30 * time.Millisecond

func (o Options) withDefaults(t virtual.Traits) Options {
	if o.User == "" {
		o.User = "guest"
	}
	if o.Vhost == "" {
		o.Vhost = "/"
	}
	if o.Lease == 0 {
		o.Lease = 10 * time.Second
	}
	o.Lease = max(o.Lease, t.LeaseMin, leastTime)
	if t.LeaseStep > 0 {
		o.Lease = (o.Lease + t.LeaseStep - 1) / t.LeaseStep * t.LeaseStep
	}
	if t.LeaseMax > 0 {
		o.Lease = min(o.Lease, t.LeaseMax)
	}
	if o.Barrier == 0 {
		o.Barrier = time.Second
	}
	o.Barrier = max(o.Barrier, leastTime)
	if o.SessionTTL == 0 {
		o.SessionTTL = 30 * time.Second
	}
	o.SessionTTL = max(o.SessionTTL, leastTime)
	if o.ConsumerTimeout == 0 {
		o.ConsumerTimeout = 30 * time.Minute
	}
	if o.ChannelMax == 0 {
		o.ChannelMax = 2047
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return o
}
