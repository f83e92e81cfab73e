package script

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/model"
)

// Script is a list of operations that come one after the other.
type Script []Op

// Op is one operation of one client. Do names it; which other fields it has depends on that.
type Op struct {
	Do   string `json:"do"`
	Conn int    `json:"conn"`
	Chan int    `json:"chan"`

	Queue    string `json:"queue,omitempty"`
	Exchange string `json:"exchange,omitempty"`
	Type     string `json:"type,omitempty"`
	To       string `json:"to,omitempty"` // the exchange that is bound to Exchange
	Key      string `json:"key,omitempty"`
	Tag      string `json:"tag,omitempty"`
	Args     Args   `json:"args,omitempty"`

	Passive    bool `json:"passive,omitempty"`
	Durable    bool `json:"durable,omitempty"`
	AutoDelete bool `json:"auto_delete,omitempty"`
	Exclusive  bool `json:"exclusive,omitempty"`
	Internal   bool `json:"internal,omitempty"`
	NoWait     bool `json:"no_wait,omitempty"`
	IfUnused   bool `json:"if_unused,omitempty"`
	IfEmpty    bool `json:"if_empty,omitempty"`
	NoAck      bool `json:"no_ack,omitempty"`
	Multiple   bool `json:"multiple,omitempty"`
	Requeue    bool `json:"requeue,omitempty"`
	Global     bool `json:"global,omitempty"`
	Mandatory  bool `json:"mandatory,omitempty"`

	// N is a number: of messages, of a window, of milliseconds, or which of the channel's unacked deliveries is meant,
	// counted from the oldest; one that is not there is an unknown tag.
	N int `json:"n,omitempty"`

	Priority   uint8  `json:"priority,omitempty"`
	Expiration string `json:"expiration,omitempty"`
	Mode       uint8  `json:"mode,omitempty"`
	Headers    Args   `json:"headers,omitempty"`
	Size       int    `json:"size,omitempty"`  // bytes that the body is made longer by
	Props      int    `json:"props,omitempty"` // which of the other properties are set, a bit for each
	User       string `json:"user,omitempty"`
}

// What an Op can do.
const (
	OpenChannel     = "channel.open"
	CloseChannel    = "channel.close"
	CloseConnection = "connection.close"
	Crash           = "crash" // of the process that has the connection, with all it has open
	Sleep           = "sleep"
	Drain           = "drain" // get without acks until the queue is empty
	DeclareExchange = "exchange.declare"
	DeleteExchange  = "exchange.delete"
	BindExchange    = "exchange.bind"
	UnbindExchange  = "exchange.unbind"
	DeclareQueue    = "queue.declare"
	DeleteQueue     = "queue.delete"
	PurgeQueue      = "queue.purge"
	BindQueue       = "queue.bind"
	UnbindQueue     = "queue.unbind"
	Publish         = "basic.publish"
	Consume         = "basic.consume"
	Cancel          = "basic.cancel"
	Get             = "basic.get"
	Ack             = "basic.ack"
	Nack            = "basic.nack"
	Reject          = "basic.reject"
	Qos             = "basic.qos"
	Recover         = "basic.recover"
	ConfirmSelect   = "confirm.select"
	TxSelect        = "tx.select"
	TxCommit        = "tx.commit"
	TxRollback      = "tx.rollback"
)

// Slot returns the channel that the operation is made on.
func (o *Op) Slot() model.Slot { return model.Slot{Conn: o.Conn, Chan: o.Chan} }

// Args is a table that keeps whole numbers whole in JSON.
type Args map[string]any

// UnmarshalJSON reads whole numbers as int64.
func (a *Args) UnmarshalJSON(b []byte) error {
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		return err
	}
	for k, v := range m {
		m[k] = plain(v)
	}
	*a = m
	return nil
}

func plain(v any) any {
	switch v := v.(type) {
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		f, err := v.Float64()
		if err != nil {
			f = math.NaN()
		}
		return f
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case map[string]any:
		for k := range v {
			v[k] = plain(v[k])
		}
		return channel.Table(v)
	}
	return v
}

// JSON prints a script, one operation a line.
func (s Script) JSON() string {
	var w bytes.Buffer
	w.WriteString("[\n")
	for i, o := range s {
		b, err := json.Marshal(o)
		if err != nil {
			panic(err) // it is plain data
		}
		w.Write(b)
		if i < len(s)-1 {
			w.WriteByte(',')
		}
		w.WriteByte('\n')
	}
	w.WriteString("]")
	return w.String()
}

// Parse reads what JSON printed.
func Parse(text []byte) (Script, error) {
	var s Script
	if err := json.Unmarshal(text, &s); err != nil {
		return nil, fmt.Errorf("parse script: %w", err)
	}
	return s, nil
}

// method returns the synchronous method that an operation is; nil: it is none.
func (o *Op) method() channel.Method {
	args := channel.Table(o.Args)
	switch o.Do {
	case DeclareExchange:
		return &channel.ExchangeDeclare{
			Name: o.Exchange, Type: o.Type, Passive: o.Passive, Durable: o.Durable, AutoDelete: o.AutoDelete, Internal: o.Internal,
			NoWait: o.NoWait, Args: args,
		}
	case DeleteExchange:
		return &channel.ExchangeDelete{Name: o.Exchange, IfUnused: o.IfUnused, NoWait: o.NoWait}
	case BindExchange, UnbindExchange:
		return &channel.ExchangeBind{Destination: o.To, Source: o.Exchange, Key: o.Key, Unbind: o.Do == UnbindExchange, NoWait: o.NoWait, Args: args}
	case DeclareQueue:
		return &channel.QueueDeclare{
			Name: o.Queue, Passive: o.Passive, Durable: o.Durable, Exclusive: o.Exclusive, AutoDelete: o.AutoDelete, NoWait: o.NoWait,
			Args: args,
		}
	case DeleteQueue:
		return &channel.QueueDelete{Name: o.Queue, IfUnused: o.IfUnused, IfEmpty: o.IfEmpty, NoWait: o.NoWait}
	case PurgeQueue:
		return &channel.QueuePurge{Name: o.Queue, NoWait: o.NoWait}
	case BindQueue, UnbindQueue:
		return &channel.QueueBind{Queue: o.Queue, Exchange: o.Exchange, Key: o.Key, Unbind: o.Do == UnbindQueue, NoWait: o.NoWait && o.Do == BindQueue, Args: args}
	case Consume:
		return &channel.Consume{Queue: o.Queue, Tag: o.Tag, NoAck: o.NoAck, Exclusive: o.Exclusive, NoWait: o.NoWait, Args: args}
	case Cancel:
		return &channel.Cancel{Tag: o.Tag, NoWait: o.NoWait}
	case Get:
		return &channel.Get{Queue: o.Queue, NoAck: o.NoAck}
	case Qos:
		return &channel.Qos{Count: o.N, Global: o.Global}
	case Recover:
		return &channel.Recover{Requeue: o.Requeue}
	case ConfirmSelect:
		return &channel.ConfirmSelect{}
	case TxSelect:
		return &channel.TxSelect{}
	case TxCommit:
		return &channel.TxCommit{}
	case TxRollback:
		return &channel.TxRollback{}
	}
	return nil
}

// publishes returns the messages of a publish, the at-th operation: bodies tell them apart.
func (o *Op) publishes(at int) []*channel.Publish {
	var all []*channel.Publish
	for i := range max(1, o.N) {
		body := fmt.Sprintf("m%d.%d", at, i)
		p := channel.Publishing{
			Body: append([]byte(body), bytes.Repeat([]byte{'.'}, o.Size)...), Headers: channel.Table(o.Headers), Priority: o.Priority,
			Expiration: o.Expiration, DeliveryMode: o.Mode, Mandatory: o.Mandatory, MessageId: body, UserId: o.User,
		}
		for bit, set := range props {
			if o.Props&(1<<bit) != 0 {
				set(&p, at)
			}
		}
		all = append(all, &channel.Publish{Exchange: o.Exchange, Key: o.Key, Publishing: p})
	}
	return all
}

// props set the properties that no broker looks at, of the at-th operation.
var props = []func(p *channel.Publishing, at int){
	func(p *channel.Publishing, at int) { p.ContentType = "text/plain" },
	func(p *channel.Publishing, at int) { p.ContentEncoding = "none" },
	func(p *channel.Publishing, at int) { p.CorrelationId = fmt.Sprint("c", at) },
	func(p *channel.Publishing, at int) { p.ReplyTo = fmt.Sprint("r", at) },
	func(p *channel.Publishing, at int) { p.Timestamp = time.Unix(1e9+int64(at), 0).UTC() },
	func(p *channel.Publishing, at int) { p.Type = fmt.Sprint("t", at) },
	func(p *channel.Publishing, at int) { p.AppId = "a" },
}

// unknownTag is a delivery tag that no channel ever gets to.
const unknownTag = 1 << 40

// settle returns how deliveries are answered, given the tags that there are.
func (o *Op) settle(tags []uint64) channel.Settle {
	s := channel.Settle{Tag: unknownTag, Multiple: o.Multiple, Method: o.Do, Kind: channel.Ack}
	switch {
	case o.N >= 0 && o.N < len(tags):
		s.Tag = tags[o.N]
	case o.N < 0 && o.Multiple:
		s.Tag = 0
	}
	if o.Do != Ack {
		if s.Kind = channel.Nack; o.Requeue {
			s.Kind = channel.Requeue
		}
	}
	if o.Do == Reject {
		s.Multiple = false
	}
	return s
}

// act makes the operation in a model.
func (o *Op) act(b *model.Broker, at int, process func(conn int) int) {
	switch o.Do {
	case OpenChannel:
		b.OpenChannel(o.Slot())
	case CloseChannel:
		b.Close(o.Slot())
	case CloseConnection:
		b.CloseConnection(o.Conn)
	case Crash:
		var conns []int
		for c := range maxConns {
			if process(c) == process(o.Conn) {
				conns = append(conns, c)
			}
		}
		b.Crash(conns)
	case Sleep:
	case Publish:
		b.Publish(o.Slot(), o.publishes(at))
	case Ack, Nack, Reject:
		b.Settle(o.Slot(), o.settle(b.Unacked(o.Slot())))
	default:
		b.Call(o.Slot(), o.method())
	}
}

// maxConns bounds the connections of a script.
const maxConns = 8
