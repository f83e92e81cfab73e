package sqlite

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	modernc "modernc.org/sqlite"
	lib "modernc.org/sqlite/lib"

	"github.com/dashi-mq/dashi/backends/sql"
)

// readers bounds the connections that read.
const readers = 4

// database is a file: a connection that writes, and some that read.
type database struct {
	path    string
	dsn     string
	patient time.Duration // how long others may hold the file; 0: for ever

	writer  *conn
	turn    turn  // of the writer
	version int64 // of the file, as the writer saw it last

	mu     sync.Mutex
	idle   []*conn
	tokens chan struct{} // one for each connection that may read
	closed bool
}

// Name is that of the product.
func (d *database) Name() string { return "sqlite" }

// busy reports whether somebody else has the file.
func busy(err error) bool {
	e, ok := errors.AsType[*modernc.Error](err)
	return ok && (e.Code()&0xff == lib.SQLITE_BUSY || e.Code()&0xff == lib.SQLITE_LOCKED)
}

// soon is how long a transaction of another process takes, mostly.
const soon = 5 * time.Millisecond

// again calls f until nobody else has the file. SQLite's own way of waiting sleeps ever longer, while who has the lock takes it again.
func (d *database) again(ctx context.Context, f func() error) error {
	var begun time.Time
	for {
		err := f()
		if !busy(err) {
			return err
		}
		if begun.IsZero() {
			begun = time.Now()
		} else if d.patient > 0 && time.Since(begun) > d.patient {
			return fmt.Errorf("others have had the file for %v: %w", d.patient, err)
		}
		if time.Since(begun) < soon {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			nap(50*time.Microsecond + rand.N(50*time.Microsecond))
			continue
		}
		t := time.NewTimer(time.Millisecond + rand.N(time.Millisecond))
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
	}
}

// Update runs f in a transaction that writes.
func (d *database) Update(ctx context.Context, f func(t sql.Tx, alone bool) (tell bool, err error)) error {
	w := d.writer
	d.turn.take(ctx, d.path)
	err := d.again(ctx, func() error {
		_, err := w.Exec("BEGIN IMMEDIATE")
		return err
	})
	d.turn.pass()
	if err != nil {
		return err
	}
	version, err := w.int("PRAGMA data_version")
	if err == nil {
		alone := version == d.version
		d.version = version
		_, err = f(w, alone) // the file tells all
	}
	if err == nil {
		_, err = w.Exec("COMMIT")
	}
	if err != nil {
		d.version = -1
		_, _ = w.Exec("ROLLBACK") // which SQLite may have done by itself
	}
	return err
}

// View runs f in a transaction that only reads.
func (d *database) View(ctx context.Context, f func(t sql.Tx) error) error {
	select {
	case d.tokens <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-d.tokens }()
	c, err := d.reader(ctx)
	if err != nil {
		return err
	}
	err = d.again(ctx, func() error {
		if _, err := c.Exec("BEGIN"); err != nil {
			return err
		}
		err := f(c)
		if _, ended := c.Exec("COMMIT"); err == nil {
			err = ended
		}
		return err
	})
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed {
		return errors.Join(err, c.close())
	}
	d.idle = append(d.idle, c)
	return err
}

// reader returns a connection that reads and is free.
func (d *database) reader(ctx context.Context) (*conn, error) {
	d.mu.Lock()
	if n := len(d.idle); n > 0 {
		c := d.idle[n-1]
		d.idle = d.idle[:n-1]
		d.mu.Unlock()
		return c, nil
	}
	d.mu.Unlock()
	return d.connect(ctx, "&_pragma=query_only(1)")
}

func (d *database) connect(ctx context.Context, more string) (c *conn, err error) {
	err = d.again(ctx, func() error {
		c, err = connect(d.dsn + more)
		return err
	})
	return c, err
}

// Watch calls look, soon after, whenever others may have committed something.
func (d *database) Watch(ctx context.Context, ready, look func()) error {
	c, err := d.connect(ctx, "&_pragma=query_only(1)")
	if err != nil {
		return err
	}
	defer c.close()
	seen, err := c.int("PRAGMA data_version")
	if err != nil {
		return err
	}
	events, stop, idle := listen(d.path + "-wal")
	defer stop()
	ready()
	step := idle
	next := time.NewTimer(step)
	defer next.Stop()
	var event time.Time
	for {
		select {
		case <-events:
			event, step = time.Now(), firstLook
		case <-next.C:
			// What was written is seen only when it has reached the disk.
			if step = min(2*step, between); time.Since(event) > slowDisk {
				step = idle
			}
		case <-ctx.Done():
			return nil
		}
		var version int64
		err := d.again(ctx, func() (err error) {
			version, err = c.int("PRAGMA data_version")
			return err
		})
		if err != nil {
			if ctx.Err() != nil {
				return nil
			}
			return err
		}
		if version != seen {
			seen = version
			look()
			step = between
		}
		next.Reset(step)
	}
}

const (
	firstLook = 200 * time.Microsecond // after an event
	between   = 5 * time.Millisecond   // two looks, as long as a disk may need for what was written
	slowDisk  = time.Second            // how long that is
	seldom    = 5 * time.Second        // looks without an event, where there are events
	often     = 40 * time.Millisecond  // where there are none
)

// Close ends all connections.
func (d *database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	var errs []error
	for _, c := range d.idle {
		errs = append(errs, c.close())
	}
	d.turn.close()
	return errors.Join(append(errs, d.writer.close())...)
}
