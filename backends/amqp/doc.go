// Package amqp connects to a real AMQP 0-9-1 server, such as RabbitMQ or LavinMQ, through
// github.com/rabbitmq/amqp091-go. Importing it registers the schemes amqp and amqps:
//
//	import _ "github.com/dashi-mq/dashi/backends/amqp"
//
//	conn, err := channel.Dial(ctx, "amqp://guest:guest@localhost/", channel.Config{})
//
// The URL is that of https://www.rabbitmq.com/uri-spec.html: user, password, host, port, virtual host (reserved characters
// percent-encoded). Its query may hold heartbeat (seconds), connection_timeout (milliseconds, default 30,000), channel_max,
// auth_mechanism (plain, amqplain, external), and for amqps cacertfile, certfile, keyfile and server_name_indication
// (https://www.rabbitmq.com/uri-query-parameters.html). A *tls.Config in channel.Config.Options replaces those four. Errors
// show no password. A connection does not reconnect by itself.
//
// # Semantics
//
// What the server does is what happens: nothing is emulated, and this package is how the rows of docs/semantics.md are
// proved right. An error of the server keeps its code and text, and names the method that failed: it is read from the
// server's close, which names it. A connection that breaks is ConnectionForced (320) with the network's error as its cause.
//
// Publish does not wait for the network: messages wait in a buffer of at most 1 MiB, and one more message; where the server
// takes no more (an alarm, TCP push-back), Publish waits until its context ends, having sent nothing of that message.
// Acks never wait. Flush makes one round trip; in confirm mode it then waits for the answers to everything published
// before. AckWait settles and makes one round trip, so an unknown tag is told; that a message went to another consumer
// cannot be known.
//
// # Ordering
//
// Deliveries are in order per consumer; two consumers of a channel have each its own goroutine. A Return comes before the
// Confirm of its message, the answer to Consume before the first delivery, the answer to Cancel and a server's cancel
// after the last one. Confirms come in the order of publishing, as amqp091-go sorts them.
//
// # Durability
//
// Whatever the server gives: messages with channel.Persistent on durable queues survive its restart once confirmed.
// Close closes the connection in order, and the server has processed everything sent before. Close with a context
// that has ended drops the socket: what was not yet sent is lost, what was not acked is delivered again.
//
// # Limits
//
// They are those of amqp091-go 1.16, unless said otherwise:
//
//   - Deliveries of a consumer that does not read wait in a queue without a bound: only the channel's prefetch
//     (Channel.Qos) bounds them, and for a consumer with AutoAck nothing does. The credit of a consumer bounds what is handed
//     to channel, not what the server sends. Set a prefetch.
//   - An empty header table is sent as none, and an empty user-id cannot be sent (Publishing.UserIdSet).
//   - Tables nested deeper than 32, or with more than 8192 entries, are refused before anything is sent, since the client
//     could not read them back.
//   - A Go int is sent as a 32-bit integer where it fits and as a 64-bit one elsewhere; uint and uint64 as 64-bit.
//   - Channels beyond channel-max (2047 by default) are refused by the client, with NotAllowed (530).
//   - A message given back unseen counts as a delivery, as any requeue does.
package amqp
