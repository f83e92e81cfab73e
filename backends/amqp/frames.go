package amqp

import (
	"encoding/binary"
	"slices"
	"sync"
)

// A closing is what a server's channel.close or connection.close said. The library drops the method that it names.
type closing struct {
	code   int
	text   string
	method string // such as "queue.declare"; empty where the server named none
}

// closeLog keeps the last closings until somebody asks for them.
type closeLog struct {
	mu   sync.Mutex
	last []closing
}

const maxClosings = 256

func (l *closeLog) add(c closing) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.last) == maxClosings {
		l.last = l.last[1:]
	}
	l.last = append(l.last, c)
}

// method returns the method named by the oldest closing with that code and text, which is forgotten.
func (l *closeLog) method(code int, text string) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i, c := range l.last {
		if c.code == code && c.text == text {
			l.last = slices.Delete(l.last, i, i+1)
			return c.method
		}
	}
	return ""
}

// frames follows the frames of a byte stream (AMQP 0-9-1, section 4.2.3) and tells of the close methods in it.
type frames struct {
	closed func(closing)

	head    [7]byte // type, channel, size
	have    int     // bytes of head
	left    uint64  // bytes of payload and frame-end still to come
	payload []byte  // of a frame that may be a close method
	keep    bool
}

// The close methods: class, method, code, text of up to 255 bytes, and the class and method at fault.
const (
	connectionClose = 10<<16 | 50
	channelClose    = 20<<16 | 40
	minClose        = 4 + 2 + 1 + 4
	maxClose        = minClose + 255
)

func (f *frames) feed(b []byte) {
	for len(b) > 0 {
		if f.left == 0 {
			n := copy(f.head[f.have:], b)
			f.have += n
			b = b[n:]
			if f.have < len(f.head) {
				return
			}
			f.have = 0
			size := binary.BigEndian.Uint32(f.head[3:])
			f.left = uint64(size) + 1
			f.keep = f.head[0] == 1 && size >= minClose && size <= maxClose
			f.payload = f.payload[:0]
			continue
		}
		n := int(min(f.left, uint64(len(b))))
		if f.keep {
			f.payload = append(f.payload, b[:n]...)
			if len(f.payload) >= 4 {
				id := binary.BigEndian.Uint32(f.payload)
				f.keep = id == connectionClose || id == channelClose
			}
		}
		f.left -= uint64(n)
		b = b[n:]
		if f.left == 0 && f.keep {
			f.tell(f.payload[:len(f.payload)-1])
		}
	}
}

func (f *frames) tell(p []byte) {
	c := closing{code: int(binary.BigEndian.Uint16(p[4:]))}
	n := int(p[6])
	if len(p) != minClose+n {
		return
	}
	c.text = string(p[7 : 7+n])
	c.method = methodNames[binary.BigEndian.Uint32(p[7+n:])]
	f.closed(c)
}

// methodNames are the methods that a server can find fault with, by class and method.
var methodNames = map[uint32]string{
	10<<16 | 40: "connection.open",
	20<<16 | 10: "channel.open", 20<<16 | 20: "channel.flow", 20<<16 | 40: "channel.close",
	40<<16 | 10: "exchange.declare", 40<<16 | 20: "exchange.delete", 40<<16 | 30: "exchange.bind", 40<<16 | 40: "exchange.unbind",
	50<<16 | 10: "queue.declare", 50<<16 | 20: "queue.bind", 50<<16 | 30: "queue.purge", 50<<16 | 40: "queue.delete",
	50<<16 | 50: "queue.unbind",
	60<<16 | 10: "basic.qos", 60<<16 | 20: "basic.consume", 60<<16 | 30: "basic.cancel", 60<<16 | 40: "basic.publish",
	60<<16 | 70: "basic.get", 60<<16 | 80: "basic.ack", 60<<16 | 90: "basic.reject", 60<<16 | 100: "basic.recover-async",
	60<<16 | 110: "basic.recover", 60<<16 | 120: "basic.nack",
	85<<16 | 10: "confirm.select",
	90<<16 | 10: "tx.select", 90<<16 | 20: "tx.commit", 90<<16 | 30: "tx.rollback",
}
