package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// status is the block that a terminal shows while it runs.
func (d *demo) status() []string {
	p := d.plan
	n := func(f interface{ Load() int64 }) string { return grouped(f.Load()) }
	return []string{
		fmt.Sprintf("  lines      %12s published  %12s confirmed  %v", n(&d.lines), n(&d.confirmed), time.Since(d.begin).Round(redraw)),
		fmt.Sprintf("  archive    %12s delivered", n(&p.archive.given)),
		fmt.Sprintf("  alerts     %12s delivered", n(&p.alerts.given)),
		fmt.Sprintf("  dashboard  %12s delivered  %12s overflowed", n(&p.dashboard.given), n(&p.overflow.given)),
		fmt.Sprintf("  work       %12s delivered  %12s failed  %s parked", n(&p.work.given), n(&d.failed), n(&d.parked)),
	}
}

// branch is a queue as the picture shows it.
type branch struct {
	at     *station
	queue  string // name and what is particular about it
	who    string // its consumer
	result string
	below  []string // what becomes of messages that are not acked
}

// draw draws what flowed: the exchange, its bindings with what went over each, the queues, their consumers.
func (d *demo) draw(w io.Writer) {
	p := d.plan
	seconds := max(d.elapsed.Seconds(), 1e-9)
	lines, all := d.lines.Load(), int64(0)
	for _, s := range p.stations() {
		all += s.given.Load()
	}
	fmt.Fprintf(w, "%s: %s, %s, through %s\n", d.title, plural(lines, "line"), sized(d.bytes.Load()), d.url)
	fmt.Fprintf(w, "%.2f s: %s lines/s in, %s deliveries/s out\n", seconds, grouped(int64(float64(lines)/seconds)), grouped(int64(float64(all)/seconds)))
	if d.cuts > 0 {
		fmt.Fprintf(w, "%s longer than %s went in several messages\n", plural(int64(d.cuts), "line"), sized(maxLine))
	}
	fmt.Fprintf(w, "\nexchange lines (topic)  %s published, %s confirmed\n│\n", grouped(lines), grouped(d.confirmed.Load()))

	failed, parked := d.failed.Load(), d.parked.Load()
	branches := []branch{
		{p.archive, "archive", "archivist", "acked, in order, unchanged", nil},
		{p.alerts, "alerts", "watcher", "acked", nil},
		{p.dashboard, "dashboard", "painter (slow: prefetch 5)", "acked", []string{
			fmt.Sprintf("over %d long: %s ─► exchange dead ─► overflow ─► collector, %s acked",
				dashboardMax, grouped(p.overflow.given.Load()), grouped(p.overflow.given.Load())),
		}},
		{p.work, "work", "worker (fails now and then)", "acked", []string{
			fmt.Sprintf("failed:  %s ─► exchange dead ─► retry (%d ms) ─► back to work", grouped(failed), retryAfter),
			fmt.Sprintf("gave up after %d attempts: %s ─► exchange dead ─► parking, %s kept", attempts, grouped(parked), grouped(int64(p.parking.left))),
		}},
	}
	for i, b := range branches {
		d.drawBranch(w, b, i == len(branches)-1)
	}
}

func (d *demo) drawBranch(w io.Writer, b branch, last bool) {
	widthP, widthN := 0, 0
	for _, x := range d.plan.bindings {
		widthP, widthN = max(widthP, len([]rune(x.pattern))), max(widthN, len(grouped(x.n.Load())))
	}
	stem := "│"
	for i, x := range b.at.binds {
		joint := "├──"
		end := i == len(b.at.binds)-1
		if last && end {
			joint, stem = "└──", " "
		}
		arrow := "─┐"
		switch {
		case end && i == 0:
			arrow = "──► "
		case end:
			arrow = "─┴► "
		case i > 0:
			arrow = "─┤"
		}
		fmt.Fprintf(w, "%s %s %*s %s", joint, pad(x.pattern, widthP), widthN, grouped(x.n.Load()), arrow)
		if end {
			acked := b.at.ended(d)
			fmt.Fprintf(w, "%s  %s ─► %s  %s %s%s", b.queue, grouped(b.at.routed.Load()), b.who, grouped(acked), b.result, b.at.speed())
		}
		fmt.Fprintln(w)
	}
	indent := stem + strings.Repeat(" ", widthP+widthN+9)
	for i, line := range b.below {
		joint := "├─ "
		if i == len(b.below)-1 {
			joint = "└─ "
		}
		fmt.Fprintf(w, "%s%s%s\n", indent, joint, line)
	}
	if !last {
		fmt.Fprintln(w, stem)
	} else {
		fmt.Fprintln(w)
	}
}

// ended is how many messages were acked by the queue's own consumer, as the end of their way.
func (s *station) ended(d *demo) int64 {
	if s == d.plan.work {
		return s.given.Load() - d.failed.Load() - d.parked.Load()
	}
	return s.given.Load()
}

// speed is the consumer's rate while it had something to do.
func (s *station) speed() string {
	n, span := s.given.Load(), time.Duration(s.last.Load()-s.first.Load())
	if n < 2 || span <= 0 {
		return ""
	}
	return fmt.Sprintf(", %s/s", grouped(int64(float64(n-1)/span.Seconds())))
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-len([]rune(s))))
}

// verify holds the counts of both ends against each other: what the demo's own matching says must arrive, and what
// did.
func (d *demo) verify() (wrong []error) {
	p := d.plan
	equal := func(what string, got int64, whatElse string, want int64) {
		if got != want {
			wrong = append(wrong, fmt.Errorf("%s is %d, %s %d", what, got, whatElse, want))
		}
	}
	lines, failed, parked := d.lines.Load(), d.failed.Load(), d.parked.Load()
	equal("confirmed", d.confirmed.Load(), "published", lines)
	equal("archived", p.archive.given.Load(), "published", lines)
	equal("lines out of order", d.misplaced, "allowed", 0)
	equal("checksum of the archive", int64(d.received), "of the lines", int64(d.sent))
	equal("alerts delivered", p.alerts.given.Load(), "routed", p.alerts.routed.Load())
	equal("dashboard delivered and overflowed", p.dashboard.given.Load()+p.overflow.given.Load(), "routed", p.dashboard.routed.Load())
	equal("work delivered", p.work.given.Load(), "routed and failed", p.work.routed.Load()+failed)
	equal("parking holds", int64(p.parking.left), "parked", parked)
	for _, s := range p.stations() {
		if s != p.parking {
			equal("left in "+s.name, int64(s.left), "allowed", 0)
		}
	}
	equal("redelivered", d.redelivered.Load(), "allowed", 0)
	return wrong
}
