package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/dashi-mq/dashi/exchange"
)

// explainCmd is "dashi explain".
type explainCmd struct {
	File     string `short:"f" required:"" placeholder:"FILE" help:"The topology, in YAML or JSON."`
	JSON     bool   `help:"Print the account as JSON."`
	Exchange string `arg:"" help:"The exchange a message is published to; '' is the default exchange."`
	Key      string `arg:"" help:"Its routing key."`
	Headers  string `arg:"" optional:"" help:"Its headers, as a JSON object."`
}

// Help teaches by examples.
func (*explainCmd) Help() string {
	return `Tells which bindings lead a message to which queues, over which hops, and why the others do not match. No server is
asked: the topology is read from a file and declared on a broker in memory, with all its checks.

Examples:

    dashi explain -f topology.yaml logs api.error.db
    dashi explain -f topology.yaml orders '' '{"type": "pdf", "pages": 3}'
    dashi explain -f topology.yaml logs api.error.db '{"CC": ["audit"]}' --json

A topology file:

    exchanges:
      - {name: logs, type: topic, durable: true, arguments: {alternate-exchange: unrouted}}
      - {name: unrouted, type: fanout}
    queues:
      - {name: errors, durable: true, arguments: {x-max-length: 1000}}
      - {name: rest}
    bindings:
      - {source: logs, destination: errors, key: "*.error.#"}
      - {source: unrouted, destination: rest}

Exchanges also take auto_delete and internal, queues auto_delete and exclusive, bindings to_exchange and arguments. The
exchanges that every virtual host has, such as amq.topic, are there. A message that reaches no queue is an answer, too:
exit code 0. Exit code 2: the file is wrong (with its line), or there is no such exchange.`
}

// Run explains.
func (c *explainCmd) Run(ctx context.Context, s streams) error {
	text, err := os.ReadFile(c.File)
	if err != nil {
		return unusable("explain: %w", err)
	}
	t, err := readTopology(c.File, text)
	if err != nil {
		return unusable("explain: %w", err)
	}
	m := &exchange.Message{Key: c.Key}
	if len(c.Key) > 255 {
		return unusable("explain: the routing key has %d bytes, at most 255 are allowed", len(c.Key))
	}
	if c.Headers != "" {
		if m.Headers, err = tableOf(c.Headers); err != nil {
			return unusable("explain: headers: %w", err)
		}
		if m.CC, err = copies(m.Headers); err != nil {
			return unusable("explain: headers: %w", err)
		}
	}
	routes, err := t.declare(ctx)
	if err != nil {
		return unusable("explain: %w", err)
	}
	e := routes.Explain(c.Exchange, m)
	if !e.Known {
		return unusable("explain: %s has no exchange %q%s", c.File, c.Exchange, t.similar(c.Exchange))
	}
	if t.internal(c.Exchange) {
		return unusable("explain: exchange %q is internal: nothing can be published to it", c.Exchange)
	}
	if c.JSON {
		text, err := json.MarshalIndent(e, "", "  ")
		if err != nil {
			return err
		}
		fmt.Fprintf(s.out, "%s\n", text)
		return nil
	}
	_, err = fmt.Fprint(s.out, e.String())
	return err
}

// copies are the keys of the headers CC and BCC.
func copies(headers map[string]any) (keys []string, err error) {
	for _, name := range []string{"CC", "BCC"} {
		v, ok := headers[name]
		if !ok {
			continue
		}
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Errorf("%s must be a list of routing keys", name)
		}
		for _, k := range list {
			s, ok := k.(string)
			if !ok {
				return nil, fmt.Errorf("%s must be a list of routing keys", name)
			}
			keys = append(keys, s)
		}
	}
	return keys, nil
}

// similar names what somebody may have meant: same name but for case, or a beginning of it.
func (t *topology) similar(name string) string {
	for _, x := range t.Exchanges {
		if name != "" && (strings.EqualFold(x.Name, name) || strings.HasPrefix(x.Name, name) || strings.HasPrefix(name, x.Name)) {
			return fmt.Sprintf("; is it %q?", x.Name)
		}
	}
	return ""
}

func (t *topology) internal(name string) bool {
	for _, x := range t.Exchanges {
		if x.Name == name {
			return x.Internal
		}
	}
	return false
}
