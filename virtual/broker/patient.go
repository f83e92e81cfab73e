package broker

import (
	"context"
	"errors"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// persist makes a call of the store again when it was not answered, a few times: one that does no harm when it is made twice. A
// connection that breaks is no reason to fail what a program asked for.
func (b *Broker) persist(ctx context.Context, call func() error) error {
	for try := 0; ; {
		err := call()
		if err == nil || definite(err) {
			return err
		}
		if try = b.again(ctx, try, err); try == 0 {
			return err
		}
	}
}

// definite reports whether an error says what has happened.
func definite(err error) bool {
	if told(err) {
		return true
	}
	for _, known := range [...]error{virtual.ErrSession, virtual.ErrConflict, virtual.ErrNoQueue, virtual.ErrLost, virtual.ErrClosed} {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// patientRegistry persists where Registry can. An Update is planned again instead, and who waits for changes goes on by himself.
type patientRegistry struct {
	virtual.Registry
	b *Broker
}

func (r patientRegistry) Changes(ctx context.Context, since uint64, wait time.Duration) (c []virtual.Record, rev uint64, reset bool, err error) {
	if wait > 0 {
		return r.Registry.Changes(ctx, since, wait)
	}
	err = r.b.persist(ctx, func() (err error) {
		c, rev, reset, err = r.Registry.Changes(ctx, since, 0)
		return err
	})
	return c, rev, reset, err
}

func (r patientRegistry) KeepAlive(ctx context.Context, session string, ttl time.Duration) error {
	return r.b.persist(ctx, func() error { return r.Registry.KeepAlive(ctx, session, ttl) })
}

func (r patientRegistry) EndSession(ctx context.Context, session string) error {
	return r.b.persist(ctx, func() error { return r.Registry.EndSession(ctx, session) })
}

func (r patientRegistry) Sessions(ctx context.Context) (all []string, err error) {
	err = r.b.persist(ctx, func() (err error) {
		all, err = r.Registry.Sessions(ctx)
		return err
	})
	return all, err
}

// patientNamespace persists. The count of a deletion is that of the try that was answered: too low when the one that had the effect
// was not.
type patientNamespace struct {
	virtual.Namespace
	b *Broker
}

func (n patientNamespace) Create(ctx context.Context, q virtual.QueueRef) error {
	return n.b.persist(ctx, func() error { return n.Namespace.Create(ctx, q) })
}

func (n patientNamespace) Delete(ctx context.Context, q virtual.QueueRef) (ready int, err error) {
	err = n.b.persist(ctx, func() (err error) {
		ready, err = n.Namespace.Delete(ctx, q)
		return err
	})
	return ready, err
}

func (n patientNamespace) List(ctx context.Context) (refs []virtual.QueueRef, err error) {
	err = n.b.persist(ctx, func() (err error) {
		refs, err = n.Namespace.List(ctx)
		return err
	})
	return refs, err
}
