package conformance

import (
	"fmt"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// Claim is something that a store may claim: a trait or a capability of package virtual, by its name there.
type Claim string

// What a store may claim.
const (
	claimOrdered        Claim = "Ordered"
	claimExactSize      Claim = "ExactSize"
	claimExactAttempt   Claim = "ExactAttempt"
	claimAge            Claim = "Age"
	claimStaleTold      Claim = "StaleTold"
	claimMarks          Claim = "Marks"
	claimGuards         Claim = "Guards"
	claimFences         Claim = "Fences"
	claimRanked         Claim = "Ranked"
	claimDurable        Claim = "Durable"
	claimTTL            Claim = "TTL"
	claimLevels         Claim = "Levels"
	claimDelay          Claim = "MaxDelay"
	claimMaxBatch       Claim = "MaxBatch"
	claimMaxBody        Claim = "MaxBody"
	claimMaxBatchBytes  Claim = "MaxBatchBytes"
	claimWithConnection Claim = "WithConnection"
	claimLeaseAtPut     Claim = "LeaseAtPut"
	claimLeaseMin       Claim = "LeaseMin"
	claimLeaseMax       Claim = "LeaseMax"
	claimLeaseStep      Claim = "LeaseStep"
	claimDelayStep      Claim = "DelayStep"
	claimRegistry       Claim = "Registry"
	claimHolders        Claim = "Holders"
	claimNotifier       Claim = "Notifier"
	claimExpirer        Claim = "Expirer"
	claimPeeker         Claim = "Peeker"
	claimBounded        Claim = "Bounded"
	claimAtomic         Claim = "Atomic"
	claimNamespace      Claim = "Namespace"
	claimHealth         Claim = "Health"
	claimCloser         Claim = "Close"
)

// ClaimValue is one line of a store's capability table: a claim, and "yes", "no" or the value of the trait.
type ClaimValue struct {
	Claim Claim  `json:"claim"`
	Value string `json:"value"`
}

// Claims returns what a store claims: every trait and capability there is, in the order of package virtual.
func Claims(s virtual.Store) []ClaimValue {
	t := virtual.TraitsOf(s)
	_, closer := s.(interface{ Close() error })
	yes := func(ok bool) string {
		if ok {
			return "yes"
		}
		return "no"
	}
	number := func(n int, none string) string {
		if n == 0 {
			return none
		}
		return fmt.Sprint(n)
	}
	lasts := func(d time.Duration, none string) string {
		if d == 0 {
			return none
		}
		return d.String()
	}
	levels := "no"
	if t.Levels > 1 {
		levels = fmt.Sprint(t.Levels)
	}
	return []ClaimValue{
		{claimOrdered, yes(t.Ordered)},
		{claimExactSize, yes(t.ExactSize)},
		{claimExactAttempt, yes(t.ExactAttempt)},
		{claimAge, yes(t.Age)},
		{claimStaleTold, yes(t.StaleTold)},
		{claimMarks, yes(t.Marks)},
		{claimGuards, yes(t.Guards)},
		{claimFences, yes(t.Fences)},
		{claimRanked, yes(t.Ranked)},
		{claimDurable, yes(t.Durable)},
		{claimTTL, yes(t.TTL)},
		{claimLevels, levels},
		{claimDelay, lasts(t.MaxDelay, "no")},
		{claimDelayStep, lasts(t.DelayStep, "no bound")},
		{claimLeaseMin, lasts(t.LeaseMin, "no bound")},
		{claimLeaseMax, lasts(t.LeaseMax, "no bound")},
		{claimLeaseStep, lasts(t.LeaseStep, "no bound")},
		{claimWithConnection, yes(t.LeaseEnd == virtual.WithConnection)},
		{claimLeaseAtPut, yes(t.LeaseAtPut)},
		{claimMaxBatch, number(t.MaxBatch, "no bound")},
		{claimMaxBatchBytes, number(t.MaxBatchBytes, "no bound")},
		{claimMaxBody, number(t.MaxBody, "no bound")},
		{"InFlight", fmt.Sprint(t.InFlight)},
		{"Quick", yes(t.Quick)},
		{claimRegistry, yes(offers[virtual.Registry](s))},
		{claimHolders, yes(offers[virtual.Holders](s))},
		{claimNotifier, yes(offers[virtual.Notifier](s))},
		{claimExpirer, yes(offers[virtual.Expirer](s))},
		{claimPeeker, yes(offers[virtual.Peeker](s))},
		{claimBounded, yes(offers[virtual.Bounded](s))},
		{claimAtomic, yes(offers[virtual.Atomic](s))},
		{claimNamespace, yes(offers[virtual.Namespace](s))},
		{claimHealth, yes(offers[virtual.Health](s))},
		{claimCloser, yes(closer)},
	}
}

func offers[C any](s virtual.Store) bool {
	_, ok := virtual.As[C](s)
	return ok
}

// claimed tells whether a store claims what a check needs.
func claimed(claims []ClaimValue, c Claim) bool {
	for _, v := range claims {
		if v.Claim == c {
			return v.Value != "no" && v.Value != "no bound"
		}
	}
	return false
}

// claimText is the capability table as text.
func claimText(claims []ClaimValue) string {
	var b strings.Builder
	b.WriteString("  claims:")
	for _, v := range claims {
		fmt.Fprintf(&b, " %s %s;", v.Claim, v.Value)
	}
	return strings.TrimSuffix(b.String(), ";")
}

func redacted(name string) string { return channel.Redact(name) }
