package soak

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

const bookSuffix = ".book"

// Ledger is what the books of a run say, as far as it has been read.
type Ledger struct {
	Counts

	read      map[string]int64 // by file, up to the end of its last whole line
	producers map[int]*producer
	consumers map[int]*consumer
	restarts  []restart
}

// Counts are of events, as they were written down.
type Counts struct {
	Published       int `json:"published"`       // as often as it was tried
	Again           int `json:"published_again"` // of Published: not for the first time
	Confirmed       int `json:"confirmed"`
	Nacked          int `json:"nacked"`
	Got             int `json:"delivered"`
	Damaged         int `json:"damaged"` // what came and is no message of ours, or not as it was sent
	Acked           int `json:"acked"`   // these three: known to have reached the place
	Rejected        int `json:"rejected"`
	Requeued        int `json:"requeued"`
	Unknown         int `json:"answers_unknown"` // answered, and not known to have reached it
	SessionsLost    int `json:"sessions_lost"`
	KilledProducers int `json:"killed_producers"`
	KilledConsumers int `json:"killed_consumers"`
	Restarts        int `json:"restarts"`
}

type producer struct{ messages []sent } // by sequence, from 1

// sent is a message at its producer: the times when it was published, and the one when it was confirmed, or 0.
type sent struct {
	published []int64
	confirmed int64
}

type consumer struct {
	deliveries []delivery    // by number, from 1
	alive      map[int]int64 // by session: when it last asked for something that it then got
}

// delivery is a message that came to a consumer, what it answered, and when it asked whether the answer had arrived, if that was
// said.
type delivery struct {
	id                  ID
	queue, session      int
	got, answered, sure int64
	answer              Answer
}

type restart struct{ begin, end int64 }

// NewLedger makes an empty ledger.
func NewLedger() *Ledger {
	return &Ledger{read: map[string]int64{}, producers: map[int]*producer{}, consumers: map[int]*consumer{}}
}

// Update reads what has been written in the directory's books since the last time. A last line without an end is still being
// written, or its process was killed while it did: it says nothing.
func (l *Ledger) Update(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*"+bookSuffix))
	for _, file := range files {
		if e := l.update(file); e != nil {
			err = errors.Join(err, fmt.Errorf("%s: %w", filepath.Base(file), e))
		}
	}
	return err
}

func (l *Ledger) update(file string) error {
	f, err := os.Open(file)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := f.Seek(l.read[file], io.SeekStart); err != nil {
		return err
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return err
	}
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	l.read[file] += int64(len(text))
	return l.Add(strings.TrimSuffix(filepath.Base(file), bookSuffix), string(text))
}

// Add adds lines of the book of a name.
func (l *Ledger) Add(name, text string) error {
	kind, number, _ := strings.Cut(name, "-")
	n, _ := strconv.Atoi(number)
	add := l.addRun
	switch kind {
	case "producer":
		if l.producers[n] == nil {
			l.producers[n] = &producer{}
		}
		add = l.producers[n].add
	case "consumer":
		if l.consumers[n] == nil {
			l.consumers[n] = &consumer{alive: map[int]int64{}}
		}
		add = l.consumers[n].add
	}
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) < 2 || !add(&l.Counts, fields{f}) {
			return fmt.Errorf("line %q means nothing", strings.TrimSpace(line))
		}
	}
	return nil
}

// fields are those of a line.
type fields struct{ f []string }

func (f fields) is(kind string, n int) bool { return f.f[0] == kind && len(f.f) == n+1 }
func (f fields) int(i int) int              { return int(f.time(i)) }
func (f fields) time(i int) int64           { n, _ := strconv.ParseInt(f.f[i], 10, 64); return n }

func (p *producer) add(c *Counts, f fields) bool {
	seq := f.int(1)
	if f.is("e", 2) {
		c.SessionsLost++
		return true
	}
	if seq < 1 || seq > len(p.messages)+1 { // sequences are published in order
		return false
	}
	if seq > len(p.messages) {
		p.messages = append(p.messages, sent{})
	}
	m := &p.messages[seq-1]
	switch {
	case f.is("p", 2):
		c.Published++
		if len(m.published) > 0 {
			c.Again++
		}
		m.published = append(m.published, f.time(2))
	case f.is("c", 2):
		c.Confirmed++
		m.confirmed = f.time(2)
	case f.is("n", 2):
		c.Nacked++
	default:
		return false
	}
	return true
}

func (k *consumer) add(c *Counts, f fields) bool {
	switch {
	case f.is("g", 6):
		c.Got++
		d := f.int(1)
		if d < 1 {
			return false
		}
		for len(k.deliveries) < d { // several goroutines number them and write: not always in order
			k.deliveries = append(k.deliveries, delivery{})
		}
		k.deliveries[d-1] = delivery{id: ID{f.int(4), uint64(f.time(5))}, session: f.int(2), queue: f.int(3), got: f.time(6)}
		return true
	case f.is("b", 2):
		c.Damaged++
		return true
	case f.is("e", 2):
		c.SessionsLost++
		return true
	}
	if n := f.int(1); n < 1 || n > len(k.deliveries) {
		return false
	}
	d := &k.deliveries[f.int(1)-1]
	switch {
	case f.is("s", 3) && len(f.f[2]) == 1:
		c.Unknown++
		d.answer, d.answered = Answer(f.f[2][0]), f.time(3)
	case f.is("d", 2) && d.answer != 0:
		c.Unknown--
		d.sure = f.time(2)
		k.alive[d.session] = max(k.alive[d.session], d.sure)
		switch d.answer {
		case Ack:
			c.Acked++
		case Reject:
			c.Rejected++
		case Requeue:
			c.Requeued++
		}
	default:
		return false
	}
	return true
}

func (l *Ledger) addRun(c *Counts, f fields) bool {
	switch {
	case f.is("k", 2):
		if strings.HasPrefix(f.f[1], "producer") {
			c.KilledProducers++
		} else {
			c.KilledConsumers++
		}
	case f.is("r", 1):
		c.Restarts++
		l.restarts = append(l.restarts, restart{begin: f.time(1)})
	case f.is("R", 1) && len(l.restarts) > 0:
		l.restarts[len(l.restarts)-1].end = f.time(1)
	default:
		return false
	}
	return true
}
