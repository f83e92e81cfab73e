package sqlite

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/virtual"
)

// largest is the length of a payload that SQLite takes: a row may have 1,000,000,000 bytes.
const largest = 1_000_000_000 - 4096

func init() {
	virtual.Register("sqlite", func(ctx context.Context, url string) (virtual.Store, error) {
		s, err := Open(ctx, url)
		if err != nil {
			return nil, err
		}
		return s, nil
	})
}

// options are what may stand in the query of a URL.
var options = []string{"vhost", "synchronous", "busy_timeout"}

// Open opens the store of a URL, such as sqlite://app.db or sqlite:///var/lib/app/app.db, and makes the file if there is none. The
// directory must be there. Options in the query: vhost; synchronous, full unless given, or normal: then a loss of power, but not the
// end of a process, may take what was written last; busy_timeout, a duration, how long other processes may hold the file until a
// call fails: 0, which is the default, for ever, or until its context ends.
func Open(ctx context.Context, rawURL string) (*sql.Store, error) {
	d, o, err := openFile(ctx, rawURL)
	if err != nil {
		return nil, fmt.Errorf("open sqlite store: %w", err)
	}
	s, err := sql.New(ctx, d, o)
	if err != nil {
		_ = d.Close()
		return nil, err
	}
	return s, nil
}

// openFile opens the file of a URL.
func openFile(ctx context.Context, rawURL string) (*database, sql.Options, error) {
	d, o, err := parse(rawURL)
	if err != nil {
		return nil, o, err
	}
	if _, err := os.Stat(filepath.Dir(d.path)); err != nil {
		return nil, o, err
	}
	if d.writer, err = d.connect(ctx, ""); err != nil {
		return nil, o, fmt.Errorf("%s: %w", d.path, err)
	}
	if err := d.wal(ctx); err != nil {
		_ = d.Close()
		return nil, o, fmt.Errorf("%s: %w", d.path, err)
	}
	return d, o, nil
}

func parse(rawURL string) (*database, sql.Options, error) {
	var o sql.Options
	rest, ok := strings.CutPrefix(rawURL, "sqlite://")
	if !ok {
		return nil, o, errors.New("malformed URL, want sqlite://FILE")
	}
	name, query, _ := strings.Cut(rest, "?")
	file, err := url.PathUnescape(name)
	if err != nil || file == "" || strings.ContainsRune(file, 0) {
		return nil, o, errors.New("malformed URL, want sqlite://FILE")
	}
	q, err := url.ParseQuery(query)
	if err != nil {
		return nil, o, errors.New("malformed options in the URL")
	}
	for k := range q {
		if !slices.Contains(options, k) {
			return nil, o, fmt.Errorf("unknown option %q in the URL (have %s)", k, strings.Join(options, ", "))
		}
	}
	o.Vhost, o.Largest = q.Get("vhost"), largest
	synchronous := q.Get("synchronous")
	if synchronous == "" {
		synchronous = "full"
	}
	if synchronous != "full" && synchronous != "normal" {
		return nil, o, errors.New("the option synchronous is full or normal")
	}
	d := &database{tokens: make(chan struct{}, readers)}
	if t := q.Get("busy_timeout"); t != "" {
		if d.patient, err = time.ParseDuration(t); err != nil || d.patient < 0 {
			return nil, o, errors.New("the option busy_timeout is a duration, such as 10s")
		}
	}
	if d.path, err = filepath.Abs(file); err != nil {
		return nil, o, err
	}
	d.dsn = "file:" + (&url.URL{Path: filepath.ToSlash(d.path)}).EscapedPath() + "?_pragma=busy_timeout(0)&_pragma=journal_size_limit(67108864)&_pragma=synchronous(" + synchronous + ")"
	return d, o, nil
}

// wal has the file written ahead, which several processes need that read while one writes.
func (d *database) wal(ctx context.Context) error {
	mode := ""
	err := d.again(ctx, func() error {
		return d.writer.Query("PRAGMA journal_mode = WAL", func(r sql.Row) bool {
			mode = r.Text(0)
			return true
		})
	})
	if err == nil && mode != "wal" {
		err = fmt.Errorf("the file cannot be written ahead (its journal mode is %q)", mode)
	}
	return err
}
