package postgres

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dashi-mq/dashi/backends/sql"
)

// readers bounds the connections that read.
const readers = 2

// database is a vhost in a schema: a connection that writes, some that read, and one that listens, each made when it is needed.
type database struct {
	config  *pgconn.Config
	schema  string
	vhost   string
	channel string // of NOTIFY
	self    string // names this database among all
	lock    int64  // of who writes to the vhost
	maker   int64  // of who makes the tables of the schema

	writer *conn // nil: there is none
	made   bool  // the tables are there
	making bool  // the transaction of the writer makes them

	mu     sync.Mutex
	idle   []*conn
	tokens chan struct{} // one for each connection that may read
	closed bool
}

// Name is that of the product.
func (d *database) Name() string { return "postgres" }

const (
	begin    = "BEGIN"
	beginRO  = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
	commit   = "COMMIT"
	takeLock = "SELECT 1 FROM pg_advisory_xact_lock(?)"
	clock    = "SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint"
	notify   = "SELECT 1 FROM pg_notify(?, ?)"

	// takeTurn returns a row if somebody else has written since. Who writes alone leaves the row as it is.
	takeTurn = `INSERT INTO dashi_turn (vhost, writer) VALUES (?, ?)
ON CONFLICT (vhost) DO UPDATE SET writer = excluded.writer WHERE dashi_turn.writer <> excluded.writer RETURNING 1`
)

// Update runs f in a transaction that writes. It has the lock of its vhost until it has committed, so that nobody else changes what f
// sees; other vhosts have nothing in common, and do not wait for each other.
func (d *database) Update(ctx context.Context, f func(t sql.Tx, alone bool) (tell bool, err error)) error {
	alone, err := d.begin(ctx)
	if err != nil {
		return err
	}
	tell, err := f(d.writer, alone)
	if err == nil && d.making {
		err = d.fill()
	}
	if err != nil {
		d.rollback(err)
		return err
	}
	return d.commit(tell)
}

// begin begins a transaction of the writer, on a new connection where the old one has been lost.
func (d *database) begin(ctx context.Context) (alone bool, err error) {
	for {
		fresh := d.writer == nil
		if fresh {
			if d.writer, err = connect(ctx, d.config); err != nil {
				d.writer = nil
				return false, err
			}
		}
		alone, err = d.turn(ctx)
		if err == nil {
			return alone, nil
		}
		d.rollback(err)
		if fresh || d.writer != nil || ctx.Err() != nil {
			return false, err
		}
	}
}

// turn waits for the turn of the writer. The lock is in a statement of its own: the next ones see what was committed before it was free.
func (d *database) turn(ctx context.Context) (alone bool, err error) {
	w := d.writer
	w.ctx = ctx
	if !d.made {
		if err := d.make(ctx); err != nil {
			return false, err
		}
	}
	steps := []step{{begin, nil}, {takeLock, []any{d.lock}}, {takeTurn, []any{d.vhost, d.self}}, {clock, nil}}
	if !d.made {
		steps = steps[1:] // it has begun
	}
	alone = true
	err = w.pipeline(ctx, steps, func(i int, r sql.Row) {
		switch steps[i].text {
		case takeTurn:
			alone = false
		case clock:
			w.now = r.Int(0)
		}
	})
	return alone, err
}

// make begins the first transaction, in which the engine makes its tables: one at a time in the schema.
func (d *database) make(ctx context.Context) error {
	w := d.writer
	if err := w.pipeline(ctx, []step{{begin, nil}, {takeLock, []any{d.maker}}}, func(int, sql.Row) {}); err != nil {
		return err
	}
	found := map[string]bool{}
	err := w.Query("SELECT 'schema' FROM pg_namespace WHERE nspname = ? UNION ALL SELECT 'turn' FROM pg_tables WHERE schemaname = ? AND tablename = 'dashi_turn'",
		func(r sql.Row) bool {
			found[r.Text(0)] = true
			return true
		}, d.schema, d.schema)
	if err != nil {
		return err
	}
	if !found["schema"] {
		if _, err := w.Exec("CREATE SCHEMA " + quote(d.schema)); err != nil {
			return err
		}
	}
	if d.making = !found["turn"]; d.making {
		_, err = w.Exec("CREATE TABLE dashi_turn (vhost TEXT PRIMARY KEY, writer TEXT NOT NULL) WITH (fillfactor = 50)")
	}
	return err
}

// fill puts rows of a queue, and a vhost, that do not exist into tables that were made, and has them counted. A plan that was made while
// a table is empty, or was when it was counted last, takes any index as good as another, and stays: when messages come, it reads
// all of them for each. So no table is ever empty.
func (d *database) fill() error {
	for _, statement := range []string{
		"INSERT INTO dashi_message (queue, place, id, put, size) SELECT 0, n, '', 0, 0 FROM generate_series(1, 1000) n",
		"INSERT INTO dashi_exception (queue, place, state, attempts) SELECT 0, n, 'ready', 0 FROM generate_series(1, 300) n",
		"INSERT INTO dashi_exception (queue, place, state, attempts, due) SELECT 0, n, 'delayed', 0, n FROM generate_series(301, 600) n",
		"INSERT INTO dashi_exception (queue, place, state, attempts, holder, take) SELECT 0, n, 'held', 0, n / 10, n FROM generate_series(601, 1000) n",
		"INSERT INTO dashi_take (queue, holder, take, first, last, held) SELECT 0, n / 10, n, n, n, 1 FROM generate_series(1, 1000) n",
		"INSERT INTO dashi_holder (queue, holder, take, closed, ends, idle) SELECT 0, n, 0, 0, n, 0 FROM generate_series(1, 1000) n",
		"INSERT INTO dashi_record (vhost, key, rev, deleted) SELECT 0, n, n, n FROM generate_series(1, 1000) n",
		"ANALYZE dashi_message, dashi_exception, dashi_take, dashi_holder, dashi_record",
	} {
		if _, err := d.writer.pg.Exec(d.writer.ctx, statement).ReadAll(); err != nil {
			return err
		}
	}
	return nil
}

// commit ends the transaction of the writer, and tells others in it: at most one NOTIFY, since it has all wait for each other.
func (d *database) commit(tell bool) error {
	w := d.writer
	steps := []step{{commit, nil}}
	if tell {
		steps = []step{{notify, []any{d.channel, d.self}}, {commit, nil}}
	}
	err := w.pipeline(w.ctx, steps, func(int, sql.Row) {})
	if err == nil {
		d.made, d.making = true, false
		return nil
	}
	known := rolledBack(err)
	d.rollback(err)
	if known {
		return err
	}
	return errors.Join(sql.ErrUnknown, err)
}

// rolledBack reports whether the server says that a transaction has failed, and goes on.
func rolledBack(err error) bool {
	e, ok := errors.AsType[*pgconn.PgError](err)
	return ok && e.SeverityUnlocalized == "ERROR"
}

// readOnly is the code of a server that does not write any more: it follows another one.
const readOnly = "25006"

// rollback ends a transaction of the writer that has failed, and its connection where that is of no more use.
func (d *database) rollback(why error) {
	w := d.writer
	e, ok := errors.AsType[*pgconn.PgError](why)
	if !w.broken() && !(ok && e.Code == readOnly) {
		if _, err := w.pg.Exec(w.ctx, "ROLLBACK").ReadAll(); err == nil {
			return
		}
	}
	w.close()
	d.writer = nil
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
	err = f(c)
	if ended := c.pipeline(ctx, []step{{commit, nil}}, func(int, sql.Row) {}); err == nil {
		err = ended
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.closed || c.broken() || err != nil && c.pg.TxStatus() != 'I' {
		c.close()
	} else {
		d.idle = append(d.idle, c)
	}
	return err
}

// reader returns a connection in a transaction that has begun: a free one, unless it has been lost.
func (d *database) reader(ctx context.Context) (*conn, error) {
	for {
		d.mu.Lock()
		var c *conn
		if n := len(d.idle); n > 0 {
			c = d.idle[n-1]
			d.idle = d.idle[:n-1]
		}
		d.mu.Unlock()
		fresh := c == nil
		if fresh {
			var err error
			if c, err = connect(ctx, d.config); err != nil {
				return nil, err
			}
		}
		c.ctx = ctx
		err := c.pipeline(ctx, []step{{beginRO, nil}, {clock, nil}}, func(_ int, r sql.Row) { c.now = r.Int(0) })
		if err == nil {
			return c, nil
		}
		c.close()
		if fresh || ctx.Err() != nil {
			return nil, err
		}
	}
}

// Watch calls look when others tell that there is something, and after a connection was lost and another one made.
func (d *database) Watch(ctx context.Context, ready, look func()) error {
	err := d.listen(ctx, ready, look)
	for err != nil && ctx.Err() == nil {
		again := false
		lost := err
		if err = d.listen(ctx, func() { again = true; look() }, look); !again {
			err = lost
			break
		}
	}
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// listen does it on one connection. Its error says that the connection was lost, or could not be made.
func (d *database) listen(ctx context.Context, ready, look func()) error {
	config := d.config.Copy()
	told := false
	config.OnNotification = func(_ *pgconn.PgConn, n *pgconn.Notification) { told = told || n.Payload != d.self }
	c, err := connect(ctx, config)
	if err != nil {
		return err
	}
	defer c.close()
	if _, err := c.pg.Exec(ctx, "LISTEN "+quote(d.channel)).ReadAll(); err != nil {
		return err
	}
	ready()
	for {
		if err := c.pg.WaitForNotification(ctx); err != nil {
			return err
		}
		if told {
			told = false
			look()
		}
	}
}

// Close ends all connections.
func (d *database) Close() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closed = true
	for _, c := range d.idle {
		c.close()
	}
	d.idle = nil
	if d.writer != nil {
		d.writer.close()
		d.writer = nil
	}
	return nil
}

// How soon a connection counts as lost of which nothing is heard.
const (
	aliveIdle     = 10 * time.Second
	aliveInterval = 3 * time.Second
	aliveCount    = 3
)
