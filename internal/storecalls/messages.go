package storecalls

import (
	"context"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Put puts messages with those bodies into Queue, in one request.
func Put(ctx context.Context, s virtual.Store, bodies ...string) error {
	var r virtual.PutRequest
	for i, b := range bodies {
		r.Messages = append(r.Messages, &virtual.Message{Queue: Queue, ID: virtual.ID{byte(i + 1)}, Payload: virtual.Bytes(b)})
	}
	return s.Put(ctx, r)
}

// Bodies returns those of what was taken.
func Bodies(ts []virtual.Taken) []string {
	var out []string
	for _, t := range ts {
		out = append(out, string(t.Payload.Bytes()))
	}
	return out
}

// Settled answers what was taken, after or for d.
func Settled(kind virtual.Kind, d time.Duration, ts ...virtual.Taken) []virtual.Settlement {
	var out []virtual.Settlement
	for _, t := range ts {
		out = append(out, virtual.Settlement{Queue: t.Queue, ID: t.ID, Receipt: t.Receipt, Kind: kind, For: d})
	}
	return out
}
