// Package dashi is AMQP semantics on any store: exchanges, bindings, topic routing, acks, prefetch, dead letters, on
// memory, on stores that know nothing of them, or on a real RabbitMQ, by changing a URL.
//
// Dial opens a connection by its URL. The backend must be imported, as with database/sql:
//
//	import (
//		"github.com/dashi-mq/dashi"
//		"github.com/dashi-mq/dashi/channel"
//		_ "github.com/dashi-mq/dashi/backends/memory"
//	)
//
//	conn, err := dashi.Dial(ctx, "memory://")
//	defer conn.Close(ctx)
//	ch, err := conn.Channel(ctx)
//
// Channels and all that is done on them are those of package channel. A store of one's own is opened with Open; package
// virtual says what it has to be.
package dashi
