// Package memory is a store in the memory of the process: the reference for all others, with every capability, and a
// broker for tests and for programs that need no more.
//
// Its URL is memory://, private to the one who opens it, or memory://NAME, shared by all who open that name in this
// process; ?vhost=V keeps several apart under one name.
//
// # Semantics
//
// Messages are kept as they are, never encoded. All capabilities and traits are there and exact but Durable: what is
// stored goes with the process. Nothing polls.
//
// # Ordering
//
// Exact, per priority, also after a requeue.
//
// # Durability
//
// None beyond the process. A named place outlives its handles, so that a restart of every client can be tried.
//
// # Limits
//
// The memory there is; one lock per place.
package memory
