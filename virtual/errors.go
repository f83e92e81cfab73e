package virtual

import (
	"errors"
	"fmt"
	"strings"
)

// Errors of single items of a batch, found in a *BatchError.
var (
	// ErrStale: the receipt's message was taken by another since, or is gone. Nothing was done.
	ErrStale = errors.New("stale receipt")
	// ErrFull: the queue is at its limit and refuses.
	ErrFull = errors.New("queue is full")
	// ErrTooLarge: the message is larger than the store takes. Wrapped with the limit.
	ErrTooLarge = errors.New("message is too large")
	// ErrNoQueue: this incarnation of the queue does not exist (stores with Namespace).
	ErrNoQueue = errors.New("no such queue")
	// ErrBehind: an item before this one, in the same queue, failed.
	ErrBehind = errors.New("an earlier message of the batch failed")
)

// Errors of whole requests. After them nothing was done.
var (
	// ErrGuard matches every *GuardError.
	ErrGuard = errors.New("guard does not hold")
	// ErrSequence: the producer has used a higher sequence number.
	ErrSequence = errors.New("sequence number is behind")
	// ErrHolder: the holder has lost its lease; its name is never used again.
	ErrHolder = errors.New("holder lost its lease")
	// ErrFence: a Get with a higher fence was seen.
	ErrFence = errors.New("fenced off by a newer owner")
	// ErrSession: the session has ended; its name is never used again.
	ErrSession = errors.New("session has ended")
	// ErrLost: the registry has lost what it had told. See Registry.Changes.
	ErrLost = errors.New("the registry has lost what it had")
	// ErrConflict matches every *ConflictError.
	ErrConflict = errors.New("conflicting change")
	// ErrClosed: the store was closed by this process.
	ErrClosed = errors.New("store is closed")
)

// BatchError names the items of a batch that failed, in rising order of Index.
type BatchError struct{ Items []ItemError }

// ItemError is the failure of the item at Index.
type ItemError struct {
	Index int
	Err   error
}

// Error tells how many items failed and why the first did.
func (e *BatchError) Error() string {
	if len(e.Items) == 0 {
		return "batch failed"
	}
	return fmt.Sprintf("%d items failed, item %d: %v", len(e.Items), e.Items[0].Index, e.Items[0].Err)
}

// Unwrap returns the errors of the items.
func (e *BatchError) Unwrap() []error {
	errs := make([]error, len(e.Items))
	for i, it := range e.Items {
		errs[i] = it.Err
	}
	return errs
}

// Add notes that the item at index failed. It is used by stores: var failed *BatchError; failed = failed.Add(i, err).
func (e *BatchError) Add(index int, err error) *BatchError {
	if e == nil {
		e = new(BatchError)
	}
	e.Items = append(e.Items, ItemError{index, err})
	return e
}

// Or returns e as an error, or nil when no item failed.
func (e *BatchError) Or() error {
	if e == nil {
		return nil
	}
	return e
}

// ItemErr returns the error of the item at index: nil when err is nil or a *BatchError that does not name it, else err
// itself.
func ItemErr(err error, index int) error {
	b, ok := errors.AsType[*BatchError](err)
	if !ok {
		return err
	}
	for _, it := range b.Items {
		if it.Index == index {
			return it.Err
		}
	}
	return nil
}

// GuardError names the records of a guard that differ, with their present revisions.
type GuardError struct{ Differ []Revision }

// Error names the records.
func (e *GuardError) Error() string { return ErrGuard.Error() + ": " + keys(e.Differ) }

// Is matches ErrGuard.
func (e *GuardError) Is(target error) bool { return target == ErrGuard }

// ConflictError names the changes of an Update whose condition does not hold, with the records' present revisions.
type ConflictError struct{ Differ []Revision }

// Error names the records.
func (e *ConflictError) Error() string { return ErrConflict.Error() + ": " + keys(e.Differ) }

// Is matches ErrConflict.
func (e *ConflictError) Is(target error) bool { return target == ErrConflict }

func keys(rs []Revision) string {
	s := make([]string, len(rs))
	for i, r := range rs {
		s[i] = fmt.Sprintf("%q is at %d", r.Key, r.Rev)
	}
	return strings.Join(s, ", ")
}
