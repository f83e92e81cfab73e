package postgres

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/internal/storecalls"
	"github.com/dashi-mq/dashi/virtual"
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// opened returns a store in a schema of its own, and its database.
func opened(t testing.TB) (*sql.Store, *database) {
	t.Helper()
	server := os.Getenv("DASHI_POSTGRES_URL")
	if server == "" {
		t.Skip("needs DASHI_POSTGRES_URL: scripts/test starts a server")
	}
	u := server + "?"
	if strings.Contains(server, "?") {
		u = server + "&"
	}
	d, o, err := parse(u + "schema=dashi_test_" + rand.Text())
	check(t, err)
	s, err := sql.New(t.Context(), d, o)
	check(t, err)
	t.Cleanup(func() {
		check(t, s.Close())
		ctx, stop := context.WithTimeout(context.Background(), time.Minute)
		defer stop()
		c, err := connect(ctx, d.config)
		check(t, err)
		defer c.close()
		_, err = c.pg.Exec(ctx, "DROP SCHEMA "+quote(d.schema)+" CASCADE").ReadAll()
		check(t, err)
	})
	return s, d
}

// plan is a node of what EXPLAIN says.
type plan struct {
	Node   string `json:"Node Type"`
	Table  string `json:"Relation Name"`
	Index  string `json:"Index Name"`
	Cond   string `json:"Index Cond"`
	Filter string `json:"Filter"`
	Plans  []plan
	above  string // node
}

// explain asks how the server does a statement that a connection has prepared, with whatever parameters.
func explain(t testing.TB, c *conn, text string) (all []plan) {
	t.Helper()
	args := strings.Repeat(",'1'", strings.Count(text, "?"))
	if args != "" {
		args = "(" + args[1:] + ")"
	}
	rs, err := c.pg.Exec(context.Background(), "EXPLAIN (FORMAT JSON) EXECUTE "+c.prepared[text].name+args).ReadAll()
	check(t, err)
	var top []struct{ Plan plan }
	check(t, json.Unmarshal(rs[0].Rows[0][0], &top))
	var walk func(p plan)
	walk = func(p plan) {
		all = append(all, p)
		for _, q := range p.Plans {
			q.above = p.Node
			walk(q)
		}
	}
	walk(top[0].Plan)
	return all
}

// short are the tables of which one statement or other reads a vhost's, or all, rows: they have few, and are asked seldom.
var short = []string{"dashi_schema", "dashi_vhost", "dashi_mark", "dashi_deleted", "dashi_session"}

// wrong says what is wrong with a step of a statement.
func (p *plan) wrong(text string) string {
	ofQueue := strings.HasSuffix(text, "WHERE queue = ?") // one that removes a queue
	switch {
	case !strings.HasSuffix(p.Node, "Scan") || !strings.HasPrefix(p.Table, "dashi_") || slices.Contains(short, p.Table):
		return ""
	case p.Node == "Seq Scan" || p.Node == "Index Scan" && p.Cond == "" || p.Node == "Index Only Scan" && p.Cond == "":
		return "it reads all of the table"
	case p.above == "Limit":
		return "" // the first one of an index
	case p.Table == "dashi_record" && !strings.Contains(p.Cond, "AND"):
		return "it reads all of the vhost"
	case (p.Table == "dashi_message" || p.Table == "dashi_exception" || p.Table == "dashi_take") && p.Cond == "(queue = $1)" &&
		p.Index != "dashi_exception_ready" && !ofQueue:
		return "it reads all of the queue"
	}
	return ""
}

// TestNoStatementScansATable asks the server how it does every statement that all kinds of calls have made, on new tables and
// on those that were counted when nothing was in them.
func TestNoStatementScansATable(t *testing.T) {
	s, d := opened(t)
	ready := make(chan struct{})
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Notify(ctx, "w", ready, func(virtual.QueueRef) {}) }()
	<-ready
	storecalls.All(t, s)
	stop()
	<-ended
	check(t, s.Ping(t.Context()))
	for _, when := range []string{"new", "counted"} {
		asked := 0
		for _, c := range append(slices.Clone(d.idle), d.writer) {
			for text := range c.prepared {
				switch word, _, _ := strings.Cut(text, " "); word {
				case "SELECT", "INSERT", "UPDATE", "DELETE":
				default:
					continue
				}
				asked++
				for _, p := range explain(t, c, text) {
					if why := p.wrong(text); why != "" {
						t.Errorf("%s: %s\n    does: %+v: %s", when, text, p, why)
					}
				}
			}
		}
		if asked < 60 {
			t.Errorf("%s: only %d statements were asked about: what made the others?", when, asked)
		}
		_, err := d.writer.pg.Exec(t.Context(), "ANALYZE").ReadAll()
		check(t, err)
	}
}
