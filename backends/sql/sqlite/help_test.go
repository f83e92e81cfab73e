package sqlite_test

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/backends/sql/sqlite"
	"github.com/dashi-mq/dashi/virtual"
)

// roles are what a process of these tests can be.
var roles = map[string]func(file string){}

func TestMain(m *testing.M) {
	if role := roles[os.Getenv("DASHI_SQLITE_ROLE")]; role != nil {
		role(os.Getenv("DASHI_SQLITE_FILE"))
		return
	}
	goleak.VerifyTestMain(m)
}

// limit bounds every wait of these tests; none comes near it.
const limit = 30 * time.Second

var orders = virtual.QueueRef{Name: "orders", Incarnation: "1"}

func must(t testing.TB, err error, what string) {
	t.Helper()
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// newFile returns the name of a file in an empty directory.
func newFile(t testing.TB) string { return filepath.Join(t.TempDir(), "dashi.db") }

func open(t testing.TB, file string) *sql.Store {
	t.Helper()
	s, err := sqlite.Open(t.Context(), "sqlite://"+file)
	must(t, err, "Open")
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// message is one of the queue orders.
func message(id byte, body string) *virtual.Message {
	return &virtual.Message{Queue: orders, ID: virtual.ID{id}, Payload: virtual.Bytes(body)}
}

// put puts messages of one queue.
func put(ctx context.Context, s virtual.Store, bodies ...string) error {
	var r virtual.PutRequest
	for i, b := range bodies {
		r.Messages = append(r.Messages, message(byte(i+1), b))
	}
	return s.Put(ctx, r)
}

// bodies returns what was taken.
func bodies(ts []virtual.Taken) []string {
	var out []string
	for _, t := range ts {
		out = append(out, string(t.Payload.Bytes()))
	}
	return out
}

// settled answers what was taken.
func settled(kind virtual.Kind, d time.Duration, ts ...virtual.Taken) []virtual.Settlement {
	var out []virtual.Settlement
	for _, t := range ts {
		out = append(out, virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: kind, For: d})
	}
	return out
}
