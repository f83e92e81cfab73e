package conformance

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// crashFacts are what a process was told before it died.
type crashFacts struct {
	mu       sync.Mutex
	there    []placed // in one of these queues at least
	gone     []placed // in none of these
	one      []placed // in one of these queues at most
	together []placed // in all of these queues or in none, where the store can do that
	declared []crashCheck
	soon     []crashCheck         // true when sessions have ended, at the latest
	risked   map[string]int       // how many messages of a queue may be missing, since they were taken without an ack
	came     map[crashCopy][]bool // its deliveries, and whether they said that there had been one before
	asked    map[crashCopy]int    // how often the application gave it back
}

// crashCheck asks something of the broker.
type crashCheck func(ctx context.Context, ch *channel.Channel) error

type placed struct {
	body string
	in   []string
}

func newCrashFacts() *crashFacts {
	return &crashFacts{risked: map[string]int{}, came: map[crashCopy][]bool{}, asked: map[crashCopy]int{}}
}

// published says that a message is put into one of these queues, if it is put.
func (f *crashFacts) published(body string, in ...string) {
	f.mu.Lock()
	f.one = append(f.one, placed{body, in})
	f.mu.Unlock()
}

// confirmed says that a message must be in one of these queues.
func (f *crashFacts) confirmed(body string, in ...string) {
	f.mu.Lock()
	f.there = append(f.there, placed{body, in})
	f.mu.Unlock()
}

// answered says that a message has left a queue for good.
func (f *crashFacts) answered(body, queue string) {
	f.unknown(body, queue)
	f.mu.Lock()
	f.gone = append(f.gone, placed{body, []string{queue}})
	f.mu.Unlock()
}

// unknown says that nothing is known of a message any more: its answer was under way.
func (f *crashFacts) unknown(body, queue string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.there = slices.DeleteFunc(f.there, func(p placed) bool { return p.body == body && slices.Contains(p.in, queue) })
}

// whole says that a message goes to all of these queues or to none.
func (f *crashFacts) whole(body string, in ...string) {
	f.mu.Lock()
	f.together = append(f.together, placed{body, in})
	f.mu.Unlock()
}

// risk says how many messages of a queue may be gone with who took them.
func (f *crashFacts) risk(queue string, n int) {
	f.mu.Lock()
	f.risked[queue] = n
	f.mu.Unlock()
}

// delivered notes a delivery.
func (f *crashFacts) delivered(queue string, d *channel.Delivery) {
	f.mu.Lock()
	c := crashCopy{queue, string(d.Body)}
	f.came[c] = append(f.came[c], d.Redelivered)
	f.mu.Unlock()
}

// givenBack says that the application asked for a message to come again.
func (f *crashFacts) givenBack(queue, body string) {
	f.mu.Lock()
	f.asked[crashCopy{queue, body}]++
	f.mu.Unlock()
}

func (f *crashFacts) exists(check crashCheck) {
	f.mu.Lock()
	f.declared = append(f.declared, check)
	f.mu.Unlock()
}

// comes says what will be so when all that belongs to the dead has ended.
func (f *crashFacts) comes(check crashCheck) {
	f.mu.Lock()
	f.soon = append(f.soon, check)
	f.mu.Unlock()
}

// crashHeir is the process that takes over, and holds what it finds against the facts.
type crashHeir struct {
	*crashFacts
	*crashResult
	s    CrashScenario
	seen *crashSeen
	conn *channel.Connection
	unit time.Duration

	// owed has the call arrive that the dead had sent, owedAfter units after this process took over.
	owed      func(context.Context)
	owedAfter int

	ch     *channel.Channel
	exists map[string]bool
	found  map[crashCopy]int // what this process took, for good
}

// take takes over, waiting for leases and sessions of the dead to end, and says what is not as it has to be.
func (h *crashHeir) take(ctx context.Context) (err error) {
	h.mu.Lock() // the dead say nothing any more
	checks, soon := h.declared, h.soon
	h.mu.Unlock()
	for _, check := range checks {
		if err := h.check(ctx, check); err != nil {
			h.lost++
			return fmt.Errorf("lost: what was declared: %w", err)
		}
	}
	if err := h.look(ctx); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	var late sync.WaitGroup
	defer late.Wait()
	defer stop()
	// All leases of the dead have ended after ten units: what was acked is back by then, if ever it comes back. What is
	// missing may have to wait for their sessions, too, and for a janitor.
	for i := 0; i < 16 || i < 90 && h.missing() != nil; i++ {
		if i == h.owedAfter {
			if err := h.work(ctx); err != nil {
				return err
			}
			late.Go(func() { h.owed(ctx) }) // a Get may wait
			sleepFor(ctx, h.unit/2)
		}
		if err := h.drain(ctx); err != nil {
			return err
		}
		sleepFor(ctx, h.unit)
	}
	for _, check := range soon {
		for i := 0; ; i++ {
			if err = h.check(ctx, check); err == nil {
				break
			}
			if i == 90 {
				h.wrong++
				return err
			}
			sleepFor(ctx, h.unit)
		}
	}
	return h.verdict()
}

func (h *crashHeir) check(ctx context.Context, check crashCheck) error {
	ch, err := h.conn.Channel(ctx)
	if err != nil {
		return err
	}
	return check(ctx, ch)
}

// look finds out which queues there are.
func (h *crashHeir) look(ctx context.Context) (err error) {
	h.exists, h.found = map[string]bool{}, map[crashCopy]int{}
	for _, q := range h.s.Queues {
		h.exists[q] = h.check(ctx, func(ctx context.Context, ch *channel.Channel) error {
			_, err := ch.QueueDeclarePassive(ctx, q)
			return err
		}) == nil
	}
	if h.ch, err = h.conn.Channel(ctx); err != nil {
		return err
	}
	return h.ch.Confirm(ctx)
}

// work has the heir do something of its own, which is not to be undone by what the dead had sent: it declares what
// there is not yet, and publishes to every queue.
func (h *crashHeir) work(ctx context.Context) error {
	for _, q := range h.s.Queues {
		if slices.Contains(h.s.Goes, q) {
			continue
		}
		if !h.exists[q] && !h.seen.registry {
			// Two that declare one queue, the first held up for longer than a lease: what such a registry does not give
			// (internal/registry/doc.go).
			continue
		}
		if !h.exists[q] {
			if _, err := h.ch.QueueDeclare(ctx, q, channel.QueueOptions{Durable: true}); err != nil {
				return err
			}
			h.exists[q] = true
		}
		body := "<heir " + q + ">"
		c, err := h.ch.PublishDeferred(ctx, "", q, channel.Publishing{Body: []byte(body), DeliveryMode: channel.Persistent})
		if err != nil {
			return err
		}
		acked, err := c.Wait(ctx)
		if err != nil {
			return err
		}
		if acked { // else the queue is full
			h.confirmed(body, h.s.Queues...)
		}
	}
	return nil
}

// drain takes all there is for good.
func (h *crashHeir) drain(ctx context.Context) error {
	for _, q := range h.s.Queues {
		for h.exists[q] {
			d, ok, err := h.ch.Get(ctx, q, true)
			if isCode(err, channel.NotFound) && slices.Contains(h.s.Goes, q) { // the dead had deleted it
				h.exists[q] = false
				if h.ch, err = h.conn.Channel(ctx); err == nil {
					err = h.ch.Confirm(ctx)
				}
			}
			if err != nil {
				return err
			}
			if !ok {
				break
			}
			if string(d.Body) != probe {
				h.delivered(q, &d)
			}
			h.found[crashCopy{q, string(d.Body)}]++
		}
	}
	return nil
}

// missing lists what must be there, and is not.
func (h *crashHeir) missing() (lost []string) {
	left := map[string]int{}
	for q, n := range h.risked {
		left[q] = n
	}
	for _, p := range h.there {
		if slices.ContainsFunc(p.in, func(q string) bool { return h.found[crashCopy{q, p.body}] > 0 }) {
			continue
		}
		if left[p.in[0]]--; left[p.in[0]] < 0 {
			lost = append(lost, fmt.Sprintf("%q in %s", p.body, strings.Join(p.in, " or ")))
		}
	}
	return lost
}

// verdict holds what was found against the facts.
func (h *crashHeir) verdict() error {
	var bad []string
	if lost := h.missing(); lost != nil {
		h.lost += len(lost)
		bad = append(bad, "lost: "+strings.Join(lost, "; "))
	}
	for _, p := range h.gone {
		c := crashCopy{p.in[0], p.body}
		if n := h.found[c]; n > h.seen.copies(c)-1 && n > 0 {
			h.back++
			bad = append(bad, fmt.Sprintf("%q came back to %s %d times after it was acked", p.body, p.in[0], n))
		}
	}
	for _, p := range h.together {
		n := 0
		for _, q := range p.in {
			n += min(1, h.found[crashCopy{q, p.body}])
		}
		if n > 0 && n < len(p.in) && h.seen.atomic {
			h.wrong++
			bad = append(bad, fmt.Sprintf("half done: %q is in %d of %s", p.body, n, strings.Join(p.in, ", ")))
		}
	}
	return failed(append(bad, h.duplicates()...))
}

func failed(bad []string) error {
	if bad == nil {
		return nil
	}
	return fmt.Errorf("%s", strings.Join(bad, "; "))
}

// duplicates counts what came more than once, and lists what no rule allows.
func (h *crashHeir) duplicates() (bad []string) {
	again := func(c crashCopy, redelivered, elsewhere bool, format string, a ...any) {
		rule := h.seen.judge(c, redelivered, elsewhere)
		if rule == nil {
			h.wrong++
			bad = append(bad, fmt.Sprintf("twice: "+format, a...))
			return
		}
		if h.twice == nil {
			h.twice = map[*crashRule]int{}
		}
		h.twice[rule]++
	}
	for c, flags := range h.came {
		for i, redelivered := range flags {
			switch {
			case i == 0:
			case redelivered && h.asked[c] > 0:
				h.asked[c]--
			default:
				again(c, redelivered, false, "%q came from %s again, and did not say so: %v", c.body, c.queue, flags)
			}
		}
	}
	for _, p := range h.one {
		places := 0
		for _, q := range p.in {
			if c := (crashCopy{q, p.body}); h.found[c] > 0 {
				if places++; places > 1 {
					again(c, false, true, "%q is in several of %s", p.body, strings.Join(p.in, ", "))
				}
			}
		}
	}
	return bad
}

func isCode(err error, code int) bool {
	e, ok := err.(*channel.Error)
	return ok && e.Code == code
}
