package soak

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// plan has four queues, and the ids below go where they say.
var plan = Plan{Seed: 1, Queues: 4}

// find returns the first message of producer 1 that is as wanted.
func find(t *testing.T, what string, wanted func(ID, Message) bool) ID {
	t.Helper()
	for seq := uint64(1); seq < 10_000; seq++ {
		if id := (ID{1, seq}); wanted(id, plan.Message(id)) {
			return id
		}
	}
	t.Fatalf("no message is %s", what)
	return ID{}
}

// books writes the books of a run around one message M, which is the last that producer 1 has published; R is the book of the run.
type books map[string]string

func (b books) judge(t *testing.T, id ID, limits Limits) *Verdict {
	t.Helper()
	l := NewLedger()
	q := plan.Message(id).Queues[0]
	fill := strings.NewReplacer("Q M", fmt.Sprintf("%d 1 %d", q, id.Seq), "DEAD M", fmt.Sprintf("%d 1 %d", q+plan.Queues, id.Seq),
		"OTHER M", fmt.Sprintf("%d 1 %d", (q+1)%plan.Queues, id.Seq), "M", fmt.Sprint(id.Seq), "/", "\n")
	for name, text := range b {
		if name == "producer-1" {
			before := ""
			for seq := uint64(1); seq < id.Seq; seq++ { // and never confirmed
				before += fmt.Sprintf("p %d 1/", seq)
			}
			text = before + text
		}
		if err := l.Add(name, fill.Replace(text)); err != nil {
			t.Fatal(err)
		}
	}
	return l.Judge(plan, limits)
}

func TestJudge(t *testing.T) {
	one := func(id ID, m Message) bool { return m.Exchange == "direct" && !plan.Rejected(id, m.Queues[0]) }
	acked := find(t, "acked", one)
	rejected := find(t, "rejected", func(id ID, m Message) bool { return m.Exchange == "direct" && plan.Rejected(id, m.Queues[0]) })
	many := find(t, "fanned out", func(id ID, m Message) bool {
		for q := range plan.Queues {
			if plan.Rejected(id, q) {
				return false
			}
		}
		return m.Exchange == "fanout"
	})

	const sent = "p M 10/c M 20/"
	for _, c := range []struct {
		name   string
		id     ID
		books  books
		limits Limits
		want   Verdict
		rule   Rule // that allowed a delivery
		says   string
	}{
		{"came once", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/"}, Limits{}, Verdict{Copies: 1}, "", ""},
		{"came before its confirm", acked, books{"producer-1": "p M 10/c M 40/", "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/"}, Limits{}, Verdict{Copies: 1}, "", ""},
		{"not confirmed and did not come", acked, books{"producer-1": "p M 10/"}, Limits{}, Verdict{}, "", ""},
		{"not confirmed and came", acked, books{"producer-1": "p M 10/", "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/"}, Limits{}, Verdict{}, "", ""},
		{"acked, and nobody knows whether the ack arrived", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/"}, Limits{}, Verdict{Copies: 1}, "", ""},
		{"rejected and buried", rejected, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 r 31/d 1 32/g 2 1 DEAD M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1, Dead: 1}, "", ""},

		{"lost", acked, books{"producer-1": sent}, Limits{}, Verdict{Copies: 1, Lost: 1}, "", "it never came from"},
		{"lost in the hands of a consumer", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/"}, Limits{}, Verdict{Copies: 1, Lost: 1}, "", "never came again"},
		{"lost when it was put back", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 q 31/d 1 32/"}, Limits{}, Verdict{Copies: 1, Lost: 1}, "", "never came again"},
		{"lost as a dead letter", rejected, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 r 31/d 1 32/"}, Limits{}, Verdict{Copies: 1, Dead: 1, Lost: 1}, "", "was rejected and never came"},
		{"lost in three queues of four", many, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/"}, Limits{}, Verdict{Copies: 4, Lost: 3}, "", "for q0, q1, q2, q3"},

		{"again: put back", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 q 31/d 1 32/g 2 1 Q M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1}, RuleRequeued, ""},
		{"again: not answered", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/", "consumer-3": "g 1 1 Q M 40/s 1 a 41/d 1 42/"}, Limits{}, Verdict{Copies: 1}, RuleUnanswered, ""},
		{"again, and read later by who had it first", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 50/e 1 51/", "consumer-3": "g 1 1 Q M 40/s 1 a 41/d 1 42/"}, Limits{}, Verdict{Copies: 1}, RuleUnanswered, ""},
		{"again: the answer is not known to have arrived", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/", "consumer-3": "g 1 1 Q M 40/s 1 a 41/d 1 42/"}, Limits{}, Verdict{Copies: 1}, RuleUnknown, ""},
		{"again: published again", acked, books{"producer-1": "p M 10/e 1 15/p M 16/c M 20/", "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 1 Q M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1}, RuleAgain, ""},
		{"again: nacked", acked, books{"producer-1": "p M 10/n M 15/p M 16/c M 20/", "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 1 Q M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1}, RuleAgain, ""},
		{"again: forgotten in a restart", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 2 Q M 140/s 2 a 141/d 2 142/", "run": "r 100/R 120/"}, Limits{Forgets: 80}, Verdict{Copies: 1}, RuleForgotten, ""},
		{"again: a dead letter of two rejects", rejected, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 r 31/", "consumer-3": "g 1 1 Q M 40/s 1 r 41/d 1 42/g 2 1 DEAD M 50/s 2 a 51/d 2 52/g 3 1 DEAD M 60/s 3 a 61/d 3 62/"}, Limits{}, Verdict{Copies: 1, Dead: 1}, RuleUnknown, ""},

		{"twice for nothing", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 1 Q M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1, Duplicates: 1}, "", "nothing allows it"},
		{"three times for one reason", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/", "consumer-3": "g 1 1 Q M 40/s 1 a 41/d 1 42/g 2 1 Q M 50/s 2 a 51/d 2 52/"}, Limits{}, Verdict{Copies: 1, Duplicates: 1}, RuleUnanswered, "nothing allows it"},
		{"to two at once, of which one is killed later", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/g 2 1 OTHER M 45/s 2 a 46/d 2 47/", "consumer-3": "g 1 1 Q M 40/s 1 a 41/d 1 42/"}, Limits{}, Verdict{Copies: 1, Duplicates: 1, WrongQueue: 1}, "", "nothing allows it"},
		{"again, before it was published again", acked, books{"producer-1": "p M 10/n M 15/p M 50/c M 60/", "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 1 Q M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1, Duplicates: 1}, "", "nothing allows it"},
		{"forgotten long before a restart", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 2 Q M 140/s 2 a 141/d 2 142/", "run": "r 100/R 120/"}, Limits{Forgets: 60}, Verdict{Copies: 1, Duplicates: 1}, "", "nothing allows it"},
		{"forgotten by a server that must not", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 98/g 2 2 Q M 140/s 2 a 141/d 2 142/", "run": "r 100/R 120/"}, Limits{}, Verdict{Copies: 1, Duplicates: 1}, "", "nothing allows it"},
		{"buried twice", rejected, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 r 31/d 1 32/g 2 1 DEAD M 40/s 2 a 41/d 2 42/g 3 1 DEAD M 50/s 3 a 51/d 3 52/"}, Limits{}, Verdict{Copies: 1, Dead: 1, Duplicates: 1}, "", "nothing allows it"},

		{"from nowhere", acked, books{"consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/"}, Limits{}, Verdict{Nowhere: 1}, "", "nobody has published it"},
		{"before it was published", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 5/s 1 a 31/d 1 32/"}, Limits{}, Verdict{Copies: 1, Duplicates: 1}, "", "nothing allows it"},
		{"from another queue, too", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 1 OTHER M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1, WrongQueue: 1}, "", "wrong queue"},
		{"from another queue instead", acked, books{"producer-1": sent, "consumer-2": "g 1 1 OTHER M 40/s 1 a 41/d 1 42/"}, Limits{}, Verdict{Copies: 1, WrongQueue: 1, Lost: 1}, "", "wrong queue"},
		{"buried alive", acked, books{"producer-1": sent, "consumer-2": "g 1 1 Q M 30/s 1 a 31/d 1 32/g 2 1 DEAD M 40/s 2 a 41/d 2 42/"}, Limits{}, Verdict{Copies: 1, WrongQueue: 1}, "", "wrong queue"},
	} {
		t.Run(c.name, func(t *testing.T) {
			v := c.books.judge(t, c.id, c.limits)
			got := Verdict{Copies: v.Copies, Dead: v.Dead, Lost: v.Lost, Duplicates: v.Duplicates, Nowhere: v.Nowhere, WrongQueue: v.WrongQueue}
			if fmt.Sprint(got) != fmt.Sprint(c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			again := map[Rule]int{}
			if c.rule != "" {
				again[c.rule] = 1
			}
			if !maps.Equal(v.CameAgain, again) {
				t.Errorf("came again: %v, want %v", v.CameAgain, again)
			}
			text := strings.Join(v.Findings, "\n")
			if (text == "") != (v.Wrong() == 0) || !strings.Contains(text, c.says) {
				t.Errorf("findings do not say %q:\n%s", c.says, text)
			}
		})
	}
}

func TestFindingsAreBounded(t *testing.T) {
	l := NewLedger()
	for seq := 1; seq <= 1000; seq++ {
		if err := l.Add("producer-1", fmt.Sprintf("p %d 1\nc %d 2\n", seq, seq)); err != nil {
			t.Fatal(err)
		}
	}
	if v := l.Judge(plan, Limits{}); v.Lost != v.Copies || v.Lost < 1000 || len(v.Findings) != maxFindings {
		t.Errorf("%d lost of %d, %d findings", v.Lost, v.Copies, len(v.Findings))
	}
}

func TestBooksSayWhatTheLedgerReads(t *testing.T) {
	dir := t.TempDir()
	create := func(name string) *Book {
		b, err := Create(dir, name)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = b.Close() })
		return b
	}
	p, c, run := create("producer-1"), create("consumer-2"), create("run")
	all := func(errs ...error) {
		t.Helper()
		for _, err := range errs {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	id := ID{1, 1}
	m := plan.Message(id)
	l := NewLedger()
	all(p.Published(1), p.Nacked(1), p.Published(1), l.Update(dir))
	all(p.Confirmed(1), p.Lost(1), run.Killing("producer-1"), run.Restarting(), run.Restarted(), run.Killing("consumer-2"))
	for i, q := range m.Queues {
		d, a := uint64(i+1), Ack
		if plan.Rejected(id, q) {
			a = Reject
		}
		all(c.Got(d, 1, q, id), c.Answering(d, a), c.Answered(Now(), d))
	}
	all(c.Damaged(0), c.Lost(1), l.Update(dir), l.Update(dir))
	want := Counts{Published: 2, Again: 1, Confirmed: 1, Nacked: 1, Got: len(m.Queues), Damaged: 1, Acked: len(m.Queues), SessionsLost: 2,
		KilledProducers: 1, KilledConsumers: 1, Restarts: 1}
	if plan.Rejected(id, m.Queues[0]) || l.Counts != want {
		t.Errorf("%+v, want %+v", l.Counts, want)
	}
	if v := l.Judge(plan, Limits{Forgets: time.Second}); v.Wrong() != 0 || v.Copies != len(m.Queues) {
		t.Errorf("%+v", v)
	}

	// A process was killed in the middle of a line.
	torn, err := os.OpenFile(filepath.Join(dir, "producer-1"+bookSuffix), os.O_APPEND|os.O_WRONLY, 0)
	all(err)
	_, err = torn.WriteString("p 2 17")
	all(err, torn.Close(), l.Update(dir))
	if l.Published != 2 {
		t.Errorf("a torn line counts")
	}
	if err := l.Add("producer-1", "x 1 2\n"); err == nil {
		t.Errorf("nonsense is taken")
	}
}

func TestBodiesTellWhoTheyAre(t *testing.T) {
	sizes := map[string]int{}
	for seq := uint64(1); seq <= 3000; seq++ {
		m := plan.Message(ID{7, seq})
		if seq > 200 && m.Size < 1<<20 {
			continue
		}
		b := m.Body()
		if id, ok := ParseBody(b); !ok || id != m.ID || len(b) != m.Size {
			t.Fatalf("%v of %d bytes: %v, %t", m.ID, len(b), id, ok)
		}
		switch {
		case len(b) == 1<<20:
			sizes["large"]++
		case len(b) < 1<<10:
			sizes["small"]++
		}
		b[int(seq)%len(b)] ^= 1
		if _, ok := ParseBody(b); ok {
			t.Fatalf("%v: a changed byte is not seen", m.ID)
		}
	}
	if sizes["large"] == 0 || sizes["small"] < 50 {
		t.Errorf("sizes: %v", sizes)
	}
	if _, ok := ParseBody(nil); ok {
		t.Error("nothing is a body")
	}
}

func TestRoutesAreThoseOfTheBindings(t *testing.T) {
	for seq := uint64(1); seq < 2000; seq++ {
		m := plan.Message(ID{3, seq})
		var want []int
		for q := range plan.Queues {
			for _, b := range plan.Bindings() {
				pattern := strings.TrimSuffix(b.Key, "#")
				matches := m.Exchange == "fanout" || b.Key == m.Key ||
					m.Exchange == "topic" && (strings.HasPrefix(m.Key, pattern) && pattern != b.Key || b.Key == "#.all" && strings.HasSuffix(m.Key, ".all"))
				if b.Exchange == m.Exchange && b.Queue == q && matches {
					want = append(want, q)
					break
				}
			}
		}
		if fmt.Sprint(want) != fmt.Sprint(m.Queues) {
			t.Fatalf("%+v: the bindings lead to %v", m, want)
		}
	}
}
