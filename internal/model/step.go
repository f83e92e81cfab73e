package model

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// Slot is where a client has a channel: its connection's number and the channel's on it. A channel that has ended may be
// opened again.
type Slot struct{ Conn, Chan int }

func (s Slot) String() string { return fmt.Sprintf("%d.%d", s.Conn, s.Chan) }

// Step is what clients see of one step: the answer of the call, and what each channel heard.
type Step struct {
	Reply Reply
	Heard map[Slot]*Heard
	// What there is after it; nil: nobody looked.
	Counts map[string]Count
	// Objects is how many exchanges and bindings there are.
	Objects [2]int
}

// Reply is the answer of a call; Code is 0 where it went well.
type Reply struct {
	Code                int
	Queue               string
	Messages, Consumers int
	Got                 *Delivery // of a get
}

// Heard is what one channel was told, each kind in its order.
type Heard struct {
	Deliveries []Delivery
	Returns    []Return
	Confirms   map[uint64]bool // number: acked
	Cancelled  []string
	Closed     int // the code with which it ended; 504 for its own Close
}

// Delivery is a message that was handed over.
type Delivery struct {
	Tag         uint64
	Consumer    string
	Redelivered bool
	Left        int // of a get
	Exchange    string
	Key         string
	Message     channel.Publishing
}

// Return is a message that was given back.
type Return struct {
	Exchange, Key string
	Message       channel.Publishing
}

// Span is a time that is known between two bounds.
type Span struct{ From, To time.Time }

// Add moves a span.
func (s Span) Add(d time.Duration) Span { return Span{s.From.Add(d), s.To.Add(d)} }

func (s *Step) at(slot Slot) *Heard {
	if s.Heard == nil {
		s.Heard = map[Slot]*Heard{}
	}
	h := s.Heard[slot]
	if h == nil {
		h = &Heard{}
		s.Heard[slot] = h
	}
	return h
}

// Diff tells how what was seen differs from what the model says; "" when it does not.
func (s *Step) Diff(seen *Step) string {
	var out []string
	say := func(format string, a ...any) { out = append(out, fmt.Sprintf(format, a...)) }
	if d := s.Reply.diff(&seen.Reply); d != "" {
		say("the answer: %s", d)
	}
	slots := map[Slot]bool{}
	for k := range s.Heard {
		slots[k] = true
	}
	for k := range seen.Heard {
		slots[k] = true
	}
	all := slices.Collect(maps.Keys(slots))
	sort.Slice(all, func(i, j int) bool { return all[i].String() < all[j].String() })
	for _, k := range all {
		if d := s.at(k).diff(seen.at(k)); d != "" {
			say("channel %v: %s", k, d)
		}
	}
	if seen.Counts != nil && !maps.Equal(s.Counts, seen.Counts) {
		say("queues %v, want %v", seen.Counts, s.Counts)
	}
	if seen.Counts != nil && s.Objects != seen.Objects {
		say("exchanges and bindings %v, want %v", seen.Objects, s.Objects)
	}
	return strings.Join(out, "; ")
}

func (r *Reply) diff(seen *Reply) string {
	switch {
	case r.Code != seen.Code:
		return fmt.Sprintf("code %d, want %d", seen.Code, r.Code)
	case r.Queue != seen.Queue:
		return fmt.Sprintf("queue %q, want %q", seen.Queue, r.Queue)
	case r.Messages != seen.Messages:
		return fmt.Sprintf("%d messages, want %d", seen.Messages, r.Messages)
	case r.Consumers != seen.Consumers:
		return fmt.Sprintf("%d consumers, want %d", seen.Consumers, r.Consumers)
	case (r.Got == nil) != (seen.Got == nil):
		return fmt.Sprintf("got %v, want %v", seen.Got, r.Got)
	case r.Got != nil:
		return r.Got.diff(seen.Got)
	}
	return ""
}

func (h *Heard) diff(seen *Heard) string {
	if len(h.Deliveries) != len(seen.Deliveries) {
		return fmt.Sprintf("%d deliveries %v, want %d %v", len(seen.Deliveries), seen.Deliveries, len(h.Deliveries), h.Deliveries)
	}
	byTag := func(ds []Delivery) []Delivery {
		return slices.SortedFunc(slices.Values(ds), func(a, b Delivery) int { return int(a.Tag) - int(b.Tag) })
	}
	want, got := byTag(h.Deliveries), byTag(seen.Deliveries)
	for i := range want {
		if d := want[i].diff(&got[i]); d != "" {
			return d
		}
	}
	if len(h.Returns) != len(seen.Returns) {
		return fmt.Sprintf("%d returns, want %d", len(seen.Returns), len(h.Returns))
	}
	for i := range h.Returns {
		w, g := h.Returns[i], seen.Returns[i]
		if w.Exchange != g.Exchange || w.Key != g.Key {
			return fmt.Sprintf("a return from %q by %q, want %q by %q", g.Exchange, g.Key, w.Exchange, w.Key)
		}
		if d := diffMessage(&w.Message, &g.Message); d != "" {
			return "a return: " + d
		}
	}
	if !maps.Equal(h.Confirms, seen.Confirms) {
		return fmt.Sprintf("confirms %v, want %v", seen.Confirms, h.Confirms)
	}
	a, b := slices.Sorted(slices.Values(h.Cancelled)), slices.Sorted(slices.Values(seen.Cancelled))
	if !slices.Equal(a, b) {
		return fmt.Sprintf("cancelled %v, want %v", b, a)
	}
	if h.Closed != seen.Closed {
		return fmt.Sprintf("closed with %d, want %d", seen.Closed, h.Closed)
	}
	return ""
}

// String is for what is printed of a difference.
func (d Delivery) String() string {
	s := fmt.Sprintf("%.30s→%s#%d", d.Message.Body, d.Consumer, d.Tag)
	if d.Redelivered {
		s += "r"
	}
	return s
}

func (d *Delivery) diff(seen *Delivery) string {
	head := func(d *Delivery) string {
		return fmt.Sprintf("%v of %q by %q, %d left", d, d.Exchange, d.Key, d.Left)
	}
	if a, b := head(d), head(seen); a != b {
		return fmt.Sprintf("delivery %s, want %s", b, a)
	}
	if bad := diffMessage(&d.Message, &seen.Message); bad != "" {
		return fmt.Sprintf("delivery %v: %s", seen, bad)
	}
	return ""
}

// diffMessage compares what a message carries.
func diffMessage(want, seen *channel.Publishing) string {
	plain := func(p channel.Publishing) channel.Publishing {
		return channel.Publishing{
			ContentType: p.ContentType, ContentEncoding: p.ContentEncoding, DeliveryMode: p.DeliveryMode, Priority: p.Priority,
			CorrelationId: p.CorrelationId, ReplyTo: p.ReplyTo, Expiration: p.Expiration, MessageId: p.MessageId,
			Timestamp: p.Timestamp.UTC(), Type: p.Type, UserId: p.UserId, AppId: p.AppId, Body: append([]byte{}, p.Body...),
		}
	}
	if a, b := plain(*want), plain(*seen); !reflect.DeepEqual(a, b) {
		return fmt.Sprintf("properties %+v, want %+v", b, a)
	}
	if len(want.Headers) == 0 && len(seen.Headers) == 0 {
		return ""
	}
	if d := diffValue("headers", want.Headers, seen.Headers); d != "" {
		return d
	}
	return ""
}

func diffValue(path string, want, seen any) string {
	switch w := want.(type) {
	case Span:
		t, ok := seen.(time.Time)
		if !ok || t.Before(w.From.Add(-time.Second)) || t.After(w.To) {
			return fmt.Sprintf("%s is %v, want a time from %v to %v", path, seen, w.From, w.To)
		}
		return ""
	case channel.Table:
		s, ok := seen.(channel.Table)
		if !ok || len(s) != len(w) {
			return fmt.Sprintf("%s is %v, want %v", path, seen, want)
		}
		for k := range w {
			if _, has := s[k]; !has {
				return fmt.Sprintf("%s has no %q: %v", path, k, s)
			}
			if d := diffValue(path+"."+k, w[k], s[k]); d != "" {
				return d
			}
		}
		return ""
	case []any:
		s, ok := seen.([]any)
		if !ok || len(s) != len(w) {
			return fmt.Sprintf("%s is %v, want %v", path, seen, want)
		}
		if strings.HasSuffix(path, ".x-death") {
			return diffDeaths(path, w, s)
		}
		for i := range w {
			if d := diffValue(fmt.Sprintf("%s.%d", path, i), w[i], s[i]); d != "" {
				return d
			}
		}
		return ""
	}
	if !reflect.DeepEqual(want, seen) {
		return fmt.Sprintf("%s is %#v, want %#v", path, seen, want)
	}
	return ""
}

// diffDeaths compares the newest entry in its place, and the older ones in any order: RabbitMQ 3.10 turns them round.
func diffDeaths(path string, want, seen []any) string {
	if len(want) == 0 {
		return ""
	}
	if d := diffValue(path+".0", want[0], seen[0]); d != "" {
		return d
	}
	rest := slices.Clone(seen[1:])
	for _, w := range want[1:] {
		i := slices.IndexFunc(rest, func(s any) bool { return diffValue(path, w, s) == "" })
		if i < 0 {
			return fmt.Sprintf("%s is %v, want %v", path, seen, want)
		}
		rest = slices.Delete(rest, i, i+1)
	}
	return ""
}
