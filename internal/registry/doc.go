// Package registry keeps the records of virtual.Registry in two reserved queues of a store that has the five methods
// only.
//
// # The scheme
//
// All records together are one state, and a state is one message (or a few, where the store bounds them): one in the
// queue "!registry" for the records, one in "!sessions" for the sessions, so that heartbeats do not rewrite the topology.
// Who reads takes the message under a short lease L and returns it. Who writes
//
//	Get     takes all that is ready, and merges it
//	Put     puts a new state, which contains all that was taken
//	Settle  acks all that was taken
//
// in this order. A state is a map of key to record; merging two keeps of each key the record that beats the other: the
// highest revision, then the highest attempt of the taking it was derived from, then the writer. It does not matter who
// merges, how often, and in which order. A deleted record stays for an hour as a tombstone, so that a merge does not bring
// it back.
//
// Everything that can go wrong (a crash, a lost reply, a lease that ended) leaves more than one message, never none: the
// next one who takes finds them all and writes one.
//
// # What it gives
//
// Declarations are never lost: an Ack only ever follows the Put of a superset. That holds over crashes, lost replies and
// pauses of any length; the tests enumerate the states of a model of these steps and look.
//
// Locks, which are compare-and-set on one key, are exact over crashes and lost replies: of those who took one message only
// one has it at a time, and its successor sees what it put. For that one has to know when there is more than one sees:
//
//   - Who dies between Put and Ack leaves the old state behind. Somebody may find it while a third has the new one, and
//     would write past it. But the old one has been taken before and was never answered (its Attempt is above 1), so it
//     is doubted: used only after it was looked at for 1.2 L with nothing else showing up, and then written anew.
//     This needs the trait ExactAttempt. Without it there is a window of a few milliseconds, a lease after such a death.
//   - Who does not know whether its own Put was stored gives back by Requeue what it took, which makes it doubted, too.
//   - Who knows a state that says of the one it took "that is in me" drops that one, and waits for what it knows.
//
// All of that, and that nothing exists, is concluded from not seeing a message for longer than a lease. Several that die
// with it one after the other, with nobody quicker in between, can outlast that; the cost is a fork, as after a pause.
//
// # What it does not give
//
// Locks are not exact over a process that is frozen between Get and Put for longer than L. Its lease ends, somebody else
// takes the same message, and two states begin that do not know of each other: both may win one compare-and-set. Of a
// process that notices (its Ack is stale, or its clock says that L has passed) the write is looked up again: it is done if
// its records are on top of what is there, else a conflict. A merge of such states decides for all, keeps everything else
// of both, tells Options.Conflict which keys it decided, and has every follower begin anew (reset). A store that
// implements virtual.Registry has no such window.
//
// An Update that was told a conflict after such a pause may have written some of its other keys, and a record that was
// deleted in one of two such states may come back from the other: what is not known to be deleted is kept. The same goes
// for a state that comes back after more than an hour, or 10,000 deletions, when tombstones are gone.
//
// # Who is first
//
// A message under a lease looks like one that is not there. So a process believes that nothing exists only after it has
// seen nothing in both queues for 1.2 L: whatever was hidden has come back by then. It then writes an empty state. That
// wait is paid once, by the first process on an empty store; Options.Fresh spares it. Two that are first at the same time
// write two states, which the next merge joins. A process that has seen a state never believes that there is none: after
// 5 L it writes what it knows again.
//
// # Time
//
// No clock is compared with another one. A session is dead for an observer that saw its record unmoved for the session's
// ttl on its own clock, over looks without a long gap; who sees it dead first deletes its records and leaves a mark of its
// name in one write, then removes the session. Tombstones count minutes by a counter in the state, which a writer advances
// when its own clock says that a minute has passed since it first saw the counter's value.
//
// # Cost
//
// A write is three calls, a read two (one where the store has virtual.Peeker), a heartbeat three. Updates that wait while
// another write of this process is under way go with the next one; reads join the next read or write to start. Nothing
// runs while nobody calls.
//
// Each call works on all of the state: at 10,000 records a write takes 4 ms of processor time, a read of what somebody else
// has written 3 ms, a read of what is known already none. What it costs to die between Get and Settle is that everybody else
// waits, for L and then 1.2 L.
package registry
