package model

import (
	"reflect"
	"slices"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

// route returns the queues that a message published to an exchange reaches, by any of its keys, each once.
func (b *Broker) route(name string, keys []string, h channel.Table) []string {
	if name == "" {
		var to []string
		for _, k := range keys {
			if b.queues[k] != nil && !slices.Contains(to, k) {
				to = append(to, k)
			}
		}
		return to
	}
	var to []string
	visited := map[string]bool{}
	var visit func(name string)
	visit = func(name string) {
		x := b.exchanges[name]
		if x == nil || visited[name] {
			return
		}
		visited[name] = true
		selected := false
		for _, d := range b.bindings {
			if d.source != name || !matches(x.routes(), d, keys, h) {
				continue
			}
			selected = true
			if d.toExchange {
				visit(d.destination)
			} else if !slices.Contains(to, d.destination) {
				to = append(to, d.destination)
			}
		}
		if alternate, ok := x.args["alternate-exchange"].(string); ok && !selected {
			if alternate == "" {
				for _, k := range keys {
					if b.queues[k] != nil && !slices.Contains(to, k) {
						to = append(to, k)
					}
				}
				return
			}
			visit(alternate)
		}
	}
	visit(name)
	return to
}

// routes is the type an exchange routes by.
func (x *exchange) routes() string {
	if x.kind == channel.Delayed {
		kind, _ := x.args["x-delayed-type"].(string)
		return kind
	}
	return x.kind
}

func matches(kind string, d binding, keys []string, h channel.Table) bool {
	switch kind {
	case channel.Fanout:
		return true
	case channel.Direct:
		return slices.Contains(keys, d.key)
	case channel.Topic:
		return slices.ContainsFunc(keys, func(k string) bool { return topic(words(d.key), words(k)) })
	case channel.Headers:
		return headers(d.args, h)
	}
	return false
}

func words(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(s, ".")
}

// topic is the definition of a topic pattern, word by word.
func topic(pattern, key []string) bool {
	switch {
	case len(pattern) == 0:
		return len(key) == 0
	case pattern[0] == "#":
		return topic(pattern[1:], key) || len(key) > 0 && topic(pattern, key[1:])
	case len(key) == 0:
		return false
	}
	return (pattern[0] == "*" || pattern[0] == key[0]) && topic(pattern[1:], key[1:])
}

// headers compares a binding's arguments with a message's headers.
func headers(args, h channel.Table) bool {
	mode, ok := args["x-match"].(string)
	if !ok {
		mode = "all"
	}
	found, asked := 0, 0
	for k, want := range args {
		if k == "x-match" || strings.HasPrefix(k, "x-") && !strings.HasSuffix(mode, "-with-x") {
			continue
		}
		asked++
		if v, has := h[k]; has && (want == nil || sameValue(want, v)) {
			found++
		}
	}
	if strings.HasPrefix(mode, "any") {
		return found > 0
	}
	return found == asked
}

// sameValue compares values of headers and arguments: numbers by what they are worth.
func sameValue(a, b any) bool {
	x, okX := number(a)
	y, okY := number(b)
	if okX || okY {
		return okX && okY && x == y
	}
	return reflect.DeepEqual(a, b)
}

func number(v any) (float64, bool) {
	switch v := v.(type) {
	case int8:
		return float64(v), true
	case int16:
		return float64(v), true
	case int32:
		return float64(v), true
	case int64:
		return float64(v), true
	case int:
		return float64(v), true
	case float64:
		return v, true
	}
	return 0, false
}
