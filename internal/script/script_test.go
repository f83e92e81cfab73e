package script

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"github.com/dashi-mq/dashi/internal/model"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// trace runs a script on a rig in a bubble of virtual time.
func trace(t *testing.T, name string, s Script) (steps []*model.Step, err error) {
	synctest.Test(t, func(t *testing.T) {
		rig, end, _ := virtualRig(name)
		steps, err = Run(context.Background(), rig, s)
		err = errors.Join(err, end())
	})
	return steps, err
}

// nights are the tests that have had the scripts of a night in this process: with -count they would have them time and again.
var nights = map[string]bool{}

// seeds returns how many scripts are to be run, and the seed of the first: DASHI_SEED runs that one alone, DASHI_SCRIPTS says
// how many of those that are usually 500.
func seeds(t *testing.T, usual, nightly int) (n int, first uint64) {
	if s := os.Getenv("DASHI_SEED"); s != "" {
		first, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("DASHI_SEED: %v", err)
		}
		return 1, first
	}
	if s := os.Getenv("DASHI_SCRIPTS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil {
			t.Fatalf("DASHI_SCRIPTS: %v", err)
		}
		return max(1, usual*n/500), 1
	}
	if os.Getenv("NIGHTLY") == "1" && !nights[t.Name()] {
		nights[t.Name()] = true
		return nightly, 1
	}
	return usual, 1
}

// differs reports whether what was seen is not allowed; that the model gave up does not count.
func differs(err error) bool {
	f, _ := errors.AsType[*Failure](err)
	return err != nil && (f == nil || !f.Undecided())
}

// report makes a script that failed small, and says what is wrong with it and what RabbitMQ thinks of it.
func report(t *testing.T, rig string, seed uint64, s Script) {
	t.Helper()
	small := Shrink(s, 1000, func(s Script) bool { _, err := trace(t, rig, s); return differs(err) })
	steps, err := trace(t, rig, small)
	if err == nil {
		t.Errorf("seed %d on rig %s fails now and then", seed, rig)
	}
	for slot, h := range steps[len(steps)-1].Heard {
		t.Logf("seen on %v: %+v", slot, *h)
	}
	t.Errorf("seed %d on rig %s: %v\nRabbitMQ: %s\n%s", seed, rig, err, oracle(small), small.JSON())
}

// TestModel runs random scripts and follows them with the model. A script with more ways to explain it than are gone is
// undecided; more than a few in a hundred fail the test.
func TestModel(t *testing.T) {
	for _, v := range rigs {
		t.Run(v.name, func(t *testing.T) {
			_, _, p := virtualRig(v.name)
			usual := v.scripts
			if raceEnabled {
				usual /= 8
			}
			scripts, first := seeds(t, usual, 2000)
			t.Parallel()
			tried, ops, undecided, raced, different := 0, 0, 0, 0, 0
			for i := range scripts {
				seed := first + uint64(i)
				s := Generate(seed, p)
				steps, err := trace(t, v.name, s)
				tried++
				ops += len(steps)
				if v.races && differs(err) {
					if _, again := trace(t, v.name, s); !differs(again) {
						t.Logf("seed %d, now and then: %v", seed, err)
						raced++
						continue
					}
				}
				switch f, _ := errors.AsType[*Failure](err); {
				case err == nil:
				case f != nil && f.Undecided():
					undecided++
				default:
					different++
					t.Logf("seed %d: %v", seed, err)
					report(t, v.name, seed, s)
				}
				if different > 3 {
					break
				}
			}
			fmt.Printf("model: rig %s: %d scripts, %d operations, %d differences, %d now and then, %d undecided (seed %d…)\n", v.name, tried, ops, different, raced, undecided, first)
			if raced > 2+tried/200 {
				t.Errorf("%d of %d scripts differ now and then", raced, tried)
			}
			if undecided > 2+tried*v.undecided/100 {
				t.Errorf("%d of %d scripts are undecided", undecided, tried)
			}
		})
	}
}
