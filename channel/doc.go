// Package channel is AMQP 0-9-1 as a program holds it: a Connection, its Channels, and on them exchanges, queues,
// publishing, confirms and deliveries. The names are those of amqp091-go wherever it has one; every call that may wait
// takes a context first, and options are structs whose zero value is the default.
//
// # Model
//
// A program publishes to an exchange with a routing key. Bindings lead from exchanges to queues. A consumer gets
// deliveries from a queue and answers each: Ack removes it, Nack and Reject put it back or drop it. What is not
// answered when a channel ends goes back to its queue. See https://www.rabbitmq.com/tutorials/amqp-concepts.
//
// # Errors
//
// An error of the other side closes the channel, or the whole connection, as the specification says. The first
// error is kept: every later call returns it. Arguments that cannot be encoded at all (names over 255 bytes, text that is
// not UTF-8, header values of types AMQP does not know, negative numbers) are refused before anything is sent, and the
// channel is unharmed.
//
// # Waiting
//
// Publish, Ack, Nack and Reject do not wait for the store. Confirm and PublishDeferred tell when a message is safe;
// Flush waits for all of them; AckWait tells what became of an ack. When the context of another call ends before the
// answer is there, the channel is closed, since nobody knows what happened.
//
// # Concurrency
//
// Connection and Channel are safe for concurrent use. Publishing from several goroutines on one channel is ordered
// by whoever comes first.
//
// # Transports
//
// Below a Connection stands a Transport: the virtual broker on some store, or a real AMQP server through
// backends/amqp. Transports are registered by URL scheme when their package is imported, as in database/sql.
package channel
