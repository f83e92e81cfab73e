package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
)

const module = "github.com/dashi-mq/dashi"

// maxLines is how long a file that is not a test may get before it has to be split.
const maxLines = 600

// A rule says what the non-test code of a package may import. Directories are relative to the module's root.
type rule struct {
	ours     []string // packages of this module
	anything bool     // any package of this module
	clients  bool     // packages of other modules too
}

// rules are the arrows of docs/design.md. A package that is not here, and whose parent has no "/..." entry, may not
// exist: put it here first, which makes its place in the picture a decision.
var rules = map[string]rule{
	"exchange":            {},
	"virtual":             {},
	"channel":             {},
	"internal/arch":       {},
	"internal/content":    {ours: []string{"channel"}},
	"internal/faultproxy": {},
	"internal/measure":    {},
	"internal/topicgen":   {},
	"internal/model":      {ours: []string{"channel"}}, // and not exchange: it would prove itself
	"internal/script":     {ours: []string{"channel", "internal/model"}},
	"internal/registry":   {ours: []string{"virtual"}, clients: true},
	"internal/storecalls": {ours: []string{"virtual"}},
	"internal/soak":       {}, // and not channel: the processes that it judges are in cmd/dashi
	"virtual/broker":      {ours: []string{"channel", "virtual", "exchange", "internal/content", "internal/registry"}},
	"backends/memory":     {ours: []string{"virtual"}},
	"backends/amqp":       {ours: []string{"channel"}, clients: true},
	"backends/sql/*":      {ours: []string{"virtual", "backends/sql"}, clients: true},
	"backends/*":          {ours: []string{"virtual"}, clients: true},
	"conformance":         {ours: []string{"channel", "virtual", "virtual/broker", "backends/memory"}, clients: true}, // porcupine judges histories
	".":                   {ours: []string{"channel", "virtual", "virtual/broker"}},
	"dashitest":           {ours: []string{".", "channel", "virtual/broker", "backends/memory"}},
	"cmd/dashi":           {anything: true, clients: true},
	"cmd/dashi/...":       {anything: true, clients: true},
	"examples/*":          {anything: true},
}

// ruleFor finds the rule of a directory: its own, its parent's "/*", or an ancestor's "/...".
func ruleFor(dir string) (rule, bool) {
	if r, ok := rules[dir]; ok {
		return r, true
	}
	if r, ok := rules[path.Join(path.Dir(dir), "*")]; ok {
		return r, true
	}
	for d := dir; d != "."; d = path.Dir(d) {
		if r, ok := rules[path.Dir(d)+"/..."]; ok {
			return r, true
		}
	}
	return rule{}, false
}

// A source is one parsed Go file that is not a test.
type source struct {
	dir, name string
	lines     int
	file      *ast.File
	fset      *token.FileSet
}

// sources parses every Go file of the module in fsys that is not a test, whatever its build constraints.
func sources(fsys fs.FS) ([]source, error) {
	var all []source
	err := fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			name := d.Name()
			if p == "." {
				return nil
			}
			if name == "testdata" || name == "vendor" || name[0] == '.' || name[0] == '_' {
				return fs.SkipDir
			}
			if _, err := fs.Stat(fsys, path.Join(p, "go.mod")); err == nil {
				return fs.SkipDir // another module
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") {
			return nil
		}
		text, err := fs.ReadFile(fsys, p)
		if err != nil {
			return err
		}
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, p, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		all = append(all, source{path.Dir(p), p, strings.Count(string(text), "\n"), f, fset})
		return nil
	})
	return all, err
}

// checkImports returns what breaks the arrows.
func checkImports(all []source) []string {
	var bad []string
	unknown := map[string]bool{}
	for _, s := range all {
		r, ok := ruleFor(s.dir)
		if !ok {
			if !unknown[s.dir] {
				unknown[s.dir] = true
				bad = append(bad, fmt.Sprintf("package %s is not in the table of import rules", s.dir))
			}
			continue
		}
		for _, spec := range s.file.Imports {
			imported, _ := strconv.Unquote(spec.Path.Value)
			first, _, _ := strings.Cut(imported, "/")
			switch {
			case imported == module || strings.HasPrefix(imported, module+"/"):
				dir := "."
				if imported != module {
					dir = imported[len(module)+1:]
				}
				if !r.anything && !slices.Contains(r.ours, dir) {
					bad = append(bad, fmt.Sprintf("%s: package %s may not import %s", s.name, s.dir, dir))
				}
			case strings.Contains(first, ".") && !r.clients:
				bad = append(bad, fmt.Sprintf("%s: package %s may import the standard library only, not %s", s.name, s.dir, imported))
			}
		}
	}
	return bad
}

func checkLength(all []source) []string {
	var bad []string
	for _, s := range all {
		if s.lines > maxLines {
			bad = append(bad, fmt.Sprintf("%s has %d lines, more than %d", s.name, s.lines, maxLines))
		}
	}
	return bad
}

// checkDocs returns the exported names without a comment, and the packages without one.
func checkDocs(all []source) []string {
	var bad []string
	documented, seen := map[string]bool{}, []string{}
	for _, s := range all {
		if s.file.Doc != nil {
			documented[s.dir] = true
		}
		if !slices.Contains(seen, s.dir) {
			seen = append(seen, s.dir)
		}
		if s.file.Name.Name == "main" || slices.Contains(strings.Split(s.dir, "/"), "internal") {
			continue
		}
		missing := func(at ast.Node, name string) {
			pos := s.fset.Position(at.Pos())
			bad = append(bad, fmt.Sprintf("%s:%d: exported %s has no comment", s.name, pos.Line, name))
		}
		for _, d := range s.file.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if name := exportedFunc(d); name != "" && d.Doc == nil {
					missing(d, name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.TypeSpec:
						if spec.Name.IsExported() && spec.Doc == nil && (d.Doc == nil || d.Lparen.IsValid()) {
							missing(spec, spec.Name.Name)
						}
					case *ast.ValueSpec: // a group's comment speaks for all of it
						for _, n := range spec.Names {
							if n.IsExported() && spec.Doc == nil && spec.Comment == nil && d.Doc == nil {
								missing(n, n.Name)
							}
						}
					}
				}
			}
		}
	}
	for _, dir := range seen {
		if !documented[dir] {
			bad = append(bad, fmt.Sprintf("package %s has no package comment", dir))
		}
	}
	return bad
}

// exportedFunc returns the name under which users see a function or method, or "".
func exportedFunc(d *ast.FuncDecl) string {
	if !d.Name.IsExported() {
		return ""
	}
	if d.Recv == nil {
		return d.Name.Name
	}
	t := d.Recv.List[0].Type
	for {
		switch x := t.(type) {
		case *ast.StarExpr:
			t = x.X
			continue
		case *ast.IndexExpr:
			t = x.X
			continue
		case *ast.IndexListExpr:
			t = x.X
			continue
		case *ast.Ident:
			if x.IsExported() {
				return x.Name + "." + d.Name.Name
			}
		}
		return ""
	}
}

func tree(t *testing.T) []source {
	t.Helper()
	all, err := sources(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if len(all) == 0 {
		t.Fatal("no Go files found")
	}
	return all
}

func report(t *testing.T, bad []string) {
	t.Helper()
	for _, b := range bad {
		t.Error(b)
	}
}

// TestArchitecture enforces the import arrows of docs/design.md.
func TestArchitecture(t *testing.T) { report(t, checkImports(tree(t))) }

// TestFilesStayReadable keeps files short enough to be read in one go.
func TestFilesStayReadable(t *testing.T) { report(t, checkLength(tree(t))) }

// TestExportedNamesAreDocumented wants a comment on everything that users of a package see.
func TestExportedNamesAreDocumented(t *testing.T) { report(t, checkDocs(tree(t))) }

// TestCheckersFindWhatTheyLookFor feeds the checkers a tree in which everything is wrong once, and nothing else is.
func TestCheckersFindWhatTheyLookFor(t *testing.T) {
	fixture := fstest.MapFS{
		"root.go":                     {Data: []byte("// Package dashi is fine.\npackage dashi\nimport _ \"" + module + "/channel\"\n")},
		"channel/channel.go":          {Data: []byte("// Package channel is not.\npackage channel\nimport _ \"" + module + "/virtual\"\n")},
		"exchange/exchange.go":        {Data: []byte("// Package exchange is not.\npackage exchange\nimport _ \"example.com/client\"\n")},
		"exchange/exchange_test.go":   {Data: []byte("package exchange\nimport _ \"example.com/anything\"\n")},
		"virtual/store.go":            {Data: []byte("// Package virtual is long.\npackage virtual\n" + strings.Repeat("\n", maxLines))},
		"virtual/other_os.go":         {Data: []byte("//go:build other\n\npackage virtual\nimport _ \"" + module + "\"\n")},
		"virtual/hidden/hidden.go":    {Data: []byte("// Package hidden has no place.\npackage hidden\n")},
		"backends/amqp/amqp.go":       {Data: []byte("// Package amqp is not fine.\npackage amqp\nimport _ \"" + module + "/virtual\"\n")},
		"backends/redis/redis.go":     {Data: []byte("// Package redis is fine.\npackage redis\nimport (\n_ \"example.com/client\"\n_ \"" + module + "/virtual\"\n)\n")},
		"backends/sql/sql.go":         {Data: []byte("// Package sql is not.\npackage sql\nimport _ \"" + module + "/channel\"\n")},
		"cmd/dashi/main.go":           {Data: []byte("// Command dashi is fine.\npackage main\nimport _ \"" + module + "/backends/sql\"\n\nfunc Main() {}\n")},
		"cmd/dashi/internal/ui/ui.go": {Data: []byte("// Package ui is fine.\npackage ui\nimport _ \"example.com/colours\"\n\nfunc Draw() {}\n")},
		"tools/go.mod":                {Data: []byte("module other\n")},
		"tools/tools.go":              {Data: []byte("package tools\nimport _ \"example.com/tool\"\n")},
		"testdata/x.go":               {Data: []byte("package x\nimport _ \"example.com/x\"\n")},
		"dashitest/dashitest.go": {Data: []byte(`package dashitest

func Naked() {}

// Dressed has one.
func Dressed() {}

type Thing[T any] struct{}

func (*Thing[T]) Method() {}

// Method of a hidden type need none.
type hidden struct{}

func (hidden) Method() {}

// A group.
const (
	A = 1
	B = 2
)

var (
	C = 1 // has one
	D = 2
)

// These types need one each.
type (
	// E has one.
	E int
	F int
)
`)},
	}
	all, err := sources(fixture)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		got, want []string
	}{
		{"imports", checkImports(all), []string{
			"backends/amqp/amqp.go: package backends/amqp may not import virtual",
			"backends/sql/sql.go: package backends/sql may not import channel",
			"channel/channel.go: package channel may not import virtual",
			"exchange/exchange.go: package exchange may import the standard library only, not example.com/client",
			"package virtual/hidden is not in the table of import rules",
			"virtual/other_os.go: package virtual may not import .",
		}},
		{"length", checkLength(all), []string{"virtual/store.go has 602 lines, more than 600"}},
		{"docs", checkDocs(all), []string{
			"dashitest/dashitest.go:25: exported D has no comment",
			"dashitest/dashitest.go:32: exported F has no comment",
			"dashitest/dashitest.go:3: exported Naked has no comment",
			"dashitest/dashitest.go:8: exported Thing has no comment",
			"dashitest/dashitest.go:10: exported Thing.Method has no comment",
			"package dashitest has no package comment",
		}},
	} {
		slices.Sort(c.got)
		slices.Sort(c.want)
		if !slices.Equal(c.got, c.want) {
			t.Errorf("%s:\n got %s\nwant %s", c.name, strings.Join(c.got, "\n     "), strings.Join(c.want, "\n     "))
		}
	}
}
