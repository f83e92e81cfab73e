package conformance_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func TestRunProvesMemory(t *testing.T) {
	r := conformance.Run(t, conformance.Config{
		Name: "memory", Virtual: true, Report: "../docs/reports/memory.json",
		Open: func(conformance.T) (func() (virtual.Store, error), error) {
			p := memory.New()
			return func() (virtual.Store, error) { return p.Open(), nil }, nil
		},
	})
	if r.Store.Failed > 0 || len(r.Channel) != 2 || len(r.Calls) == 0 || len(r.Claims) == 0 {
		t.Errorf("the report is not whole: %+v", r)
	}
}

// The capability table in the README is made of the reports, and of nothing else.
func TestReadmeTableIsMadeOfReports(t *testing.T) {
	const file, begin, end = "../README.md", "<!-- table: made of docs/reports by UPDATE_REPORTS=1 go test ./conformance -run Readme -->\n", "<!-- end of table -->"
	var reports []*conformance.StoreReport
	for _, name := range []string{"memory", "sqlite", "postgres", "redis", "filestore", "rabbitmq"} {
		r, err := conformance.ReadReport("../docs/reports/" + name + ".json")
		if err != nil {
			t.Fatal(err)
		}
		reports = append(reports, r)
	}
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, found := strings.Cut(string(text), begin)
	table, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the table: want %q and %q", file, begin, end)
	}
	want := conformance.Table(reports...)
	switch {
	case table == want:
	case os.Getenv("UPDATE_REPORTS") == "1":
		if err := os.WriteFile(file, []byte(before+begin+want+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
	default:
		t.Errorf("the table in %s is not that of the reports; UPDATE_REPORTS=1 writes it anew. It is to be\n%s", file, want)
	}
}
