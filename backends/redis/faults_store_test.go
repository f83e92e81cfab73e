package redis_test

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// lossy dresses handles whose calls are made again when they were not answered, as the engine makes them: a Put under its number, a
// Get of a holder with Again. What cannot be made again so that nobody sees it is noted, by check.
type lossy struct {
	mu     sync.Mutex
	lost   map[string]int    // calls that were not answered and made again, by check
	unsure map[string]string // a call that was not answered and whose outcome is not known, by check
}

func (l *lossy) note(check, method string, sure bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lost[check]++
	if !sure {
		l.unsure[check] = method
	}
}

// take returns what was noted of a check, and forgets it.
func (l *lossy) take(check string) (lost int, unsure string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	lost, unsure = l.lost[check], l.unsure[check]
	delete(l.lost, check)
	delete(l.unsure, check)
	return lost, unsure
}

// definite reports whether an error is the store's own word.
func definite(ctx context.Context, err error) bool {
	if err == nil || ctx.Err() != nil {
		return true
	}
	if _, ok := errors.AsType[*virtual.BatchError](err); ok {
		return true
	}
	return slices.ContainsFunc([]error{
		virtual.ErrGuard, virtual.ErrSequence, virtual.ErrHolder, virtual.ErrFence, virtual.ErrSession, virtual.ErrConflict, virtual.ErrClosed, virtual.ErrLost, virtual.ErrNoQueue,
	}, func(known error) bool { return errors.Is(err, known) })
}

// dress makes a handle of one that loses calls, for a check.
func (l *lossy) dress(s virtual.Store, check string) virtual.Store {
	return virtual.Intercept(s, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		for tries := 0; ; tries++ {
			if p := putOf(c); p != nil && p.Producer == "" && len(p.Messages) > 0 {
				p.Producer, p.Sequence = rand.Text(), 1
			}
			err := next(ctx)
			if definite(ctx, err) {
				if tries > 0 && err != nil { // stale, a conflict: by the try before, perhaps
					l.note(check, c.Method, false)
				}
				return err
			}
			l.note(check, c.Method, !slices.Contains(unsure, c.Method))
			get, _ := c.Request.(*virtual.GetRequest)
			if c.Method == "Notifier.Notify" || get != nil && get.Holder == "" || tries == 20 {
				return err
			}
			if get != nil {
				get.Again = true
			}
		}
	})
}

// unsure are the calls whose answer is another one when they are made twice: what a Get or an Expire took is hidden for a while, or, by
// Again, was nothing; a count is too low; a wait has to be begun anew.
var unsure = []string{"Get", "Expirer.Expire", "Purge", "Namespace.Delete", "Notifier.Notify"}

// putOf returns what a call puts.
func putOf(c virtual.Call) *virtual.PutRequest {
	switch r := c.Request.(type) {
	case *virtual.PutRequest:
		return r
	case *virtual.ApplyRequest:
		return &r.PutRequest
	}
	return nil
}

// checksByDay are the checks that a run by day chooses.
var checksByDay = []string{"Put", "Marks", "Holders"}

// TestContractHoldsWhereConnectionsBreak runs the checks of the contract on handles whose connections all break, three times a second or more.
// A check in which a call was lost whose outcome nobody can know is run again when it fails; if that happens each time, it is
// undecided. Every other failure is one.
func TestContractHoldsWhereConnectionsBreak(t *testing.T) {
	runs, rounds, often := checksByDay, 2, 100*time.Millisecond // few checks, which must meet some
	if os.Getenv("NIGHTLY") != "" {
		runs, rounds, often = []string{""}, 5, 300*time.Millisecond
	}
	server, p := serverURL(t), breaks(t, often)
	l := &lossy{lost: map[string]int{}, unsure: map[string]string{}}
	check := func(run string, parallel int) *conformance.Report {
		return conformance.CheckStore(t.Context(), conformance.StoreConfig{
			Name: "redis", Run: run, Unit: 400 * time.Millisecond, Parallel: parallel, Limit: time.Minute,
			Open: func(k conformance.T) (func() (virtual.Store, error), error) {
				open := behind(t, p, server)
				return func() (virtual.Store, error) {
					s, err := open()
					if err != nil {
						return nil, err
					}
					return l.dress(s, k.Name()), nil
				}, nil
			},
		})
	}
	passed, hit, calls := 0, 0, 0
	judge := func(row conformance.RowResult) (again bool) {
		lost, unsure := l.take(row.ID)
		calls += lost
		switch {
		case row.Result == conformance.Pass:
			passed++
			if lost > 0 {
				hit++
			}
		case row.Result == conformance.Fail && unsure == "":
			reason, _, _ := strings.Cut(row.Reason, "\n")
			t.Errorf("%s, %d calls made again: %s", row.ID, lost, reason)
		case row.Result == conformance.Fail:
			return true
		}
		return false
	}
	var undecided []string
	for _, run := range runs {
		for _, row := range check(run, 24).Rows {
			if judge(row) {
				undecided = append(undecided, row.ID)
			}
		}
	}
	for round := 1; round < rounds; round++ {
		rows := make([]conformance.RowResult, len(undecided))
		var wg sync.WaitGroup
		for i, id := range undecided {
			wg.Go(func() {
				for _, row := range check(id, 1).Rows { // others begin with that, too
					if row.ID == id {
						rows[i] = row
					}
				}
			})
		}
		wg.Wait()
		undecided = nil
		for _, row := range rows {
			if judge(row) {
				undecided = append(undecided, row.ID)
			}
		}
	}
	_, faults := p.Counts()
	fmt.Printf("redis: the contract where connections break: %d checks green, %d of them with calls that were lost, %d undecided; %d calls lost, over %d faults\n",
		passed, hit, len(undecided), calls, faults)
	if passed < 2*len(undecided) || calls == 0 {
		t.Errorf("%d checks are undecided, %d green: little was shown", len(undecided), passed)
	}
}
