package conformance

import (
	"bytes"
	"context"
	"errors"
	"sync"

	"github.com/dashi-mq/dashi/virtual"
)

// crashTwice is a delivery of a message that had been delivered before, from the same queue, or is in another one, too.
type crashTwice struct {
	redelivered bool // it said so
	elsewhere   bool // it is in two queues, and was put into one
	ids         int  // how many different messages of this body were put into the queue
	sent        int  // how often one was, of those that were put more than once
	marks       bool // the store knows a Put that is said again
	atomic      bool // the store puts and settles in one step
}

// crashRule says when a message may come twice.
type crashRule struct {
	name   string
	allows func(d *crashTwice) bool
}

// crashRules are all the reasons for which a message may come twice.
var crashRules = []*crashRule{
	// Nobody knows what the dead had done with what was delivered to them: it comes again, and says so.
	{"redelivered", func(d *crashTwice) bool { return d.redelivered && !d.elsewhere }},
	// A Put was not answered, and the engine has said it again to a store that cannot tell. The id is the same.
	{"put again", func(d *crashTwice) bool { return !d.marks && d.sent > 1 && d.ids == 1 && !d.elsewhere }},
	// Who dies between the Put of a dead letter, of a transaction or of a delayed message and the Ack of what it was made of
	// leaves both, in a store that cannot do both in one step. Made again, it has the same id.
	{"put, not yet settled", func(d *crashTwice) bool { return !d.atomic && (d.elsewhere || d.ids == 1 && d.sent > 1) }},
}

// crashSeen is what has been put into the store, by all processes.
type crashSeen struct {
	mu            sync.Mutex
	marks, atomic bool
	registry      bool
	puts          map[crashCopy]map[virtual.ID]int // how often
}

// crashCopy is what a body is in a queue.
type crashCopy struct{ queue, body string }

// note notes what a store can do.
func (s *crashSeen) note(store virtual.Store) {
	s.marks = virtual.TraitsOf(store).Marks
	_, s.atomic = virtual.As[virtual.Atomic](store)
	_, s.registry = virtual.As[virtual.Registry](store)
}

// watch notes what is put, unless it was told that nothing was.
func (s *crashSeen) watch(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
	var messages []*virtual.Message
	switch r := call.Request.(type) {
	case *virtual.PutRequest:
		messages = r.Messages
	case *virtual.ApplyRequest:
		messages = r.Messages
	}
	s.put(messages, 1)
	err := next(ctx)
	if _, batch := errors.AsType[*virtual.BatchError](err); errors.Is(err, virtual.ErrGuard) || batch && call.Method == "Atomic.Apply" {
		s.put(messages, -1)
	}
	return err
}

func (s *crashSeen) put(messages []*virtual.Message, n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range messages {
		if m.Queue.Name[0] == '!' {
			continue
		}
		data := m.Payload.Bytes() // the body is at its end, and begins with a <
		c := crashCopy{m.Queue.Name, string(data[max(0, bytes.LastIndexByte(data, '<')):])}
		if s.puts == nil {
			s.puts = map[crashCopy]map[virtual.ID]int{}
		}
		if s.puts[c] == nil {
			s.puts[c] = map[virtual.ID]int{}
		}
		if s.puts[c][m.ID] += n; s.puts[c][m.ID] <= 0 {
			delete(s.puts[c], m.ID)
		}
	}
}

// judge returns the rule that allows a message to come twice, or nil.
func (s *crashSeen) judge(c crashCopy, redelivered, elsewhere bool) *crashRule {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := crashTwice{redelivered: redelivered, elsewhere: elsewhere, ids: len(s.puts[c]), marks: s.marks, atomic: s.atomic}
	for _, n := range s.puts[c] {
		d.sent = max(d.sent, n)
	}
	for _, rule := range crashRules {
		if rule.allows(&d) {
			return rule
		}
	}
	return nil
}

// copies is how many there may be of a message in its queue, of which one acked is only one.
func (s *crashSeen) copies(c crashCopy) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.marks && s.atomic || len(s.puts[c]) != 1 {
		return 1
	}
	n := 1
	for _, sent := range s.puts[c] {
		n = sent
	}
	return n
}
