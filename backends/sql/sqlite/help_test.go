package sqlite_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/sql"
	"github.com/dashi-mq/dashi/backends/sql/sqlite"
	"github.com/dashi-mq/dashi/internal/storecalls"
)

// roles are what a process of these tests can be.
var roles = map[string]func(file string){}

// Calls that the tests of several stores make.
var put, bodies, settled, orders = storecalls.Put, storecalls.Bodies, storecalls.Settled, storecalls.Queue

func TestMain(m *testing.M) {
	if role := roles[os.Getenv("DASHI_SQLITE_ROLE")]; role != nil {
		role(os.Getenv("DASHI_SQLITE_FILE"))
		return
	}
	goleak.VerifyTestMain(m)
}

// limit bounds every wait of these tests; none comes near it.
const limit = 30 * time.Second

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
