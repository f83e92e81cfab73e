package conformance

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// walk is what random checks share: their dice, and a diary of what was called, for when one fails.
type walk struct {
	e    *storeEnv
	r    *rand.Rand
	seed uint64
	log  []string
	base time.Time
}

// walk begins run i of a random check; stream tells the checks apart.
func (e *storeEnv) walk(i int, stream uint64) *walk {
	w := &walk{e: e, seed: e.c.seed() + uint64(i), base: time.Now()}
	w.r = rand.New(rand.NewPCG(w.seed, stream))
	return w
}

func (w *walk) now() time.Duration { return time.Since(w.base) }

func (w *walk) note(format string, a ...any) {
	w.log = append(w.log, fmt.Sprintf("%8.3f  ", w.now().Seconds())+fmt.Sprintf(format, a...))
}

func (w *walk) fail(format string, a ...any) {
	w.e.Helper()
	w.e.Fatalf("%s\n    seed %d; what was called:\n    %s", fmt.Sprintf(format, a...), w.seed, strings.Join(w.log, "\n    "))
}

func (w *walk) must(err error, what string) {
	w.e.Helper()
	if err != nil {
		w.fail("%s: %v", what, err)
	}
}

// handle is one of the two processes, by lot.
func (w *walk) handle() (virtual.Store, int) {
	h := w.r.IntN(2)
	return []virtual.Store{w.e.a, w.e.b}[h], h
}
