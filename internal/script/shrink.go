package script

import (
	"maps"
	"slices"
)

// Shrink makes a script that fails as small as it can, at most tries times asking whether it still does: it leaves out
// operations, first many at a time, then makes those that stay plainer.
func Shrink(s Script, tries int, fails func(Script) bool) Script {
	ask := func(t Script) bool {
		tries--
		return tries >= 0 && fails(t)
	}
	for before := len(s) + 1; len(s) < before && tries > 0; {
		before = len(s)
		for n := len(s) / 2; n > 0; n /= 2 {
			for at := 0; at+n <= len(s); {
				if t := slices.Delete(slices.Clone(s), at, at+n); ask(t) {
					s = t
				} else {
					at += n
				}
			}
		}
		for at := range s {
			for _, o := range plainer(s[at]) {
				t := slices.Clone(s)
				t[at] = o
				if ask(t) {
					s = t
				}
			}
		}
	}
	return s
}

// plainer returns operations that are like one, with one thing less.
func plainer(o Op) []Op {
	var all []Op
	less := func(set bool, change func(o *Op)) {
		if set {
			c := o
			change(&c)
			all = append(all, c)
		}
	}
	without := func(a Args, k string) Args {
		c := maps.Clone(a)
		if delete(c, k); len(c) == 0 {
			return nil
		}
		return c
	}
	for _, k := range slices.Sorted(maps.Keys(o.Args)) {
		less(true, func(c *Op) { c.Args = without(o.Args, k) })
	}
	for _, k := range slices.Sorted(maps.Keys(o.Headers)) {
		less(true, func(c *Op) { c.Headers = without(o.Headers, k) })
	}
	less(o.Durable, func(c *Op) { c.Durable = false })
	less(o.AutoDelete, func(c *Op) { c.AutoDelete = false })
	less(o.Exclusive, func(c *Op) { c.Exclusive = false })
	less(o.Internal, func(c *Op) { c.Internal = false })
	less(o.Mandatory, func(c *Op) { c.Mandatory = false })
	less(o.Priority > 0, func(c *Op) { c.Priority = 0 })
	less(o.Mode > 0, func(c *Op) { c.Mode = 0 })
	less(o.Size > 0, func(c *Op) { c.Size = 0 })
	less(o.Props > 0, func(c *Op) { c.Props = 0 })
	less(o.User != "", func(c *Op) { c.User = "" })
	less(o.NoWait, func(c *Op) { c.NoWait = false })
	less(o.Expiration != "", func(c *Op) { c.Expiration = "" })
	less(o.N > 1, func(c *Op) { c.N = 1 })
	less(o.N > 2, func(c *Op) { c.N = 2 })
	less(o.Conn > 0, func(c *Op) { c.Conn = 0 })
	less(o.Chan > 0, func(c *Op) { c.Chan = 0 })
	less(o.Multiple, func(c *Op) { c.Multiple = false })
	less(o.IfUnused, func(c *Op) { c.IfUnused = false })
	less(o.IfEmpty, func(c *Op) { c.IfEmpty = false })
	less(o.NoAck, func(c *Op) { c.NoAck = false })
	return all
}
