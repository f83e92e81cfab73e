package virtual

import (
	"context"
	"time"
)

// Store keeps messages in queues. It is everything the engine needs.
type Store interface {
	// Put appends each message to the queue it names, in order per queue. nil means all are stored, as durably as the
	// store can. What can be refused (size, unknown queue) is checked before anything is stored. *BatchError names the
	// items that failed; the others are stored. In an ordered store everything after a failed item of the same queue
	// fails too, but for ErrFull: what a limit refused is overtaken by what fits. An item with an error that is not among
	// those of this package may be stored or not; the items after it in the queue of an ordered store are not.
	//
	// A repeated Put is harmless where the store can tell, by message id, or by Producer and Sequence: see PutRequest. It
	// need not tell: the same ID put twice may be stored twice.
	Put(ctx context.Context, r PutRequest) error

	// Get takes up to r.Max messages from the head of a queue and leases them, in one atomic step: no two Gets ever
	// hold the same message at the same time. It appends them to buf, as append does. An empty queue is no error.
	//
	// With a lease, messages stay in the store, hidden from every other Get until the lease ends by the store's
	// clock; then they are ready again, and Attempt rises. Without (Lease 0) they are removed at once.
	//
	// Get waits up to r.Wait for the first message and returns early with what there is. When ctx ends it returns what
	// it took with a nil error, or gives it back: it never drops it. With nothing taken the error is nil or ctx.Err(). It
	// may take fewer than there are, and without Wait none, where others take at the same time. With Max 0 it takes nothing
	// and does not wait.
	//
	// A store may keep what came too late for a Get (the answer of a long poll) for the next Get of its queue, for about
	// a second; then, and at Close, it gives it back, which may count as an attempt where the trait ExactAttempt does not
	// hold. Purge takes it, too.
	//
	// Messages whose TTL has passed are handed out like others: Taken says their TTL and Age, and the engine drops or
	// dead-letters them. Ended leases and due delays become ready when somebody looks.
	Get(ctx context.Context, r GetRequest, buf []Taken) ([]Taken, GetResult, error)

	// Settle ends or changes leases. *BatchError names the items that failed; the others count. A receipt whose lease
	// ran out and whose message was taken again has no effect; ErrStale says so where the trait StaleTold holds. A lease
	// that merely ran out, or a message already gone: nil and ErrStale are both right.
	Settle(ctx context.Context, s []Settlement) error

	// Purge removes all ready messages of a queue and returns how many. Leased and delayed ones stay.
	Purge(ctx context.Context, q QueueRef) (int, error)

	// Size counts the ready messages of a queue. It may lag where the trait ExactSize does not hold.
	Size(ctx context.Context, q QueueRef) (int, error)
}

// QueueRef names a queue. A queue that is deleted and declared again is a new Incarnation: nothing of the old one
// ever shows up in it. Name is 1 to 255 bytes of UTF-8 (or begins with "!" for the engine's own queues), Incarnation
// ASCII letters, digits, "-" and ".".
type QueueRef struct{ Name, Incarnation string }

// ID identifies a message in its queue: 16 random bytes, given by the engine.
type ID [16]byte

// Payload is what a message carries. It is never nil, though it may be of no bytes. It is immutable and safe for concurrent
// use; Bytes encodes when first asked for, so that a store in memory never pays for it, and keeps the result.
type Payload interface {
	// Bytes returns the encoded payload, which must not be changed.
	Bytes() []byte
	// Size returns roughly the number of bytes, without encoding.
	Size() int
}

// Appender is what a Payload may be besides: one that encodes itself at the end of bytes, for stores that copy it anyway.
type Appender interface {
	// Append appends what Bytes returns to b, as append does.
	Append(b []byte) []byte
}

// AppendPayload appends a payload's bytes to b, without encoding it apart where it is an Appender.
func AppendPayload(b []byte, p Payload) []byte {
	if a, ok := p.(Appender); ok {
		return a.Append(b)
	}
	return append(b, p.Bytes()...)
}

// Bytes is a ready-made Payload. Stores return it from Get for what they read.
type Bytes []byte

// Bytes returns b itself.
func (b Bytes) Bytes() []byte { return b }

// Size returns the length of b.
func (b Bytes) Size() int { return len(b) }

// Immediately is the TTL of a message that only a Get may have that waits, or is parked.
const Immediately time.Duration = -1

// Message is one message in one queue. It is immutable.
type Message struct {
	Queue QueueRef
	ID    ID
	// Priority orders a queue, higher first; set only up to the trait Levels - 1.
	Priority uint8
	// Delay hides the message for that long after Put. It keeps its place of Put.
	Delay time.Duration
	// TTL is how long after Put the message may be delivered: 0 for ever, Immediately only to a Get that waits or is parked.
	TTL time.Duration
	// Lease is the lease a Get will ask for; set for stores with the trait LeaseAtPut only.
	Lease   time.Duration
	Payload Payload
}

// PutRequest is the argument of Put.
type PutRequest struct {
	Messages []*Message

	// Producer and Sequence make a repeated request harmless: a store that keeps marks (the trait Marks) remembers per
	// Producer the last Sequence with its outcome (which items failed, what was evicted). The same Sequence again,
	// with equal Messages, stores nothing and gets that outcome; a lower one is refused with ErrSequence. A Producer has
	// one request in flight. Marks may expire after an hour.
	Producer string
	Sequence uint64

	// Guard lists records of the Registry that must have these revisions in the same step (trait Guards); else nothing
	// is stored, no mark is left, and a *GuardError names those that differ.
	Guard []Revision
}

// Revision says that a record of the Registry has revision Rev; 0 says that it does not exist.
type Revision struct {
	Key string
	Rev uint64
}

// GetRequest is the argument of Get.
type GetRequest struct {
	Queue QueueRef
	// Max bounds the number of messages taken. MaxBytes (0: no bound) bounds the sum of their payloads, by the length of
	// Bytes or by Size; one message is taken whatever its size.
	Max, MaxBytes int
	// Wait bounds how long an empty Get waits.
	Wait time.Duration
	// Lease is how long the messages are hidden; 0 removes them. With a Holder it is the holder's lease, never shortened.
	Lease time.Duration

	// Holder and Take belong to the capability Holders: see there. Again says that the reply of this Take was lost.
	Holder string
	Take   uint64
	Again  bool

	// Fence, when not 0, refuses the Get with ErrFence if one with a higher Fence was seen on the queue: the taker has
	// lost a lock since (trait Fences).
	Fence uint64

	// Park belongs to the capability Notifier: an empty Get, or one that took less than Max, records this waiter.
	Park string
	// Rooms, set only with Park and only where consumers of different priorities share the queue, parts Max by
	// priority, the highest first: see Notifier.
	Rooms []Room

	// Need lists what the engine will read of the results and some stores pay for.
	Need Need
}

// Room is how many messages consumers of one priority could take.
type Room struct{ Priority, Room int }

// Need is a set of result fields.
type Need uint8

// Results that cost some stores a round trip.
const (
	NeedAge     Need = 1 << iota // Taken.Age
	NeedAttempt                  // an exact Taken.Attempt
)

// GetResult is what a Get says of the queue.
type GetResult struct {
	// NextIn is when something becomes ready by itself (a delay, a lease); 0: not known, which costs nothing but that the
	// engine looks more often.
	NextIn time.Duration
	// Ready is how many messages remain ready; -1: not known. Where the trait ExactSize holds it is exact, or -1.
	Ready int
}

// Taken is a message taken by a Get.
type Taken struct {
	// Message has the Queue, the ID and the Payload that were put, the Priority where there are Levels, and the TTL where
	// the trait TTL holds. Delay and Lease need not come back.
	*Message
	// Receipt names this taking in Settle. It stays valid over Extend.
	Receipt Receipt
	// Attempt counts how often the message was handed out, from 1; Return does not count. Where the trait ExactAttempt does
	// not hold it may be too high, and is 0 where Need does not ask for it; but of a message handed out before, where Need
	// asks, it is more than 1.
	Attempt int
	// Age is the time since Put by the store's clock, kept over Requeue. It may be rounded by up to the trait DelayStep.
	Age time.Duration
	// Granted is the lease given; 0: as asked.
	Granted time.Duration
}

// Receipt names one taking of one message. It is comparable and means something to its store alone. A Settle comes through
// the handle that took the message; a store may accept it through any. nil, or a receipt of another store, is ErrStale.
type Receipt any

// Kind says what a Settlement does.
type Kind uint8

// The kinds of a Settlement.
const (
	// Ack removes the message for good.
	Ack Kind = iota
	// Requeue makes it ready again, after For, at the place of its Put if the store is Ordered, else at the front;
	// Attempt rises at its next taking.
	Requeue
	// Return does the same for a message nobody has seen: the taking is not counted.
	Return
	// Extend renews the lease to For from now. Of a message taken under a Holder it renews the holder.
	Extend
)

// String returns the name of the kind.
func (k Kind) String() string {
	return [...]string{"ack", "requeue", "return", "extend"}[k]
}

// Settlement answers one taking.
type Settlement struct {
	Queue   QueueRef
	ID      ID
	Receipt Receipt
	Kind    Kind
	// For is the delay of Requeue and Return, 0 where the trait MaxDelay is, and the new lease of Extend.
	For time.Duration
}
