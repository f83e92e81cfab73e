// Package postgres is a store in a PostgreSQL database, with every capability: durable, shared by all processes that reach the
// server.
//
// Its URL is postgres://USER:PASSWORD@HOST:PORT/DATABASE, or postgresql:// the same; Open lists the options. The store makes its tables
// in a schema of their own, dashi unless the option schema says else, for which the user needs the right to create one in the
// database, and, where it is there, to create in it. The tables are described in docs/sql.md, so that a person with psql can read a queue.
// PostgreSQL 12 or newer; the suites have run on 15.
//
// # Semantics
//
// All capabilities and traits of the reference, package memory, are there and exact. A call has its whole effect or none. Calls that change
// something are made one after the other in a vhost, under a lock (pg_advisory_xact_lock) that the server gives back with the
// transaction; vhosts do not wait for each other. Each handle's are in as few transactions as there is need of: what comes while one is
// committed shares the next. Who stands still in the middle of one loses his connection after 10 s.
//
// Who waits in the same handle is woken directly. Another process is told by NOTIFY, which a transaction sends only where there is
// something for others. Nothing polls. Time is the server's clock.
//
// Where the server answers nothing at all, calls return about a second after their contexts end, which costs the connection.
// A connection that is lost is made anew by the next call. What was under way then fails: nothing of it was done, unless the connection broke during
// the commit. Then the error is sql.ErrUnknown, and the engine asks the same again, which marks and takes make harmless.
//
// # Ordering
//
// Exact, per priority, also after a requeue or a delay.
//
// # Durability
//
// What was confirmed survives the end of the server, and a loss of power, with fsync and synchronous_commit as they are by default.
// Settings of the server may stand in the URL: with synchronous_commit=off, the end of the server may take what was confirmed last, and
// with synchronous_standby_names on the server, a standby has what was confirmed, too. After a fail-over to a standby
// that was behind, what it had not heard of is gone.
//
// # Limits
//
// A payload has up to 256 MiB. A handle has up to four connections: one that writes, two that read, one that listens. They have to reach the
// server itself, or a pool that keeps sessions: LISTEN and prepared statements belong to one. Rows that were deleted are
// cleaned up by autovacuum, which must be on, and which a transaction that stays open for hours anywhere on the server holds up.
package postgres
