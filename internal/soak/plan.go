package soak

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
)

// MaxQueues is how many queues a plan may have.
const MaxQueues = 32

// headerSize is what a body has before its filler: producer, sequence, and a sum of all else.
const headerSize = 20

// Plan says everything that is fixed before a run begins. All processes of a run have the same, so that each can tell of any
// message where it belongs, and nobody has to write it down.
type Plan struct {
	Seed   uint64
	Queues int // and as many dead-letter queues, one for each
}

// ID names a message: its producer's number, and its sequence there, from 1.
type ID struct {
	Producer int
	Seq      uint64
}

func (id ID) String() string { return fmt.Sprintf("%d-%d", id.Producer, id.Seq) }

// Message is what is published under an ID.
type Message struct {
	ID
	Exchange string // direct, topic or fanout: the name without the run's prefix
	Key      string
	Queues   []int // where it has to arrive, one copy each
	Size     int   // of its body
}

// Binding leads from an exchange, named without the run's prefix, to a queue.
type Binding struct {
	Exchange, Key string
	Queue         int
}

// Name is the prefix of everything that the run declares.
func (p Plan) Name() string { return fmt.Sprintf("dashi-soak-%x", p.Seed) }

// Exchange is the full name of one of the exchanges direct, topic, fanout and dead.
func (p Plan) Exchange(kind string) string { return p.Name() + "." + kind }

// QueueName is the full name of a queue: numbers from Queues on are the dead-letter queues.
func (p Plan) QueueName(queue int) string {
	if p.Dead(queue) {
		return fmt.Sprintf("%s.q%d.dead", p.Name(), queue-p.Queues)
	}
	return fmt.Sprintf("%s.q%d", p.Name(), queue)
}

// All is how many queues there are, with the dead-letter queues.
func (p Plan) All() int { return 2 * p.Queues }

// Dead reports whether a queue is a dead-letter queue.
func (p Plan) Dead(queue int) bool { return queue >= p.Queues }

// DeadKey is the key under which what a queue rejects is dead-lettered.
func (p Plan) DeadKey(queue int) string { return fmt.Sprintf("dead.q%d", queue%p.Queues) }

// Bindings are all bindings. Topic messages can match two patterns of a queue, of which one copy has to come.
func (p Plan) Bindings() (all []Binding) {
	for q := range p.Queues {
		all = append(all,
			Binding{"direct", fmt.Sprintf("q%d", q), q},
			Binding{"topic", fmt.Sprintf("soak.q%d.#", q), q},
			Binding{"fanout", "", q},
			Binding{"dead", p.DeadKey(q), q + p.Queues})
		if q%2 == 0 {
			all = append(all, Binding{"topic", "#.all", q})
		}
	}
	return all
}

// Message returns what is published under an ID: four in ten through the direct exchange, four through the topic exchange,
// of which one goes to every other queue, too, and two through the fanout. Bodies are of all sizes up to 64 KiB, small ones as often as
// large ones, and one in 500 is of 1 MiB.
func (p Plan) Message(id ID) Message {
	m := Message{ID: id}
	q := int(p.draw(id, "queue") % uint64(p.Queues))
	switch kind := p.draw(id, "exchange") % 10; {
	case kind < 4:
		m.Exchange, m.Key, m.Queues = "direct", fmt.Sprintf("q%d", q), []int{q}
	case kind < 7:
		m.Exchange, m.Key, m.Queues = "topic", fmt.Sprintf("soak.q%d.one", q), []int{q}
	case kind < 8:
		m.Exchange, m.Key = "topic", fmt.Sprintf("soak.q%d.all", q)
		for i := range p.Queues {
			if i == q || i%2 == 0 {
				m.Queues = append(m.Queues, i)
			}
		}
	default:
		m.Exchange = "fanout"
		for i := range p.Queues {
			m.Queues = append(m.Queues, i)
		}
	}
	size := p.draw(id, "size")
	m.Size = 1 << (size % 17)
	m.Size += int(size >> 32 % uint64(m.Size))
	m.Size = min(max(m.Size, headerSize), 64<<10)
	if p.draw(id, "large")%500 == 0 {
		m.Size = 1 << 20
	}
	return m
}

// Rejected says that consumers of the queue reject the message, which must then arrive at its dead-letter queue: one in twenty.
func (p Plan) Rejected(id ID, queue int) bool {
	return !p.Dead(queue) && p.draw(id, p.QueueName(queue))%20 == 0
}

// Requeued says that a consumer that gets the message from the queue for the first time puts it back: one in twenty.
func (p Plan) Requeued(id ID, queue int) bool {
	return p.draw(id, p.QueueName(queue))%20 == 1
}

// draw is a number that depends on all its arguments, and looks random.
func (p Plan) draw(id ID, what string) uint64 {
	h := p.Seed
	for _, b := range []byte(what) {
		h = mix(h ^ uint64(b))
	}
	return mix(mix(h^uint64(id.Producer)) ^ id.Seq)
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

var sums = crc32.MakeTable(crc32.Castagnoli)

// Body makes the message's body: who it is, a sum, and a filler.
func (m Message) Body() []byte {
	b := make([]byte, headerSize, m.Size+8)
	binary.BigEndian.PutUint64(b, uint64(m.Producer))
	binary.BigEndian.PutUint64(b[8:], m.Seq)
	filler := rand.NewPCG(uint64(m.Producer), m.Seq)
	for len(b) < m.Size {
		b = binary.BigEndian.AppendUint64(b, filler.Uint64())
	}
	b = b[:m.Size]
	binary.BigEndian.PutUint32(b[16:], sum(b))
	return b
}

// ParseBody returns whose body it is; false when it is nobody's, or has changed.
func ParseBody(b []byte) (ID, bool) {
	if len(b) < headerSize || binary.BigEndian.Uint32(b[16:]) != sum(b) {
		return ID{}, false
	}
	return ID{int(binary.BigEndian.Uint64(b)), binary.BigEndian.Uint64(b[8:])}, true
}

// sum is of all but itself.
func sum(b []byte) uint32 {
	return crc32.Update(crc32.Checksum(b[:16], sums), sums, b[headerSize:])
}
