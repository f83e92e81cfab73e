package channel

import (
	"context"
	"time"
)

// Exchange types of AMQP 0-9-1 and of the RabbitMQ plugins that dashi knows.
const (
	Direct         = "direct"
	Fanout         = "fanout"
	Topic          = "topic"
	Headers        = "headers"
	ConsistentHash = "x-consistent-hash"
	Random         = "x-random"
	LocalRandom    = "x-local-random"
	Delayed        = "x-delayed-message"
)

// Delivery modes. Messages that are Persistent survive a restart of the store where the store can.
const (
	Transient  uint8 = 1
	Persistent uint8 = 2
)

// Publishing is a message on its way in: the properties of AMQP's class basic (section 1.8.2 of the reference), the
// body, and how it is to be published. The zero value is an empty transient message.
type Publishing struct {
	// Headers are application headers, validated before anything is sent. nil and empty are kept apart.
	Headers Table

	ContentType     string
	ContentEncoding string
	DeliveryMode    uint8 // 0 (not set), Transient or Persistent
	Priority        uint8 // 0 to 255; queues with x-max-priority use it
	CorrelationId   string
	ReplyTo         string
	Expiration      string // milliseconds as decimal text
	MessageId       string
	Timestamp       time.Time // second resolution; the zero time is not sent
	Type            string
	UserId          string // must equal the connection's user where set
	AppId           string

	Body []byte

	// UserIdSet sends UserId even when it is empty.
	UserIdSet bool
	// Mandatory asks for a Return when the message reaches no queue.
	Mandatory bool
	// Immediate is refused with NotImplemented (540) by every transport, as RabbitMQ 3 does.
	Immediate bool
	// NoCopy promises that Body is never changed again: no copy of it is made.
	NoCopy bool
}

// Delivery is a message on its way out, from a consumer or from Get. Its Body and Headers belong to the receiver.
type Delivery struct {
	ch *Channel // it is answered to

	Headers Table

	ContentType     string
	ContentEncoding string
	DeliveryMode    uint8
	Priority        uint8
	CorrelationId   string
	ReplyTo         string
	Expiration      string
	MessageId       string
	Timestamp       time.Time
	Type            string
	UserId          string
	AppId           string

	ConsumerTag  string // empty for Get
	MessageCount int    // for Get: messages left in the queue
	DeliveryTag  uint64
	Redelivered  bool
	Exchange     string
	RoutingKey   string

	Body []byte
}

// Ack acknowledges the delivery, or with multiple all outstanding ones of its channel up to it. It does not wait: a
// message that could not be acknowledged comes back. An unknown tag, or one settled before, closes the channel with
// PreconditionFailed (406), as on RabbitMQ.
func (d *Delivery) Ack(multiple bool) error {
	return d.settle(Settle{Tag: d.DeliveryTag, Multiple: multiple, Kind: Ack, Method: "basic.ack"})
}

// AckWait acknowledges the delivery and waits until the store has decided. An error matching ErrLeaseLost says that
// the message went to another consumer in the meantime (this process was frozen, or the store was away), which a
// plain Ack does not tell.
func (d *Delivery) AckWait(ctx context.Context) error {
	if d.ch == nil {
		return errNoChannel
	}
	return d.ch.settleWait(ctx, Settle{Tag: d.DeliveryTag, Kind: Ack, Method: "basic.ack"})
}

// Nack refuses the delivery, or with multiple all outstanding ones up to it. With requeue they go back to their
// queue, at their old place where the store keeps order; without, they are dead-lettered or dropped.
func (d *Delivery) Nack(multiple, requeue bool) error {
	return d.settle(Settle{Tag: d.DeliveryTag, Multiple: multiple, Kind: nackKind(requeue), Method: "basic.nack"})
}

// Reject is Nack for one delivery.
func (d *Delivery) Reject(requeue bool) error {
	return d.settle(Settle{Tag: d.DeliveryTag, Kind: nackKind(requeue), Method: "basic.reject"})
}

func (d *Delivery) settle(s Settle) error {
	if d.ch == nil {
		return errNoChannel
	}
	return d.ch.settle(s)
}

func nackKind(requeue bool) SettleKind {
	if requeue {
		return Requeue
	}
	return Nack
}

// Return is a mandatory message that reached no queue, given back to its publisher.
type Return struct {
	ReplyCode  int    // NoRoute (312)
	ReplyText  string // "NO_ROUTE"
	Exchange   string
	RoutingKey string
	Publishing // Mandatory, Immediate and NoCopy are not set
}

// Queue is the answer to a declaration.
type Queue struct {
	Name      string // the server's choice when declared as ""
	Messages  int    // ready messages
	Consumers int    // consumers of all processes
}

// ExchangeOptions are the options of ExchangeDeclare; the zero value is a transient exchange that stays.
type ExchangeOptions struct {
	Durable    bool
	AutoDelete bool // goes when its last binding as a source goes
	Internal   bool // cannot be published to, only bound to
	NoWait     bool
	Args       Table
}

// QueueOptions are the options of QueueDeclare; the zero value is a transient queue that stays.
type QueueOptions struct {
	Durable    bool
	AutoDelete bool // goes when its last consumer goes
	Exclusive  bool // belongs to this connection and goes with it
	NoWait     bool
	Args       Table
}

// DeleteOptions are the options of QueueDelete and ExchangeDelete.
type DeleteOptions struct {
	IfUnused bool // refuse with 406 when there are consumers, or bindings of which it is the source
	IfEmpty  bool // queues: refuse with 406 when there are ready messages
	NoWait   bool
}

// ConsumeOptions are the options of Consume and Deliveries.
type ConsumeOptions struct {
	// Tag names the consumer; empty: a unique one is made.
	Tag string
	// AutoAck takes messages for good as they are handed over. Whatever is lost after that is lost.
	AutoAck   bool
	Exclusive bool
	NoLocal   bool // accepted and ignored, as by RabbitMQ
	NoWait    bool
	Args      Table
	// NoCopy promises that Body and Headers of the deliveries are never changed: no copies of them are made where the
	// transport shares them with others, such as the consumers of a fanout.
	NoCopy bool
	// Credit bounds how many deliveries wait in this process for the application; 0 means 256. The window of a
	// consumer is the smaller of this and the channel's prefetch.
	Credit int
	// Ended, when set, is called once when the deliveries of a Consume have ended, right before their chan is
	// closed: with nil after our own Cancel, else with the cause (ErrCancelled, the channel's error, the context's).
	Ended func(cause error)
}

// Flag is an option of the calls that take no options struct.
type Flag uint8

// NoWait sends a method without asking for an answer; an error still closes the channel.
const NoWait Flag = 1

func noWait(flags []Flag) bool {
	for _, f := range flags {
		if f == NoWait {
			return true
		}
	}
	return false
}

// EventKind says what an Event is about.
type EventKind string

// The kinds of events.
const (
	// EventBlocked tells that the server stopped taking messages; EventUnblocked that it goes on.
	EventBlocked   EventKind = "connection.blocked"
	EventUnblocked EventKind = "connection.unblocked"
	// EventStoreLost tells that the store failed; EventStoreFound that it answers again.
	EventStoreLost  EventKind = "store.lost"
	EventStoreFound EventKind = "store.found"
	// EventLeaseLost tells that messages this process held went to others.
	EventLeaseLost EventKind = "lease.lost"
	// EventRegistryConflict tells that two processes had declared at once after one of them had stood still, on a store that
	// cannot tell; where only one may have something, the other has lost it.
	EventRegistryConflict EventKind = "registry.conflict"
	// EventCancelled tells that the server ended a consumer.
	EventCancelled EventKind = "consumer.cancelled"
)

// Event is something a program may want to know and need not.
type Event struct {
	Kind     EventKind
	Reason   string
	Queue    string // where it concerns one
	Consumer string // where it concerns one
	Count    int    // how many messages it concerns, where it does
}

// Config is how a connection is opened, beside its URL.
type Config struct {
	// Name is shown in the server's lists, where it has any.
	Name string
	// Options are the transport's own, such as *tls.Config for amqps; each transport documents what it takes.
	Options []any
}
