package script

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func run(t *testing.T, name string, s Script) (n int, err error) {
	synctest.Test(t, func(t *testing.T) {
		rig, end, _ := virtualRig(name)
		trace, e := Run(context.Background(), rig, s)
		n, err = len(trace), e
		if e := end(); e != nil && err == nil {
			err = e
		}
	})
	return n, err
}

func TestModel(t *testing.T) {
	for _, v := range rigs {
		t.Run(v.name, func(t *testing.T) {
			_, _, p := virtualRig(v.name)
			seeds, first := 200, uint64(1)
			if s := os.Getenv("DASHI_SEED"); s != "" {
				n, _ := strconv.Atoi(s)
				first, seeds = uint64(n), 1
			}
			ops := 0
			for i := range seeds {
				s := Generate(first+uint64(i), p)
				n, err := run(t, v.name, s)
				ops += n
				if err != nil {
					t.Fatalf("seed %d: %v\n%s", first+uint64(i), err, s.JSON())
				}
			}
			fmt.Printf("model: rig %s: %d scripts, %d operations, 0 differences (seed %d…)\n", v.name, seeds, ops, first)
		})
	}
}
