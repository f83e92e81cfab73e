package script

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/dashi-mq/dashi/channel"
)

// names turns the names in a script into those on a broker, and back: queues and exchanges get a prefix, and queues that the
// broker names are numbered as they come. With a prefix the broker is not ours alone, and a script has exchanges of its own in
// place of those that everybody has.
type names struct {
	prefix string
	real   map[string]string // of those the broker chose, by ours
	ours   map[string]string // the other way
}

func newNames(prefix string) *names {
	return &names{prefix: prefix, real: map[string]string{}, ours: map[string]string{}}
}

var plainName = regexp.MustCompile(`^[qx][0-9]+$`)

// standIns are the types of the exchanges that a script with a prefix has instead of those of these names.
var standIns = map[string]string{
	"amq.direct": channel.Direct, "amq.fanout": channel.Fanout, "amq.topic": channel.Topic, "amq.headers": channel.Headers,
}

// own reports whether a name is of this script.
func (n *names) own(s string) bool {
	return plainName.MatchString(s) || n.prefix != "" && standIns[s] != ""
}

// there returns the name on the broker.
func (n *names) there(s string) string {
	if r, ok := n.real[s]; ok {
		return r
	}
	if n.own(s) {
		return n.prefix + s
	}
	return s
}

// here returns the name in the script.
func (n *names) here(s string) string {
	if o, ok := n.ours[s]; ok {
		return o
	}
	if rest, ok := strings.CutPrefix(s, n.prefix); ok && n.own(rest) {
		return rest
	}
	return s
}

// chosen returns our name of a queue that the broker named.
func (n *names) chosen(real string) string {
	if o, ok := n.ours[real]; ok || !strings.HasPrefix(real, "amq.gen-") {
		return "not a new name: " + real + o
	}
	ours := fmt.Sprint("amq.gen-", len(n.ours)+1)
	n.ours[real], n.real[ours] = ours, real
	return ours
}

// table turns all names in a table.
func (n *names) table(t channel.Table, turn func(string) string) channel.Table {
	if t == nil {
		return nil
	}
	c := make(channel.Table, len(t))
	for k, v := range t {
		c[k] = n.value(v, turn)
	}
	return c
}

func (n *names) value(v any, turn func(string) string) any {
	switch v := v.(type) {
	case string:
		return turn(v)
	case channel.Table:
		return n.table(v, turn)
	case []any:
		c := make([]any, len(v))
		for i := range v {
			c[i] = n.value(v[i], turn)
		}
		return c
	}
	return v
}
