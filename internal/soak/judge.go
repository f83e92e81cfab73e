package soak

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// Rule is why a delivery was allowed.
type Rule string

// The rules. Each delivery has to be paid for by one of these, from before it came, that no other delivery of this message from
// this queue has used. The first two pay for what comes once; all others for what comes again.
const (
	// RulePublished: the message was published. It pays for one copy in each queue it is routed to.
	RulePublished Rule = "published"
	// RuleRejected: a consumer rejected it. It pays for one copy in the dead-letter queue.
	RuleRejected Rule = "rejected"

	// RuleAgain: it was published again, since it was nacked, or its producer's session had ended without a confirm.
	RuleAgain Rule = "published again, since it was nacked or not answered"
	// RuleRequeued: a consumer put it back.
	RuleRequeued Rule = "put back by its consumer"
	// RuleUnanswered: it had come to a consumer whose session ended before it was answered, by a kill, a restart of the server
	// or a lost connection. It may come again from the last time that the session is known to have been alive.
	RuleUnanswered Rule = "not yet answered when its consumer was killed or lost its session"
	// RuleUnknown: the same after its consumer had sent an ack or a reject, and before it heard that it had arrived.
	RuleUnknown Rule = "answered, but its consumer was killed or lost its session before the answer was known to have arrived"
	// RuleForgotten: it was acked or rejected, and the server was restarted within the time of Limits.Forgets.
	RuleForgotten Rule = "acked so shortly before a restart of the server that it may have forgotten"
)

// Limits are what a run allows beyond the rules.
type Limits struct {
	// Forgets is for how long before it is restarted the server may have told of acks that it does not remember then. 0: never.
	Forgets time.Duration
}

// Verdict is the judgement on a ledger. All but the counts have to be zero.
type Verdict struct {
	Copies      int          `json:"copies"`       // of confirmed messages in the queues they are routed to
	Dead        int          `json:"dead_letters"` // of those, rejected ones, which had to come from a dead-letter queue
	Unconfirmed int          `json:"unconfirmed"`  // messages that were published and never confirmed: they may have come or not
	CameAgain   map[Rule]int `json:"came_again"`   // by what allowed it

	Lost       int `json:"lost"`        // copies of confirmed messages that never came, or never were answered
	Duplicates int `json:"duplicates"`  // deliveries that no rule allows
	Nowhere    int `json:"nowhere"`     // deliveries of what nobody has published
	WrongQueue int `json:"wrong_queue"` // deliveries from a queue that the message was not routed to

	Findings []string `json:"findings,omitempty"` // of each of those four the first few
}

// Wrong is how much is wrong.
func (v *Verdict) Wrong() int { return v.Lost + v.Duplicates + v.Nowhere + v.WrongQueue }

// maxFindings bounds the findings of one kind.
const maxFindings = 10

// find counts one and tells it, if it is among the first of its kind.
func (v *Verdict) find(count *int, format string, a ...any) {
	if *count++; *count <= maxFindings {
		v.Findings = append(v.Findings, fmt.Sprintf(format, a...))
	}
}

// visit is a delivery with what is known of its session.
type visit struct {
	delivery
	consumer int
	alive    int64
}

func byCopy(a, b visit) int {
	return cmp.Or(cmp.Compare(a.id.Producer, b.id.Producer), cmp.Compare(a.id.Seq, b.id.Seq), cmp.Compare(a.queue, b.queue))
}

// judgement is a verdict in the making.
type judgement struct {
	*Verdict
	ledger *Ledger
	plan   Plan
	limits Limits
	visits []visit // by message, queue and time
}

// Judge holds what came against what was published and confirmed. It may be called at any time, and then calls lost what is
// still on its way.
func (l *Ledger) Judge(p Plan, limits Limits) *Verdict {
	j := judgement{&Verdict{CameAgain: map[Rule]int{}}, l, p, limits, l.visits()}
	for rest := j.visits; len(rest) > 0; {
		n := 1
		for n < len(rest) && byCopy(rest[n], rest[0]) == 0 {
			n++
		}
		j.copies(rest[:n])
		rest = rest[n:]
	}
	for _, number := range slices.Sorted(maps.Keys(l.producers)) {
		for i, m := range l.producers[number].messages {
			j.arrived(ID{number, uint64(i + 1)}, m)
		}
	}
	return j.Verdict
}

func (l *Ledger) visits() (all []visit) {
	for number, k := range l.consumers {
		for _, d := range k.deliveries {
			if d.got != 0 {
				all = append(all, visit{d, number, k.alive[d.session]})
			}
		}
	}
	slices.SortFunc(all, func(a, b visit) int { return cmp.Or(byCopy(a, b), cmp.Compare(a.got, b.got)) })
	return all
}

// of returns the deliveries of a message from a queue.
func (j *judgement) of(id ID, queue int) []visit {
	key := visit{delivery: delivery{id: id, queue: queue}}
	from, _ := slices.BinarySearchFunc(j.visits, key, byCopy)
	to := from
	for to < len(j.visits) && byCopy(j.visits[to], key) == 0 {
		to++
	}
	return j.visits[from:to]
}

// sent returns the message as its producer has it, empty if nobody has published it.
func (l *Ledger) sent(id ID) (m sent) {
	if p := l.producers[id.Producer]; p != nil && id.Seq >= 1 && id.Seq <= uint64(len(p.messages)) {
		m = p.messages[id.Seq-1]
	}
	return m
}

// grant pays for one delivery that comes after its time.
type grant struct {
	from int64
	rule Rule
}

// copies judges all deliveries of a message from one queue: each has to be paid for. The first is held against the earliest grant and so
// on, which finds a way to pay for all if there is one.
func (j *judgement) copies(vs []visit) {
	id, queue := vs[0].id, vs[0].queue
	m := j.ledger.sent(id)
	if len(m.published) == 0 {
		for _, v := range vs {
			j.find(&j.Nowhere, "from nowhere: %s came %s, and nobody has published it", id, j.where(v))
		}
		return
	}
	grants := j.origin(id, queue, m)
	if len(grants) == 0 {
		for _, v := range vs {
			j.find(&j.WrongQueue, "wrong queue: %s came %s; %s", id, j.where(v), j.belongs(id))
		}
		return
	}
	for _, v := range vs {
		grants = append(grants, j.back(v, grants[0].from)...)
	}
	slices.SortStableFunc(grants, func(a, b grant) int { return cmp.Compare(a.from, b.from) })
	for i, v := range vs {
		if i >= len(grants) || grants[i].from > v.got {
			j.find(&j.Duplicates, "duplicate: %s came %s, and nothing allows it; %s", id, j.where(v), j.history(m, vs, grants))
		} else if r := grants[i].rule; r != RulePublished && r != RuleRejected {
			j.CameAgain[r]++
		}
	}
}

// origin is how the message can have got into the queue.
func (j *judgement) origin(id ID, queue int, m sent) (grants []grant) {
	if j.plan.Dead(queue) {
		for _, v := range j.of(id, queue-j.plan.Queues) {
			if v.answer == Reject {
				grants = append(grants, grant{v.answered, RuleRejected})
			}
		}
		return grants
	}
	if !slices.Contains(j.plan.Message(id).Queues, queue) {
		return nil
	}
	for i, t := range m.published {
		rule := RulePublished
		if i > 0 {
			rule = RuleAgain
		}
		grants = append(grants, grant{t, rule})
	}
	return grants
}

// back is why what was delivered once may come again.
func (j *judgement) back(v visit, first int64) []grant {
	alive := max(v.alive, first)
	switch {
	case v.answer == Requeue:
		return []grant{{v.answered, RuleRequeued}}
	case v.answer == 0:
		return []grant{{alive, RuleUnanswered}}
	case v.sure == 0:
		return []grant{{alive, RuleUnknown}}
	}
	for _, r := range j.ledger.restarts {
		if f := j.limits.Forgets; f > 0 && v.sure >= r.begin-int64(f) && (r.end == 0 || v.sure <= r.end) {
			return []grant{{r.begin, RuleForgotten}}
		}
	}
	return nil
}

// arrived judges a message from its producer's side.
func (j *judgement) arrived(id ID, m sent) {
	if m.confirmed == 0 {
		j.Unconfirmed++
		return
	}
	for _, queue := range j.plan.Message(id).Queues {
		j.Copies++
		if !j.plan.Rejected(id, queue) {
			j.settled(id, m, queue, Ack)
			continue
		}
		j.Dead++
		if j.settled(id, m, queue, Reject) {
			j.settled(id, m, queue+j.plan.Queues, Ack)
		}
	}
}

// settled finds the message lost unless a consumer of the queue has answered it so. That the answer has arrived is not asked: if it
// has not, the message is still in the queue, or it is lost and was answered, which is as good.
func (j *judgement) settled(id ID, m sent, queue int, a Answer) bool {
	came := j.of(id, queue)
	for _, v := range came {
		if v.answer == a {
			return true
		}
	}
	what := fmt.Sprintf("lost: %s, confirmed at %s, %s", id, clock(m.confirmed), j.belongs(id))
	switch {
	case len(came) > 0:
		j.find(&j.Lost, "%s; it came %s, was not answered with %s, and never came again", what, j.where(came[len(came)-1]), nameOf(a))
	case j.plan.Dead(queue):
		j.find(&j.Lost, "%s; it was rejected and never came from %s", what, j.plan.QueueName(queue))
	default:
		j.find(&j.Lost, "%s; it never came from %s", what, j.plan.QueueName(queue))
	}
	return false
}

// where tells of a delivery.
func (j *judgement) where(v visit) string {
	return fmt.Sprintf("at %s from %s to consumer-%d", clock(v.got), j.plan.QueueName(v.queue), v.consumer)
}

// belongs tells how a message was published.
func (j *judgement) belongs(id ID) string {
	m := j.plan.Message(id)
	var queues []string
	for _, q := range m.Queues {
		queues = append(queues, fmt.Sprintf("q%d", q))
	}
	return fmt.Sprintf("published to %s with key %q for %s", j.plan.Exchange(m.Exchange), m.Key, strings.Join(queues, ", "))
}

// history tells all that happened to a message in a queue.
func (j *judgement) history(m sent, vs []visit, grants []grant) string {
	said := []string{"published " + clock(m.published...)}
	for _, v := range vs {
		s := fmt.Sprintf("came %s to consumer-%d", clock(v.got), v.consumer)
		if v.answer != 0 {
			s += fmt.Sprintf(", %s %s", nameOf(v.answer), clock(v.answered))
		}
		if v.sure != 0 {
			s += ", arrived"
		}
		said = append(said, s)
	}
	for _, g := range grants {
		said = append(said, fmt.Sprintf("allowed from %s: %s", clock(g.from), g.rule))
	}
	return strings.Join(said, "; ")
}

func nameOf(a Answer) string {
	return map[Answer]string{Ack: "ack", Reject: "reject", Requeue: "requeue"}[a]
}

func clock(times ...int64) string {
	var all []string
	for _, t := range times {
		all = append(all, time.Unix(0, t).Format("15:04:05.000"))
	}
	return strings.Join(all, " and ")
}
