package sql

import (
	"context"
	"errors"
)

// ErrUnknown is about a transaction of which it is not known whether it was committed.
var ErrUnknown = errors.New("it is not known whether the transaction was committed")

// Database is what the engine asks of a database: all that differs between them.
type Database interface {
	// Name is that of the product, such as "sqlite".
	Name() string
	// Update runs f in a transaction that writes, and commits it. What f sees of the vhost nobody else changes until then. alone
	// says that nobody else has committed since the last Update of this Database. f says whether to tell others, all whose
	// Watch runs, that there is something for them. Update waits for those before it until ctx ends, which may break off what
	// has begun, too, and is never called twice at the same time. An error says that nothing was done, unless it is ErrUnknown.
	Update(ctx context.Context, f func(t Tx, alone bool) (tell bool, err error)) error
	// View runs f in a transaction that only reads. It sees all that was committed before.
	View(ctx context.Context, f func(t Tx) error) error
	// Watch calls look, soon after, whenever others may have committed something of which they tell, until ctx ends. ready is
	// called when nothing is missed from now on.
	Watch(ctx context.Context, ready, look func()) error
	// Close ends all connections.
	Close() error
}

// Tx runs statements in a transaction, one at a time: none within a Query. Their parameters are question marks; values are int64,
// string, []byte and nil.
type Tx interface {
	// Exec runs a statement and returns how many rows it changed.
	Exec(statement string, args ...any) (int64, error)
	// Query calls row for each row of the result, until it returns false. The row is row's only during the call, what is in it stays.
	Query(statement string, row func(Row) bool, args ...any) error
	// Now is the time in microseconds since 1970, by a clock that all share who have the database open: one time for all of the
	// transaction is enough.
	Now() int64
}

// Row is a row of a result: int64, string, []byte and nil.
type Row []any

// Int returns a number, 0 for NULL.
func (r Row) Int(i int) int64 {
	n, _ := r[i].(int64)
	return n
}

// Text returns a string, "" for NULL.
func (r Row) Text(i int) string {
	s, _ := r[i].(string)
	return s
}

// Blob returns bytes, never nil.
func (r Row) Blob(i int) []byte {
	if b, _ := r[i].([]byte); b != nil {
		return b
	}
	return []byte{}
}

// time returns a time, never for NULL.
func (r Row) time(i int) int64 {
	if n, ok := r[i].(int64); ok {
		return n
	}
	return never
}

// nullable is a time as it is stored: NULL for never.
func nullable(at int64) any {
	if at == never {
		return nil
	}
	return at
}
