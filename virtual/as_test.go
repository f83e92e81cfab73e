package virtual_test

import (
	"context"
	"errors"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// five is a store of five methods that do nothing.
type five struct{ closed int }

func (*five) Put(context.Context, virtual.PutRequest) error { return nil }

func (*five) Get(_ context.Context, _ virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	return buf, virtual.GetResult{Ready: -1}, nil
}
func (*five) Settle(context.Context, []virtual.Settlement) error           { return nil }
func (*five) Purge(context.Context, virtual.QueueRef) (int, error)         { return 0, nil }
func (*five) Size(context.Context, virtual.QueueRef) (int, error)          { return 0, nil }
func (f *five) Close() error                                               { f.closed++; return errors.New("closed") }
func (*five) Ping(context.Context) error                                   { return nil }
func (*five) Peek(context.Context, virtual.QueueRef, int, []virtual.Taken) {} // of another signature: no capability

// capabilities are the names of what a store offers.
func capabilities(s virtual.Store) []string {
	var out []string
	add := func(name string, ok bool) {
		if ok {
			out = append(out, name)
		}
	}
	add("Registry", offers[virtual.Registry](s))
	add("Holders", offers[virtual.Holders](s))
	add("Notifier", offers[virtual.Notifier](s))
	add("Expirer", offers[virtual.Expirer](s))
	add("Peeker", offers[virtual.Peeker](s))
	add("Bounded", offers[virtual.Bounded](s))
	add("Atomic", offers[virtual.Atomic](s))
	add("Namespace", offers[virtual.Namespace](s))
	add("Health", offers[virtual.Health](s))
	return out
}

func offers[C any](s virtual.Store) bool {
	_, ok := virtual.As[C](s)
	return ok
}

func pass(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
	return next(ctx)
}

func TestAsSeesWhatAStoreHasThroughEveryWrapper(t *testing.T) {
	all := []string{"Registry", "Holders", "Notifier", "Expirer", "Peeker", "Bounded", "Atomic", "Namespace", "Health"}
	mem := memory.New().Open()
	defer mem.Close()
	for _, c := range []struct {
		name  string
		store virtual.Store
		want  []string
	}{
		{"memory", mem, all},
		{"intercepted", virtual.Intercept(mem, pass), all},
		{"intercepted twice", virtual.Intercept(virtual.Intercept(mem, pass), pass), all},
		{"claimed", virtual.Claim(mem, func(*virtual.Traits) {}), all},
		{"five methods only", virtual.Only(mem), nil},
		{"five methods only, intercepted", virtual.Intercept(virtual.Only(mem), pass), nil},
		{"intercepted, five methods only", virtual.Only(virtual.Intercept(mem, pass)), nil},
		{"a store with Ping", new(five), []string{"Health"}},
		{"a store with Ping, intercepted", virtual.Intercept(new(five), pass), []string{"Health"}},
	} {
		if got := capabilities(c.store); !slices.Equal(got, c.want) {
			t.Errorf("%s: offers %v, want %v", c.name, got, c.want)
		}
	}
}

func TestTraitsPassThroughWrappers(t *testing.T) {
	mem := memory.New().Open()
	defer mem.Close()
	want := mem.Traits()
	if got := virtual.TraitsOf(virtual.Intercept(mem, pass)); got != want {
		t.Errorf("intercepted: %+v, want %+v", got, want)
	}
	got := virtual.TraitsOf(virtual.Only(mem))
	if got.Guards {
		t.Error("five methods only claim guards, which need a registry")
	}
	if !got.Ordered || got.Levels != want.Levels || got.Name != want.Name {
		t.Errorf("five methods only: %+v, want what a bare queue can have of %+v", got, want)
	}
	dressed := virtual.Claim(mem, func(t *virtual.Traits) { t.Ordered, t.MaxBatch = false, 10 })
	if got := virtual.TraitsOf(virtual.Intercept(dressed, pass)); got.Ordered || got.MaxBatch != 10 || !got.Marks {
		t.Errorf("with other claims: %+v", got)
	}
	if mem.Traits() != want {
		t.Error("Claim has changed the store itself")
	}
	if got := virtual.TraitsOf(new(five)); got != (virtual.Traits{}) {
		t.Errorf("a store without traits claims %+v", got)
	}
}

func TestCloseReachesTheStore(t *testing.T) {
	f := new(five)
	for i, s := range []virtual.Store{f, virtual.Only(f), virtual.Intercept(f, pass), virtual.Only(virtual.Intercept(f, pass))} {
		if err := virtual.Close(s); err == nil || f.closed != i+1 {
			t.Errorf("wrapper %d: Close says %v and reached the store %d times", i, err, f.closed-i)
		}
	}
	type unclosable struct{ virtual.Store }
	if err := virtual.Close(unclosable{f}); err != nil || f.closed != 4 {
		t.Errorf("a store without Close: %v", err)
	}
}

// everyCall calls every method of a store once, by the name an interceptor sees.
func everyCall(ctx context.Context, s virtual.Store) map[string]func() error {
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	m := func() virtual.PutRequest {
		return virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}}}
	}
	registry, _ := virtual.As[virtual.Registry](s)
	holders, _ := virtual.As[virtual.Holders](s)
	notifier, _ := virtual.As[virtual.Notifier](s)
	expirer, _ := virtual.As[virtual.Expirer](s)
	peeker, _ := virtual.As[virtual.Peeker](s)
	bounded, _ := virtual.As[virtual.Bounded](s)
	atomic, _ := virtual.As[virtual.Atomic](s)
	names, _ := virtual.As[virtual.Namespace](s)
	health, _ := virtual.As[virtual.Health](s)
	ended, stop := context.WithCancel(ctx)
	stop()
	return map[string]func() error{
		"Put": func() error { return s.Put(ctx, m()) },
		"Get": func() error {
			_, _, err := s.Get(ctx, virtual.GetRequest{Queue: q, Max: 1, Lease: time.Minute}, nil)
			return err
		},
		"Settle":             func() error { return s.Settle(ctx, nil) },
		"Purge":              func() error { _, err := s.Purge(ctx, q); return err },
		"Size":               func() error { _, err := s.Size(ctx, q); return err },
		"Registry.Update":    func() error { _, err := registry.Update(ctx, "session", nil); return err },
		"Registry.Changes":   func() error { _, _, _, err := registry.Changes(ctx, 0, 0); return err },
		"Registry.KeepAlive": func() error { return registry.KeepAlive(ctx, "session", time.Minute) },
		"Registry.EndSession": func() error {
			return registry.EndSession(ctx, "other")
		},
		"Registry.Sessions": func() error { _, err := registry.Sessions(ctx); return err },
		"Holders.Renew":     func() error { _, err := holders.Renew(ctx, "h", nil, time.Minute); return err },
		"Notifier.Notify": func() error {
			if err := notifier.Notify(ended, "w", make(chan struct{}), func(virtual.QueueRef) {}); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		},
		"Expirer.Expire": func() error {
			_, _, err := expirer.Expire(ctx, virtual.ExpireRequest{Max: 1, Lease: time.Minute}, nil)
			return err
		},
		"Peeker.Peek":        func() error { _, err := peeker.Peek(ctx, q, 1, nil); return err },
		"Bounded.PutBounded": func() error { _, err := bounded.PutBounded(ctx, m(), nil, nil); return err },
		"Atomic.Apply": func() error {
			_, err := atomic.Apply(ctx, virtual.ApplyRequest{PutRequest: m()}, nil)
			return err
		},
		"Namespace.Create": func() error { return names.Create(ctx, q) },
		"Namespace.Delete": func() error {
			_, err := names.Delete(ctx, virtual.QueueRef{Name: "never", Incarnation: "1"})
			return err
		},
		"Namespace.List": func() error { _, err := names.List(ctx); return err },
		"Health.Ping":    func() error { return health.Ping(ctx) },
	}
}

func TestInterceptSeesEveryCallByItsName(t *testing.T) {
	var seen []virtual.Call
	mem := memory.New().Open()
	defer mem.Close()
	if err := mem.KeepAlive(t.Context(), "session", time.Minute); err != nil {
		t.Fatal(err)
	}
	s := virtual.Intercept(mem, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		seen = append(seen, c)
		return next(ctx)
	})
	calls := everyCall(t.Context(), s)
	methods := 0
	for _, c := range []reflect.Type{
		reflect.TypeFor[virtual.Store](), reflect.TypeFor[virtual.Registry](), reflect.TypeFor[virtual.Holders](), reflect.TypeFor[virtual.Notifier](),
		reflect.TypeFor[virtual.Expirer](), reflect.TypeFor[virtual.Peeker](), reflect.TypeFor[virtual.Bounded](), reflect.TypeFor[virtual.Atomic](),
		reflect.TypeFor[virtual.Namespace](), reflect.TypeFor[virtual.Health](),
	} {
		methods += c.NumMethod()
	}
	if len(calls) != methods {
		t.Errorf("this test knows %d methods of %d", len(calls), methods)
	}
	for name, call := range calls {
		seen = nil
		if err := call(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if len(seen) != 1 || seen[0].Method != name {
			t.Errorf("%s: the interceptor saw %v", name, seen)
		}
	}
}

func TestInterceptCanRefuseBeforeAndLoseAfterTheEffect(t *testing.T) {
	broken := errors.New("broken")
	for _, after := range []bool{false, true} {
		fail := false
		mem := memory.New().Open()
		defer mem.Close()
		s := virtual.Intercept(mem, func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
			if !fail {
				return next(ctx)
			}
			if after {
				_ = next(ctx)
			}
			return broken
		})
		for name, call := range everyCall(t.Context(), s) {
			fail = true
			if err := call(); !errors.Is(err, broken) {
				t.Errorf("%s: %v, want %v", name, err, broken)
			}
			fail = false
		}
		q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
		held := []virtual.Taken{{Attempt: 7}}
		if err := s.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}}}); err != nil {
			t.Fatal(err)
		}
		fail = true
		got, res, err := s.Get(t.Context(), virtual.GetRequest{Queue: q, Max: 10}, held)
		if !errors.Is(err, broken) || len(got) != 1 || got[0].Attempt != 7 || res.Ready != -1 {
			t.Errorf("a Get that fails returned %d, %+v, %v; want buf as it was", len(got), res, err)
		}
		n, err := mem.Size(t.Context(), q)
		if err != nil || (n == 0) != after {
			t.Errorf("after the effect is %v: %d messages are there, %v", after, n, err)
		}
	}
}

func TestInterceptMayChangeARequest(t *testing.T) {
	mem := memory.New().Open()
	defer mem.Close()
	s := virtual.Intercept(mem, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
		switch r := c.Request.(type) {
		case *virtual.PutRequest:
			r.Messages = r.Messages[:1]
		case *virtual.GetRequest:
			r.Max = 1
		}
		return next(ctx)
	})
	q := virtual.QueueRef{Name: "orders", Incarnation: "1"}
	m := &virtual.Message{Queue: q, Payload: virtual.Bytes("m")}
	if err := s.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{m, m, m}}); err != nil {
		t.Fatal(err)
	}
	if err := mem.Put(t.Context(), virtual.PutRequest{Messages: []*virtual.Message{m}}); err != nil {
		t.Fatal(err)
	}
	ts, res, err := s.Get(t.Context(), virtual.GetRequest{Queue: q, Max: 5}, nil)
	if err != nil || len(ts) != 1 || res.Ready != 1 {
		t.Errorf("took %d, %d remain, %v; want 1 and 1", len(ts), res.Ready, err)
	}
}

func TestInterceptKeepsResultsBesideABatchError(t *testing.T) {
	mem := memory.New().Open()
	defer mem.Close()
	s := virtual.Intercept(mem, pass)
	b, _ := virtual.As[virtual.Bounded](s)
	q, gone := virtual.QueueRef{Name: "orders", Incarnation: "1"}, virtual.QueueRef{Name: "gone", Incarnation: "1"}
	if _, err := mem.Delete(t.Context(), gone); err != nil {
		t.Fatal(err)
	}
	r := virtual.PutRequest{Messages: []*virtual.Message{{Queue: q, Payload: virtual.Bytes("m")}, {Queue: gone, Payload: virtual.Bytes("m")}}}
	out, err := b.PutBounded(t.Context(), r, []virtual.Limit{{Queue: q, MaxLen: 0, MaxBytes: -1}}, nil)
	if len(out) != 1 || !errors.Is(virtual.ItemErr(err, 1), virtual.ErrNoQueue) {
		t.Errorf("%d evicted, %v; want one evicted and one failed", len(out), err)
	}
}
