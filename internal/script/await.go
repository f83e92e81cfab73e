package script

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/internal/model"
)

// await waits until a step has shown all that it did elsewhere. What is more comes out with the next step.
func (r *runner) await(ctx context.Context, o *Op, seen, expected *model.Step) error {
	limited, cancel := context.WithTimeout(ctx, r.rig.Patience)
	defer cancel()
	switch o.Do {
	case Publish, Ack, Nack, Reject: // they have no answer of their own
		_ = r.clients[o.Slot()].ch.Flush(limited) // what it refuses is heard
	default:
		if o.NoWait {
			_ = r.clients[o.Slot()].ch.Flush(limited)
		}
	}
	for wait := 200 * time.Microsecond; ; wait = min(2*wait, 10*time.Millisecond) {
		r.listen(seen)
		if heardAll(seen, expected) {
			if expected.Counts == nil || expected.Reply.Code == 0 && !changes(o.Do) {
				return nil
			}
			if err := r.countPassively(ctx, seen, expected); err != nil {
				return err
			}
			if maps.Equal(seen.Counts, expected.Counts) {
				r.listen(seen)
				return nil
			}
		}
		if limited.Err() != nil {
			return nil // what differs is found by the comparison
		}
		pass(ctx, wait)
	}
}

// changes reports whether an operation can change what is in queues, or who consumes from them.
func changes(do string) bool {
	switch do {
	case OpenChannel, DeclareExchange, DeleteExchange, BindExchange, UnbindExchange, BindQueue, UnbindQueue, Qos, ConfirmSelect, TxSelect:
		return false
	}
	return true
}

// heardAll reports whether as much was heard as is expected.
func heardAll(seen, expected *model.Step) bool {
	for slot, want := range expected.Heard {
		h := seen.Heard[slot]
		if h == nil {
			h = &model.Heard{}
		}
		if len(h.Deliveries) < len(want.Deliveries) || len(h.Returns) < len(want.Returns) || len(h.Confirms) < len(want.Confirms) ||
			len(h.Cancelled) < len(want.Cancelled) || h.Closed == 0 && want.Closed != 0 {
			return false
		}
	}
	return true
}

// countPassively asks for the counts of the queues that are expected, but those that are exclusive. It asks each in turn, so
// what one has sent on to another before is counted there.
func (r *runner) countPassively(ctx context.Context, seen, expected *model.Step) error {
	seen.Counts, seen.Objects = map[string]model.Count{}, expected.Objects
	for name, want := range expected.Counts {
		if want.Exclusive {
			seen.Counts[name] = want
			continue
		}
		if err := r.counting(ctx); err != nil {
			return err
		}
		q, err := r.counter.QueueDeclarePassive(ctx, r.names.there(name))
		if err != nil {
			continue // it is not there, which is a difference
		}
		seen.Counts[name] = model.Count{Ready: q.Messages, Consumers: q.Consumers}
	}
	return nil
}

// counting opens a channel to look, if need be.
func (r *runner) counting(ctx context.Context) (err error) {
	if err := r.looking(ctx); err != nil {
		return err
	}
	if r.counter == nil || r.counter.IsClosed() {
		if r.counter, err = r.look.Channel(ctx); err != nil {
			return fmt.Errorf("open a channel to look: %w", err)
		}
	}
	return nil
}

// own returns the names of queues and exchanges that a script has for itself.
func (r *runner) own(s Script) (queues, exchanges map[string]bool) {
	queues, exchanges = map[string]bool{}, map[string]bool{}
	note := func(all map[string]bool, name string) {
		if r.names.own(name) {
			all[name] = true
		}
	}
	for _, o := range s {
		note(queues, o.Queue)
		note(exchanges, o.Exchange)
		note(exchanges, o.To)
		if alternate, ok := o.Args["alternate-exchange"].(string); ok {
			note(exchanges, alternate)
		}
	}
	return queues, exchanges
}

// prepare declares the exchanges that everybody has, as the script's own.
func (r *runner) prepare(ctx context.Context, s Script) error {
	if err := r.counting(ctx); err != nil {
		return err
	}
	_, exchanges := r.own(s)
	for name := range exchanges {
		if kind := standIns[name]; kind != "" {
			if err := r.counter.ExchangeDeclare(ctx, r.names.there(name), kind, channel.ExchangeOptions{Durable: true}); err != nil {
				return err
			}
		}
	}
	return nil
}

// clean deletes all that the script may have left.
func (r *runner) clean(ctx context.Context, s Script) error {
	if err := r.counting(ctx); err != nil {
		return err
	}
	queues, exchanges := r.own(s)
	for name := range r.names.real {
		queues[name] = true
	}
	for name := range queues {
		if _, err := r.counter.QueueDelete(ctx, r.names.there(name), channel.DeleteOptions{}); err != nil {
			return err
		}
	}
	for name := range exchanges {
		if err := r.counter.ExchangeDelete(ctx, r.names.there(name), channel.DeleteOptions{}); err != nil {
			return err
		}
	}
	return r.counter.Close(ctx)
}
