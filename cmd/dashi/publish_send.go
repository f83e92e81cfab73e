package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Bounds of "dashi publish".
const (
	sendWindow  = 256      // messages that wait for their confirms
	sendBytes   = 64 << 20 // their bodies together; a single one may be as long
	longestLine = 64 << 20 // bytes of a line
)

// sending is one run of "dashi publish". All of it is one goroutine's, beside that of the feed.
type sending struct {
	ch      *channel.Channel
	feed    *feed
	compose composer
	count   int64 // of lines; 0: all
	told    io.Writer

	returns chan channel.Return
	waiting []sent // for confirms, the oldest first
	bytes   int    // of their bodies

	lines                        int64 // that were sent
	confirmed, refused, returned int64
	firstRefused                 uint64 // line
}

// sent is a message that waits for its confirm.
type sent struct {
	*channel.Confirmation
	size int
}

func newSending(ch *channel.Channel, f *feed, compose composer, count int64, told io.Writer) *sending {
	s := &sending{ch: ch, feed: f, compose: compose, count: count, told: told}
	// With room for the window a return is there before the confirm of its message.
	s.returns = ch.NotifyReturn(make(chan channel.Return, sendWindow))
	return s
}

// run sends all lines and waits for their confirms. When ctx ends it reads no more, and waits for what was sent no
// longer than hangUpLimit.
func (s *sending) run(ctx context.Context) error {
	var stop error // why no more is read, nil at the end of the lines
	var giveUp <-chan time.Time
	interrupt := ctx.Done()
	reading := true
	for reading || len(s.waiting) > 0 {
		var lines chan []byte
		if reading && len(s.waiting) < sendWindow && s.bytes < sendBytes {
			lines = s.feed.c
		}
		var oldest <-chan struct{}
		if len(s.waiting) > 0 {
			oldest = s.waiting[0].Done()
		}
		select {
		case line, ok := <-lines:
			if !ok {
				reading, stop = false, s.feed.err
			} else if err := s.send(ctx, line); err != nil {
				reading, stop = false, err
			} else if s.lines == s.count {
				reading = false
			}
		case <-oldest:
			if err := s.settle(); err != nil {
				return err
			}
		case r, ok := <-s.returns:
			if !ok { // the channel has ended, and its confirms with it
				s.returns = nil
				continue
			}
			s.tell(r)
		case <-interrupt:
			if reading {
				reading, stop = false, ctx.Err()
			}
			interrupt, giveUp = nil, time.After(hangUpLimit)
		case <-giveUp:
			return ctx.Err()
		case <-s.ended():
			return s.ch.Err()
		}
	}
	for {
		select {
		case r, ok := <-s.returns:
			if ok {
				s.tell(r)
				continue
			}
		default:
		}
		return stop
	}
}

// ended is closed when the channel has ended and nothing waits: else the confirms say why.
func (s *sending) ended() <-chan struct{} {
	if len(s.waiting) > 0 {
		return nil
	}
	return s.ch.Done()
}

// send publishes a line.
func (s *sending) send(ctx context.Context, line []byte) error {
	m, err := s.compose(line)
	if err != nil {
		return fmt.Errorf("line %d: %w", s.lines+1, err)
	}
	c, err := s.ch.PublishDeferred(ctx, m.exchange, m.key, m.Publishing)
	switch {
	case ctx.Err() != nil && err != nil:
		return ctx.Err()
	case err != nil && s.ch.Err() == nil: // it was refused before it was sent
		return fmt.Errorf("line %d: %w", s.lines+1, err)
	case err != nil:
		return err
	}
	s.lines++
	s.waiting = append(s.waiting, sent{c, len(m.Body)})
	s.bytes += len(m.Body)
	return nil
}

// settle takes the answer of the oldest message that waits.
func (s *sending) settle() error {
	oldest := s.waiting[0]
	acked, err := oldest.Wait(context.Background()) // it is there
	if err != nil {
		return err
	}
	s.waiting = s.waiting[1:]
	s.bytes -= oldest.size
	if acked {
		s.confirmed++
		return nil
	}
	if s.refused++; s.refused == 1 {
		s.firstRefused = oldest.DeliveryTag // counts messages, as lines are
	}
	return nil
}

// tell says that a message came back.
func (s *sending) tell(r channel.Return) {
	s.returned++
	fmt.Fprintf(s.told, "dashi: publish: a message with routing key %q reached no queue of exchange %q\n", r.RoutingKey, r.Exchange)
}

// result is nil when every line is where it should be.
func (s *sending) result(ctx context.Context, err error) error {
	if err == nil && s.refused == 0 && s.returned == 0 {
		return nil
	}
	text := plural(s.confirmed, "line") + " confirmed"
	if s.returned > 0 {
		text += ", " + grouped(s.returned) + " of them in no queue"
	}
	if s.refused > 0 {
		text += fmt.Sprintf(", %s refused (the first is line %d), which may be in some of their queues", grouped(s.refused), s.firstRefused)
	}
	if n := len(s.waiting); n > 0 {
		text += fmt.Sprintf(", %s not answered (from line %d on), which may be stored or not", grouped(int64(n)), s.waiting[0].DeliveryTag)
	}
	switch {
	case err == nil:
		return errors.New("publish: " + text)
	case ctx.Err() != nil && errors.Is(err, context.Canceled):
		return &failure{exitInterrupted, errors.New("publish: interrupted: " + text)}
	}
	return fmt.Errorf("publish: %s: %w", text, err)
}

// wholeLines reads lines that end with LF or CR LF, and refuses one that is too long for a message.
func wholeLines(in io.Reader) func() ([]byte, error) {
	r := newLineReader(in)
	r.max = longestLine
	return func() ([]byte, error) {
		line, err := r.next()
		if err == nil && r.cuts > 0 {
			return nil, fmt.Errorf("a line is longer than %d MiB", longestLine>>20)
		}
		return bytes.TrimSuffix(line, []byte{'\r'}), err
	}
}
