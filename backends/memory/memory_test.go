package memory_test

import (
	"context"
	"testing"

	"go.uber.org/goleak"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// onMemory is the store suite on a fresh place for each check, each handle dressed.
func onMemory(name string, dress func(virtual.Store) virtual.Store) conformance.StoreConfig {
	return conformance.StoreConfig{
		Name:    name,
		Virtual: true,
		Open: func(conformance.T) (func() (virtual.Store, error), error) {
			place := memory.New()
			return func() (virtual.Store, error) { return dress(place.Open()), nil }, nil
		},
	}
}

// through passes every call on as it is.
func through(s virtual.Store) virtual.Store {
	return virtual.Intercept(s, func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error { return next(ctx) })
}

func TestStoreSuiteOnMemory(t *testing.T) {
	r := conformance.RunStore(t, onMemory("memory", func(s virtual.Store) virtual.Store { return s }))
	_ = r
}
