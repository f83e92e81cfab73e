package virtual

import (
	"context"
	"math"
	"time"
)

// Registry is the capability of shared records: a very small etcd. Exchanges, queues, bindings, consumers and locks of
// the engine live in it. Without it the engine keeps the same records in a reserved queue.
//
// Revisions are one rising sequence for the whole registry; every write gives the record a new one.
type Registry interface {
	// Update makes all changes in one step, or none: *ConflictError names those whose condition does not hold. session
	// is the caller's, and must be alive (ErrSession). All records of one Update get the revision it returns.
	Update(ctx context.Context, session string, changes []Change) (rev uint64, err error)

	// Changes returns every record whose revision is above since, in rising order of revision, deleted ones marked;
	// since 0 returns all that exist. With none it waits for one, up to wait. The revision returned is where to go on
	// from. Deleted records may be forgotten after an hour: a store that cannot tell what went since then returns
	// reset true with all that exists.
	//
	// A registry that lost what it had, by a flush or a fail-over to a replica that had not heard of it, returns ErrLost for a
	// since that is not of what it has now, as soon as anybody opens a session or writes. The caller reads all that exists,
	// by since 0, and declares again what is missing. So that it can be told, revisions begin above those of before: by the
	// store's clock where there is one. One that is only behind says so until it has caught up.
	Changes(ctx context.Context, since uint64, wait time.Duration) (c []Record, rev uint64, reset bool, err error)

	// KeepAlive opens a session or renews it: it ends when it was not renewed for ttl, by the store's clock. A session
	// that has ended is never opened again: ErrSession.
	KeepAlive(ctx context.Context, session string, ttl time.Duration) error

	// EndSession ends a session: its records are deleted, as they are when it ends by time. Ending one that has ended,
	// or never was, is no error.
	EndSession(ctx context.Context, session string) error

	// Sessions lists the sessions that are alive.
	Sessions(ctx context.Context) ([]string, error)
}

// Record is one record of the registry.
type Record struct {
	Key   string
	Value []byte // immutable
	Rev   uint64
	// Session is the one the record goes with; empty: it stays.
	Session string
	// Deleted marks a record that is gone since Rev.
	Deleted bool
}

// Condition is what a Change asks of the record before: a revision, or one of the constants.
type Condition uint64

// Conditions that are no revision.
const (
	Absent Condition = 0
	Any    Condition = math.MaxUint64
	Exists Condition = math.MaxUint64 - 1
)

// Op says what a Change does to its record.
type Op uint8

// The operations of a Change.
const (
	Write  Op = iota // sets Value and Session
	Touch            // gives an existing record a new revision; a missing one stays missing
	Delete           // removes the record; a missing one is no error
	Check            // only asks the condition
)

// Change is one change of an Update.
type Change struct {
	Key     string
	Op      Op
	If      Condition
	Value   []byte
	Session string // Write: the record goes with this session
}
