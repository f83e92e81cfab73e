package conformance

import (
	"context"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// disorderly is memory with all that it promises but its order, and with no capability.
func disorderly() Profile {
	t := virtual.TraitsOf(memory.New().Open())
	t.Ordered, t.Marks, t.Guards, t.Fences, t.Ranked, t.TTL = false, false, false, false, false, false
	return Profile{Name: "disorderly", Traits: t, Window: 4, Shuffled: true, Seed: 7}
}

// TestWrongTransportsAreCaughtWithoutOrder runs the row named by each mutant where messages come in no order: a row that
// looks at them as a set must be as good at finding what is wrong, but for the order itself.
func TestWrongTransportsAreCaughtWithoutOrder(t *testing.T) {
	rows := map[string]Row{}
	for _, r := range Rows() {
		rows[r.ID] = r
	}
	for _, m := range mutants {
		t.Run(m.name, func(t *testing.T) {
			if m.row == "PB-10" {
				t.Skip("not wrong here: what such a store is given is encoded before Publish returns")
			}
			synctest.Test(t, func(t *testing.T) {
				run := func(wrap func(Rig) Rig) RowResult {
					c := ChannelConfig{Virtual: true, Open: func(context.Context) (Rig, error) {
						p := memory.New()
						o := VirtualOptions{Open: func() (virtual.Store, error) { return disorderly().Dress(p.Open()), nil }, Virtual: true}
						return wrap(VirtualTwo(o)), nil
					}}
					return c.run(t.Context(), rows[m.row])
				}
				if r := run(func(r Rig) Rig { return r }); r.Result == Refused {
					t.Skipf("%s: %s", m.row, r.Reason)
				}
				r := run(func(r Rig) Rig { return &mutantRig{Rig: r, make: m.make} })
				if r.Result != Fail {
					t.Errorf("%s does not catch a transport where %s: %s %s", m.row, m.name, r.Result, r.Reason)
				}
				t.Logf("%s: %s", m.row, r.Reason)
			})
		})
	}
}

// TestMessagesPlayPartsInTheOrderInWhichTheyCome shows what rows check where there is no order.
func TestMessagesPlayPartsInTheOrderInWhichTheyCome(t *testing.T) {
	deliveries := func(texts ...string) []channel.Delivery {
		ds := make([]channel.Delivery, len(texts))
		for i, s := range texts {
			ds[i].Body = []byte(s)
		}
		return ds
	}
	fresh := func() (*Env, *cast) {
		e := &Env{casts: map[string]*cast{}}
		e.staged("", "q", text("1"), text("2"), text("3"), text("4"), expiring("5", 1))
		return e, e.castOf("q")
	}
	steps := []struct {
		comes, want string
		ok          bool
	}{
		{"42", "12", true}, // 4 plays "1", and 2 itself
		{"4", "1", true},   // and goes on with it
		{"24", "12", true}, // however they come
		{"4", "2", false},  // that is another one's
		{"4", "3", false},  // it has a part
		{"1", "1", false},  // that one is given
		{"31", "34", true}, // what is left
		{"1234", "1234", true},
		{"11", "41", false}, // twice
		{"5", "3", false},   // not alike
		{"5", "5", true},
		{"6", "1", false}, // nobody published it
		{"123", "1234", false},
		{"12345", "1234", false},
	}
	_, c := fresh()
	split := func(s string) []string {
		var out []string
		for _, r := range s {
			out = append(out, string(r))
		}
		return out
	}
	for _, s := range steps {
		out, ok := c.assign(deliveries(split(s.comes)...), split(s.want))
		if ok != s.ok {
			t.Errorf("%s for %s: %v, want %v", s.comes, s.want, ok, s.ok)
		}
		for i, part := range split(s.want) {
			if ok && c.part[string(out[i].Body)] != part {
				t.Errorf("%s for %s: %q stands where %q is expected", s.comes, s.want, out[i].Body, part)
			}
		}
	}
	// Published again it is as new; another queue has its own parts, but for what goes there from the first.
	e, c := fresh()
	_, ok := c.assign(deliveries("4", "3"), []string{"1", "2"})
	e.tour("q", "dead")
	e.staged("", "q", text("4"))
	if slices.Contains([]bool{ok, e.castOf("dead") == c, e.castOf("other") != c, c.plays["1"] == "", c.plays["2"] == "3"}, false) {
		t.Errorf("parts are %v", c.plays)
	}
}
