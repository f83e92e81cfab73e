package channel

import "context"

// ExchangeDeclare declares an exchange of a type such as Topic. Declaring an existing one equally is a no-op; a
// difference is PreconditionFailed (406), an unknown type CommandInvalid (503, closes the connection), a new name
// beginning "amq." AccessRefused (403).
func (ch *Channel) ExchangeDeclare(ctx context.Context, name, kind string, o ExchangeOptions) error {
	return ch.exchangeDeclare(ctx, &ExchangeDeclare{
		Name: name, Type: kind, Durable: o.Durable, AutoDelete: o.AutoDelete, Internal: o.Internal, NoWait: o.NoWait, Args: o.Args,
	})
}

// ExchangeDeclarePassive asks whether an exchange exists: nil, or NotFound (404), which closes the channel.
func (ch *Channel) ExchangeDeclarePassive(ctx context.Context, name string) error {
	return ch.exchangeDeclare(ctx, &ExchangeDeclare{Name: name, Type: Direct, Passive: true})
}

func (ch *Channel) exchangeDeclare(ctx context.Context, m *ExchangeDeclare) error {
	if err := checkCall(m, &m.Args, "exchange", m.Name, "exchange type", m.Type); err != nil {
		return err
	}
	_, err := ch.do(ctx, m)
	return err
}

// ExchangeDelete deletes an exchange and its bindings; an unknown one is no error.
func (ch *Channel) ExchangeDelete(ctx context.Context, name string, o DeleteOptions) error {
	m := &ExchangeDelete{Name: name, IfUnused: o.IfUnused, NoWait: o.NoWait}
	if err := checkCall(m, nil, "exchange", name); err != nil {
		return err
	}
	_, err := ch.do(ctx, m)
	return err
}

// ExchangeBind binds the exchange destination to the exchange source (a RabbitMQ extension,
// https://www.rabbitmq.com/e2e.html).
func (ch *Channel) ExchangeBind(ctx context.Context, destination, key, source string, args Table, flags ...Flag) error {
	return ch.exchangeBind(ctx, &ExchangeBind{Destination: destination, Source: source, Key: key, Args: args, NoWait: noWait(flags)})
}

// ExchangeUnbind removes what ExchangeBind made with equal key and arguments; an unknown one is no error.
func (ch *Channel) ExchangeUnbind(ctx context.Context, destination, key, source string, args Table, flags ...Flag) error {
	return ch.exchangeBind(ctx, &ExchangeBind{Destination: destination, Source: source, Key: key, Args: args, Unbind: true, NoWait: noWait(flags)})
}

func (ch *Channel) exchangeBind(ctx context.Context, m *ExchangeBind) error {
	if err := checkCall(m, &m.Args, "exchange", m.Destination, "exchange", m.Source, "routing key", m.Key); err != nil {
		return err
	}
	_, err := ch.do(ctx, m)
	return err
}

// QueueDeclare declares a queue; an empty name lets the server choose one. Declaring an existing queue equally
// returns its counts; a difference is PreconditionFailed (406), another connection's exclusive queue
// ResourceLocked (405).
func (ch *Channel) QueueDeclare(ctx context.Context, name string, o QueueOptions) (Queue, error) {
	return ch.queueDeclare(ctx, &QueueDeclare{
		Name: name, Durable: o.Durable, Exclusive: o.Exclusive, AutoDelete: o.AutoDelete, NoWait: o.NoWait, Args: o.Args,
	})
}

// QueueDeclarePassive returns the counts of a queue, or NotFound (404), which closes the channel.
func (ch *Channel) QueueDeclarePassive(ctx context.Context, name string) (Queue, error) {
	return ch.queueDeclare(ctx, &QueueDeclare{Name: name, Passive: true})
}

func (ch *Channel) queueDeclare(ctx context.Context, m *QueueDeclare) (Queue, error) {
	if err := checkCall(m, &m.Args, "queue", m.Name); err != nil {
		return Queue{}, err
	}
	r, err := ch.do(ctx, m)
	if m.NoWait && err == nil {
		r.Queue = m.Name
	}
	return Queue{Name: r.Queue, Messages: r.Messages, Consumers: r.Consumers}, err
}

// QueueBind binds a queue to an exchange. An empty name is the queue declared last on this channel; with an empty
// key too the queue's name is the key. Nothing published by any process after it returned is missed.
func (ch *Channel) QueueBind(ctx context.Context, name, key, exchange string, args Table, flags ...Flag) error {
	return ch.queueBind(ctx, &QueueBind{Queue: name, Exchange: exchange, Key: key, Args: args, NoWait: noWait(flags)})
}

// QueueUnbind removes a binding of equal key and arguments; an unknown one is no error.
func (ch *Channel) QueueUnbind(ctx context.Context, name, key, exchange string, args Table) error {
	return ch.queueBind(ctx, &QueueBind{Queue: name, Exchange: exchange, Key: key, Args: args, Unbind: true})
}

func (ch *Channel) queueBind(ctx context.Context, m *QueueBind) error {
	if err := checkCall(m, &m.Args, "queue", m.Queue, "exchange", m.Exchange, "routing key", m.Key); err != nil {
		return err
	}
	_, err := ch.do(ctx, m)
	return err
}

// QueuePurge removes all ready messages of a queue and returns how many there were.
func (ch *Channel) QueuePurge(ctx context.Context, name string, flags ...Flag) (int, error) {
	m := &QueuePurge{Name: name, NoWait: noWait(flags)}
	if err := checkCall(m, nil, "queue", name); err != nil {
		return 0, err
	}
	r, err := ch.do(ctx, m)
	return r.Messages, err
}

// QueueDelete deletes a queue with its bindings and returns how many ready messages it had; an unknown one is no error.
func (ch *Channel) QueueDelete(ctx context.Context, name string, o DeleteOptions) (int, error) {
	m := &QueueDelete{Name: name, IfUnused: o.IfUnused, IfEmpty: o.IfEmpty, NoWait: o.NoWait}
	if err := checkCall(m, nil, "queue", name); err != nil {
		return 0, err
	}
	r, err := ch.do(ctx, m)
	return r.Messages, err
}

// checkCall refuses arguments that cannot be encoded, and replaces args by a copy in AMQP's types. named is pairs of
// what and value.
func checkCall(m Method, args *Table, named ...string) error {
	for i := 0; i < len(named); i += 2 {
		if err := checkShort(named[i], named[i+1]); err != nil {
			return invalid(m.method(), "%v", err)
		}
	}
	if args == nil {
		return nil
	}
	if err := ValidateTable(*args); err != nil {
		return invalid(m.method(), "arguments: %v", err)
	}
	*args = CloneTable(*args)
	return nil
}
