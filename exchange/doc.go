// Package exchange is the routing half of an AMQP 0-9-1 broker: it knows the exchanges, queues and bindings of one
// vhost and says to which queues a message goes. It does no I/O, keeps no messages and knows nothing of channels or
// stores.
//
// # The model
//
// A publisher names an exchange and a routing key. The exchange compares the message with its bindings, each of
// which leads to a queue or to another exchange, and the message goes on until only queues are left. What is
// compared depends on the kind of the exchange:
//
//   - [Direct]: the routing key equals the binding key.
//   - [Fanout]: nothing is compared, every binding matches.
//   - [Topic]: the binding key is a pattern of words separated by dots; "*" is one word, "#" zero or more.
//   - [Headers]: the binding's arguments are compared with the message's headers.
//   - [ConsistentHash]: one destination, chosen by a hash of the routing key, a header or a property, in the
//     proportion of the weights that are the binding keys.
//   - [Random]: one destination by chance. [LocalRandom]: one queue by chance that has a consumer in this process.
//
// The exchange named "" is the default exchange. It is not declared: every queue is bound to it by its own name.
//
// An exchange whose own bindings select nothing passes the message to its alternate exchange, where it has one.
// However many ways lead to a queue, it gets one copy; however bindings and alternates run in circles, routing ends.
//
// # Use
//
//	t := exchange.New()
//	t.AddExchange("logs", "topic", nil, false)
//	t.AddQueue("errors")
//	t.Bind(exchange.Binding{Source: "logs", Destination: "errors", Key: "*.error.#"})
//
//	var r exchange.Result // reused from message to message
//	if t.Route(&r, "logs", &exchange.Message{Key: "api.error.db"}) {
//		for _, q := range r.Queues {
//			deliver(q)
//		}
//	}
//
// [Topology.Explain] answers the question that follows: why did, or didn't, this message arrive there.
//
// # Locking
//
// A Topology has no lock. Its readers (Route, Explain, the lookups and listings) may run concurrently with one
// another, each Route with a [Result] of its own; what changes it needs to be alone. Callers hold a
// [sync.RWMutex] around it, and thereby choose what else is to be consistent with a route.
//
// # Cost
//
// Bindings are kept in structures that are changed in place: a map for direct, a trie by words for topic, an index of
// header values for headers. A topic match visits each node of the trie at most once per word of the key,
// whatever the number of "#" in the patterns. In front is a bounded cache for routes that depend on exchange and key
// alone; an entry is good while none of the exchanges it passed has changed, so a busy exchange does not spoil
// the entries of the others. Once its buffers have grown, Route allocates nothing.
//
// # Sources
//
// The AMQP 0-9-1 specification (sections 3.1.3 and 2.1.1) names the first four kinds. What it leaves open is done as
// RabbitMQ does it; see https://www.rabbitmq.com/docs/exchanges, https://www.rabbitmq.com/docs/e2e,
// https://www.rabbitmq.com/docs/ae and https://www.rabbitmq.com/docs/sender-selected.
package exchange
