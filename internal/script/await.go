package script

import (
	"context"
	"fmt"
	"maps"
	"time"

	"github.com/dashi-mq/dashi/internal/model"
)

// Patience is how long a step on a real broker waits for what is expected; what has not come by then is a difference.
const patience = 3 * time.Second

// await waits until a step has shown all that it did elsewhere. What is more comes out with the next step.
func (r *runner) await(ctx context.Context, seen, expected *model.Step) error {
	limit := time.Now().Add(patience)
	for {
		r.listen(seen)
		if heardAll(seen, expected) {
			if expected.Counts == nil {
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
		if time.Now().After(limit) {
			return nil // what differs is found by the comparison
		}
		pass(ctx, 300*time.Microsecond)
	}
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

// countPassively asks for the counts of the queues that are expected, but those that are exclusive.
func (r *runner) countPassively(ctx context.Context, seen, expected *model.Step) (err error) {
	if r.look == nil {
		if r.look, err = r.rig.Connect(ctx, 0); err != nil {
			return fmt.Errorf("connect to look: %w", err)
		}
	}
	seen.Counts, seen.Objects = map[string]model.Count{}, expected.Objects
	for name, want := range expected.Counts {
		if want.Exclusive {
			seen.Counts[name] = want
			continue
		}
		if r.counter == nil || r.counter.IsClosed() {
			if r.counter, err = r.look.Channel(ctx); err != nil {
				return fmt.Errorf("open a channel to look: %w", err)
			}
		}
		q, err := r.counter.QueueDeclarePassive(ctx, r.names.there(name))
		if err != nil {
			continue // it is not there, which is a difference
		}
		seen.Counts[name] = model.Count{Ready: q.Messages, Consumers: q.Consumers}
	}
	return nil
}
