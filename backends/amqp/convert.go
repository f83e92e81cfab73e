package amqp

import (
	"fmt"
	"math"
	"time"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

// What amqp091-go can read back; beyond that it would end the connection.
const (
	maxDepth   = 32
	maxEntries = 8192
)

// toTable makes the library's table of ours. Nothing in it is shared that the library would keep.
func toTable(t channel.Table) (amqp091.Table, error) { return tableAt(t, 0) }

func tableAt(t channel.Table, depth int) (amqp091.Table, error) {
	if t == nil {
		return nil, nil
	}
	if depth > maxDepth {
		return nil, fmt.Errorf("a table is nested deeper than %d", maxDepth)
	}
	if len(t) > maxEntries {
		return nil, fmt.Errorf("a table has %d entries, the limit is %d", len(t), maxEntries)
	}
	out := make(amqp091.Table, len(t))
	for k, v := range t {
		f, err := fieldAt(v, depth)
		if err != nil {
			return nil, fmt.Errorf("table key %q: %w", k, err)
		}
		out[k] = f
	}
	return out, nil
}

func fieldAt(v any, depth int) (any, error) {
	switch v := v.(type) {
	case nil, bool, int8, int16, int32, int64, uint8, uint16, uint32, float32, float64, string, []byte, time.Time:
		return v, nil
	case int: // the library would cut it to 32 bits
		if v >= math.MinInt32 && v <= math.MaxInt32 {
			return int32(v), nil
		}
		return int64(v), nil
	case uint:
		if uint64(v) > math.MaxInt64 {
			return nil, fmt.Errorf("%d does not fit a signed 64-bit integer", v)
		}
		return int64(v), nil
	case uint64:
		if v > math.MaxInt64 {
			return nil, fmt.Errorf("%d does not fit a signed 64-bit integer", v)
		}
		return int64(v), nil
	case channel.Decimal:
		return amqp091.Decimal{Scale: v.Scale, Value: v.Value}, nil
	case channel.Table:
		if v == nil {
			v = channel.Table{}
		}
		return tableAt(v, depth+1)
	case []any:
		if depth >= maxDepth {
			return nil, fmt.Errorf("an array is nested deeper than %d", maxDepth)
		}
		if len(v) > maxEntries {
			return nil, fmt.Errorf("an array has %d entries, the limit is %d", len(v), maxEntries)
		}
		out := make([]any, len(v))
		for i, e := range v {
			f, err := fieldAt(e, depth+1)
			if err != nil {
				return nil, fmt.Errorf("[%d]: %w", i, err)
			}
			out[i] = f
		}
		return out, nil
	}
	return nil, fmt.Errorf("values of type %T cannot be encoded", v)
}

// fromTable makes our table of the library's, which is the receiver's.
func fromTable(t amqp091.Table) channel.Table {
	if t == nil {
		return nil
	}
	out := make(channel.Table, len(t))
	for k, v := range t {
		out[k] = fromField(v)
	}
	return out
}

func fromField(v any) any {
	switch v := v.(type) {
	case amqp091.Table:
		return fromTable(v)
	case amqp091.Decimal:
		return channel.Decimal{Scale: v.Scale, Value: v.Value}
	case []any:
		out := make([]any, len(v)) // an empty array is read as nil
		for i, e := range v {
			out[i] = fromField(e)
		}
		return out
	}
	return v
}

func toPublishing(p *channel.Publishing) (amqp091.Publishing, error) {
	headers, err := toTable(p.Headers)
	if err != nil {
		return amqp091.Publishing{}, fmt.Errorf("headers: %w", err)
	}
	return amqp091.Publishing{
		Headers: headers, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageId, Timestamp: p.Timestamp,
		Type: p.Type, UserId: p.UserId, AppId: p.AppId, Body: p.Body,
	}, nil
}

func fromDelivery(d *amqp091.Delivery) channel.Delivered {
	return channel.Delivered{
		Publishing: &channel.Publishing{
			ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode,
			Priority: d.Priority, CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId,
			Timestamp: d.Timestamp, Type: d.Type, UserId: d.UserId, AppId: d.AppId,
		},
		Headers:     fromTable(d.Headers),
		ConsumerTag: d.ConsumerTag, MessageCount: int(d.MessageCount), DeliveryTag: d.DeliveryTag, Redelivered: d.Redelivered,
		Exchange: d.Exchange, RoutingKey: d.RoutingKey, Body: d.Body,
	}
}

func fromReturn(r *amqp091.Return) channel.Return {
	return channel.Return{
		ReplyCode: int(r.ReplyCode), ReplyText: r.ReplyText, Exchange: r.Exchange, RoutingKey: r.RoutingKey,
		Publishing: channel.Publishing{
			Headers: fromTable(r.Headers), ContentType: r.ContentType, ContentEncoding: r.ContentEncoding, DeliveryMode: r.DeliveryMode,
			Priority: r.Priority, CorrelationId: r.CorrelationId, ReplyTo: r.ReplyTo, Expiration: r.Expiration, MessageId: r.MessageId,
			Timestamp: r.Timestamp, Type: r.Type, UserId: r.UserId, AppId: r.AppId, Body: r.Body,
		},
	}
}
