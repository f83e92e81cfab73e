package main

import (
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/measure"
)

// patience is how long nothing may move before the demo says that messages were lost.
const patience = 20 * time.Second

// sampleTime is how long the demo waits for lines before it chooses its bindings: a pipe may be slow.
const sampleTime = 300 * time.Millisecond

// readAhead is how many lines wait to be sent.
const readAhead = 256

// demo is one run.
type demo struct {
	conn  *dashi.Connection
	keys  keyer
	rate  float64
	limit int64
	title string // what is read
	url   string // as it may be shown

	plan     *demoPlan
	load     *load
	patience time.Duration
	slow     time.Duration // of the dashboard, for each line

	begin       time.Time
	elapsed     time.Duration
	interrupted bool
	cuts        int // lines that went in several messages

	lines, bytes, confirmed atomic.Int64
	failed, parked          atomic.Int64 // by the worker
	redelivered             atomic.Int64 // nobody requeues: there is none to be

	sent, received uint32 // checksums of all lines in order
	misplaced      int64  // lines that came to the archive out of order

	stop context.CancelCauseFunc // ends everything, with the first error
}

func newDemo(conn *dashi.Connection, keys keyer, rate float64, limit int64) *demo {
	return &demo{
		conn: conn, keys: keys, rate: rate, limit: limit, plan: newPlan(), load: newLoad(),
		patience: patience, slow: 2 * time.Millisecond,
	}
}

var table = crc32.MakeTable(crc32.Castagnoli)

// sum goes on with a checksum of lines.
func sum(c uint32, line []byte) uint32 {
	return crc32.Update(crc32.Update(c, table, line), table, []byte{'\n'})
}

// run sends what in has and returns when all of it has reached its end. When ctx ends it stops reading.
func (d *demo) run(ctx context.Context, in io.Reader, progress io.Writer) (err error) {
	reading, stopReading := context.WithCancel(ctx)
	defer stopReading()
	// What was sent is delivered even when ctx has ended, so work does not end with it.
	work, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	d.stop = func(err error) { stop(err); d.load.fail(err) }
	defer watch(d.load, d.patience, d.stop)()

	lines := newLineReader(in)
	feed := newFeed(reading, lines.next, readAhead)
	sample := feed.sample(reading, sampleLines, sampleTime)
	keys := make([]string, len(sample))
	for i, line := range sample {
		keys[i] = d.keys.key(line)
	}
	d.plan.choose(keys)
	admin, err := d.conn.Channel(work)
	if err != nil {
		return err
	}
	if err := d.plan.declare(work, admin); err != nil {
		return err
	}
	d.begin = time.Now()
	consumers, err := d.consumers(work)
	if err != nil {
		return err
	}
	show := startLive(progress, d.status)
	err = d.publish(reading, work, sample, feed)
	stopReading()
	if err == nil {
		err = d.load.drained()
	}
	d.elapsed = time.Since(d.begin)
	show.end()
	if d.interrupted = ctx.Err() != nil && !feed.ended; feed.ended {
		d.cuts = lines.cuts
	}
	consumers.cancel()
	consumers.wait.Wait()
	if cause := context.Cause(work); cause != nil {
		return cause
	}
	if err == nil || d.conn.Err() == nil {
		err = errors.Join(err, d.leave(work, admin))
	}
	return err
}

// publish sends the sample and then the feed, a window of confirms ahead of the answers.
func (d *demo) publish(reading, work context.Context, sample [][]byte, feed *feed) error {
	ch, err := d.conn.Channel(work)
	if err != nil {
		return err
	}
	if err := ch.Confirm(work); err != nil {
		return err
	}
	ring := make([]*channel.Confirmation, confirmWindow)
	pace := measure.NewPacer(d.rate)
	for n := 0; d.limit == 0 || d.lines.Load() < d.limit; n++ {
		var line []byte
		if n < len(sample) {
			line = sample[n]
		} else {
			var ok bool
			if line, ok = feed.next(reading); !ok {
				break
			}
		}
		if _, err := pace.Wait(reading); err != nil {
			break
		}
		if err := d.confirm(work, &ring[n%confirmWindow]); err != nil {
			return err
		}
		if ring[n%confirmWindow], err = d.send(work, ch, line); err != nil {
			return err
		}
	}
	for i := range ring {
		if err := d.confirm(work, &ring[i]); err != nil {
			return err
		}
	}
	if feed.ended && feed.err != nil {
		return fmt.Errorf("read %s: %w", d.title, feed.err)
	}
	return nil
}

func (d *demo) send(ctx context.Context, ch *channel.Channel, line []byte) (*channel.Confirmation, error) {
	key := d.keys.key(line)
	copies := 0
	var seen [8]*station // a queue gets one copy, however many of its bindings match
	for _, b := range d.plan.bindings {
		if !matches(b.pattern, key) {
			continue
		}
		b.n.Add(1)
		known := false
		for _, s := range seen[:copies] {
			known = known || s == b.to
		}
		if !known {
			seen[copies] = b.to
			copies++
			b.to.routed.Add(1)
		}
	}
	if err := d.load.add(copies, len(line)); err != nil {
		return nil, err
	}
	d.sent = sum(d.sent, line)
	n := d.lines.Add(1)
	d.bytes.Add(int64(len(line)))
	return ch.PublishDeferred(ctx, d.plan.lines, key, channel.Publishing{
		MessageId: strconv.FormatInt(n, 10), Body: line, NoCopy: true,
	})
}

// confirm waits for the answer in a slot of the window and frees it.
func (d *demo) confirm(ctx context.Context, slot **channel.Confirmation) error {
	c := *slot
	if c == nil {
		return nil
	}
	*slot = nil
	acked, err := c.Wait(ctx)
	if err != nil {
		return err
	}
	if !acked {
		return fmt.Errorf("line %d was refused", c.DeliveryTag)
	}
	d.confirmed.Add(1)
	return nil
}

// leave counts what lies in the queues and removes all that the demo declared.
func (d *demo) leave(ctx context.Context, ch *channel.Channel) error {
	ctx, stop := context.WithTimeout(ctx, 20*time.Second)
	defer stop()
	for _, s := range d.plan.stations() {
		q, err := ch.QueueDeclarePassive(ctx, s.queue)
		if err != nil {
			return err
		}
		s.left = q.Messages
	}
	return d.plan.remove(ctx, ch)
}

// sample returns the first lines: as many as come in time.
func (f *feed) sample(ctx context.Context, n int, patience time.Duration) [][]byte {
	var lines [][]byte
	first, ok := f.next(ctx) // for as long as it takes
	if !ok {
		return nil
	}
	lines = append(lines, first)
	ctx, stop := context.WithTimeout(ctx, patience)
	defer stop()
	for size := 0; len(lines) < n && size < maxBytes; {
		line, ok := f.next(ctx)
		if !ok {
			break
		}
		lines = append(lines, line)
		size += len(line)
	}
	return lines
}
