package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/internal/faultproxy"
)

// proxyCmd is "dashi proxy".
type proxyCmd struct {
	To     string        `required:"" placeholder:"HOST:PORT" help:"The server to forward to."`
	Listen string        `default:"127.0.0.1:0" placeholder:"HOST:PORT" help:"Where to listen; port 0 is any that is free (${default})."`
	Every  time.Duration `default:"2s" placeholder:"D" help:"Break something so often, on average (${default})."`
	Fault  []string      `default:"cut,reset,stall=500ms" placeholder:"KIND[=D]" help:"What to choose from: cut, reset, stall, drip, half-open; D is how long the last three go on (${default})."`
	Way    string        `default:"" enum:",requests,replies" placeholder:"requests|replies" help:"Stall and drip one way only."`
	After  int64         `placeholder:"BYTES" help:"Cut and reset after so many more bytes, in the middle of whatever they are."`
	Seed   uint64        `placeholder:"N" help:"Of all that is random; unless given, a new one."`
}

// Help teaches by examples.
func (*proxyCmd) Help() string {
	return `Stands between clients and a server and breaks connections at random moments, to see what a program makes of it. The address
is printed first, then each fault. It ends with ^C.

Examples:

    dashi proxy --to 127.0.0.1:5672 --listen 127.0.0.1:15672
    dashi proxy --to 127.0.0.1:6379 --every 5s --fault stall=1s,half-open=1s
    dashi proxy --to 127.0.0.1:5672 --fault cut --after 1000 --seed 7

Exit code 2: it cannot listen there, or an argument is wrong.`
}

// Run forwards until it is interrupted.
func (c *proxyCmd) Run(ctx context.Context, s streams) error {
	if c.Every <= 0 || c.After < 0 {
		return unusable("proxy: --every must be positive, and --after cannot be negative")
	}
	if c.Seed == 0 {
		c.Seed = rand.Uint64() >> 16
	}
	said := make(chan faultproxy.Fault, 64)
	o := faultproxy.Options{Listen: c.Listen, Every: c.Every, Seed: c.Seed, Injected: func(f faultproxy.Fault) {
		select {
		case said <- f:
		default: // nobody reads so fast
		}
	}}
	for _, text := range c.Fault {
		f, err := c.parse(text)
		if err != nil {
			return err
		}
		o.Faults = append(o.Faults, f)
	}
	p, err := faultproxy.New(c.To, o)
	if err != nil {
		return unusable("proxy: %w", err)
	}
	defer p.Close()
	fmt.Fprintf(s.out, "%s forwards to %s, seed %d\n", p.Addr(), c.To, c.Seed)
	for {
		select {
		case f := <-said:
			fmt.Fprintf(s.out, "%s %s, %s\n", time.Now().Format("15:04:05.000"), f, plural(int64(p.Open()), "connection"))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// parse reads a fault such as cut or stall=2s.
func (c *proxyCmd) parse(text string) (f faultproxy.Fault, err error) {
	kind, long, timed := strings.Cut(text, "=")
	f = faultproxy.Fault{Kind: faultproxy.Kind(kind), Way: faultproxy.Way(c.Way)}
	switch f.Kind {
	case faultproxy.Cut, faultproxy.Reset:
		if timed {
			return f, unusable("proxy: --fault %s takes no time", kind)
		}
		f.After = c.After
	case faultproxy.Stall, faultproxy.Drip, faultproxy.HalfOpen:
		f.For = time.Second
		if !timed {
			return f, nil
		}
		if f.For, err = time.ParseDuration(long); err != nil || f.For <= 0 {
			return f, unusable("proxy: --fault %s: %q is not a time such as 500ms", kind, long)
		}
	default:
		return f, unusable("proxy: --fault %q is not one of cut, reset, stall, drip, half-open", kind)
	}
	return f, nil
}
