package script

import (
	"reflect"
	"time"

	"github.com/dashi-mq/dashi/internal/model"
)

// Alike reports whether brokers of two rules show clients the same of a script, as far as the model knows, and in one way only.
func Alike(s Script, one, other model.Rules) bool {
	now := time.Unix(1e9, 0)
	b, peer := model.New(one, now), model.New(other, now)
	for at := range s {
		alike := false
		if b, peer, alike = predict(b, peer, &s[at], at, now); !alike {
			return false
		}
	}
	return true
}

// predict lets a model make an operation, and its peer, where there is one. They are alike if clients see the same of both, and
// if nobody has to say which of several is the next (see model.Alone).
func predict(b, peer *model.Broker, o *Op, at int, now time.Time) (nextB, nextPeer *model.Broker, alike bool) {
	op := *o
	switch o.Do {
	case OpenChannel, Sleep, Crash, CloseConnection:
	default:
		if !b.Known(o.Slot()) {
			return b, peer, true // it is not made
		}
	}
	if settles := o.Do == Ack || o.Do == Nack || o.Do == Reject; settles && peer != nil && o.N >= len(b.Unacked(o.Slot())) {
		return b, peer, true // nor is an answer to what was never handed over
	}
	if o.Do == Drain {
		op.Do = PurgeQueue
	}
	act := func(b *model.Broker) {
		op.act(b, at, func(c int) int { return c })
		b.Advance(model.Span{From: now, To: now})
	}
	nextB, seen := model.Predict(b, act)
	if peer == nil {
		return nextB, nil, true
	}
	if h := seen.Heard[o.Slot()]; o.Do == Publish && o.N > 1 && h != nil && h.Closed != 0 {
		return nextB, nil, false // what is published behind it may reach RabbitMQ on a channel that it has closed: that ends the connection
	}
	nextPeer, other := model.Predict(peer, act)
	return nextB, nextPeer, nextB.Alone() && reflect.DeepEqual(seen, other)
}
