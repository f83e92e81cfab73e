// Package redis is a store in Redis 6.2 or later, or Valkey, with every capability: one server that many processes share, a master that
// Sentinels watch, or a Cluster.
//
// Its URL is redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH?db=DATABASE; Open has those of Clusters and
// Sentinels. In the query, prefix begins the names of all keys (default "dashi"), vhost is the virtual host (default "/"), slots says
// how its queues lie in a Cluster, and the options of go-redis are taken, but for retries. New takes a client of the program's own. The
// keys are described in docs/redis.md, so that a person with redis-cli can read a queue.
//
// # Slots
//
// With slots=vhost all of a vhost is in one slot, so on one master, and every call is one step. With slots=queue, which is what a
// new vhost gets on a Cluster, its queues are spread over 64 slots, and so over all masters; the registry is in one. What is in one slot is one
// step then: a Put, Settle or Renew of several queues is one for each of their slots, run at once. If one fails the whole is told as an
// error, and what the engine says again is not done twice: each slot has a mark of the producer. The trait Guards and the capability
// Atomic are not there: the engine waits after a bind while others publish, and puts first, then settles. A vhost keeps what it was made
// with: who asks for the other is refused.
//
// # Semantics
//
// Every call is one script, or one for each slot, which the server runs in one step, by its own clock. All capabilities and traits of
// the reference, package memory, are there and exact, but for what Slots says. A script has its whole effect or none; one whose reply was
// lost is told as an error, and the store never says it again by itself: the engine does, by the producer's mark (Put) or the number of
// the Take (Get).
//
// A context that ends while the reply to a Get or an Expire is on its way does not cut it short, since it may be all that is
// left of a message: the call returns with the reply, or at the client's ReadTimeout.
//
// What waits is woken by publish and subscribe, on one connection for a handle, opened when something waits first. Who was
// woken and did not come is told again a few seconds later. Who waits sweeps what becomes due where it waits; nothing else polls. On
// a Cluster a message between its nodes may get lost: then who waits for something that becomes due by itself may wait a minute.
//
// # Ordering
//
// Exact, per priority, also after a requeue or a delay.
//
// # Durability
//
// That of the server. The trait Durable is claimed where it appends to a file (appendonly yes), by what it says when the store is
// opened. Then what was confirmed survives the end of the server's process; a loss of power may take a second of it unless
// appendfsync is always. A fail-over to a replica, by Sentinels or in a Cluster, may lose what the replica has not heard of: Redis
// replicates after it answers, unless Options.Replicas has it wait for them. Of a Cluster every master is asked when the store is opened.
//
// # Limits
//
// The memory of the server. With maxmemory and the policy noeviction a Put that finds no room is refused as an error, and
// consumers go on: Get, Settle and Renew need none to begin with. Any other policy drops keys, and with them messages. A script holds
// up all others of its server: one that returns the 100,000 messages of a consumer that died, or purges as many beside leased ones, takes
// a few tenths of a second. A payload has up to 512 MB; leases, delays and TTLs, up to 100 years, count by microseconds.
package redis
