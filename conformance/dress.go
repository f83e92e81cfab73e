package conformance

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Profile is memory dressed as another kind of store: one that claims less, and whose calls behave as that kind's do, in
// the ways that trip up its users. With Dress the engine and both suites run on such stores in virtual time, in seconds,
// before anything real is started.
//
// A Profile is a plain value: copy one of Profiles and change what is of interest.
type Profile struct {
	// Name of the profile, and what is worth knowing of it, for people.
	Name, About string
	// Traits are what the dressed store claims, and all that it does: what a caller sets beyond is ignored, sizes beyond
	// MaxBatch, MaxBatchBytes, MaxBody, MaxDelay and LeaseMax are refused, leases and delays are rounded up to their
	// steps. It has none of the capabilities.
	Traits virtual.Traits

	// Latency is how long a call takes: half of it before it has its effect, and half after. A call whose context ends
	// on its way back fails though it was done.
	Latency time.Duration
	// Lag is how old an answer of Size may be.
	Lag time.Duration
	// Window is how many messages beyond Max a Get looks at, to choose among them.
	Window int
	// Shuffled says that a Get chooses from the window in no order.
	Shuffled bool
	// Conflicts is the chance, 0 to 1 but not 1, that another one was quicker to take a message that a Get has chosen: then
	// the Get takes fewer than there are. One that has lost all looks again.
	Conflicts float64
	// CountsReturn says that Return counts as Requeue does, since the store knows no difference.
	CountsReturn bool
	// Redelivered says that Attempt only tells the first time, 1, from all others, 2.
	Redelivered bool
	// Frugal says that Attempt and Age are told only where GetRequest.Need asks for them: else they are 0.
	Frugal bool
	// Traps, with leases that end with the connection, has a lease that is over end only when its connection says something
	// next, or is closed: what a frozen process holds stays with it, as with beanstalkd. No profile has it from the start, since
	// the store suite has handles that are silent for long.
	Traps bool
	// Poll, when set, has a Get with Wait join a long poll of that length, which goes on when the Get has given up. What
	// it brings then is kept for the next Get of the queue, for as long as Keep says, and given back.
	Poll, Keep time.Duration
	// Seed begins what is left to chance.
	Seed uint64

	only bool // as virtual.Only has it
}

// Profiles returns the kinds of store that dashi is tried on before the real ones.
func Profiles() []Profile {
	return []Profile{
		{
			Name: "five", only: true,
			About: "the five methods with all traits they can have, and no capability: everything is the engine's to do",
		},
		{
			Name:   "bare",
			About:  "the least that is a store: no order, sizes that lag, no ages, no delays, and of attempts only whether there was one",
			Traits: virtual.Traits{Name: "bare"},
			Lag:    time.Second, Window: 4, Shuffled: true, CountsReturn: true, Redelivered: true, Seed: 1,
		},
		{
			Name: "sqs",
			About: "a remote service: tens at most, whole seconds, milliseconds a call, no order, and long polls that go on when " +
				"nobody waits any longer",
			Traits: virtual.Traits{
				Name: "sqs", Age: true, MaxDelay: 15 * time.Minute, DelayStep: time.Second,
				LeaseMax: 12 * time.Hour, LeaseStep: time.Second,
				MaxBatch: 10, MaxBatchBytes: 3 << 18, MaxBody: 3 << 18, InFlight: 16, // 1 MiB, less what base64 takes
			},
			Latency: 5 * time.Millisecond, Lag: time.Second, Window: 4, Shuffled: true, CountsReturn: true,
			Poll: 20 * time.Second, Keep: time.Second, Seed: 2,
		},
		{
			Name: "beanstalk",
			About: "leases that are fixed at Put and end with the connection: Close gives back all that is held. They end by time as " +
				"well, as beanstalkd's do for a process that lives; set Traps for what it does to one that is frozen",
			Traits: virtual.Traits{
				Name: "beanstalk", Ordered: true, ExactSize: true, Age: true, StaleTold: true, Levels: 256,
				MaxDelay: time.Hour, DelayStep: time.Second, LeaseMin: 2 * time.Second, LeaseStep: time.Second,
				LeaseAtPut: true, LeaseEnd: virtual.WithConnection, MaxBody: 1<<16 - 1 - 30, InFlight: 4,
			},
			CountsReturn: true, Frugal: true, Seed: 3,
		},
		{
			Name: "couchdb",
			About: "claims that conflict: a Get loses to others some of what it has seen and takes what is behind it, or fewer than " +
				"there are. No clock of its own",
			Traits: virtual.Traits{
				Name: "couchdb", ExactSize: true, ExactAttempt: true, StaleTold: true, Levels: 256, MaxBatch: 500, MaxBody: 5 << 20,
				InFlight: 4,
			},
			Latency: 2 * time.Millisecond, Window: 8, Conflicts: 0.25, Seed: 4,
		},
	}
}

// Dress returns a handle that behaves as the profile's kind of store does, on a handle that has all traits, such as one
// of memory. It is one process's client: what belongs to its connection ends with Close, which closes s, too.
func (p Profile) Dress(s virtual.Store) virtual.Store {
	if p.only {
		return virtual.Only(s)
	}
	d := &dressed{
		p: p, s: s, rand: rand.New(rand.NewPCG(p.Seed, 0)), sizes: map[virtual.QueueRef]sized{},
		held: map[virtual.Receipt]hold{}, polls: map[virtual.QueueRef]*poll{},
	}
	d.ctx, d.stop = context.WithCancelCause(context.Background())
	return d
}

// stored returns a message as the store keeps it: what it has no trait for is lost, and the payload is bytes.
func (p *Profile) stored(m *virtual.Message, body []byte) *virtual.Message {
	t := &p.Traits
	c := &virtual.Message{Queue: m.Queue, ID: m.ID, Payload: virtual.Bytes(body)}
	if t.Levels > 1 {
		c.Priority = uint8(min(int(m.Priority), t.Levels-1))
	}
	if t.TTL {
		c.TTL = m.TTL
	}
	if t.LeaseAtPut {
		c.Lease = p.lease(m.Lease)
	}
	c.Delay = p.delay(m.Delay)
	return c
}

// lease is the lease given where d is asked for; 0 asks for none.
func (p *Profile) lease(d time.Duration) time.Duration {
	if d <= 0 && !p.Traits.LeaseAtPut {
		return 0
	}
	return up(max(d, p.Traits.LeaseMin), p.Traits.LeaseStep)
}

// delay is the delay given where d is asked for.
func (p *Profile) delay(d time.Duration) time.Duration {
	if d <= 0 || p.Traits.MaxDelay == 0 {
		return 0
	}
	return up(d, p.Traits.DelayStep)
}

// up rounds up to a multiple of step.
func up(d, step time.Duration) time.Duration {
	if step > 0 && d%step > 0 {
		return d - d%step + step
	}
	return d
}

// refuses is the error of a request that the service would turn down, whole: too many items, or a time beyond its bounds.
func (p *Profile) refuses(items int, leases, delays []time.Duration) error {
	t := &p.Traits
	if t.MaxBatch > 0 && items > t.MaxBatch {
		return fmt.Errorf("%s: a request of %d items, at most %d", p.Name, items, t.MaxBatch)
	}
	for _, d := range leases {
		if t.LeaseMax > 0 && d > t.LeaseMax {
			return fmt.Errorf("%s: a lease of %v, at most %v", p.Name, d, t.LeaseMax)
		}
	}
	for _, d := range delays {
		if t.MaxDelay > 0 && d > t.MaxDelay {
			return fmt.Errorf("%s: a delay of %v, at most %v", p.Name, d, t.MaxDelay)
		}
	}
	return nil
}
