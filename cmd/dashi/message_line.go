package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/template"
	"time"
	"unicode/utf8"

	"github.com/dashi-mq/dashi/channel"
)

// renderer adds the line of a message to a buffer, line feed included.
type renderer func(line []byte, d *channel.Delivery) ([]byte, error)

// newRenderer reads the name of a format, or a template.
func newRenderer(format string) (renderer, error) {
	switch {
	case format == "body":
		return func(line []byte, d *channel.Delivery) ([]byte, error) {
			return append(append(line, d.Body...), '\n'), nil
		}, nil
	case format == "key":
		return func(line []byte, d *channel.Delivery) ([]byte, error) {
			return append(append(append(append(line, d.RoutingKey...), '\t'), d.Body...), '\n'), nil
		}, nil
	case format == "json":
		return renderJSON, nil
	case !strings.Contains(format, "{{"):
		return nil, fmt.Errorf("%q is not body, key or json, and no template such as '{{.RoutingKey}} {{.Body}}'", format)
	}
	t, err := template.New("format").Parse(format)
	if err != nil {
		return nil, err
	}
	if err := t.Execute(io.Discard, templateData{Delivery: &channel.Delivery{}}); err != nil { // unknown fields
		return nil, err
	}
	return func(line []byte, d *channel.Delivery) ([]byte, error) {
		b := bytes.NewBuffer(line)
		if err := t.Execute(b, templateData{d, string(d.Body)}); err != nil {
			return nil, err
		}
		return append(b.Bytes(), '\n'), nil
	}, nil
}

// templateData is what a template sees: a delivery whose body is text.
type templateData struct {
	*channel.Delivery
	Body string
}

// messageLine is a message as a line of JSON, written by "dashi consume --format json" and read by "dashi publish --json".
type messageLine struct {
	Exchange    string            `json:"exchange"`
	RoutingKey  string            `json:"routing_key"`
	Redelivered bool              `json:"redelivered,omitempty"` // not read
	Properties  messageProperties `json:"properties"`
	Headers     map[string]any    `json:"headers,omitzero"` // as jsonTable makes them
	Body        *string           `json:"body,omitempty"`
	BodyBase64  []byte            `json:"body_base64,omitempty"` // instead of Body, where that is not UTF-8
}

type messageProperties struct {
	ContentType     string `json:"content_type,omitempty"`
	ContentEncoding string `json:"content_encoding,omitempty"`
	DeliveryMode    uint8  `json:"delivery_mode,omitempty"`
	Priority        uint8  `json:"priority,omitempty"`
	CorrelationID   string `json:"correlation_id,omitempty"`
	ReplyTo         string `json:"reply_to,omitempty"`
	Expiration      string `json:"expiration,omitempty"`
	MessageID       string `json:"message_id,omitempty"`
	Timestamp       *int64 `json:"timestamp,omitempty"` // seconds since 1970
	Type            string `json:"type,omitempty"`
	UserID          string `json:"user_id,omitempty"`
	AppID           string `json:"app_id,omitempty"`
}

func renderJSON(line []byte, d *channel.Delivery) ([]byte, error) {
	m := messageLine{
		Exchange: d.Exchange, RoutingKey: d.RoutingKey, Redelivered: d.Redelivered,
		Properties: messageProperties{
			ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
			CorrelationID: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageID: d.MessageId,
			Type: d.Type, UserID: d.UserId, AppID: d.AppId,
		},
		Headers: jsonTable(d.Headers),
	}
	if !d.Timestamp.IsZero() {
		seconds := d.Timestamp.Unix()
		m.Properties.Timestamp = &seconds
	}
	if utf8.Valid(d.Body) {
		text := string(d.Body)
		m.Body = &text
	} else {
		m.BodyBase64 = d.Body
	}
	b := bytes.NewBuffer(line)
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	err := e.Encode(&m) // ends with a line feed
	return b.Bytes(), err
}

// parseMessage reads a line of JSON as a message, and where it was published to.
func parseMessage(line []byte) (exchange, key string, msg channel.Publishing, err error) {
	var m messageLine
	if err := decodeJSON(line, &m); err != nil {
		return "", "", msg, err
	}
	headers, err := amqpTable(m.Headers)
	if err != nil {
		return "", "", msg, fmt.Errorf("headers: %w", err)
	}
	p := &m.Properties
	msg = channel.Publishing{
		Headers: headers, ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
		CorrelationId: p.CorrelationID, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageID,
		Type: p.Type, UserId: p.UserID, AppId: p.AppID,
	}
	if p.Timestamp != nil {
		msg.Timestamp = time.Unix(*p.Timestamp, 0).UTC()
	}
	switch {
	case m.Body != nil && m.BodyBase64 != nil:
		return "", "", msg, errors.New("body and body_base64: not both")
	case m.Body != nil:
		msg.Body = []byte(*m.Body)
	case m.BodyBase64 != nil:
		msg.Body = m.BodyBase64
	default:
		return "", "", msg, errors.New("neither body nor body_base64")
	}
	return m.Exchange, m.RoutingKey, msg, nil
}
