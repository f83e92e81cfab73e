package dashi

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// Connection is an open connection, whatever it stands on. All methods of channel.Connection are its own.
type Connection struct {
	*channel.Connection

	broker *broker.Broker // nil on a transport of its own
	store  virtual.Store  // nil where it is not ours to close
}

// Dial opens a connection by its URL: on the transport registered for its scheme (amqp, amqps), else as a broker on
// the store registered for it (memory). Options of the broker are taken from the query: user, vhost, lease,
// session_ttl, barrier and consumer_timeout (durations such as 10s), channel_max, fresh (true or false): see
// broker.Options. The store gets the rest. Errors show no password.
func Dial(ctx context.Context, rawURL string) (*Connection, error) {
	scheme, err := channel.Scheme(rawURL)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if _, ok := channel.Lookup(scheme); ok {
		c, err := channel.Dial(ctx, rawURL, channel.Config{})
		if err != nil {
			return nil, err
		}
		return &Connection{Connection: c}, nil
	}
	o, storeURL, err := options(rawURL)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", channel.Redact(rawURL), err)
	}
	store, err := virtual.Open(ctx, storeURL)
	if err != nil {
		return nil, fmt.Errorf("dial %s: %w", channel.Redact(rawURL), err)
	}
	c, err := open(ctx, store, o)
	if err != nil {
		_ = virtual.Close(store)
		return nil, fmt.Errorf("dial %s: %w", channel.Redact(rawURL), err)
	}
	c.store = store
	return c, nil
}

// Open opens a connection as one process on a store, which may have no more than the five methods; broker.Options{} is
// good. The store stays the caller's to close. The first process on an empty place of a store without the capability
// Registry waits up to 5 s for what may be hidden there, unless Options.Fresh says that the place is new.
func Open(ctx context.Context, store virtual.Store, o broker.Options) (*Connection, error) {
	return open(ctx, store, o)
}

func open(ctx context.Context, store virtual.Store, o broker.Options) (*Connection, error) {
	b, err := broker.Open(ctx, store, o)
	if err != nil {
		return nil, err
	}
	c, err := channel.Connect(ctx, b.Connect)
	if err != nil {
		_ = b.Close(ctx)
		return nil, err
	}
	return &Connection{Connection: c, broker: b}, nil
}

// Close closes the connection with all its channels, and what Dial opened for it. It returns within ctx, with its error if it ends
// before the store was told; with a ctx that has ended before everything is dropped at once, as by SIGKILL.
func (c *Connection) Close(ctx context.Context) error {
	if c.broker == nil {
		return c.Connection.Close(ctx)
	}
	var err error
	if ctx.Err() == nil {
		if err = c.Connection.Close(ctx); err == nil && ctx.Err() != nil {
			err = fmt.Errorf("close: %w", ctx.Err()) // the store was not told
		}
	}
	if e := c.broker.Close(ctx); err == nil {
		err = e
	}
	<-c.Done()
	if c.store != nil {
		if e := virtual.Close(c.store); err == nil {
			err = e
		}
	}
	return err
}

// options takes the broker's options out of a URL and returns the URL that is left for the store.
func options(rawURL string) (o broker.Options, storeURL string, err error) {
	o.URL = channel.Redact(rawURL)
	u, err := url.Parse(rawURL)
	if err != nil {
		return o, "", fmt.Errorf("malformed URL")
	}
	q := u.Query()
	o.Vhost = q.Get("vhost") // the store wants it, too
	o.User = q.Get("user")
	q.Del("user")
	for name, d := range map[string]*time.Duration{"lease": &o.Lease, "session_ttl": &o.SessionTTL, "barrier": &o.Barrier, "consumer_timeout": &o.ConsumerTimeout} {
		if !q.Has(name) {
			continue
		}
		if *d, err = time.ParseDuration(q.Get(name)); err != nil {
			return o, "", fmt.Errorf("option %s=%q is not a duration such as 10s", name, q.Get(name))
		}
		if *d <= 0 && name != "consumer_timeout" {
			return o, "", fmt.Errorf("option %s=%q is not above 0", name, q.Get(name))
		}
		q.Del(name)
	}
	if q.Has("channel_max") {
		if o.ChannelMax, err = strconv.Atoi(q.Get("channel_max")); err != nil {
			return o, "", fmt.Errorf("option channel_max=%q is not a number", q.Get("channel_max"))
		}
		q.Del("channel_max")
	}
	if q.Has("fresh") {
		if o.Fresh, err = strconv.ParseBool(q.Get("fresh")); err != nil {
			return o, "", fmt.Errorf("option fresh=%q is not true or false", q.Get("fresh"))
		}
		q.Del("fresh")
	}
	storeURL, _, _ = strings.Cut(rawURL, "?")
	if len(q) > 0 {
		storeURL += "?" + q.Encode()
	}
	return o, storeURL, nil
}
