package channel

import "context"

// Transport is one open AMQP connection as a Connection stands on it. The virtual broker and the native AMQP
// client implement it. Safe for concurrent use.
type Transport interface {
	// OpenChannel opens a channel whose events go to s. Beyond channel-max it returns an *Error with code
	// NotAllowed (530) and the connection is unharmed.
	OpenChannel(ctx context.Context, s Sink) (Port, error)

	// Close says goodbye within ctx: what was published is stored, acks are sent, leases given back; every
	// goroutine of the connection has ended when it returns. With ctx already ended nothing is said or stored:
	// the connection drops as by SIGKILL. A second Close waits for the first and returns nil.
	Close(ctx context.Context) error

	// Info tells what is known of the connection. It is constant.
	Info() Info
}

// Info describes an open connection.
type Info struct {
	// Product names what is at the other end, for example "RabbitMQ 3.10.8" or "dashi memory".
	Product string
	// URL is the address with its password removed.
	URL string
	// User is the user the connection is logged in as; user-id properties must equal it.
	User string
	// Vhost is the virtual host.
	Vhost string
	// ChannelMax is how many channels may be open at a time; 0 means no limit.
	ChannelMax int
	// Virtual says that a store is behind the connection, not an AMQP server.
	Virtual bool
}

// Dialer opens a Transport for a URL. The sink is called until Closed was. An error names what was wrong and
// never shows a password.
type Dialer func(ctx context.Context, url string, cfg Config, s ConnectionSink) (Transport, error)

// ConnectionSink hears what concerns a whole connection. Its methods never block, never call back into the
// transport, take no lock that is held during Call or Publish, and may be called under the transport's locks.
type ConnectionSink interface {
	// Event tells of something a program may want to know.
	Event(e Event)
	// Closed comes last and once: nil after our own Close, else why the connection ended. Every open channel's
	// Sink got its Closed before.
	Closed(err *Error)
}

// Port is the server's side of one channel. The caller serialises Call and Publish with one lock; a Call sees
// every earlier Publish and Settle of its Port. Settle, Grant and Flush may come from any goroutine. After
// Sink.Closed all of them return its error.
type Port interface {
	// Call performs one synchronous method. Its success goes to Sink.Reply too, at its place in the order and
	// before Call returns (not for NoWait). An error that closes the channel goes to Sink.Closed too. When ctx
	// ends before the answer is there, the channel is closed, since nobody knows what happened.
	Call(ctx context.Context, m Method) (Reply, error)

	// Publish hands one message over. It blocks only at the bound on messages not yet stored. An error means not
	// accepted: no number is used. The n-th message accepted since ConfirmSelect has number n. Body is the caller's
	// again on return unless NoCopy is set, and so is p. Headers are the transport's: a copy in AMQP's types, see
	// CloneTable.
	Publish(ctx context.Context, p *Publish) error

	// Settle answers deliveries. It does not wait for the store. An unknown tag closes the channel with
	// PreconditionFailed (406).
	Settle(s Settle) error

	// SettleWait is Settle that waits until the store has decided. ErrLeaseLost means that the message had
	// been lost to another consumer, and nothing was done. Native AMQP has no such answer: it settles and makes one
	// round trip.
	SettleWait(ctx context.Context, s Settle) error

	// Grant says that the application took n more deliveries of a consumer whose Consume had a Credit.
	Grant(consumerTag string, n int)

	// Flush returns when all that was published and settled before has reached the store. A *LostError lists the
	// confirm numbers that were refused. Native AMQP: one round trip.
	Flush(ctx context.Context) error

	// Close closes the channel; ctx as in Transport.Close. All its unacked messages are requeued.
	Close(ctx context.Context) error
}

// Sink hears one channel: one call at a time, in order. Its methods obey the rules of ConnectionSink. Native
// AMQP orders deliveries per consumer only, and a Return before the Confirm of the same message.
type Sink interface {
	// Deliver hands messages over. ds is the transport's again on return.
	Deliver(ds []Delivered)
	// Reply tells the success of a Call: that of Consume before the tag's first delivery, that of Cancel after its
	// last.
	Reply(r Reply)
	// Return gives back an unroutable mandatory message, before the Confirm of the same message.
	Return(r Return)
	// Confirm answers one number, or with multiple all unanswered ones up to it. Numbers never answered end with
	// Closed.
	Confirm(number uint64, multiple, ack bool)
	// Cancelled tells that the server ended a consumer, after its last delivery.
	Cancelled(consumerTag string)
	// Closed comes last and once; nil after our own Close.
	Closed(err *Error)
}

// Inspector is an optional interface of a Transport: the topology behind it as the transport knows it, and an
// account of how it routes. Native AMQP has none.
type Inspector interface {
	// Explain tells in text which bindings lead a message to which queues, and why others do not match.
	Explain(ctx context.Context, exchange, key string, headers Table) (string, error)
	// Topology lists what is declared in the vhost.
	Topology(ctx context.Context) (*Topology, error)
}

// Topology is what is declared in a vhost at one moment, in the order of names.
type Topology struct {
	Exchanges []ExchangeInfo `json:"exchanges"`
	Queues    []QueueInfo    `json:"queues"`
	Bindings  []BindingInfo  `json:"bindings"`
}

// ExchangeInfo describes one declared exchange.
type ExchangeInfo struct {
	Name       string `json:"name"`
	Type       string `json:"type"`
	Durable    bool   `json:"durable,omitempty"`
	AutoDelete bool   `json:"auto_delete,omitempty"`
	Internal   bool   `json:"internal,omitempty"`
	Args       Table  `json:"arguments,omitempty"`
}

// QueueInfo describes one declared queue: Ready messages, Unacked ones of this process, Consumers of all processes.
type QueueInfo struct {
	Name       string `json:"name"`
	Durable    bool   `json:"durable,omitempty"`
	AutoDelete bool   `json:"auto_delete,omitempty"`
	Exclusive  bool   `json:"exclusive,omitempty"`
	Args       Table  `json:"arguments,omitempty"`
	Ready      int    `json:"ready"`
	Unacked    int    `json:"unacked"`
	Consumers  int    `json:"consumers"`
}

// BindingInfo describes one binding from an exchange to a queue or, with ToExchange, to an exchange.
type BindingInfo struct {
	Source      string `json:"source"`
	Destination string `json:"destination"`
	ToExchange  bool   `json:"to_exchange,omitempty"`
	Key         string `json:"key"`
	Args        Table  `json:"arguments,omitempty"`
}

// Method is one synchronous AMQP method; pointers to the types below implement it. Args are a copy in AMQP's types,
// see CloneTable.
type Method interface{ method() string }

// The synchronous methods of AMQP 0-9-1, with the specification's fields under Go names.
type (
	// ExchangeDeclare is exchange.declare.
	ExchangeDeclare struct {
		Name, Type                                     string
		Passive, Durable, AutoDelete, Internal, NoWait bool
		Args                                           Table
	}
	// ExchangeDelete is exchange.delete.
	ExchangeDelete struct {
		Name             string
		IfUnused, NoWait bool
	}
	// ExchangeBind is exchange.bind, or exchange.unbind with Unbind.
	ExchangeBind struct {
		Destination, Source, Key string
		Unbind, NoWait           bool
		Args                     Table
	}
	// QueueDeclare is queue.declare.
	QueueDeclare struct {
		Name                                            string
		Passive, Durable, Exclusive, AutoDelete, NoWait bool
		Args                                            Table
	}
	// QueueDelete is queue.delete.
	QueueDelete struct {
		Name                      string
		IfUnused, IfEmpty, NoWait bool
	}
	// QueueBind is queue.bind, or queue.unbind with Unbind.
	QueueBind struct {
		Queue, Exchange, Key string
		Unbind, NoWait       bool
		Args                 Table
	}
	// QueuePurge is queue.purge.
	QueuePurge struct {
		Name   string
		NoWait bool
	}
	// Qos is basic.qos: Count messages and Size bytes.
	Qos struct {
		Count, Size int
		Global      bool
	}
	// Consume is basic.consume. Tag is never empty. Credit bounds the deliveries not yet granted back; 0 is no
	// bound.
	Consume struct {
		Queue, Tag                        string
		NoAck, Exclusive, NoLocal, NoWait bool
		Args                              Table
		Credit                            int
	}
	// Cancel is basic.cancel.
	Cancel struct {
		Tag    string
		NoWait bool
	}
	// Get is basic.get.
	Get struct {
		Queue string
		NoAck bool
	}
	// Recover is basic.recover.
	Recover struct{ Requeue bool }
	// Flow is channel.flow.
	Flow struct{ Active bool }
	// ConfirmSelect is confirm.select.
	ConfirmSelect struct{ NoWait bool }
	// TxSelect is tx.select.
	TxSelect struct{}
	// TxCommit is tx.commit.
	TxCommit struct{}
	// TxRollback is tx.rollback.
	TxRollback struct{}
)

func (*ExchangeDeclare) method() string { return "exchange.declare" }
func (*ExchangeDelete) method() string  { return "exchange.delete" }
func (m *ExchangeBind) method() string  { return pick(m.Unbind, "exchange.unbind", "exchange.bind") }
func (*QueueDeclare) method() string    { return "queue.declare" }
func (*QueueDelete) method() string     { return "queue.delete" }
func (m *QueueBind) method() string     { return pick(m.Unbind, "queue.unbind", "queue.bind") }
func (*QueuePurge) method() string      { return "queue.purge" }
func (*Qos) method() string             { return "basic.qos" }
func (*Consume) method() string         { return "basic.consume" }
func (*Cancel) method() string          { return "basic.cancel" }
func (*Get) method() string             { return "basic.get" }
func (*Recover) method() string         { return "basic.recover" }
func (*Flow) method() string            { return "channel.flow" }
func (*ConfirmSelect) method() string   { return "confirm.select" }
func (*TxSelect) method() string        { return "tx.select" }
func (*TxCommit) method() string        { return "tx.commit" }
func (*TxRollback) method() string      { return "tx.rollback" }

func pick(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

// NoAnswer reports whether a method was asked for with no-wait: its success is not told.
func NoAnswer(m Method) bool {
	switch m := m.(type) {
	case *ExchangeDeclare:
		return m.NoWait
	case *ExchangeDelete:
		return m.NoWait
	case *ExchangeBind:
		return m.NoWait
	case *QueueDeclare:
		return m.NoWait
	case *QueueBind:
		return m.NoWait
	case *QueueDelete:
		return m.NoWait
	case *QueuePurge:
		return m.NoWait
	case *Consume:
		return m.NoWait
	case *Cancel:
		return m.NoWait
	case *ConfirmSelect:
		return m.NoWait
	}
	return false
}

// MethodName returns the specification's name of a method, such as "queue.declare".
func MethodName(m Method) string { return m.method() }

// Reply is the success of a Method: Queue and the counts for queue methods, Tag for Consume and Cancel, Delivery for
// Get (nil: the queue was empty).
type Reply struct {
	Method              Method
	Queue, Tag          string
	Messages, Consumers int
	Delivery            *Delivered
}

// Delivered is a message on its way to the application, which gets a Delivery made of it when it takes it.
type Delivered struct {
	// The properties, never nil; Headers and Body of it are not used. Many messages may share them, and nobody changes them.
	*Publishing
	Headers Table
	Body    []byte
	// Shared says that Headers and Body are not the receiver's, and never change: the application gets copies.
	Shared bool

	ConsumerTag  string // empty for Get
	MessageCount int    // for Get: messages left in the queue
	DeliveryTag  uint64
	Redelivered  bool
	Exchange     string
	RoutingKey   string
}

// Publish is basic.publish.
type Publish struct {
	Exchange, Key string
	Publishing
	// Awaited says that the publisher waits for the confirm of each message before he publishes the next. A transport may
	// then store it on his goroutine, until ctx ends; what is not stored by then goes on without him.
	Awaited bool
}

// SettleKind says how a delivery is answered.
type SettleKind uint8

// The kinds of a Settle.
const (
	// Ack removes the message.
	Ack SettleKind = iota
	// Nack drops or dead-letters it.
	Nack
	// Requeue puts it back where it was, redelivered.
	Requeue
	// GiveBack is Requeue of a message that the application has not seen: where the transport can, it is
	// not counted as a delivery. Native AMQP cannot and requeues.
	GiveBack
)

// Settle answers the delivery Tag, or with Multiple all outstanding ones up to it (0: all there are).
type Settle struct {
	Tag      uint64
	Multiple bool
	Kind     SettleKind
	// Method names the call in errors: basic.ack, basic.nack or basic.reject.
	Method string
}
