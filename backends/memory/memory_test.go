package memory_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// suite is the store suite on a fresh place for each check, each handle dressed.
func suite(name string, dress func(virtual.Store) virtual.Store) conformance.StoreConfig {
	return conformance.StoreConfig{
		Name:    name,
		Virtual: true,
		Open: func(conformance.T) (func() (virtual.Store, error), error) {
			place := memory.New()
			return func() (virtual.Store, error) { return dress(place.Open()), nil }, nil
		},
	}
}

func bare(s virtual.Store) virtual.Store { return s }

// through passes every call on as it is.
func through(s virtual.Store) virtual.Store {
	return virtual.Intercept(s, func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error { return next(ctx) })
}

// bounds are the claims that memory has no use for.
var bounds = []string{
	"MaxBatch", "MaxBatchBytes", "MaxBody", "LeaseMin", "LeaseMax", "LeaseAtPut", "WithConnection", "Durable",
}

func TestStoreSuite(t *testing.T) {
	r := conformance.RunStore(t, suite("memory", bare))
	for _, row := range r.Rows {
		if row.Result == conformance.Refused && !slices.ContainsFunc(bounds,
			func(c string) bool { return row.Reason == c+": no" }) {
			t.Errorf("%s: %s: memory is to have everything", row.ID, row.Reason)
		}
	}
}

func TestStoreSuiteThroughAnInterceptorIsTheSame(t *testing.T) {
	r := conformance.RunStore(t, suite("memory, intercepted", through))
	plain := conformance.RunStore(t, suite("memory", bare))
	if r.Passed != plain.Passed || r.Total != plain.Total || r.Refused != plain.Refused {
		t.Errorf("intercepted %s\nplain %s", r.Summary(), plain.Summary())
	}
}

func TestStoreSuiteOnFiveMethodsPrintsNoForEachCapability(t *testing.T) {
	r := conformance.RunStore(t, suite("memory, five methods", virtual.Only))
	for _, row := range r.Rows {
		for _, c := range []string{"Registry", "Holders", "Notifier", "Expirer", "Peeker", "Bounded", "Atomic", "Namespace", "Health"} {
			if strings.HasPrefix(row.ID, c+"/") && (row.Result != conformance.Refused || !strings.HasSuffix(row.Reason, ": no")) {
				t.Errorf("%s: %s %s, want it refused with no", row.ID, row.Result, row.Reason)
			}
		}
	}
}

func TestStoreSuiteInRealTime(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	c := suite("memory, real time", bare)
	c.Virtual, c.Unit, c.Parallel = false, 100*time.Millisecond, 64
	r := conformance.CheckStore(t.Context(), c)
	for _, row := range r.Rows {
		if row.Result == conformance.Fail {
			t.Errorf("%s: %s", row.ID, row.Reason)
		}
	}
	t.Log(r.Summary())
}

func TestURLsOpenPlaces(t *testing.T) {
	ctx := t.Context()
	open := func(url string) virtual.Store {
		t.Helper()
		s, err := virtual.Open(ctx, url)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = virtual.Close(s) })
		return s
	}
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	size := func(s virtual.Store) int {
		t.Helper()
		n, err := s.Size(ctx, q)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	t.Cleanup(func() { memory.Forget("shared\x00"); memory.Forget("shared\x00v") })
	first := open("memory://shared")
	if err := first.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}}}); err != nil {
		t.Fatal(err)
	}
	if n := size(open("memory://shared")); n != 1 {
		t.Errorf("another handle of the same name sees %d messages, want 1", n)
	}
	for _, url := range []string{"memory://", "memory://other", "memory://shared?vhost=v"} {
		if n := size(open(url)); n != 0 {
			t.Errorf("%s sees %d messages of memory://shared", url, n)
		}
	}
	_ = virtual.Close(first)
	if n := size(open("memory://shared")); n != 1 {
		t.Errorf("after the handle was closed that put it, the place has %d messages, want 1", n)
	}
	memory.Forget("other\x00")
	for _, url := range []string{"memory://x?colour=red", "memory://%zz", "memory://user:secret@x?colour=red"} {
		if _, err := virtual.Open(ctx, url); err == nil || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", url, err)
		}
	}
}

// TestARetryAfterALostReplyStoresNothingTwice shows what Intercept is for: replies that get lost.
func TestARetryAfterALostReplyStoresNothingTwice(t *testing.T) {
	lost := errors.New("the reply was lost")
	fail := true
	s := virtual.Intercept(memory.New().Open(), func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		err := next(ctx)
		if c.Method == "Put" && fail {
			fail = false
			return lost
		}
		return err
	})
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	r := virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}}, Producer: "p", Sequence: 1}
	if err := s.Put(t.Context(), r); !errors.Is(err, lost) {
		t.Fatal(err)
	}
	if err := s.Put(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if n, err := s.Size(t.Context(), q); n != 1 || err != nil {
		t.Errorf("%d messages, %v; want 1", n, err)
	}
}

func Example() {
	ctx := context.Background()
	store := memory.New().Open()
	defer store.Close()
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	err := store.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{
		{Queue: q, ID: virtual.ID{1}, Payload: virtual.Bytes("first")},
		{Queue: q, ID: virtual.ID{2}, Payload: virtual.Bytes("second")},
	}})
	if err != nil {
		fmt.Println(err)
		return
	}
	taken, _, err := store.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: time.Minute}, nil)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, attempt %d\n", taken[0].Payload.Bytes(), taken[0].Attempt)
	err = store.Settle(ctx, []virtual.Settlement{{Queue: q, ID: taken[0].ID, Receipt: taken[0].Receipt, Kind: virtual.Requeue}})
	if err != nil {
		fmt.Println(err)
		return
	}
	taken, result, err := store.Get(ctx, virtual.GetRequest{Queue: q, Max: 1}, nil) // no lease: removed at once
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Printf("%s, attempt %d, %d left\n", taken[0].Payload.Bytes(), taken[0].Attempt, result.Ready)
	// Output:
	// first, attempt 1
	// first, attempt 2, 1 left
}
