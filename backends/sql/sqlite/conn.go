package sqlite

import (
	"context"
	"database/sql/driver"
	"errors"
	"io"
	"time"

	modernc "modernc.org/sqlite"

	"github.com/dashi-mq/dashi/backends/sql"
)

// conn is a connection, for one goroutine at a time. It implements sql.Tx: every statement is prepared once.
type conn struct {
	c        driver.Conn
	prepared map[string]statement
	args     []driver.NamedValue
}

type statement interface {
	driver.Stmt
	driver.StmtExecContext
	driver.StmtQueryContext
}

func connect(dsn string) (*conn, error) {
	c, err := new(modernc.Driver).Open(dsn)
	if err != nil {
		return nil, err
	}
	return &conn{c: c, prepared: map[string]statement{}}, nil
}

func (c *conn) close() error {
	for _, s := range c.prepared {
		_ = s.Close()
	}
	return c.c.Close()
}

func (c *conn) prepare(text string, args []any) (statement, error) {
	c.args = c.args[:0]
	for i, a := range args {
		c.args = append(c.args, driver.NamedValue{Ordinal: i + 1, Value: a})
	}
	if s := c.prepared[text]; s != nil {
		return s, nil
	}
	p, err := c.c.Prepare(text)
	if err != nil {
		return nil, err
	}
	s, ok := p.(statement)
	if !ok {
		return nil, errors.New("the driver's statements take no context")
	}
	c.prepared[text] = s
	return s, nil
}

// Exec runs a statement and returns how many rows it changed.
func (c *conn) Exec(text string, args ...any) (int64, error) {
	s, err := c.prepare(text, args)
	if err != nil {
		return 0, err
	}
	r, err := s.ExecContext(context.Background(), c.args)
	if err != nil {
		return 0, err
	}
	return r.RowsAffected()
}

// Query calls row for each row of the result, until it returns false.
func (c *conn) Query(text string, row func(sql.Row) bool, args ...any) error {
	s, err := c.prepare(text, args)
	if err != nil {
		return err
	}
	rows, err := s.QueryContext(context.Background(), c.args)
	if err != nil {
		return err
	}
	values := make([]driver.Value, len(rows.Columns()))
	r := make(sql.Row, len(values))
	for {
		if err := rows.Next(values); err != nil {
			closed := rows.Close()
			if err == io.EOF {
				err = closed
			}
			return err
		}
		for i, v := range values {
			r[i] = v
		}
		if !row(r) {
			return rows.Close()
		}
	}
}

// Now is the machine's clock.
func (*conn) Now() int64 { return time.Now().UnixMicro() }

// int asks for one number.
func (c *conn) int(text string) (n int64, err error) {
	err = c.Query(text, func(r sql.Row) bool {
		n = r.Int(0)
		return false
	})
	return n, err
}
