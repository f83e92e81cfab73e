package conformance

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// dressedConfig is the store suite on memory dressed as a profile, each check on a place of its own.
func dressedConfig(p Profile) StoreConfig {
	return StoreConfig{
		Name: "memory as " + p.Name, Virtual: true,
		Open: func(T) (func() (virtual.Store, error), error) {
			place := memory.New()
			return func() (virtual.Store, error) { return p.Dress(place.Open()), nil }, nil
		},
	}
}

// TestEachProfileKeepsTheContract runs the whole store suite on each kind of store.
func TestEachProfileKeepsTheContract(t *testing.T) {
	for _, p := range Profiles() {
		t.Run(p.Name, func(t *testing.T) { RunStore(t, dressedConfig(p)) })
	}
}

// TestProfilesHideEveryCapability looks at what they claim.
func TestProfilesHideEveryCapability(t *testing.T) {
	capabilities := []Claim{
		claimRegistry, claimHolders, claimNotifier, claimExpirer, claimPeeker, claimBounded, claimAtomic, claimNamespace, claimHealth,
	}
	for _, p := range Profiles() {
		s := p.Dress(memory.New().Open())
		for _, v := range Claims(s) {
			if slices.Contains(capabilities, v.Claim) && v.Value != "no" {
				t.Errorf("%s claims %s: %s", p.Name, v.Claim, v.Value)
			}
		}
		if err := virtual.Close(s); err != nil {
			t.Errorf("%s: %v", p.Name, err)
		}
	}
}

// TestATrapKeepsWhatASilentConnectionHolds shows what beanstalkd does to a process that is frozen.
func TestATrapKeepsWhatASilentConnectionHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := profile(t, "beanstalk")
		p.Traps = true
		place := memory.New()
		q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
		ctx := t.Context()
		take := func(s virtual.Store) int {
			t.Helper()
			ts, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: 10, Lease: time.Second}, nil)
			if err != nil {
				t.Fatal(err)
			}
			return len(ts)
		}
		silent, other := p.Dress(place.Open()), p.Dress(place.Open())
		m := &virtual.Message{Queue: q, Payload: virtual.Bytes("m"), Lease: 5 * time.Second}
		if err := other.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{m}}); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if n := take(silent); n != 1 {
				t.Fatalf("%d taken, want 1", n)
			}
			time.Sleep(time.Hour)
			if n := take(other); n != 0 {
				t.Error("a lease ended though its connection was silent")
			}
			if _, err := silent.Size(ctx, q); err != nil {
				t.Fatal(err)
			}
		}
		if n := take(silent); n != 1 {
			t.Fatalf("%d taken, want 1", n)
		}
		time.Sleep(time.Hour)
		if err := virtual.Close(silent); err != nil {
			t.Fatal(err)
		}
		if n := take(other); n != 1 {
			t.Error("a lease has not ended though its connection was closed")
		}
		if err := virtual.Close(other); err != nil {
			t.Fatal(err)
		}
	})
}

// TestEveryCheckRunsOnSomeStore keeps a check from being there in name only.
func TestEveryCheckRunsOnSomeStore(t *testing.T) {
	seen := map[string]bool{}
	run := func(c StoreConfig) {
		c.Seeds = 3
		synctest.Test(t, func(t *testing.T) {
			for _, row := range CheckStore(t.Context(), c).Rows {
				seen[row.ID] = seen[row.ID] || row.Result == Pass
			}
		})
	}
	run(spoiltConfig(storeMutant{spoil: func(s *spoilt, _ *ruin) { s.claims = durable }}, ""))
	for _, p := range Profiles() {
		run(dressedConfig(p))
	}
	for _, k := range StoreChecks() {
		if !seen[k.Name] {
			t.Errorf("%s passes on no store: not on memory, nor on any profile", k.Name)
		}
	}
}

// profile is one of Profiles.
func profile(t *testing.T, name string) Profile {
	t.Helper()
	i := slices.IndexFunc(Profiles(), func(p Profile) bool { return p.Name == name })
	if i < 0 {
		t.Fatalf("there is no profile %q", name)
	}
	return Profiles()[i]
}

// TestChecksAssumeNoLuck runs the suite on the kinds of store that leave something to chance, with many seeds: a check
// that passes with one order must pass with all.
func TestChecksAssumeNoLuck(t *testing.T) {
	seeds := uint64(10)
	if testing.Short() || raceEnabled {
		seeds = 3
	}
	for _, p := range Profiles() {
		if !p.Shuffled && p.Conflicts == 0 {
			continue
		}
		t.Run(p.Name, func(t *testing.T) {
			for range seeds {
				p.Seed += 1000
				c := dressedConfig(p)
				c.Seed, c.Seeds = p.Seed, 3
				synctest.Test(t, func(t *testing.T) {
					for _, row := range CheckStore(t.Context(), c).Rows {
						if row.Result == Fail {
							t.Errorf("seed %d: %s: %s", p.Seed, row.ID, row.Reason)
						}
					}
				})
			}
		})
	}
}
