package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
)

// topology is a topology file. Each part knows its line, so that errors can name it.
type topology struct {
	file string

	Exchanges []exchangeSpec
	Queues    []queueSpec
	Bindings  []bindingSpec
}

type exchangeSpec struct {
	line       int
	Name       string        `yaml:"name"`
	Type       string        `yaml:"type"`
	Durable    bool          `yaml:"durable"`
	AutoDelete bool          `yaml:"auto_delete"`
	Internal   bool          `yaml:"internal"`
	Arguments  channel.Table `yaml:"arguments"`
}

type queueSpec struct {
	line       int
	Name       string        `yaml:"name"`
	Durable    bool          `yaml:"durable"`
	AutoDelete bool          `yaml:"auto_delete"`
	Exclusive  bool          `yaml:"exclusive"`
	Arguments  channel.Table `yaml:"arguments"`
}

type bindingSpec struct {
	line        int
	Source      string        `yaml:"source"`
	Destination string        `yaml:"destination"`
	ToExchange  bool          `yaml:"to_exchange"`
	Key         string        `yaml:"key"`
	Arguments   channel.Table `yaml:"arguments"`
}

// The fields of each part, for the errors about others.
var (
	topologyFields = []string{"exchanges", "queues", "bindings"}
	exchangeFields = []string{"name", "type", "durable", "auto_delete", "internal", "arguments"}
	queueFields    = []string{"name", "durable", "auto_delete", "exclusive", "arguments"}
	bindingFields  = []string{"source", "destination", "to_exchange", "key", "arguments"}
)

// readTopology reads a topology file. Errors begin with file:line.
func readTopology(file string, text []byte) (*topology, error) {
	t := &topology{file: file}
	d := yaml.NewDecoder(strings.NewReader(string(text)))
	var doc yaml.Node
	switch err := d.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, fmt.Errorf("%s is empty: want exchanges, queues, bindings", file)
	case err != nil:
		return nil, t.yamlError(err)
	}
	var more yaml.Node
	if err := d.Decode(&more); !errors.Is(err, io.EOF) {
		return nil, t.at(max(more.Line, 1), "a second document: a topology is one")
	}
	root := doc.Content[0]
	parts, err := t.fields(root, "the topology", topologyFields)
	if err != nil {
		return nil, err
	}
	if t.Exchanges, err = list(t, parts["exchanges"], "exchange", exchangeFields, func(x *exchangeSpec, line int) { x.line = line }); err != nil {
		return nil, err
	}
	if t.Queues, err = list(t, parts["queues"], "queue", queueFields, func(x *queueSpec, line int) { x.line = line }); err != nil {
		return nil, err
	}
	t.Bindings, err = list(t, parts["bindings"], "binding", bindingFields, func(x *bindingSpec, line int) { x.line = line })
	return t, err
}

// at makes an error about a line.
func (t *topology) at(line int, format string, a ...any) error {
	return fmt.Errorf("%s:%d: %w", t.file, line, fmt.Errorf(format, a...))
}

// yamlError puts the parser's line where a file's line is looked for.
func (t *topology) yamlError(err error) error {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	text = strings.TrimPrefix(text, "unmarshal errors:\n  ")
	var line int
	if n, _ := fmt.Sscanf(text, "line %d:", &line); n == 1 {
		_, text, _ = strings.Cut(text, ": ")
		return t.at(line, "%s", text)
	}
	return fmt.Errorf("%s: %s", t.file, text)
}

// fields returns the parts of a mapping, of which all must be known and none twice.
func (t *topology) fields(n *yaml.Node, what string, known []string) (map[string]*yaml.Node, error) {
	n = target(n)
	if n.Kind != yaml.MappingNode {
		return nil, t.at(n.Line, "%s must be a mapping with %s", what, strings.Join(known, ", "))
	}
	parts := map[string]*yaml.Node{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key := n.Content[i]
		switch {
		case key.Tag == "!!merge":
			continue
		case !slices.Contains(known, key.Value):
			return nil, t.at(key.Line, "%s has no field %q: want %s", what, key.Value, strings.Join(known, ", "))
		case parts[key.Value] != nil:
			return nil, t.at(key.Line, "field %q is there twice", key.Value)
		}
		parts[key.Value] = n.Content[i+1]
	}
	return parts, nil
}

// target follows an alias.
func target(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// list reads a list of parts of one kind. It is a function because methods have no type parameters.
func list[T any](t *topology, n *yaml.Node, what string, known []string, place func(*T, int)) ([]T, error) {
	if n == nil || target(n).Tag == "!!null" {
		return nil, nil
	}
	if n = target(n); n.Kind != yaml.SequenceNode {
		return nil, t.at(n.Line, "%ss must be a list", what)
	}
	all := make([]T, 0, len(n.Content))
	for _, item := range n.Content {
		if _, err := t.fields(item, "a "+what, known); err != nil {
			return nil, err
		}
		var x T
		if err := item.Decode(&x); err != nil {
			return nil, t.yamlError(err)
		}
		place(&x, item.Line)
		all = append(all, x)
	}
	return all, nil
}

// check finds what a broker would not, or would say less well.
func (t *topology) check() error {
	exchanges, queues := map[string]int{"": 0}, map[string]int{}
	for _, x := range t.Exchanges {
		if x.Name == "" {
			return t.at(x.line, "an exchange has no name; the default exchange is there without being declared")
		}
		if x.Type == "" {
			return t.at(x.line, "exchange %q has no type, such as topic", x.Name)
		}
		if line, twice := exchanges[x.Name]; twice {
			return t.at(x.line, "exchange %q is in line %d already", x.Name, line)
		}
		exchanges[x.Name] = x.line
	}
	for _, q := range t.Queues {
		if q.Name == "" {
			return t.at(q.line, "a queue has no name")
		}
		if line, twice := queues[q.Name]; twice {
			return t.at(q.line, "queue %q is in line %d already", q.Name, line)
		}
		queues[q.Name] = q.line
	}
	for _, b := range t.Bindings {
		if _, ok := exchanges[b.Source]; !ok && !strings.HasPrefix(b.Source, "amq.") {
			return t.at(b.line, "the binding's source, exchange %q, is not declared", b.Source)
		}
		if b.Source == "" {
			return t.at(b.line, "the binding has no source; the default exchange needs and takes none")
		}
		if b.ToExchange {
			if _, ok := exchanges[b.Destination]; (!ok && !strings.HasPrefix(b.Destination, "amq.")) || b.Destination == "" {
				return t.at(b.line, "the binding's destination, exchange %q, is not declared", b.Destination)
			}
		} else if _, ok := queues[b.Destination]; !ok {
			hint := ""
			if _, is := exchanges[b.Destination]; is && b.Destination != "" {
				hint = " (an exchange is: to_exchange: true?)"
			}
			return t.at(b.line, "the binding's destination, queue %q, is not declared%s", b.Destination, hint)
		}
	}
	return nil
}

// declare declares the topology on a broker in memory, which checks it, and returns it as it can be asked.
func (t *topology) declare(ctx context.Context) (*exchange.Topology, error) {
	if err := t.check(); err != nil {
		return nil, err
	}
	conn, err := dashi.Dial(ctx, "memory://")
	if err != nil {
		return nil, err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	ch, err := conn.Channel(ctx)
	if err != nil {
		return nil, err
	}
	for _, x := range t.Exchanges {
		o := channel.ExchangeOptions{Durable: x.Durable, AutoDelete: x.AutoDelete, Internal: x.Internal, Args: x.Arguments}
		if err := ch.ExchangeDeclare(ctx, x.Name, x.Type, o); err != nil {
			return nil, t.at(x.line, "%w", err)
		}
	}
	for _, q := range t.Queues {
		o := channel.QueueOptions{Durable: q.Durable, AutoDelete: q.AutoDelete, Exclusive: q.Exclusive, Args: q.Arguments}
		if _, err := ch.QueueDeclare(ctx, q.Name, o); err != nil {
			return nil, t.at(q.line, "%w", err)
		}
	}
	for _, b := range t.Bindings {
		if b.ToExchange {
			err = ch.ExchangeBind(ctx, b.Destination, b.Key, b.Source, b.Arguments)
		} else {
			err = ch.QueueBind(ctx, b.Destination, b.Key, b.Source, b.Arguments)
		}
		if err != nil {
			return nil, t.at(b.line, "%w", err)
		}
	}
	return routesOf(ctx, conn)
}

// routesOf rebuilds what a connection's virtual host routes by: the account it gives itself is text only.
func routesOf(ctx context.Context, conn *dashi.Connection) (*exchange.Topology, error) {
	inspector, ok := conn.Transport().(channel.Inspector)
	if !ok {
		return nil, errors.New("this place does not tell its topology")
	}
	declared, err := inspector.Topology(ctx)
	if err != nil {
		return nil, err
	}
	routes := exchange.New()
	for _, x := range declared.Exchanges {
		kind := x.Type
		if kind == channel.Delayed {
			kind, _ = x.Args["x-delayed-type"].(string)
		}
		if _, err := routes.AddExchange(x.Name, kind, x.Args, x.Internal); err != nil {
			return nil, err
		}
	}
	for _, q := range declared.Queues {
		routes.AddQueue(q.Name).Local.Store(true) // as if each had a consumer
	}
	for _, b := range declared.Bindings {
		if _, err := routes.Bind(exchange.Binding{Source: b.Source, Destination: b.Destination, ToExchange: b.ToExchange, Key: b.Key, Args: b.Args}); err != nil {
			return nil, err
		}
	}
	return routes, nil
}
