package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dashi-mq/dashi/backends/sql"
)

// conn is a connection, for one goroutine at a time. It implements sql.Tx: every statement is prepared once. An error ends the
// transaction.
type conn struct {
	pg       *pgconn.PgConn
	ctx      context.Context // of the present transaction
	now      int64           // its time
	prepared map[string]*statement
	row      sql.Row
}

// statement is one that is prepared.
type statement struct {
	name    string
	columns []pgconn.FieldDescription
	formats []int16 // of the columns
}

// Types of columns, by their numbers in PostgreSQL. All others that the engine asks for are whole numbers.
const (
	typeBytes   = 17
	typeText    = 25
	typeUnknown = 705
)

// binary is the format of bytes as they are; 0 is that of text.
const binary = 1

// step is a statement with its parameters.
type step struct {
	text string
	args []any
}

func connect(ctx context.Context, config *pgconn.Config) (*conn, error) {
	pg, err := pgconn.ConnectConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	return &conn{pg: pg, prepared: map[string]*statement{}}, nil
}

// goodbye bounds how long a server is waited for that is told goodbye.
const goodbye = time.Second

func (c *conn) close() {
	ctx, stop := context.WithTimeout(context.Background(), goodbye)
	defer stop()
	_ = c.pg.Close(ctx) // it is gone in any case
}

// broken reports whether the connection is of no more use.
func (c *conn) broken() bool { return c.pg.IsClosed() }

// Now is the server's clock, when the transaction began.
func (c *conn) Now() int64 { return c.now }

// Exec runs a statement and returns how many rows it changed.
func (c *conn) Exec(text string, args ...any) (int64, error) {
	return c.run(step{text, args}, func(sql.Row) bool { return false })
}

// Query calls row for each row of the result, until it returns false.
func (c *conn) Query(text string, row func(sql.Row) bool, args ...any) error {
	_, err := c.run(step{text, args}, row)
	return err
}

func (c *conn) run(s step, row func(sql.Row) bool) (int64, error) {
	p, err := c.prepare(c.ctx, s.text)
	if err != nil {
		return 0, err
	}
	values, formats, err := bind(s.args)
	if err != nil {
		return 0, err
	}
	return c.read(c.pg.ExecPrepared(c.ctx, p.name, values, formats, p.formats), p, row)
}

// pipeline runs statements one after the other in one round trip, until one fails.
func (c *conn) pipeline(ctx context.Context, steps []step, row func(i int, r sql.Row)) error {
	var b pgconn.Batch
	all := make([]*statement, len(steps))
	for i, s := range steps {
		p, err := c.prepare(ctx, s.text)
		if err != nil {
			return err
		}
		values, formats, err := bind(s.args)
		if err != nil {
			return err
		}
		all[i] = p
		b.ExecPrepared(p.name, values, formats, p.formats)
	}
	m := c.pg.ExecBatch(ctx, &b)
	for i := 0; m.NextResult(); i++ {
		_, err := c.read(m.ResultReader(), all[i], func(r sql.Row) bool {
			row(i, r)
			return true
		})
		if err != nil {
			return errors.Join(err, m.Close())
		}
	}
	return m.Close()
}

func (c *conn) prepare(ctx context.Context, text string) (*statement, error) {
	if p := c.prepared[text]; p != nil {
		return p, nil
	}
	p := &statement{name: "dashi" + strconv.Itoa(len(c.prepared))}
	d, err := c.pg.Prepare(ctx, p.name, translate(text), nil)
	if err != nil {
		return nil, err
	}
	p.columns = d.Fields
	p.formats = make([]int16, len(d.Fields))
	for i, f := range d.Fields {
		if f.DataTypeOID == typeBytes {
			p.formats[i] = binary
		}
	}
	c.prepared[text] = p
	return p, nil
}

// bind makes parameters of values: bytes as they are, all else as text.
func bind(args []any) (values [][]byte, formats []int16, err error) {
	values, formats = make([][]byte, len(args)), make([]int16, len(args))
	for i, a := range args {
		switch a := a.(type) {
		case nil:
		case int64:
			values[i] = strconv.AppendInt(nil, a, 10)
		case string:
			values[i] = []byte(encode(a))
		case []byte:
			values[i], formats[i] = a, binary
		default:
			return nil, nil, fmt.Errorf("parameter %d is a %T", i+1, a)
		}
	}
	return values, formats, nil
}

// read reads a result to its end.
func (c *conn) read(r *pgconn.ResultReader, p *statement, row func(sql.Row) bool) (int64, error) {
	var bad error
	for more := true; r.NextRow(); {
		if !more || bad != nil {
			continue
		}
		c.row = c.row[:0]
		for i, v := range r.Values() {
			value, err := value(v, p.columns[i].DataTypeOID)
			if err != nil {
				bad = err
			}
			c.row = append(c.row, value)
		}
		if bad == nil {
			more = row(c.row)
		}
	}
	tag, err := r.Close()
	if err == nil {
		err = bad
	}
	return tag.RowsAffected(), err
}

// value makes a value of what the server sent, which stays.
func value(v []byte, kind uint32) (any, error) {
	if v == nil {
		return nil, nil
	}
	switch kind {
	case typeBytes:
		return append([]byte{}, v...), nil
	case typeText, typeUnknown:
		return decode(string(v))
	default:
		return strconv.ParseInt(string(v), 10, 64)
	}
}
