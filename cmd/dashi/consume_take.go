package main

import (
	"context"
	"io"

	"github.com/dashi-mq/dashi/channel"
)

// taking is one run of "dashi consume".
type taking struct {
	cmd     *consumeCmd
	queue   string
	title   string // what is consumed
	out     io.Writer
	render  renderer
	written int64 // messages
}

// take writes messages until enough have come, which is no error, or something ends it. What it does not acknowledge goes
// back with the connection.
func (t *taking) take(ctx context.Context, ch *channel.Channel) error {
	var line []byte
	for d, err := range ch.Deliveries(ctx, t.queue, channel.ConsumeOptions{AutoAck: t.cmd.NoAck}) {
		if err != nil {
			return err
		}
		if line, err = t.render(line[:0], &d); err != nil {
			return err
		}
		// One write for each line, which nothing buffers: when it has returned the line is out.
		if _, err := t.out.Write(line); err != nil {
			return err
		}
		t.written++
		if !t.cmd.NoAck && !t.cmd.Requeue {
			if err := d.Ack(false); err != nil {
				return err
			}
		}
		if t.written == t.cmd.Count {
			return nil
		}
	}
	return nil
}
