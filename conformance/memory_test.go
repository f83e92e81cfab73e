package conformance_test

import (
	"context"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// memoryRig makes rigs on a fresh place in memory, in virtual time.
func memoryRig(make func(conformance.VirtualOptions) conformance.Rig) func(context.Context) (conformance.Rig, error) {
	return func(context.Context) (conformance.Rig, error) {
		p, other := memory.New(), memory.New()
		return make(conformance.VirtualOptions{
			Open:      func() (virtual.Store, error) { return p.Open(), nil },
			OpenOther: func() (virtual.Store, error) { return other.Open(), nil },
			Unit:      200 * time.Millisecond,
			Virtual:   true,
		}), nil
	}
}

func TestMemoryShowsEveryRowWithOneBroker(t *testing.T) {
	conformance.RunChannel(t, conformance.ChannelConfig{
		Open: memoryRig(conformance.VirtualOne), Virtual: true, Complete: true, URL: "memory://", RigName: "one",
	})
}

func TestMemoryShowsEveryRowWithTwoBrokers(t *testing.T) {
	conformance.RunChannel(t, conformance.ChannelConfig{
		Open: memoryRig(conformance.VirtualTwo), Virtual: true, Complete: true, URL: "memory://", RigName: "two",
	})
}
