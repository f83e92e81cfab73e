// Package broker makes AMQP 0-9-1 of a store: exchanges, bindings, queues, consumers, acks, dead letters and the rest,
// for any number of processes that share the store.
//
// # One process
//
// Open makes one process on a store: one session in the store's registry, one watcher of what the others declare, one
// candidate for the janitor. Connect opens any number of connections on it, for package channel to stand on. Two
// Opens on two handles of one place are two processes, as far as anybody can tell.
//
// # Registry first
//
// Exchanges, queues, bindings and consumers are records of the store's registry. A declaration is a conditional
// update of a few of them, made again on a fresh view when somebody else was faster. Every process keeps a view of
// the records, and routes on it. A message is put under a guard: the revisions of the exchanges it passed. When one
// has changed, nothing is stored, the view is refreshed and the message routed again. So nothing published after a bind
// returned is missed, by any process.
//
// # Five methods are enough
//
// A store has to have no more than the five methods of virtual.Store. For every capability and trait there is a fallback,
// listed in equip.go with the file it lives in: the registry becomes a message in a reserved queue, a bind waits until no
// other process routes on what it knew before, leases are extended one by one, Gets wait and are cut short, limits are
// trimmed, the janitor looks at the heads of queues. What cannot be had is refused at the declaration with 540 and the
// reason, never ignored.
//
// # Delivery
//
// Each queue that is consumed here has a pump. It reserves room in the windows of the local consumers, takes that many
// messages under one lease for the process, and hands them over. Nothing runs while nothing happens. The lease is renewed
// as long as the process lives; when it dies the messages come back by themselves.
//
// # Locks
//
// In this order, and none is held during a call of the store: topology.mu (the view), pump.mu, port.mu (a channel: its
// tags, windows and everything its sink hears, in order). pump.getting is held while a pump
// moves messages, its Get included, and nothing else is held while waiting for it.
package broker
