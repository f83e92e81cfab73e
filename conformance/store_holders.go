package conformance

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

const whereHolders = "virtual/holders.go, Holders"

var holderChecks = []StoreCheck{
	{
		Name: "Holders/First", run: holdersFirst, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "A holder comes into being on a queue with its first Get, whose Take is 1.",
	},
	{
		Name: "Holders/OneLease", run: holdersOneLease, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "Everything it takes there shares one lease, which Get and Renew extend.",
	},
	{
		Name: "Holders/Renew", run: holdersRenew, Needs: []Claim{claimHolders}, Where: "virtual/holders.go, Renew",
		Rule: "Renew extends the leases of a holder on queues to d from now, in one write, however many messages they cover.",
	},
	{
		Name: "Holders/Lost", run: holdersLost, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "When the lease ends all its messages are ready again, in order, and the holder is lost: a Get in its name is refused with ErrHolder.",
	},
	{
		Name: "Holders/NeverAgain", run: holdersNeverAgain, Needs: []Claim{claimHolders}, Where: "virtual/errors.go, ErrHolder",
		Rule: "ErrHolder: the holder has lost its lease; its name is never used again, not even by its first Take.",
	},
	{
		Name: "Holders/EachQueue", run: holdersEachQueue, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "One lease per holder and queue: the loss of one is not that of another.",
	},
	{
		Name: "Holders/Unknown", run: holdersUnknown, Needs: []Claim{claimHolders}, Where: "virtual/holders.go, Renew",
		Rule: "Renew returns the queues on which it is not known, or known no more.",
	},
	{
		Name: "Holders/WithNothing", run: holdersWithNothing, Needs: []Claim{claimHolders}, Where: whereHolders,
		Rule: "A holder that has nothing needs no renewal.",
	},
	{
		Name: "Holders/Extend", run: holdersExtend, Needs: []Claim{claimHolders}, Where: "virtual/store.go, Extend",
		Rule: "Extend of a message taken under a Holder renews the holder.",
	},
	{
		Name: "Holders/NeverShortened", run: holdersNeverShortened, Needs: []Claim{claimHolders}, Where: "virtual/store.go, GetRequest.Lease",
		Rule: "With a Holder it is the holder's lease, never shortened.",
	},
	{
		Name: "Holders/Stale", run: holdersStale, Needs: []Claim{claimHolders}, Where: whereSettle,
		Rule: "A receipt whose lease ran out and whose message was taken again has no effect: under holders, too.",
	},
	{
		Name: "Holders/Settle", run: holdersSettle, Needs: []Claim{claimHolders}, Where: "virtual/store.go, Kind",
		Rule: "Ack removes; Requeue and Return make it ready again at its place: under a holder, too.",
	},
}

// hold takes in a holder's name, at once.
func (e *storeEnv) hold(s virtual.Store, q virtual.QueueRef, holder string, take uint64, most int, lease time.Duration) ([]virtual.Taken, error) {
	ts, _, err := s.Get(e.ctx, virtual.GetRequest{
		Queue: q, Max: most, Lease: lease, Holder: holder, Take: take, Need: virtual.NeedAge | virtual.NeedAttempt,
	}, nil)
	if err != nil && len(ts) > 0 {
		e.Errorf("a Get returned messages and %v", err)
	}
	return ts, err
}

// held is hold of what is there.
func (e *storeEnv) held(s virtual.Store, q virtual.QueueRef, holder string, take uint64, n int, lease time.Duration) []virtual.Taken {
	e.Helper()
	ts, err := e.hold(s, q, holder, take, n, lease)
	e.must(err, "Get %d of holder %s", take, holder)
	if len(ts) != n {
		e.Fatalf("Get %d of holder %s took %d messages, want %d", take, holder, len(ts), n)
	}
	e.wellTaken(q, ts, lease)
	return ts
}

func (e *storeEnv) renew(s virtual.Store, holder string, d time.Duration, queues ...virtual.QueueRef) []virtual.QueueRef {
	e.Helper()
	lost, err := capability[virtual.Holders](e, s).Renew(e.ctx, holder, queues, d)
	e.must(err, "Renew of holder %s", holder)
	return lost
}

func holdersFirst(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2", "m3")
	_, err := e.hold(e.a, q, "h", 2, 1, e.long())
	e.is(err, virtual.ErrHolder, "a Get of a holder that nobody has seen, with Take 2")
	e.size(e.b, q, 3, "after a Get that was refused")
	if lost := e.renew(e.a, "h", e.long(), q); len(lost) != 1 {
		e.Fatalf("a holder has come into being with a Get whose Take was not 1")
	}
	ts := e.held(e.a, q, "h", 1, 1, e.long())
	e.same("Take 1", ts, "m1")
	e.same("Take 2", e.held(e.a, q, "h", 2, 1, e.long()), "m2")
	if lost := e.renew(e.b, "h", e.long(), q); len(lost) > 0 {
		e.Fatalf("a holder with messages is lost")
	}
	e.same("another holder", e.held(e.b, q, "i", 1, 1, e.long()), "m3")
}

func holdersOneLease(e *storeEnv) {
	q := e.ref("orders")
	lease := e.units(4)
	e.put(e.a, q, numbered("m", 6)...)
	for take := range uint64(5) { // each Get extends the lease of all before it
		e.held(e.a, q, "h", take+1, 1, lease)
		e.pause(e.units(3))
		e.size(e.b, q, 5-int(take), "a holder's lease was extended by each Get")
	}
	e.pause(e.units(1) + e.margin())
	e.holds(e.b, q, "after the holder's one lease", numbered("m", 6)...)
}

func holdersRenew(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	lease := e.units(4)
	n := 1000
	if !e.c.Virtual {
		n = 100
	}
	e.put(e.a, q, numbered("m", n)...)
	e.put(e.a, other, numbered("o", n)...)
	for take := uint64(1); int(take-1)*e.batch(n) < n; take++ {
		e.held(e.a, q, "h", take, e.batch(n), lease)
		e.held(e.a, other, "h", take, e.batch(n), lease)
	}
	for range 5 {
		e.pause(e.units(3))
		if lost := e.renew(e.a, "h", lease, q, other); len(lost) > 0 {
			e.Fatalf("a holder renewed in time is lost on %v", lost)
		}
	}
	e.size(e.b, q, 0, "renewed in time")
	e.size(e.b, other, 0, "renewed in time, another queue")
	before := time.Now()
	e.pause(lease - e.unit)
	e.empty(e.b, q, "before the renewed lease is over")
	e.pause(lease - time.Since(before) + e.margin())
	e.holds(e.b, q, "after the renewed lease", numbered("m", n)...)
	e.size(e.b, other, n, "after the renewed lease, another queue")
}

func holdersLost(e *storeEnv) {
	q := e.ref("orders")
	lease := e.units(3)
	e.put(e.a, q, numbered("m", 8)...)
	ts := e.held(e.a, q, "h", 1, 3, lease)
	e.same("taken by another holder", e.held(e.b, q, "i", 1, 1, e.long()), "m4")
	ts = append(ts, e.held(e.a, q, "h", 2, 3, lease)...)
	e.settle(e.a, virtual.Ack, 0, ts[1], ts[4]) // m2, m6
	e.pause(lease + e.margin())
	_, err := e.hold(e.a, q, "h", 3, 1, lease)
	e.is(err, virtual.ErrHolder, "a Get of a holder whose lease has ended")
	if lost := e.renew(e.a, "h", lease, q); !slices.Equal(lost, []virtual.QueueRef{q}) {
		e.Fatalf("Renew of a holder whose lease has ended says %v are lost, want its queue", lost)
	}
	got := e.take(e.b, q, 5, e.long())
	e.same("what a lost holder had, and what was behind it", got, "m1", "m3", "m5", "m7", "m8")
	e.attempt("what a lost holder had", got[0], 2)
	e.empty(e.b, q, "the other holder has the rest")
}

func holdersNeverAgain(e *storeEnv) {
	q := e.ref("orders")
	lease := e.units(2)
	e.put(e.a, q, "m1", "m2")
	e.held(e.a, q, "h", 1, 1, lease)
	e.pause(lease + e.margin())
	e.size(e.b, q, 2, "the holder's lease is over")
	for _, take := range []uint64{2, 1, 3} {
		_, err := e.hold(e.a, q, "h", take, 1, lease)
		e.is(err, virtual.ErrHolder, "Take %d of a holder whose lease has ended", take)
	}
	_, _, err := e.a.Get(e.ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: lease, Holder: "h", Take: 1, Again: true}, nil)
	e.is(err, virtual.ErrHolder, "Take 1 again of a holder whose lease has ended")
	if lost := e.renew(e.b, "h", lease, q); len(lost) != 1 {
		e.Fatalf("a holder whose lease has ended is known again")
	}
	e.holds(e.b, q, "after Gets of a lost holder", "m1", "m2")
}

func holdersEachQueue(e *storeEnv) {
	q, other, unused := e.ref("orders"), e.ref("others"), e.ref("unused")
	e.put(e.a, q, "m1")
	e.put(e.a, other, "o1")
	e.held(e.a, q, "h", 1, 1, e.units(3))
	ts := e.held(e.a, other, "h", 1, 1, e.long())
	e.pause(e.units(3) + e.margin())
	lost := e.renew(e.a, "h", e.long(), other, q, unused)
	if slices.Contains(lost, other) || !slices.Contains(lost, q) || !slices.Contains(lost, unused) || len(lost) != 2 {
		e.Fatalf("a holder that is lost on one queue and not known on another: Renew says lost are %v", lost)
	}
	e.settle(e.a, virtual.Ack, 0, ts...)
	e.holds(e.b, q, "the queue on which the holder is lost", "m1")
	e.empty(e.b, other, "acked by the holder that was not lost there")
}

func holdersUnknown(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	if lost := e.renew(e.a, "nobody", e.long(), q, other); len(lost) != 2 {
		e.Fatalf("Renew of a holder that nobody has seen says lost are %v, want both queues", lost)
	}
	if lost := e.renew(e.a, "nobody", e.long()); len(lost) != 0 {
		e.Fatalf("Renew on no queues says lost are %v", lost)
	}
	e.held(e.a, q, "h", 1, 0, e.long())
	if lost := e.renew(e.b, "h", e.long(), q); len(lost) != 0 {
		e.Fatalf("a holder that has taken nothing yet is not known")
	}
}

func holdersWithNothing(e *storeEnv) {
	q := e.ref("orders")
	lease := e.units(2)
	e.held(e.a, q, "empty", 1, 0, lease)
	e.put(e.a, q, "m1", "m2")
	ts := e.held(e.a, q, "h", 1, 2, lease)
	e.settle(e.a, virtual.Ack, 0, ts[0])
	e.settle(e.a, virtual.Requeue, 0, ts[1])
	e.pause(5 * lease)
	if lost := e.renew(e.a, "h", lease, q); len(lost) > 0 {
		e.Fatalf("a holder that has nothing is lost")
	}
	e.pause(5 * lease)
	e.same("Take 2, long after all was settled", e.held(e.a, q, "h", 2, 1, e.long()), "m2")
	e.put(e.a, q, "m3")
	e.same("Take 2 of a holder whose Take 1 found nothing", e.held(e.a, q, "empty", 2, 1, e.long()), "m3")
}

func holdersExtend(e *storeEnv) {
	q := e.ref("orders")
	lease := e.units(4)
	e.put(e.a, q, "m1", "m2", "m3")
	ts := e.held(e.a, q, "h", 1, 3, lease)
	for range 3 {
		e.pause(e.units(3))
		e.settle(e.a, virtual.Extend, lease, ts[1])
	}
	e.size(e.b, q, 0, "one of three messages was extended")
	if lost := e.renew(e.a, "h", lease, q); len(lost) > 0 {
		e.Fatalf("a holder of which one message was extended is lost")
	}
	e.settle(e.a, virtual.Ack, 0, ts...)
	e.empty(e.b, q, "acked")
}

func holdersNeverShortened(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2")
	e.held(e.a, q, "h", 1, 1, e.units(10))
	e.held(e.a, q, "h", 2, 1, e.units(1))
	e.pause(e.units(5))
	e.size(e.b, q, 0, "taken for long, then for less")
	e.empty(e.b, q, "taken for long, then for less")
	e.pause(e.units(5) + e.margin())
	e.holds(e.b, q, "after the longer lease", "m1", "m2")
}

func holdersStale(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "m1", "m2")
	lost := e.held(e.a, q, "h", 1, 2, e.units(2))
	e.pause(e.units(2) + e.margin())
	anew := e.held(e.b, q, "i", 1, 2, e.long())
	for _, kind := range []virtual.Kind{virtual.Ack, virtual.Requeue, virtual.Return, virtual.Extend} {
		err := e.a.Settle(e.ctx, answers(kind, e.units(1), lost...))
		e.stale(err, 0, kind.String()+" by a lost holder, taken by another since")
		e.stale(err, 1, kind.String()+" by a lost holder, taken by another since")
	}
	e.pause(e.units(2))
	e.size(e.a, q, 0, "another holder has both")
	e.settle(e.b, virtual.Ack, 0, anew...)
	e.empty(e.a, q, "acked by the other holder")
}

func holdersSettle(e *storeEnv) {
	q := e.ref("orders")
	r := rand.New(rand.NewPCG(e.c.seed(), 3))
	want := numbered("m", 30)
	e.put(e.a, q, want...)
	left := map[string]bool{}
	for _, b := range want {
		left[b] = true
	}
	for take := uint64(1); len(left) > 0; take++ {
		ts, err := e.hold(e.a, q, "h", take, 1+r.IntN(8), e.long())
		e.must(err, "Get %d", take)
		if len(ts) == 0 {
			e.Fatalf("%d messages are left, and Get %d finds none", len(left), take)
		}
		if got := texts(ts); e.traits.Ordered && !slices.IsSortedFunc(got, byNumber) {
			e.Fatalf("Get %d took %s, want the order of Put", take, show(got))
		}
		r.Shuffle(len(ts), func(i, j int) { ts[i], ts[j] = ts[j], ts[i] })
		for _, t := range ts {
			kind := []virtual.Kind{virtual.Ack, virtual.Requeue, virtual.Return}[r.IntN(3)]
			e.settle(e.a, kind, 0, t)
			if kind == virtual.Ack {
				delete(left, texts([]virtual.Taken{t})[0])
			}
		}
		e.size(e.b, q, len(left), fmt.Sprintf("after Get %d was settled", take))
	}
	e.empty(e.b, q, "all is acked")
}

// byNumber orders bodies such as "m2" and "m11".
func byNumber(a, b string) int {
	if len(a) != len(b) {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}
