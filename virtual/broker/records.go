package broker

import (
	"encoding/json"
	"strings"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/exchange"
	"github.com/dashi-mq/dashi/internal/content"
	"github.com/dashi-mq/dashi/virtual"
)

// Keys of the registry's records, by prefix.
const (
	keyExchange = "x/" // + name: exchangeRecord; touched whenever its bindings change
	keyQueue    = "q/" // + name: queueRecord
	keyBinding  = "b/" // + canonical binding: bindingRecord
	keyUse      = "u/" // + incarnation: the id of its consumer of late: it has had one; written with every change of its consumers
	keyConsumer = "c/" // + incarnation + "/" + id: consumerRecord, bound to the session of its process
	keyTouch    = "e/" // + incarnation: written when a queue with x-expires is used without a consumer
	keyJanitor  = "l/janitor"

	// Only where the store lacks something:
	keyRoutes   = "p/" // + session: that process routes on what it knows (no Guards); bound to its session
	keyGrave    = "g/" // + incarnation: name of a queue to be emptied once it is no more (no Namespace)
	keyExpiring = "t/" // + incarnation: ms, the shortest life of a message published there (no Expirer)
)

// exchangeRecord is a declared exchange.
type exchangeRecord struct {
	Type       string       `json:"type"`
	Durable    bool         `json:"durable,omitempty"`
	AutoDelete bool         `json:"auto_delete,omitempty"`
	Internal   bool         `json:"internal,omitempty"`
	Args       content.JSON `json:"args,omitempty"`
}

// queueRecord is a declared queue. Owner is the connection an exclusive one belongs to.
type queueRecord struct {
	Incarnation string       `json:"incarnation"`
	Durable     bool         `json:"durable,omitempty"`
	AutoDelete  bool         `json:"auto_delete,omitempty"`
	Owner       string       `json:"owner,omitempty"`
	Args        content.JSON `json:"args,omitempty"`
}

// bindingRecord is a binding. Incarnation is that of a destination queue: a binding of an earlier one is dangling, and
// harmless.
type bindingRecord struct {
	Source      string       `json:"source"`
	Destination string       `json:"destination"`
	ToExchange  bool         `json:"to_exchange,omitempty"`
	Key         string       `json:"key"`
	Args        content.JSON `json:"args,omitempty"`
	Incarnation string       `json:"incarnation,omitempty"`
}

func (r bindingRecord) binding() exchange.Binding {
	return exchange.Binding{Source: r.Source, Destination: r.Destination, ToExchange: r.ToExchange, Key: r.Key, Args: channel.Table(r.Args)}
}

// consumerRecord is a consumer of a queue. The order of the records' revisions is the order of registration.
type consumerRecord struct {
	Tag       string `json:"tag"`
	Exclusive bool   `json:"exclusive,omitempty"`
	Priority  int    `json:"priority,omitempty"`
}

func encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic("broker: record: " + err.Error()) // the types above always encode
	}
	return b
}

func decode[T any](r virtual.Record) (T, bool) {
	var v T
	return v, json.Unmarshal(r.Value, &v) == nil
}

// splitConsumer takes a consumer's key apart.
func splitConsumer(key string) (incarnation, id string) {
	incarnation, id, _ = strings.Cut(strings.TrimPrefix(key, keyConsumer), "/")
	return incarnation, id
}
