package conformance

import (
	"context"
	"fmt"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

// RunProcesses proves on a store what programs of several processes rely on, one promise a subtest, each with two brokers on two
// handles of one place. A process is killed as by SIGKILL: none of its calls reaches the store any more. What is told in real
// time is printed, not judged.
func RunProcesses(t *testing.T, c Config) {
	t.Helper()
	for _, p := range processProofs {
		t.Run(p.name, func(t *testing.T) {
			if c.Virtual {
				synctest.Test(t, func(t *testing.T) { c.prove(t, p) })
				return
			}
			t.Parallel() // they wait for leases
			c.prove(t, p)
		})
	}
}

// processProof is one promise.
type processProof struct {
	name string
	run  func(*processes)
}

var processProofs = []processProof{
	{"CopiesOfAFanoutAreApart/AckedByAnother", func(p *processes) { copiesAreApart(p, 0) }},
	{"CopiesOfAFanoutAreApart/AckedByTheKilled", func(p *processes) { copiesAreApart(p, 1) }},
	{"AHandlerMayTakeFiveLeases", handlerTakesFiveLeases},
	{"AKilledProcessGivesBackInOrder", killedGivesBack},
	{"OneRenewalForAllUnacked", oneRenewalForAll},
}

// processes is two of them.
type processes struct {
	T
	rig    Rig
	lease  time.Duration
	writes *renewals
}

// prove runs a proof on a place of its own.
func (c *Config) prove(t T, p processProof) {
	writes := &renewals{}
	counted := *c
	counted.Open = func(t T) (func() (virtual.Store, error), error) {
		open, err := c.Open(t)
		return func() (virtual.Store, error) {
			s, err := open()
			if err != nil {
				return nil, err
			}
			return virtual.Intercept(s, writes.pass), nil
		}, err
	}
	if counted.Unit == 0 {
		counted.Unit = 100 * time.Millisecond
	}
	rig, err := counted.rig(VirtualTwo)(t.Context())
	if err != nil {
		t.Fatalf("place: %v", err)
	}
	t.Cleanup(func() { _ = rig.Close() })
	p.run(&processes{T: t, rig: rig, lease: rig.(Leaser).Lease(), writes: writes})
}

// renewals counts what the engine writes to keep messages.
type renewals struct {
	mu              sync.Mutex
	renews, extends int
}

func (r *renewals) pass(ctx context.Context, call virtual.Call, next func(context.Context) error) error {
	r.mu.Lock()
	switch s := call.Request.(type) {
	case nil:
		if call.Method == "Holders.Renew" {
			r.renews++
		}
	case *[]virtual.Settlement:
		for _, x := range *s {
			if x.Kind == virtual.Extend {
				r.extends++
			}
		}
	}
	r.mu.Unlock()
	return next(ctx)
}

func (r *renewals) now() (renews, extends int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.renews, r.extends
}

// open opens a channel of a process, in confirm mode.
func (p *processes) open(process int) *channel.Channel {
	p.Helper()
	conn, err := p.rig.Connect(p.Context(), process, ConnectOptions{})
	p.must(err, "connect")
	ch, err := conn.Channel(p.Context())
	p.must(err, "channel")
	p.must(ch.Confirm(p.Context()), "confirm.select")
	return ch
}

func (p *processes) must(err error, what string) {
	p.Helper()
	if err != nil {
		p.Fatalf("%s: %v", what, err)
	}
}

func (p *processes) queue(ch *channel.Channel, name string) {
	p.Helper()
	_, err := ch.QueueDeclare(p.Context(), name, channel.QueueOptions{Durable: true})
	p.must(err, "declare "+name)
}

func (p *processes) consume(ch *channel.Channel, queue string) <-chan channel.Delivery {
	p.Helper()
	ds, err := ch.Consume(p.Context(), queue, channel.ConsumeOptions{})
	p.must(err, "consume "+queue)
	return ds
}

// publish publishes all of them, and wants them confirmed.
func (p *processes) publish(ch *channel.Channel, exchange, key string, bodies ...string) {
	p.Helper()
	var last *channel.Confirmation
	var err error
	for _, b := range bodies {
		last, err = ch.PublishDeferred(p.Context(), exchange, key, channel.Publishing{Body: []byte(b), DeliveryMode: 2})
		p.must(err, "publish")
	}
	if acked, err := last.Wait(p.Context()); err != nil || !acked {
		p.Fatalf("a publish is not confirmed: %v", err)
	}
	p.must(ch.Flush(p.Context()), "flush") // all before it were stored as well
}

// next is the next message, which has to be this one.
func (p *processes) next(ds <-chan channel.Delivery, body string, redelivered bool) *channel.Delivery {
	p.Helper()
	select {
	case d, ok := <-ds:
		if !ok || string(d.Body) != body || d.Redelivered != redelivered {
			p.Fatalf("got %q (redelivered %v, %v), want %q (redelivered %v)", d.Body, d.Redelivered, ok, body, redelivered)
		}
		return &d
	case <-p.Context().Done():
		p.Fatalf("%s does not come", body)
	}
	return nil
}

// copiesAreApart gives two queues a copy each. One is acked, by process acks, and the process that holds the other is killed: that one
// comes again, and the acked one does not.
func copiesAreApart(p *processes, acks int) {
	ctx, in := p.Context(), p.open(0)
	p.must(in.ExchangeDeclare(ctx, "news", channel.Fanout, channel.ExchangeOptions{Durable: true}), "declare news")
	for _, q := range []string{"acked", "held"} {
		p.queue(in, q)
		p.must(in.QueueBind(ctx, q, "", "news", nil), "bind "+q)
	}
	acker := p.consume(p.open(acks), "acked")
	held := p.consume(p.open(1), "held")
	p.publish(in, "news", "", "m")
	p.next(held, "m", false)
	p.must(p.next(acker, "m", false).AckWait(ctx), "ack")
	p.must(p.rig.Crash(1), "crash")

	after := p.open(1)
	p.must(p.next(p.consume(after, "held"), "m", true).AckWait(ctx), "ack of what came again")
	if acks == 1 {
		acker = p.consume(after, "acked")
	}
	p.publish(in, "news", "", "last") // nothing comes before it
	p.must(p.next(acker, "last", false).AckWait(ctx), "ack")
}

// handlerTakesFiveLeases holds a message for as long while another process waits for one.
func handlerTakesFiveLeases(p *processes) {
	in, out := p.open(0), p.open(1)
	p.queue(in, "orders")
	p.must(out.Qos(p.Context(), 1, 0, false), "qos")
	slow := p.consume(out, "orders")
	p.publish(in, "", "orders", "m")
	d := p.next(slow, "m", false)
	idle := p.consume(in, "orders")
	sleepFor(p.Context(), 5*p.lease)
	p.publish(in, "", "orders", "last")
	p.must(p.next(idle, "last", false).AckWait(p.Context()), "ack of the next message, by the one that waits")
	p.must(d.AckWait(p.Context()), "ack after five leases")
}

// killedGivesBack kills a process that holds messages. They come in order, when its lease has ended.
func killedGivesBack(p *processes) {
	in, out := p.open(0), p.open(1)
	p.queue(in, "orders")
	bodies := numbered("m", 50)
	taken := p.consume(out, "orders")
	p.publish(in, "", "orders", bodies...)
	for _, b := range bodies {
		p.next(taken, b, false)
	}
	p.must(p.rig.Crash(1), "crash")
	killed := time.Now()
	heir := p.consume(in, "orders")
	for i, b := range bodies {
		d := p.next(heir, b, true)
		if i == 0 {
			p.Logf("the first came %v after the kill, the lease is %v", time.Since(killed), p.lease)
		}
		p.must(d.Ack(false), "ack")
	}
	p.Logf("all came within %v", time.Since(killed))
	p.must(in.Flush(p.Context()), "flush")
}

// manyUnacked is how many unacked messages are kept at the price of one.
func manyUnacked() int {
	switch {
	case raceEnabled && os.Getenv("NIGHTLY") == "":
		return 10_000
	case testing.Short():
		return 20_000
	}
	return 100_000
}

// oneRenewalForAll holds many messages of two queues, and counts what is written to keep them: one Renew of both queues every
// third of a lease.
func oneRenewalForAll(p *processes) {
	in, out := p.open(0), p.open(1)
	n := manyUnacked()
	body := make([]string, n/2)
	for _, q := range []string{"a", "b"} {
		p.queue(in, q)
		p.publish(in, "", q, body...)
		ds := p.consume(out, q)
		for range body {
			p.next(ds, "", false)
		}
	}
	began := time.Now()
	before, extended := p.writes.now()
	sleepFor(p.Context(), 2*p.lease)
	renews, extends := p.writes.now()
	ticks := int(time.Since(began)/(p.lease/3)) + 1
	fmt.Printf("processes: %d unacked messages in two queues: %d renewals in %d thirds of a lease\n", n, renews-before, ticks)
	if extends > extended || renews-before > ticks {
		p.Errorf("%d unacked messages of two queues cost %d renewals and %d extended leases in %d thirds of a lease, want one each", n, renews-before, extends-extended, ticks)
	}
	if renews == before && extends == extended {
		p.Errorf("nothing was written in two leases: the test shows nothing")
	}
	p.must(out.Ack(0, true), "ack of all")
	p.must(out.Flush(p.Context()), "flush")
	for _, q := range []string{"a", "b"} {
		if s, err := in.QueueDeclarePassive(p.Context(), q); err != nil || s.Messages != 0 {
			p.Errorf("%d messages are left, %v: some were not held", s.Messages, err)
		}
	}
}
