package conformance

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// CrashScenario is something a process does while it may be stopped at any call of its store.
type CrashScenario struct {
	Name string
	// Queues are all that messages can be in, to be drained at the end.
	Queues []string
	// Goes are those of them that the process deletes or purges: a call that arrives late may do so to another process's.
	Goes []string
	// Run does it. After its preparations it calls p.arm; from then on it may end at any point, and tells p.facts only what
	// it knows for sure. An error without a crash fails the test.
	Run func(p *crashProcess) error
}

// crashProcess is the process that dies.
type crashProcess struct {
	ctx   context.Context // ends when it dies
	conn  *channel.Connection
	unit  time.Duration
	facts *crashFacts
	arm   func()
}

// CrashScenarios returns all scenarios.
func CrashScenarios() []CrashScenario {
	return []CrashScenario{
		{Name: "publish to three queues", Queues: []string{"a", "b", "c"}, Run: crashPublish},
		{Name: "declare, bind, publish", Queues: []string{"a", "b"}, Run: crashDeclare},
		{Name: "declare during publish", Queues: []string{"a", "b"}, Run: crashDeclareWhilePublishing},
		{Name: "bind exchanges during publish", Queues: []string{"a", "b"}, Run: crashExchangeBind},
		{Name: "unbind during publish", Queues: []string{"a", "b"}, Run: crashUnbind},
		{Name: "headers exchange", Queues: []string{"a", "b"}, Run: crashHeaders},
		{Name: "alternate exchange", Queues: []string{"a", "b"}, Run: crashAlternate},
		{Name: "consume and ack", Queues: []string{"a"}, Run: crashConsume},
		{Name: "ack multiple", Queues: []string{"a"}, Run: crashAckMultiple},
		{Name: "requeue", Queues: []string{"a"}, Run: crashRequeue},
		{Name: "nack multiple with requeue", Queues: []string{"a"}, Run: crashNackMultiple},
		{Name: "requeue over a delivery limit", Queues: []string{"a", "dead"}, Run: crashDeliveryLimit},
		{Name: "get with ack, get without", Queues: []string{"a", "b"}, Run: crashGet},
		{Name: "consumer cancelled with unacked", Queues: []string{"a"}, Run: crashCancel},
		{Name: "channel closed with unacked", Queues: []string{"a"}, Run: crashCloseChannel},
		{Name: "reject to a dead-letter queue", Queues: []string{"a", "dead"}, Run: crashReject},
		{Name: "expire to a dead-letter queue", Queues: []string{"a", "dead"}, Run: crashExpire},
		{Name: "max-length to a dead-letter queue", Queues: []string{"a", "dead"}, Run: crashLimit},
		{Name: "max-length that rejects", Queues: []string{"a"}, Run: crashRejectPublish},
		{Name: "transaction", Queues: []string{"a", "b"}, Run: crashTx},
		{Name: "transaction of publishes", Queues: []string{"a", "b"}, Run: crashTxPublish},
		{Name: "delayed message", Queues: []string{"a"}, Run: crashDelayed},
		{Name: "priorities", Queues: []string{"a"}, Run: crashPriorities},
		{Name: "single active consumer", Queues: []string{"a"}, Run: crashSingleActive},
		{Name: "single active consumer, take-over", Queues: []string{"a"}, Run: crashTakeOver},
		{Name: "exclusive queue", Queues: []string{"a"}, Run: crashExclusive},
		{Name: "auto-delete queue", Queues: []string{"a"}, Run: crashAutoDelete},
		{Name: "delete and declare again", Queues: []string{"a", "b"}, Goes: []string{"a"}, Run: crashDelete},
		{Name: "delete during delivery", Queues: []string{"a", "b"}, Goes: []string{"a"}, Run: crashDeleteInUse},
		{Name: "purge", Queues: []string{"a", "b"}, Goes: []string{"a"}, Run: crashPurge},
	}
}

// open opens a channel in confirm mode, with queues named by their arguments.
func (p *crashProcess) open(queues map[string]channel.Table) (*channel.Channel, error) {
	ch, err := p.conn.Channel(p.ctx)
	if err != nil {
		return nil, err
	}
	for name, args := range inOrder(queues) {
		if _, err := ch.QueueDeclare(p.ctx, name, channel.QueueOptions{Durable: true, Args: args}); err != nil {
			return nil, err
		}
	}
	return ch, ch.Confirm(p.ctx)
}

// tx opens a channel that is transactional.
func (p *crashProcess) tx() (*channel.Channel, error) {
	ch, err := p.conn.Channel(p.ctx)
	if err == nil {
		err = ch.Tx(p.ctx)
	}
	return ch, err
}

// publish publishes and, when that was confirmed, notes where the message must be: in each of the groups.
func (p *crashProcess) publish(ch *channel.Channel, exchange, key, body string, m channel.Publishing, groups ...[]string) error {
	m.Body, m.DeliveryMode = []byte(body), channel.Persistent
	for _, g := range groups {
		p.facts.published(body, g...)
	}
	c, err := ch.PublishDeferred(p.ctx, exchange, key, m)
	if err != nil {
		return err
	}
	acked, err := c.Wait(p.ctx)
	if err != nil {
		return err
	}
	if !acked {
		return fmt.Errorf("%q was nacked", body)
	}
	for _, g := range groups {
		p.facts.confirmed(body, g...)
	}
	return nil
}

// body is the body of the n-th message. It begins with what no other byte of a message is (see crashSeen).
func body(n int) string { return fmt.Sprintf("<%d>", n) }

// fill publishes n messages to a queue.
func (p *crashProcess) fill(ch *channel.Channel, queue string, n int, in ...string) error {
	for i := range n {
		if err := p.publish(ch, "", queue, body(i), channel.Publishing{}, append(in, queue)); err != nil {
			return err
		}
	}
	return nil
}

func crashPublish(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil, "b": nil, "c": nil})
	if err != nil {
		return err
	}
	if err := ch.ExchangeDeclare(p.ctx, "logs", channel.Topic, channel.ExchangeOptions{Durable: true}); err != nil {
		return err
	}
	for _, q := range []string{"a", "b", "c"} {
		if err := ch.QueueBind(p.ctx, q, "*.error.#", "logs", nil); err != nil {
			return err
		}
	}
	p.arm()
	for i := range 6 {
		if err := p.publish(ch, "logs", "api.error", body(i), channel.Publishing{}, []string{"a"}, []string{"b"}, []string{"c"}); err != nil {
			return err
		}
	}
	return nil
}

func crashDeclare(p *crashProcess) error {
	ch, err := p.open(nil)
	if err != nil {
		return err
	}
	p.arm()
	for _, q := range []string{"a", "b"} {
		x := "x" + q
		if err := ch.ExchangeDeclare(p.ctx, x, channel.Direct, channel.ExchangeOptions{Durable: true}); err != nil {
			return err
		}
		p.facts.exists(func(ctx context.Context, ch *channel.Channel) error { return ch.ExchangeDeclarePassive(ctx, x) })
		if _, err := ch.QueueDeclare(p.ctx, q, channel.QueueOptions{Durable: true}); err != nil {
			return err
		}
		p.facts.exists(func(ctx context.Context, ch *channel.Channel) error {
			_, err := ch.QueueDeclarePassive(ctx, q)
			return err
		})
		if err := ch.QueueBind(p.ctx, q, "k", x, nil); err != nil {
			return err
		}
		p.facts.exists(func(ctx context.Context, ch *channel.Channel) error { return routes(ctx, ch, x, "k") })
		if err := p.publish(ch, x, "k", "<"+q+">", channel.Publishing{}, []string{q}); err != nil {
			return err
		}
	}
	return nil
}

// probe is the body of messages that only find out where they go.
const probe = "<probe>"

// routes says whether a message to an exchange reaches a queue.
func routes(ctx context.Context, ch *channel.Channel, exchange, key string) error {
	returned := ch.NotifyReturn(make(chan channel.Return, 1))
	if err := ch.Confirm(ctx); err != nil {
		return err
	}
	c, err := ch.PublishDeferred(ctx, exchange, key, channel.Publishing{Mandatory: true, Body: []byte(probe)})
	if err != nil {
		return err
	}
	if _, err := c.Wait(ctx); err != nil {
		return err
	}
	select {
	case <-returned:
		return fmt.Errorf("a binding is lost: %q by %q leads nowhere", exchange, key)
	default:
		return nil
	}
}

// errGoOn says that a delivery does not count.
var errGoOn = errors.New("go on")

// consume delivers messages to f, which answers them, until n have been.
func (p *crashProcess) consume(ch *channel.Channel, queue string, n, prefetch int, f func(d channel.Delivery) error) error {
	return p.consumeIn(p.ctx, ch, queue, n, prefetch, f)
}

func (p *crashProcess) consumeIn(ctx context.Context, ch *channel.Channel, queue string, n, prefetch int, f func(d channel.Delivery) error) error {
	if err := ch.Qos(p.ctx, prefetch, 0, false); err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	for d, err := range ch.Deliveries(ctx, queue, channel.ConsumeOptions{}) {
		if err != nil {
			return err
		}
		p.facts.delivered(queue, &d)
		switch err := f(d); {
		case errors.Is(err, errGoOn):
			continue
		case err != nil:
			return err
		}
		if n--; n == 0 {
			break
		}
	}
	return p.ctx.Err()
}

// ack acks and waits for the store, so that the fact is known.
func (p *crashProcess) ack(d channel.Delivery, queue string) error {
	p.facts.unknown(string(d.Body), queue)
	switch err := d.AckWait(p.ctx); {
	case unanswered(err) && p.ctx.Err() == nil:
		return nil
	case err != nil:
		return err
	}
	p.facts.answered(string(d.Body), queue)
	return nil
}

// giveBack has a message come again.
func (p *crashProcess) giveBack(d channel.Delivery, queue string) error {
	p.facts.givenBack(queue, string(d.Body))
	return d.Nack(false, true)
}

func crashConsume(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil})
	if err != nil {
		return err
	}
	if err := p.fill(ch, "a", 8); err != nil {
		return err
	}
	p.arm()
	return p.consume(ch, "a", 8, 3, func(d channel.Delivery) error { return p.ack(d, "a") })
}

func crashRequeue(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil})
	if err != nil {
		return err
	}
	if err := p.fill(ch, "a", 4); err != nil {
		return err
	}
	p.arm()
	return p.consume(ch, "a", 4, 2, func(d channel.Delivery) error {
		if !d.Redelivered {
			return errors.Join(p.giveBack(d, "a"), errGoOn)
		}
		return p.ack(d, "a")
	})
}

func deadLetters() map[string]channel.Table {
	return map[string]channel.Table{"a": {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}, "dead": nil}
}

func crashReject(p *crashProcess) error {
	ch, err := p.open(deadLetters())
	if err != nil {
		return err
	}
	if err := p.fill(ch, "a", 4, "dead"); err != nil {
		return err
	}
	p.arm()
	err = p.consume(ch, "a", 4, 2, func(d channel.Delivery) error { return d.Nack(false, false) })
	return errors.Join(err, ch.Flush(p.ctx))
}

func crashExpire(p *crashProcess) error {
	queues := deadLetters()
	queues["a"]["x-message-ttl"] = int64(2 * p.unit / time.Millisecond)
	ch, err := p.open(queues)
	if err != nil {
		return err
	}
	p.arm()
	if err := p.fill(ch, "a", 4, "dead"); err != nil {
		return err
	}
	sleepFor(p.ctx, 12*p.unit)
	return nil
}

func crashLimit(p *crashProcess) error {
	queues := deadLetters()
	queues["a"]["x-max-length"] = int32(2)
	ch, err := p.open(queues)
	if err != nil {
		return err
	}
	p.arm()
	return p.fill(ch, "a", 6, "dead")
}

// crashTx moves messages from a to b in transactions: at every moment each is in one of them at least.
func crashTx(p *crashProcess) error {
	fill, err := p.open(map[string]channel.Table{"a": nil, "b": nil})
	if err != nil {
		return err
	}
	if err := p.fill(fill, "a", 4, "b"); err != nil {
		return err
	}
	ch, err := p.tx()
	if err != nil {
		return err
	}
	p.arm()
	return p.consume(ch, "a", 4, 1, func(d channel.Delivery) error {
		if err := ch.Publish(p.ctx, "", "b", channel.Publishing{Body: d.Body, DeliveryMode: channel.Persistent}); err != nil {
			return err
		}
		if err := d.Ack(false); err != nil {
			return err
		}
		if err := ch.TxCommit(p.ctx); err != nil {
			return err
		}
		p.facts.answered(string(d.Body), "a")
		p.facts.confirmed(string(d.Body), "b")
		return nil
	})
}

func crashDelayed(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil})
	if err != nil {
		return err
	}
	o := channel.ExchangeOptions{Durable: true, Args: channel.Table{"x-delayed-type": channel.Direct}}
	if err := ch.ExchangeDeclare(p.ctx, "later", channel.Delayed, o); err != nil {
		return err
	}
	if err := ch.QueueBind(p.ctx, "a", "k", "later", nil); err != nil {
		return err
	}
	p.arm()
	for i := range 4 {
		m := channel.Publishing{Headers: channel.Table{"x-delay": int64((i + 1) * int(p.unit/time.Millisecond))}}
		if err := p.publish(ch, "later", "k", body(i), m, []string{"a"}); err != nil {
			return err
		}
	}
	sleepFor(p.ctx, 6*p.unit)
	return nil
}

func crashSingleActive(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": {"x-single-active-consumer": true}})
	if err != nil {
		return err
	}
	if err := p.fill(ch, "a", 6); err != nil {
		return err
	}
	p.arm()
	return p.consume(ch, "a", 6, 3, func(d channel.Delivery) error { return p.ack(d, "a") })
}

// crashDelete deletes a queue and declares it again: it is empty then, and what is put there stays.
func crashDelete(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil, "b": nil})
	if err != nil {
		return err
	}
	for i := range 3 {
		if err := p.publish(ch, "", "a", fmt.Sprintf("<old %d>", i), channel.Publishing{}); err != nil {
			return err
		}
	}
	if err := p.publish(ch, "", "b", "<beside>", channel.Publishing{}, []string{"b"}); err != nil {
		return err
	}
	p.arm()
	if _, err := ch.QueueDelete(p.ctx, "a", channel.DeleteOptions{}); err != nil {
		return err
	}
	for i := range 3 {
		p.facts.answered(fmt.Sprintf("<old %d>", i), "a")
	}
	if _, err := ch.QueueDeclare(p.ctx, "a", channel.QueueOptions{Durable: true}); err != nil {
		return err
	}
	return p.publish(ch, "", "a", "<new>", channel.Publishing{}, []string{"a"})
}
