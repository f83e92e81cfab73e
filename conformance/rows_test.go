package conformance_test

import (
	"os"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/conformance"
)

// TestRows holds the suite and docs/semantics.md together: every row of the one is a row of the other, in its order
// and with its text.
func TestRows(t *testing.T) {
	doc, err := os.ReadFile("../docs/semantics.md")
	if err != nil {
		t.Skipf("no docs/semantics.md to compare with: %v", err)
	}
	var ids []string
	texts := map[string]string{}
	for line := range strings.Lines(string(doc)) {
		// | EX-01 | text |
		cells := strings.SplitN(strings.TrimSuffix(strings.TrimSpace(line), " |"), " | ", 2)
		if id := strings.TrimPrefix(cells[0], "| "); len(cells) == 2 && len(id) == 5 && id[2] == '-' {
			ids = append(ids, id)
			texts[id] = cells[1]
		}
	}
	rows := conformance.Rows()
	for i, row := range rows {
		if row.Run == nil {
			t.Errorf("%s has no check", row.ID)
		}
		if i >= len(ids) || ids[i] != row.ID {
			t.Fatalf("row %d of the suite is %s, docs/semantics.md has other rows there", i, row.ID)
		}
		if texts[row.ID] != row.Rule {
			t.Errorf("%s: the suite quotes\n\t%s\ndocs/semantics.md says\n\t%s", row.ID, row.Rule, texts[row.ID])
		}
	}
	if len(rows) != len(ids) {
		t.Errorf("the suite has %d rows, docs/semantics.md %d", len(rows), len(ids))
	}
}
