package virtual

import "time"

// Traits says what a store promises beyond the five methods. The zero value claims nothing. A claimed trait is tested
// by the store suite. What each buys is in one line here, and in a table in docs/new-store.md.
type Traits struct {
	// Name of the product, for messages and reports, such as "memory".
	Name string

	// Ordered: each producer's messages come in the order of Put, exactly, also after Requeue. Buys FIFO queues.
	Ordered bool
	// ExactSize: Size and GetResult.Ready are exact when nothing else happens. Buys counts that are told, and x-max-length.
	ExactSize bool
	// ExactAttempt: Taken.Attempt is exact. Buys x-delivery-limit and x-delivery-count.
	ExactAttempt bool
	// Age: Taken.Age is the time since Put by the store's clock, kept over Requeue. Buys TTLs that no client's clock is
	// asked for, and an end of sessions that is seen though nobody was there.
	Age bool
	// StaleTold: a Settle whose message was taken by another since says ErrStale. Buys AckWait that tells who lost a lease.
	StaleTold bool
	// Marks: PutRequest.Producer and Sequence are honoured. Buys that a Put whose reply was lost is repeated without twins.
	Marks bool
	// Guards: PutRequest.Guard is checked in the same step (needs the capability Registry). Buys binds that need not wait for
	// publishers.
	Guards bool
	// Fences: GetRequest.Fence is honoured. Buys a single active consumer that one frozen for long cannot join.
	Fences bool
	// Ranked: GetRequest.Rooms is honoured (needs the capability Notifier). Buys consumer priorities across processes.
	Ranked bool
	// Durable: what is stored survives a restart of the store, and what was acked does not come back. A store without a
	// server survives the end, even by SIGKILL, of every process that uses it. What a loss of power may take, the store
	// says by itself. Buys durable queues and persistent messages that deserve the names.
	Durable bool
	// TTL: messages carry a TTL through the store. With Age it buys messages without a stamp of the publisher's clock.
	TTL bool

	// Levels is how many priorities there are, 0 or 1 for none, at most 256. Buys x-max-priority.
	Levels int
	// MaxDelay bounds Message.Delay and Settlement.For; 0: no delays, and the engine asks for none. The engine asks for no more
	// than MaxDelay; the store rounds up to DelayStep, 0 for none. Buys delayed messages that cost no lease.
	MaxDelay, DelayStep time.Duration
	// LeaseMin, LeaseMax and LeaseStep bound leases; 0: no bound. A shorter lease is raised to LeaseMin, one between steps
	// rounded up, and Taken.Granted says so; nobody asks for more than LeaseMax.
	LeaseMin, LeaseMax, LeaseStep time.Duration
	// LeaseEnd says when leases end.
	LeaseEnd LeaseEnd
	// LeaseAtPut: the lease is fixed by Message.Lease.
	LeaseAtPut bool

	// MaxBatch bounds the messages of one Put, Get or Settle; MaxBatchBytes the payloads of one Put; MaxBody one payload,
	// in bytes. 0: no bound.
	MaxBatch, MaxBatchBytes, MaxBody int
	// InFlight is how many requests at once pay, where a batch has to be cut into several (MaxBatch): 0 and 1 mean one.
	InFlight int
	// Quick: a Put or Settle takes hardly longer than a call of a function, so that who publishes or answers runs it
	// himself. Else a goroutine of the engine does, with all that has come in the meantime.
	Quick bool
}

// LeaseEnd says when the leases of a store end.
type LeaseEnd uint8

// The ends of leases.
const (
	ByTime LeaseEnd = iota // when their time is over
	// WithConnection: when the connection that took the messages ends, too, as it does at Close; and what a process holds
	// that stands still may stay with it until then. A receipt is good for the handle that took it.
	WithConnection
)

// TraitsOf returns what a store claims.
func TraitsOf(s Store) Traits {
	if t, ok := s.(interface{ Traits() Traits }); ok {
		return t.Traits()
	}
	return Traits{}
}
