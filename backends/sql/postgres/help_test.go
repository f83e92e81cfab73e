package postgres_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/backends/sql/postgres"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/internal/storecalls"
	"github.com/dashi-mq/dashi/virtual"
)

// schema is that of this process' tests; every place in it is a vhost of its own.
var schema = "dashi_test_" + strings.ToLower(rand.Text())

// Calls that the tests of several stores make.
var put, bodies, orders = storecalls.Put, storecalls.Bodies, storecalls.Queue

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if server := os.Getenv("DASHI_POSTGRES_URL"); server != "" {
			if err := dropSchema(server, schema); err != nil {
				fmt.Fprintln(os.Stderr, "the tests' schema stays:", err)
			}
		}
		os.Exit(code)
	}))
}

// dropSchema removes a schema with all that is in it. Its name is one of the tests.
func dropSchema(server, name string) error {
	ctx, stop := context.WithTimeout(context.Background(), limit)
	defer stop()
	c, err := pgconn.Connect(ctx, server)
	if err != nil {
		return err
	}
	_, err = c.Exec(ctx, `DROP SCHEMA IF EXISTS "`+strings.ReplaceAll(name, `"`, `""`)+`" CASCADE`).ReadAll()
	return errors.Join(err, c.Close(ctx))
}

// dropped returns the name of a schema that goes with the test.
func dropped(t testing.TB, name string) string {
	t.Helper()
	_ = serverURL(t) // or there is nothing to drop
	t.Cleanup(func() { must(t, dropSchema(os.Getenv("DASHI_POSTGRES_URL"), name), "DROP SCHEMA") })
	return name
}

// limit bounds every wait of these tests; none comes near it.
const limit = 30 * time.Second

func must(t testing.TB, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// serverURL is that of the server for tests, with the tests' schema.
func serverURL(t testing.TB) string {
	t.Helper()
	server := os.Getenv("DASHI_POSTGRES_URL")
	if server == "" {
		t.Skip("needs DASHI_POSTGRES_URL: scripts/test starts a server")
	}
	return with(server, "schema", schema)
}

// with adds an option to a URL.
func with(server, name, value string) string {
	between := "?"
	if strings.Contains(server, "?") {
		between = "&"
	}
	return server + between + name + "=" + url.QueryEscape(value)
}

// newPlace is the URL of a vhost that nobody has used.
func newPlace(t testing.TB) string { return with(serverURL(t), "vhost", rand.Text()) }

// inServer opens handles on vhosts of their own.
func inServer(server string) func(conformance.T) (func() (virtual.Store, error), error) {
	return func(conformance.T) (func() (virtual.Store, error), error) {
		place := with(server, "vhost", rand.Text())
		return func() (virtual.Store, error) { return virtual.Open(context.Background(), place) }, nil
	}
}

func open(t testing.TB, place string) *sql.Store {
	t.Helper()
	s, err := postgres.Open(t.Context(), place)
	must(t, err, "Open")
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// vhostOf is that of a place.
func vhostOf(place string) string {
	_, after, _ := strings.Cut(place, "vhost=")
	name, _, _ := strings.Cut(after, "&")
	return name
}

// eventually waits for a condition.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !ok(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("%s: waited in vain", what)
		}
	}
}
