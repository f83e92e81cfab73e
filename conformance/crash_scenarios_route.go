package conformance

import (
	"errors"

	"github.com/dashi-mq/dashi/channel"
)

// fanout is open with an exchange "all" that is bound to the first of the queues.
func (p *crashProcess) fanout(queues ...string) (*channel.Channel, error) {
	args := map[string]channel.Table{}
	for _, q := range queues {
		args[q] = nil
	}
	ch, err := p.open(args)
	if err != nil {
		return nil, err
	}
	err = ch.ExchangeDeclare(p.ctx, "all", channel.Fanout, channel.ExchangeOptions{Durable: true})
	return ch, errors.Join(err, ch.QueueBind(p.ctx, queues[0], "", "all", nil))
}

// changeWhilePublishing runs change beside six messages to "all", which are in a; those published after it has returned are
// where after says, too.
func (p *crashProcess) changeWhilePublishing(ch *channel.Channel, change func(ch *channel.Channel) error, after []string) error {
	p.arm()
	other, err := p.conn.Channel(p.ctx)
	if err != nil {
		return err
	}
	changed := make(chan error, 1)
	go func() { changed <- change(other) }()
	for i := range 6 {
		groups := [][]string{{"a"}}
		select {
		case err := <-changed:
			if err != nil {
				return err
			}
			changed <- nil
			if after != nil {
				groups = append(groups, after)
			}
		default:
		}
		if err = p.publish(ch, "all", "", body(i), channel.Publishing{}, groups...); err != nil {
			break
		}
	}
	return errors.Join(err, <-changed)
}

// crashDeclareWhilePublishing binds a second queue while messages flow.
func crashDeclareWhilePublishing(p *crashProcess) error {
	ch, err := p.fanout("a", "b")
	if err != nil {
		return err
	}
	return p.changeWhilePublishing(ch, func(ch *channel.Channel) error { return ch.QueueBind(p.ctx, "b", "", "all", nil) }, []string{"b"})
}

// crashExchangeBind binds an exchange, behind which a second queue is, while messages flow.
func crashExchangeBind(p *crashProcess) error {
	ch, err := p.fanout("a", "b")
	if err != nil {
		return err
	}
	err = errors.Join(
		ch.ExchangeDeclare(p.ctx, "more", channel.Topic, channel.ExchangeOptions{Durable: true}),
		ch.QueueBind(p.ctx, "b", "#", "more", nil))
	if err != nil {
		return err
	}
	return p.changeWhilePublishing(ch, func(ch *channel.Channel) error { return ch.ExchangeBind(p.ctx, "more", "", "all", nil) }, []string{"b"})
}

// crashUnbind unbinds a second queue while messages flow: none of those published after that is there.
func crashUnbind(p *crashProcess) error {
	ch, err := p.fanout("a", "b")
	if err != nil {
		return err
	}
	if err := ch.QueueBind(p.ctx, "b", "", "all", nil); err != nil {
		return err
	}
	err = p.changeWhilePublishing(ch, func(ch *channel.Channel) error { return ch.QueueUnbind(p.ctx, "b", "", "all", nil) }, nil)
	if err != nil {
		return err
	}
	p.facts.answered("<6>", "b")
	return p.publish(ch, "all", "", "<6>", channel.Publishing{}, []string{"a"})
}

func crashHeaders(p *crashProcess) error {
	ch, err := p.open(map[string]channel.Table{"a": nil, "b": nil})
	if err != nil {
		return err
	}
	if err := ch.ExchangeDeclare(p.ctx, "by headers", channel.Headers, channel.ExchangeOptions{Durable: true}); err != nil {
		return err
	}
	p.arm()
	for _, b := range []struct {
		queue string
		args  channel.Table
	}{{"a", channel.Table{"x-match": "all", "kind": "x", "size": int32(1)}}, {"b", channel.Table{"x-match": "any", "kind": "x", "size": int32(2)}}} {
		if err := ch.QueueBind(p.ctx, b.queue, "", "by headers", b.args); err != nil {
			return err
		}
	}
	for i := range 4 {
		m := channel.Publishing{Headers: channel.Table{"kind": "x", "size": int32(1 + i%2)}}
		groups := [][]string{{"b"}}
		if i%2 == 0 {
			groups = append(groups, []string{"a"})
		}
		if err := p.publish(ch, "by headers", "", body(i), m, groups...); err != nil {
			return err
		}
	}
	return nil
}

// crashAlternate binds a queue to an exchange whose messages went to its alternate before.
func crashAlternate(p *crashProcess) error {
	ch, err := p.fanout("a", "b")
	if err != nil {
		return err
	}
	o := channel.ExchangeOptions{Durable: true, Args: channel.Table{"alternate-exchange": "all"}}
	if err := ch.ExchangeDeclare(p.ctx, "first", channel.Direct, o); err != nil {
		return err
	}
	p.arm()
	for i := range 4 {
		to := "a"
		if i >= 2 {
			to = "b"
		}
		if i == 2 {
			if err := ch.QueueBind(p.ctx, "b", "k", "first", nil); err != nil {
				return err
			}
		}
		if err := p.publish(ch, "first", "k", body(i), channel.Publishing{}, []string{to}); err != nil {
			return err
		}
	}
	return nil
}
