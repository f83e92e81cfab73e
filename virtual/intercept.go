package virtual

import (
	"context"
	"reflect"
	"slices"
	"time"
)

// Call describes one call of a store to an interceptor.
type Call struct {
	// Method is the name of the method, such as "Put" or "Registry.Update".
	Method string
	// Queue is the queue concerned, where it is one.
	Queue QueueRef
	// Request points to what is passed on: *PutRequest, *GetRequest, *[]Settlement, *ApplyRequest, *ExpireRequest,
	// *[]Change, or nil. An interceptor may change it before it calls next.
	Request any
}

// Interceptor is called around every call of a store. Calling next runs the call and returns its error; not calling
// it keeps the call from having an effect. What it returns is what the caller sees; with an error the caller
// sees no results.
type Interceptor func(ctx context.Context, c Call, next func(ctx context.Context) error) error

// Intercept returns s with every call passing through f: for metrics, for counting calls, for faults before and after
// the effect. It offers the capabilities and traits of s.
func Intercept(s Store, f Interceptor) Store { return &intercepted{s: s, f: f} }

// Claim returns s with other traits, for stores that are dressed as something else in tests. It offers the capabilities
// of s.
func Claim(s Store, change func(*Traits)) Store {
	t := TraitsOf(s)
	change(&t)
	return &intercepted{s: s, f: pass, traits: &t}
}

// Without returns s without some of its capabilities, given as nil pointers to their interfaces, such as
// (*Registry)(nil): for tests of what the engine does in their place. The traits are those of s, but for those that need
// what is hidden (Guards need Registry, Ranked needs Notifier).
func Without(s Store, capabilities ...any) Store {
	i := &intercepted{s: s, f: pass}
	for _, c := range capabilities {
		i.without = append(i.without, reflect.TypeOf(c))
	}
	t := TraitsOf(s)
	t.Guards = t.Guards && i.Offers((*Registry)(nil))
	t.Ranked = t.Ranked && i.Offers((*Notifier)(nil))
	i.traits = &t
	return i
}

func pass(ctx context.Context, _ Call, next func(context.Context) error) error { return next(ctx) }

type intercepted struct {
	s       Store
	f       Interceptor
	traits  *Traits        // nil: those of s
	without []reflect.Type // hidden capabilities
}

func offers[T any](s Store) bool {
	_, ok := As[T](s)
	return ok
}

// Offers tells whether the wrapped store has the capability.
func (i *intercepted) Offers(capability any) bool {
	if slices.Contains(i.without, reflect.TypeOf(capability)) {
		return false
	}
	switch capability.(type) {
	case *Registry:
		return offers[Registry](i.s)
	case *Holders:
		return offers[Holders](i.s)
	case *Notifier:
		return offers[Notifier](i.s)
	case *Expirer:
		return offers[Expirer](i.s)
	case *Peeker:
		return offers[Peeker](i.s)
	case *Bounded:
		return offers[Bounded](i.s)
	case *Atomic:
		return offers[Atomic](i.s)
	case *Namespace:
		return offers[Namespace](i.s)
	case *Health:
		return offers[Health](i.s)
	}
	return false
}

// must returns a capability that Offers has promised.
func must[T any](s Store) T {
	t, _ := As[T](s)
	return t
}

func (i *intercepted) Close() error { return Close(i.s) }

func (i *intercepted) Traits() Traits {
	if i.traits != nil {
		return *i.traits
	}
	return TraitsOf(i.s)
}

func (i *intercepted) Put(ctx context.Context, r PutRequest) error {
	return i.f(ctx, Call{Method: "Put", Request: &r}, func(ctx context.Context) error { return i.s.Put(ctx, r) })
}

func (i *intercepted) Get(ctx context.Context, r GetRequest, buf []Taken) (out []Taken, res GetResult, err error) {
	err = i.f(ctx, Call{"Get", r.Queue, &r}, func(ctx context.Context) (err error) {
		out, res, err = i.s.Get(ctx, r, buf)
		return err
	})
	if err != nil {
		return buf, GetResult{Ready: -1}, err
	}
	if out == nil {
		out = buf
	}
	return out, res, nil
}

func (i *intercepted) Settle(ctx context.Context, s []Settlement) error {
	return i.f(ctx, Call{Method: "Settle", Request: &s}, func(ctx context.Context) error { return i.s.Settle(ctx, s) })
}

func (i *intercepted) Purge(ctx context.Context, q QueueRef) (n int, err error) {
	err = i.f(ctx, Call{Method: "Purge", Queue: q}, func(ctx context.Context) (err error) {
		n, err = i.s.Purge(ctx, q)
		return err
	})
	return n, err
}

func (i *intercepted) Size(ctx context.Context, q QueueRef) (n int, err error) {
	err = i.f(ctx, Call{Method: "Size", Queue: q}, func(ctx context.Context) (err error) {
		n, err = i.s.Size(ctx, q)
		return err
	})
	return n, err
}

func (i *intercepted) Update(ctx context.Context, session string, c []Change) (rev uint64, err error) {
	err = i.f(ctx, Call{Method: "Registry.Update", Request: &c}, func(ctx context.Context) (err error) {
		rev, err = must[Registry](i.s).Update(ctx, session, c)
		return err
	})
	return rev, err
}

func (i *intercepted) Changes(ctx context.Context, since uint64, wait time.Duration) (c []Record, rev uint64, reset bool, err error) {
	rev = since
	err = i.f(ctx, Call{Method: "Registry.Changes"}, func(ctx context.Context) (err error) {
		c, rev, reset, err = must[Registry](i.s).Changes(ctx, since, wait)
		return err
	})
	if err != nil {
		return nil, since, false, err
	}
	return c, rev, reset, nil
}

func (i *intercepted) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	return i.f(ctx, Call{Method: "Registry.KeepAlive"}, func(ctx context.Context) error {
		return must[Registry](i.s).KeepAlive(ctx, session, ttl)
	})
}

func (i *intercepted) EndSession(ctx context.Context, session string) error {
	return i.f(ctx, Call{Method: "Registry.EndSession"}, func(ctx context.Context) error {
		return must[Registry](i.s).EndSession(ctx, session)
	})
}

func (i *intercepted) Sessions(ctx context.Context) (s []string, err error) {
	err = i.f(ctx, Call{Method: "Registry.Sessions"}, func(ctx context.Context) (err error) {
		s, err = must[Registry](i.s).Sessions(ctx)
		return err
	})
	return s, err
}

func (i *intercepted) Renew(ctx context.Context, holder string, queues []QueueRef, d time.Duration) (lost []QueueRef, err error) {
	err = i.f(ctx, Call{Method: "Holders.Renew"}, func(ctx context.Context) (err error) {
		lost, err = must[Holders](i.s).Renew(ctx, holder, queues, d)
		return err
	})
	return lost, err
}

func (i *intercepted) Notify(ctx context.Context, waiter string, ready chan<- struct{}, wake func(QueueRef)) error {
	return i.f(ctx, Call{Method: "Notifier.Notify"}, func(ctx context.Context) error {
		return must[Notifier](i.s).Notify(ctx, waiter, ready, wake)
	})
}

func (i *intercepted) Expire(ctx context.Context, r ExpireRequest, buf []Taken) (out []Taken, next time.Duration, err error) {
	out = buf
	err = i.f(ctx, Call{"Expirer.Expire", r.Queue, &r}, func(ctx context.Context) (err error) {
		out, next, err = must[Expirer](i.s).Expire(ctx, r, buf)
		return err
	})
	if err != nil {
		return buf, 0, err
	}
	return out, next, nil
}

func (i *intercepted) Peek(ctx context.Context, q QueueRef, limit int, buf []Taken) (out []Taken, err error) {
	out = buf
	err = i.f(ctx, Call{Method: "Peeker.Peek", Queue: q}, func(ctx context.Context) (err error) {
		out, err = must[Peeker](i.s).Peek(ctx, q, limit, buf)
		return err
	})
	return out, err
}

func (i *intercepted) PutBounded(ctx context.Context, r PutRequest, limits []Limit, evicted []Taken) (out []Taken, err error) {
	out = evicted
	err = i.f(ctx, Call{Method: "Bounded.PutBounded", Request: &r}, func(ctx context.Context) (err error) {
		out, err = must[Bounded](i.s).PutBounded(ctx, r, limits, evicted)
		return err
	})
	return out, err
}

func (i *intercepted) Apply(ctx context.Context, r ApplyRequest, evicted []Taken) (out []Taken, err error) {
	out = evicted
	err = i.f(ctx, Call{Method: "Atomic.Apply", Request: &r}, func(ctx context.Context) (err error) {
		out, err = must[Atomic](i.s).Apply(ctx, r, evicted)
		return err
	})
	return out, err
}

func (i *intercepted) Create(ctx context.Context, q QueueRef) error {
	return i.f(ctx, Call{Method: "Namespace.Create", Queue: q}, func(ctx context.Context) error {
		return must[Namespace](i.s).Create(ctx, q)
	})
}

func (i *intercepted) Delete(ctx context.Context, q QueueRef) (n int, err error) {
	err = i.f(ctx, Call{Method: "Namespace.Delete", Queue: q}, func(ctx context.Context) (err error) {
		n, err = must[Namespace](i.s).Delete(ctx, q)
		return err
	})
	return n, err
}

func (i *intercepted) List(ctx context.Context) (q []QueueRef, err error) {
	err = i.f(ctx, Call{Method: "Namespace.List"}, func(ctx context.Context) (err error) {
		q, err = must[Namespace](i.s).List(ctx)
		return err
	})
	return q, err
}

func (i *intercepted) Ping(ctx context.Context) error {
	return i.f(ctx, Call{Method: "Health.Ping"}, func(ctx context.Context) error { return must[Health](i.s).Ping(ctx) })
}
