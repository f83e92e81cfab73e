package main

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/exchange"
)

var update = flag.Bool("update", false, "write the golden files anew")

func TestExplainGolden(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
	}{
		{"topic", []string{"logs", "api.error.db"}},
		{"alternate", []string{"logs", "api.info"}},
		{"e2e", []string{"all", "x"}},
		{"headers", []string{"orders", "", `{"type": "pdf", "pages": 3}`}},
		{"cc", []string{"logs", "a.b", `{"CC": ["x.error"], "BCC": ["y.error.z"]}`}},
		{"default", []string{"", "errors"}},
		{"predeclared", []string{"amq.topic", "k"}},
		{"json", []string{"logs", "api.error.db", "--json"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := runDashi(t.Context(), nil, append([]string{"explain", "-f", "testdata/topology.yaml"}, c.args...)...)
			r.want(t, exitOK)
			golden := filepath.Join("testdata", "explain-"+c.name+".txt")
			if *update {
				if err := os.WriteFile(golden, []byte(r.out), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if r.out != string(want) {
				t.Errorf("said\n%s\nwant\n%s", r.out, want)
			}
		})
	}
}

func TestExplainJSONIsTheExplanation(t *testing.T) {
	r := runDashi(t.Context(), nil, "explain", "--json", "-f", "testdata/topology.yaml", "logs", "api.info")
	r.want(t, exitOK)
	var e exchange.Explanation
	if err := json.Unmarshal([]byte(r.out), &e); err != nil || len(e.Hops) != 2 || len(e.Queues) != 1 || e.Queues[0] != "rest" {
		t.Errorf("%v: %+v", err, e)
	}
}

func TestExplainReadsJSON(t *testing.T) {
	f := file(t, "t.json", `{"exchanges": [{"name": "x", "type": "direct"}], "queues": [{"name": "q"}],
		"bindings": [{"source": "x", "destination": "q", "key": "k"}]}`)
	r := runDashi(t.Context(), nil, "explain", "-f", f, "x", "k")
	r.want(t, exitOK)
	if !strings.Contains(r.out, `reaches 1 queue: "q"`) {
		t.Error(r.out)
	}
}

func TestExplainReadsAnchorsAndMerges(t *testing.T) {
	f := file(t, "t.yaml", `
exchanges:
  - &base {name: a, type: topic, durable: true}
  - {<<: *base, name: b}
queues: &none
bindings:
`)
	runDashi(t.Context(), nil, "explain", "-f", f, "b", "k").want(t, exitOK)
}

func TestTopologyErrorsNameTheLine(t *testing.T) {
	for _, c := range []struct {
		name, text string
		says       string
	}{
		{"empty", "", "is empty"},
		{"comments only", "# nothing\n", "is empty"},
		{"not a mapping", "- a\n", ":1: the topology must be a mapping"},
		{"not YAML", "exchanges: [\n", ":"},
		{"tabs", "exchanges:\n\t- a\n", ":2:"},
		{"two documents", "queues: []\n---\nqueues: []\n", "second document"},
		{"unknown part", "exchanges: []\nqueue: []\n", `:2: the topology has no field "queue"`},
		{"not a list", "queues:\n  name: q\n", ":2: queues must be a list"},
		{"a list of words", "queues:\n  - q\n", ":2: a queue must be a mapping"},
		{"unknown field", "queues:\n  - name: q\n    durabel: true\n", `:3: a queue has no field "durabel"`},
		{"field twice", "queues:\n  - name: q\n    name: r\n", `:3: field "name" is there twice`},
		{"part twice", "queues: []\nqueues: []\n", `:2: field "queues" is there twice`},
		{"wrong type", "queues:\n  - name: q\n    durable: maybe\n", ":3: "},
		{"arguments of a wrong type", "queues:\n  - {name: q, arguments: [1]}\n", ":2: "},
		{"no name", "exchanges:\n  - {type: topic}\n", ":2: an exchange has no name"},
		{"queue without name", "queues:\n  - {durable: true}\n", ":2: a queue has no name"},
		{"no type", "exchanges:\n  - {name: x}\n", `:2: exchange "x" has no type`},
		{"unknown type", "exchanges:\n  - {name: x, type: telephone}\n", ":2: 503"},
		{"twice", "exchanges:\n  - {name: x, type: topic}\n  - {name: x, type: topic}\n", `:3: exchange "x" is in line 2 already`},
		{"queue twice", "queues:\n  - {name: x}\n  - {name: x}\n", `:3: queue "x" is in line 2 already`},
		{"reserved name", "exchanges:\n  - {name: amq.mine, type: topic}\n", ":2: 403"},
		{"bad argument", "queues:\n  - {name: q, arguments: {x-max-length: many}}\n", ":2: 406"},
		{"bad exchange argument", "exchanges:\n  - {name: x, type: topic, arguments: {alternate-exchange: 3}}\n", ":2: 406"},
		{"argument that AMQP has not", "queues:\n  - {name: q, arguments: {x: 18446744073709551615}}\n", ":2: 502"},
		{"long name", "queues:\n  - {name: " + strings.Repeat("q", 256) + "}\n", ":2: 502"},
		{"no source", "queues:\n  - {name: q}\nbindings:\n  - {source: x, destination: q}\n", `:4: the binding's source, exchange "x", is not declared`},
		{"default as source", "queues:\n  - {name: q}\nbindings:\n  - {destination: q}\n", ":4: the binding has no source"},
		{"no destination", "exchanges:\n  - {name: x, type: topic}\nbindings:\n  - {source: x, destination: q}\n", `:4: the binding's destination, queue "q"`},
		{
			"queue that is an exchange", "exchanges:\n  - {name: x, type: topic}\n  - {name: y, type: topic}\nbindings:\n  - {source: x, destination: y}\n",
			"to_exchange: true?",
		},
		{"exchange that is missing", "exchanges:\n  - {name: x, type: topic}\nbindings:\n  - {source: x, destination: y, to_exchange: true}\n", `:4: the binding's destination, exchange "y"`},
		{"unknown amq", "queues:\n  - {name: q}\nbindings:\n  - {source: amq.none, destination: q}\n", ":4: 404"},
		{"bad weight", "exchanges:\n  - {name: x, type: x-consistent-hash}\nqueues:\n  - {name: q}\nbindings:\n  - {source: x, destination: q, key: heavy}\n", ":6: 406"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := file(t, "t.yaml", c.text)
			runDashi(t.Context(), nil, "explain", "-f", f, "x", "k").want(t, exitUnusable, f, c.says)
		})
	}
}

func TestExplainRefusesOtherInput(t *testing.T) {
	for _, c := range []struct {
		args []string
		says string
	}{
		{[]string{"-f", "/no/such/file", "x", "k"}, "no such file"},
		{[]string{"-f", t.TempDir(), "x", "k"}, "directory"},
		{[]string{"-f", "testdata/topology.yaml", "log", "k"}, `no exchange "log"; is it "logs"?`},
		{[]string{"-f", "testdata/topology.yaml", "xyz", "k"}, `no exchange "xyz"`},
		{[]string{"-f", "testdata/topology.yaml", "hidden", "k"}, "internal"},
		{[]string{"-f", "testdata/topology.yaml", "logs", strings.Repeat("k", 256)}, "256 bytes"},
		{[]string{"-f", "testdata/topology.yaml", "logs", "k", "[1]"}, "headers"},
		{[]string{"-f", "testdata/topology.yaml", "logs", "k", "nonsense"}, "headers"},
		{[]string{"-f", "testdata/topology.yaml", "logs", "k", `{"CC": "k"}`}, "CC must be a list"},
		{[]string{"-f", "testdata/topology.yaml", "logs", "k", `{"BCC": [1]}`}, "BCC must be a list"},
		{[]string{"-f", "testdata/topology.yaml", "logs"}, "<key>"},
	} {
		runDashi(t.Context(), nil, append([]string{"explain"}, c.args...)...).want(t, exitUnusable, c.says)
	}
}
