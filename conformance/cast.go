package conformance

import (
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/channel"
)

// cast is how rows hold where a store keeps no order. A row says "1" for the message that comes first, and goes on with
// it: "1" is acked, "2" comes back. There the texts of a row are parts, and the messages of a queue play them in the
// order in which they come: whichever came first plays "1" from then on. Only messages that are alike but for their text
// play each other's parts, each plays one, and all of it is what was put into that queue.
//
// Where the store keeps order, every message plays itself.
type cast struct {
	alike map[string]string // by text put into the queue: all else that it was published with
	plays map[string]string // text by part
	part  map[string]string // part by text
}

func (e *Env) castOf(queue string) *cast {
	e.mu.Lock()
	defer e.mu.Unlock()
	c := e.casts[queue]
	if c == nil {
		c = &cast{alike: map[string]string{}, plays: map[string]string{}, part: map[string]string{}}
		e.casts[queue] = c
	}
	return c
}

// staged notes what was published into a queue by its name. Published again, a text is as new.
func (e *Env) staged(exchange, key string, ms ...channel.Publishing) {
	if exchange != "" {
		return // where it goes is the broker's to know
	}
	c := e.castOf(key)
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, m := range ms {
		body := string(m.Body)
		m.Body = nil
		c.alike[body] = fmt.Sprintf("%v", m)
		if part, ok := c.part[body]; ok {
			delete(c.plays, part)
			delete(c.part, body)
		}
		if text, ok := c.plays[body]; ok {
			delete(c.part, text)
			delete(c.plays, body)
		}
	}
}

// tour has messages play the same parts in another queue, where those of the first go from there.
func (e *Env) tour(queue, next string) {
	c := e.castOf(queue)
	e.mu.Lock()
	defer e.mu.Unlock()
	e.casts[next] = c
}

// came checks that deliveries from a queue are these messages, in order where the store keeps it, and returns them in
// the order of want.
func (e *Env) came(what, queue string, ds []channel.Delivery, want ...string) []channel.Delivery {
	e.Helper()
	if e.has(Order) {
		e.same(what, bodies(ds), want)
		return ds
	}
	c := e.castOf(queue)
	e.mu.Lock()
	out, ok := c.assign(ds, want)
	e.mu.Unlock()
	if !ok {
		e.Fatalf("%s (in any order): saw %s, want %s%s", what, show(bodies(ds)), show(want), c.roles(want))
	}
	return out
}

// assign gives parts to messages: those that they have, and to the others what is left, as they come.
func (c *cast) assign(ds []channel.Delivery, want []string) ([]channel.Delivery, bool) {
	if len(ds) != len(want) {
		return nil, false
	}
	out, given := make([]channel.Delivery, len(ds)), make([]bool, len(want))
	give := func(d channel.Delivery, fits func(part string) bool) bool {
		i := -1
		for k, part := range want {
			if !given[k] && fits(part) {
				i = k
				break
			}
		}
		if i >= 0 {
			out[i], given[i] = d, true
		}
		return i >= 0
	}
	var new []channel.Delivery
	for _, d := range ds {
		part, known := c.part[string(d.Body)]
		if !known {
			new = append(new, d)
		} else if !give(d, func(p string) bool { return p == part }) {
			return nil, false
		}
	}
	for _, d := range new {
		text := string(d.Body)
		how, staged := c.alike[text]
		if !give(d, func(p string) bool {
			if _, played := c.plays[p]; played {
				return false
			}
			like, isStaged := c.alike[p]
			if p != text && (!staged || !isStaged || like != how) {
				return false
			}
			c.plays[p], c.part[text] = text, p
			return true
		}) {
			return nil, false
		}
	}
	return out, true
}

// roles says who plays which part, where it is not himself.
func (c *cast) roles(parts []string) string {
	var list []string
	for _, p := range parts {
		if text, ok := c.plays[p]; ok && text != p {
			list = append(list, fmt.Sprintf("%q for %q", text, p))
		}
	}
	if len(list) == 0 {
		return ""
	}
	slices.Sort(list)
	return fmt.Sprintf(", that is %v", list)
}
