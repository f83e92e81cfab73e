package conformance

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// NativeOptions are what a native rig has beyond its URL.
type NativeOptions struct {
	// OtherVhostURL is the same server with another virtual host; empty: there is none.
	OtherVhostURL string
	// Restart restarts the server and returns when it answers again; nil: it is not ours to restart.
	Restart func(ctx context.Context) error
	// Unit is the unit of time; 0 is 200 ms.
	Unit time.Duration
}

// Native makes a rig on an AMQP server, the oracle of the suite, by a URL whose scheme has a registered transport. A
// process is no more than the connections opened for it.
func Native(rawURL string, o NativeOptions) Rig {
	if o.Unit == 0 {
		o.Unit = 200 * time.Millisecond
	}
	return &nativeRig{url: rawURL, o: o}
}

type nativeRig struct {
	url string
	o   NativeOptions

	mu    sync.Mutex
	conns [2][]*channel.Connection
}

func (r *nativeRig) Name() string { return "native" }

func (r *nativeRig) Connect(ctx context.Context, process int, o ConnectOptions) (*channel.Connection, error) {
	target, err := r.target(o)
	if err != nil {
		return nil, err
	}
	c, err := channel.Dial(ctx, target, channel.Config{Name: fmt.Sprintf("conformance process %d", process)})
	if err != nil {
		return nil, err
	}
	r.mu.Lock()
	r.conns[process] = append(r.conns[process], c)
	r.mu.Unlock()
	return c, nil
}

// target is the URL for a connection with options.
func (r *nativeRig) target(o ConnectOptions) (string, error) {
	raw := r.url
	if o.Vhost == OtherVhost {
		raw = r.o.OtherVhostURL
	}
	u, err := url.Parse(raw)
	if err != nil {
		return "", fmt.Errorf("%s: not a URL", channel.Redact(raw))
	}
	if o.Vhost != "" && o.Vhost != OtherVhost {
		u.Path = "/" + o.Vhost
		u.RawPath = ""
	}
	if o.Password != "" {
		u.User = url.UserPassword(u.User.Username(), o.Password)
	}
	if o.ChannelMax > 0 {
		q := u.Query()
		q.Set("channel_max", strconv.Itoa(o.ChannelMax))
		u.RawQuery = q.Encode()
	}
	return u.String(), nil
}

// Crash drops the sockets of a process.
func (r *nativeRig) Crash(process int) error {
	r.mu.Lock()
	conns := r.conns[process]
	r.conns[process] = nil
	r.mu.Unlock()
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	for _, c := range conns {
		if err := c.Close(ended); err != nil {
			return err
		}
	}
	return nil
}

func (r *nativeRig) Restart(ctx context.Context) error {
	if r.o.Restart == nil {
		return errNoRestart
	}
	return r.o.Restart(ctx)
}

func (r *nativeRig) Unit() time.Duration { return r.o.Unit }

func (r *nativeRig) Virtual() bool { return false }

func (r *nativeRig) Lacks(need Need) (string, bool) {
	switch need {
	case Plus, Faults, Freezes, Foreign, BodyLimit:
		return "beyond RabbitMQ", true
	case TwoVhosts:
		return "no second vhost was given", r.o.OtherVhostURL == ""
	case Restarts:
		return "the server is not ours to restart", r.o.Restart == nil
	}
	return "", false
}

func (r *nativeRig) Close() error {
	return errors.Join(r.Crash(0), r.Crash(1))
}
