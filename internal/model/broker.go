package model

import (
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Rules are what a broker is free to do in its own way.
type Rules struct {
	// Late is how long after its time something may happen that nobody waits for: an expiry with no consumer, the end of an
	// unused queue, the release of a delayed message.
	Late time.Duration
	// Unused is how much later than its x-expires an unused queue may go, as a part of that time.
	Unused float64
	// Grace is how long messages are kept for a process that was killed and had said that it would take them.
	Grace time.Duration
	// Lease and Session bound how long after the death of a process its unacked messages and its consumers stay.
	Lease, Session time.Duration
	// TxRoutesLate says that a transaction's messages are routed at its commit, not when they are published.
	TxRoutesLate bool
	// TakesFirst says that a consumer that waits takes a message before the queue's limit is looked at in two cases where
	// RabbitMQ looks at the limit first: when it comes back, and under reject-publish.
	TakesFirst bool
	// InOrder says that the single active consumer is followed by the one that registered next, where RabbitMQ takes the one of
	// the highest priority.
	InOrder bool
	// TrimsLate says that a queue's limit is looked at by who puts a message there, before it where the queue refuses and after
	// it where it drops its head: consumers take meanwhile, or not.
	TrimsLate bool
	// ExpiresUnattended says that somebody looks now and then for what has expired, and only in queues without consumers: others
	// leave it to those, however long they have no room.
	ExpiresUnattended bool
	// LooksAgain is how long nobody may look at such a queue after a get, or after something came back.
	LooksAgain time.Duration
	// TxWhole says that a commit that fails does nothing, where RabbitMQ keeps what was not refused.
	TxWhole bool
	// DropsExpired says that what has expired and comes back to an exclusive queue as its connection closes may go with the
	// queue, where RabbitMQ lets it die first.
	DropsExpired bool
	// Refuses reports whether the arguments of a queue are refused with 540, which then closes the channel alone.
	Refuses func(args channel.Table) bool
	// Process tells which process a connection belongs to, where consumer priorities hold within one only.
	Process func(conn int) int
}

// ranks reports whether consumers of two connections are told apart by their priorities.
func (r *Rules) ranks(a, b int) bool { return r.Process == nil || r.Process(a) == r.Process(b) }

// Broker is the state of a broker and of all that clients have open on it.
type Broker struct {
	rules     Rules
	now       Span
	exchanges map[string]*exchange
	queues    map[string]*queue
	bindings  []binding
	channels  map[Slot]*client
	dead      []*ghosts // what processes had that were killed, until they are missed
	delayed   []held
	relieved  time.Time // by when another process does what one that was killed did for all
	steps     int
	serial    int
	torn      bool // the last step may have gone in several ways
	generated int  // names of queues, amq.gen-1 and so on

	run     *run     // the step under way
	letters []letter // of the step, on their way
}

type exchange struct {
	name, kind                    string
	durable, autoDelete, internal bool
	args                          channel.Table
}

type binding struct {
	source, destination string
	toExchange          bool
	key                 string
	args                channel.Table
}

type queue struct {
	name                string
	id                  int // of this incarnation
	durable, autoDelete bool
	exclusive           bool
	owner               int // the connection, where exclusive
	args                channel.Table
	ready               []*entry // in the order in which they are to be taken
	consumers           []*consumer
	active              int        // id of the single active consumer, where there is one
	used                Span       // for x-expires
	changed             time.Time  // when at the latest its head or its consumers were others
	ghost               int        // how many messages a process had said it would take that was killed: kept for it, a while
	ghostRank           int        // the highest priority of its consumers
	woken               *time.Time // when it would have been told of the first
}

// entry is a message in a queue.
type entry struct {
	m           *message
	place       int    // of its arrival
	step        int    // in which it came
	path        string // the queues it died in on its way, in that step
	owed        bool   // a consumer waited for it, and is to get it in this step
	level       int
	redelivered bool
	taken       int // how often it was handed over
	expires     *Span
	instant     bool // it expires as it comes
}

// message is never changed once it is made.
type message struct {
	exchange, key string
	bcc           []string
	p             channel.Publishing
}

// letter is a message that died and goes to its dead-letter exchange.
type letter struct {
	q           *queue
	e           *entry
	dlx, reason string
	at          Span
	path        string
}

// held is a message that an x-delayed-message exchange keeps.
type held struct {
	m   *message
	due Span
}

type consumer struct {
	id               int
	slot             Slot
	tag              string
	queue            string
	noAck, exclusive bool
	priority, window int
	dead             bool // its process was killed
}

// client is a channel.
type client struct {
	slot          Slot
	closed        int // the code it ended with; 0: it is open
	tag           uint64
	prefetch, all int
	lastQueue     string
	unacked       []unacked
	confirming    bool
	doomed        bool // it is about to end: nobody sees what it gets
	published     uint64
	tx            *tx
}

// ghosts are what a process had that was killed.
type ghosts struct {
	conn             int // negative, and owner of its exclusive queues
	channels         []*client
	leases, sessions *Span // when its messages come back, and its consumers end; nil: they have
}

// unacked is a message that was handed over and not answered.
type unacked struct {
	tag      uint64
	queue    string
	id       int // of the queue's incarnation
	e        *entry
	consumer int  // 0: a get
	answered bool // in the open transaction
	unseen   bool // its channel was about to end
}

type tx struct {
	publishes []*staged
	answers   []channel.Settle // each of one tag
}

type staged struct {
	m      *message
	pub    *channel.Publish
	queues []string // where it goes, when that was decided at once
}

// New makes an empty broker at a time.
func New(r Rules, now time.Time) *Broker {
	b := &Broker{rules: r, now: Span{now, now}, exchanges: map[string]*exchange{}, queues: map[string]*queue{}, channels: map[Slot]*client{}}
	for name, kind := range map[string]string{
		"amq.direct": channel.Direct, "amq.fanout": channel.Fanout, "amq.topic": channel.Topic, "amq.headers": channel.Headers,
		"amq.match": channel.Headers, "amq.rabbitmq.trace": channel.Topic,
	} {
		b.exchanges[name] = &exchange{name: name, kind: kind, durable: true, internal: name == "amq.rabbitmq.trace"}
	}
	return b
}

// clone copies all that a step may change.
func (b *Broker) clone() *Broker {
	c := *b
	c.run, c.letters = nil, nil
	c.exchanges = make(map[string]*exchange, len(b.exchanges))
	for k, x := range b.exchanges {
		y := *x
		c.exchanges[k] = &y
	}
	c.bindings = slices.Clone(b.bindings)
	c.delayed = slices.Clone(b.delayed)
	c.queues = make(map[string]*queue, len(b.queues))
	for k, q := range b.queues {
		n := *q
		n.ready = make([]*entry, len(q.ready))
		for i, e := range q.ready {
			f := *e
			n.ready[i] = &f
		}
		n.consumers = make([]*consumer, len(q.consumers))
		for i, e := range q.consumers {
			f := *e
			n.consumers[i] = &f
		}
		c.queues[k] = &n
	}
	c.channels = make(map[Slot]*client, len(b.channels))
	for k, ch := range b.channels {
		c.channels[k] = ch.clone()
	}
	c.dead = nil
	for _, d := range b.dead {
		if d.leases == nil && d.sessions == nil {
			continue
		}
		n := *d
		n.channels = make([]*client, len(d.channels))
		for i, ch := range d.channels {
			n.channels[i] = ch.clone()
		}
		c.dead = append(c.dead, &n)
	}
	return &c
}

func (ch *client) clone() *client {
	c := *ch
	c.unacked = slices.Clone(ch.unacked)
	for i := range c.unacked {
		e := *c.unacked[i].e
		c.unacked[i].e = &e
	}
	if ch.tx != nil {
		c.tx = &tx{publishes: slices.Clone(ch.tx.publishes), answers: slices.Clone(ch.tx.answers)}
	}
	return &c
}

func (b *Broker) next() int {
	b.serial++
	return b.serial
}

// Unacked returns the tags that a channel may answer, rising.
func (b *Broker) Unacked(s Slot) []uint64 {
	var tags []uint64
	if ch := b.channels[s]; ch != nil && ch.closed == 0 {
		for _, u := range ch.unacked {
			if !u.answered {
				tags = append(tags, u.tag)
			}
		}
	}
	return tags
}

// Open reports whether a channel is open.
func (b *Broker) Open(s Slot) bool { return b.channels[s] != nil && b.channels[s].closed == 0 }

// Count is what can be counted of a queue.
type Count struct {
	Ready, Consumers int
	Exclusive        bool
}

// count notes what there is at the end of a step.
func (b *Broker) count(s *Step) {
	s.Counts = map[string]Count{}
	for name, q := range b.queues {
		s.Counts[name] = Count{len(q.ready), len(q.consumers), q.exclusive}
	}
	s.Objects = [2]int{len(b.exchanges), len(b.bindings)}
}

// Known reports whether a channel was ever opened.
func (b *Broker) Known(s Slot) bool { return b.channels[s] != nil }

// Transactional reports whether a channel is open and has a transaction.
func (b *Broker) Transactional(s Slot) bool { return b.Open(s) && b.channels[s].tx != nil }

// Consuming returns the channels on which a consumer of that tag is.
func (b *Broker) Consuming(tag string) (slots []Slot) {
	for _, name := range b.names() {
		for _, c := range b.queues[name].consumers {
			if c.tag == tag && !c.dead {
				slots = append(slots, c.slot)
			}
		}
	}
	return slots
}
