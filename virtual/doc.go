// Package virtual is the contract between AMQP and a store: all that the author of a backend reads.
//
// A Store has five methods. It knows nothing of exchanges, bindings or channels; it keeps messages in named queues, lends
// them out under leases and takes answers. The engine (package virtual/broker) makes AMQP of it: whatever stores that
// rule gets exchanges, topic routing, acks, prefetch, dead letters and the rest.
//
// # The five methods
//
//	Put     appends messages to queues
//	Get     takes messages from the head of a queue and leases them, in one atomic step
//	Settle  ends leases: the message goes for good, or comes back
//	Purge   removes what is ready
//	Size    counts what is ready
//
// # More than that
//
// What a store can do beyond the five it says by Traits (numbers and promises) and by implementing capabilities: small
// interfaces, one per file, each with a fallback in the engine. The engine asks for a capability by As only, never by
// a type assertion, so that wrappers such as Intercept and Only can forward or hide it. A minimal store ignores every
// field that belongs to a trait or capability it does not claim: the engine never sets those for it.
//
// # Rules for all methods
//
//   - All methods may be called concurrently, from one process and from many.
//   - Slices and the requests are the caller's: a store does not keep them. Messages and payloads are immutable and may
//     be kept.
//   - A store's client never retries by itself: the engine does, knowing what is ambiguous. An error other than those
//     named here means that the effect is not known.
//   - When ctx ends a method returns soon, with ctx.Err() for the whole request or for the items that were not done. What had
//     been done stays done. That holds while a server says nothing, too. Only a call whose reply may be messages waits for it,
//     as long as the store's client does.
//   - Durations are relative. Clocks of two machines are never compared: what depends on time is decided by the store's
//     own clock, inside the operation. For a store without a server that is the clock of the machine, as long as all its
//     processes run on one.
//   - Errors never show passwords or payloads.
//   - A store may have a method Close() error. It ends the Gets that wait; later calls return ErrClosed. Leases stay, unless
//     the trait LeaseEnd says otherwise. The engine does not call the store after it.
//
// # Where to begin
//
// docs/new-store.md writes a store, the one in examples/filestore, step by step, and says what each trait and capability
// buys. Package conformance proves it.
//
// Register makes a store known by its URL scheme, as in database/sql.
package virtual
