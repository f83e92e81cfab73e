// Package sqlite is a store in an SQLite file, with every capability: durable, without a server, shared by all processes of
// a machine that open it.
//
// Its URL is sqlite://FILE, such as sqlite://app.db in the working directory or sqlite:///var/lib/app/app.db; Open lists the options.
// The file is made where there is none; its directory is not. A program may have tables of its own in it. The store's begin with
// dashi_, and are described in docs/sql.md, so that a person with the sqlite3 shell can read a queue.
//
// # Semantics
//
// All capabilities and traits of the reference, package memory, are there and exact. A call has its whole effect or none. Calls that change
// something are made one after the other, as SQLite has it, each handle's in as few transactions as there is need of: what comes while one is
// written shares the next. Who finds the file taken by another process tries again every millisecond or two, until its context ends;
// that the file is busy is no error unless busy_timeout says so.
//
// Who waits in the same handle is woken directly. Another process hears of it by inotify on Linux, a few milliseconds later, and
// elsewhere looks every 40 ms while somebody waits. Nothing else polls.
//
// Time is the machine's wall clock, the same for all processes. If it is set back, leases and delays that are under way last longer by that
// much; if it is set forward, they end sooner.
//
// # Ordering
//
// Exact, per priority, also after a requeue or a delay.
//
// # Durability
//
// What was confirmed survives the end of all processes, and with synchronous=full, the default, a loss of power, as far as the disk keeps what it
// says it has written. With synchronous=normal a loss of power may take what was confirmed last; the file stays whole.
//
// # Limits
//
// One machine: a file on a network file system is damaged sooner or later, as SQLite says. One writer at a time. A payload has
// up to 1,000,000,000 bytes, less 4,096. The file does not get smaller: room that was freed is used again, and VACUUM gives it back. A process
// that stands still in the middle of a transaction holds up all others. On a full disk a Put fails, and consumers go on as long as what they do
// finds room in the file.
package sqlite
