package postgres

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"net"
	"net/url"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/virtual"
)

// largest is the length of a payload that the store takes. A value of PostgreSQL may have a gigabyte, in memory several times.
const largest = 256 << 20

func init() {
	for _, scheme := range []string{"postgres", "postgresql"} {
		virtual.Register(scheme, func(ctx context.Context, url string) (virtual.Store, error) {
			s, err := Open(ctx, url)
			if err != nil {
				return nil, err
			}
			return s, nil
		})
	}
}

// settings are what every connection has unless its URL says else.
var settings = map[string]string{
	"application_name": "dashi",
	"client_encoding":  "UTF8",

	// Who stands still in the middle of a transaction holds up all others of its vhost.
	"idle_in_transaction_session_timeout": "10s",

	// One plan for each statement, which goes by indexes: fill says why it is the right one.
	"plan_cache_mode":   "force_generic_plan",
	"enable_seqscan":    "off",
	"enable_bitmapscan": "off",
	"enable_hashjoin":   "off",
	"enable_mergejoin":  "off",
	"enable_material":   "off",
	"jit":               "off",
}

// Open opens the store of a URL, such as postgres://user:password@host:5432/database?sslmode=verify-full, and makes its tables if
// there are none. Options in the query: vhost; schema, that of the tables, dashi unless given, which is made if there is none; all
// that libpq takes, such as sslmode, connect_timeout or target_session_attrs; and settings of the server for
// these connections, such as application_name or synchronous_commit.
func Open(ctx context.Context, rawURL string) (*sql.Store, error) {
	d, o, err := parse(rawURL)
	if err != nil {
		return nil, fmt.Errorf("open postgres store: %w", err)
	}
	s, err := sql.New(ctx, d, o)
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	return s, nil
}

func parse(rawURL string) (*database, sql.Options, error) {
	var o sql.Options
	server, query, _ := strings.Cut(rawURL, "?")
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, o, errors.New("malformed options in the URL")
	}
	d := &database{schema: "dashi", vhost: "/", self: rand.Text(), tokens: make(chan struct{}, readers)}
	if v := q.Get("vhost"); v != "" {
		d.vhost = v
	}
	if s := q.Get("schema"); s != "" {
		d.schema = s
	}
	if strings.ContainsRune(d.schema, 0) || len(d.schema) > 63 {
		return nil, o, errors.New("the option schema is a name of up to 63 bytes")
	}
	q.Del("vhost")
	q.Del("schema")
	if _, err := url.Parse(server); err != nil {
		return nil, o, errMalformed // that of the driver may show a part of the password
	}
	if d.config, err = pgconn.ParseConfig(server + "?" + q.Encode()); err != nil {
		if inner := errors.Unwrap(err); inner != nil {
			return nil, o, fmt.Errorf("%w: %w", errMalformed, inner)
		}
		return nil, o, errMalformed
	}
	for name, value := range settings {
		if _, given := d.config.RuntimeParams[name]; !given {
			d.config.RuntimeParams[name] = value
		}
	}
	d.config.RuntimeParams["search_path"] = quote(d.schema)
	d.config.DialFunc = (&net.Dialer{
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: aliveIdle, Interval: aliveInterval, Count: aliveCount},
	}).DialContext
	d.lock, d.maker = number("vhost", d.schema, d.vhost), number("schema", d.schema)
	d.channel = fmt.Sprintf("dashi_%016x", uint64(d.lock))
	o.Vhost, o.Largest = d.vhost, largest
	return d, o, nil
}

var errMalformed = errors.New("malformed URL, want postgres://USER:PASSWORD@HOST:PORT/DATABASE")

// number is that of an advisory lock. Two things with the same number would only wait for each other.
func number(names ...string) int64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte("dashi\x00" + strings.Join(names, "\x00"))) // never fails
	return int64(h.Sum64())
}

// quote makes a name one that may stand in a statement.
func quote(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }
