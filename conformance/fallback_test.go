package conformance_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// capabilities are what the engine has a fallback for.
var capabilities = map[string]any{
	"Registry":  (*virtual.Registry)(nil),
	"Holders":   (*virtual.Holders)(nil),
	"Notifier":  (*virtual.Notifier)(nil),
	"Expirer":   (*virtual.Expirer)(nil),
	"Bounded":   (*virtual.Bounded)(nil),
	"Atomic":    (*virtual.Atomic)(nil),
	"Namespace": (*virtual.Namespace)(nil),
}

// dressedRig makes rigs of two brokers on a fresh place in memory that is dressed as something else, in virtual time.
func dressedRig(make func(conformance.VirtualOptions) conformance.Rig, dress func(virtual.Store) virtual.Store) func(context.Context) (conformance.Rig, error) {
	return func(context.Context) (conformance.Rig, error) {
		p, other := memory.New(), memory.New()
		return make(conformance.VirtualOptions{
			Open:      func() (virtual.Store, error) { return dress(p.Open()), nil },
			OpenOther: func() (virtual.Store, error) { return dress(other.Open()), nil },
			Unit:      200 * time.Millisecond,
			Virtual:   true,
		}), nil
	}
}

// without hides all of the capabilities that the engine can do without, but for those named.
func without(but ...string) func(virtual.Store) virtual.Store {
	var hide []any
	for name, c := range capabilities {
		if !slices.Contains(but, name) {
			hide = append(hide, c)
		}
	}
	return func(s virtual.Store) virtual.Store { return virtual.Without(s, hide...) }
}

func TestAllFallbacksButTheRegistry(t *testing.T) {
	conformance.RunChannel(t, conformance.ChannelConfig{
		Open: dressedRig(conformance.VirtualTwo, without("Registry")), Virtual: true, URL: "memory:// with a registry", RigName: "two",
	})
}

// bare claims nothing, so that the engine relies on nothing.
func bare(s virtual.Store) virtual.Store {
	return virtual.Claim(s, func(t *virtual.Traits) { *t = virtual.Traits{Name: "bare"} })
}

func TestNoTraitsButARegistry(t *testing.T) {
	hide := without("Registry")
	conformance.RunChannel(t, conformance.ChannelConfig{
		Open:    dressedRig(conformance.VirtualTwo, func(s virtual.Store) virtual.Store { return bare(hide(s)) }),
		Virtual: true, URL: "memory:// with a registry and no traits", RigName: "two",
	})
}

func TestEachFallbackByItself(t *testing.T) {
	for name, capability := range capabilities {
		t.Run(name, func(t *testing.T) {
			conformance.RunChannel(t, conformance.ChannelConfig{
				Open:    dressedRig(conformance.VirtualTwo, func(s virtual.Store) virtual.Store { return virtual.Without(s, capability) }),
				Virtual: true, URL: "memory:// without " + name, RigName: "two",
			})
		})
	}
}

// TestFiveMethodsAreEnough runs the channel suite on memory dressed as other kinds of store. Every row is green, refused
// by the store with a reason, or says what cannot be had.
func TestFiveMethodsAreEnough(t *testing.T) {
	for _, p := range conformance.Profiles() {
		for name, rig := range map[string]func(conformance.VirtualOptions) conformance.Rig{"one": conformance.VirtualOne, "two": conformance.VirtualTwo} {
			t.Run(p.Name+"/"+name, func(t *testing.T) {
				conformance.RunChannel(t, conformance.ChannelConfig{
					Open: dressedRig(rig, p.Dress), Virtual: true, URL: "memory:// as " + p.Name, RigName: name,
				})
			})
		}
	}
}
