package virtual

import "context"

// Notifier is the capability to wake a process that waits for messages: one wait per process, whatever the number of
// its queues.
//
// A Get with Park that takes less than Max records the waiter for that queue, in its own step, with the number it could
// still take. Put, Requeue, Return, a due delay and an ended lease wake who is recorded and strike him out; so does the
// queue's deletion. (Waking on "the queue was empty" would strand a waiter beside one that took less than there was.)
//
// What a waiter could still take counts as on its way to it until its next Get on the queue, at most for a second:
// limits leave room for it, in that so many messages from the head are neither counted nor evicted, and expiry leaves the
// head alone. So a message that finds a consumer waiting reaches it, as on RabbitMQ, whatever its TTL and the queue's limit.
//
// Where Rooms are given (trait Ranked), consumers of a higher priority come first: a Get takes nothing for its
// consumers of a priority while other waiters have room recorded at a higher one. A Get that leaves messages behind
// wakes the others that are recorded.
//
// A Get said again (Again) records the waiter, too, and wakes it at once if something is ready.
//
// Every Get with Park strikes out what was recorded for that waiter before; one with Max 0 does nothing else.
//
// Without it the engine polls, adaptively, cut short by what its own process publishes.
type Notifier interface {
	// Notify runs until ctx ends, or with an error until the connection to the store is lost, and calls wake for each
	// queue in which something may be ready for the waiter. wake does not block and does not call the store. ready is
	// closed when waiters recorded from now on are woken.
	Notify(ctx context.Context, waiter string, ready chan<- struct{}, wake func(QueueRef)) error
}
