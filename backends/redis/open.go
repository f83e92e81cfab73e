package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"

	goredis "github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/dashi-mq/dashi/virtual"
)

func init() {
	for _, scheme := range []string{"redis", "rediss", "unix"} {
		virtual.Register(scheme, func(ctx context.Context, url string) (virtual.Store, error) {
			s, err := Open(ctx, url)
			if err != nil {
				return nil, err
			}
			return s, nil
		})
	}
}

// Open opens the store of a URL: redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, or unix:///PATH?db=DATABASE. Options
// in the query are prefix and vhost, as in Options, slots=vhost, which is how it is, and those of go-redis. Close closes the connections. Errors show no
// password.
func Open(ctx context.Context, rawURL string) (*Store, error) {
	client, o, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	c, lines := goredis.NewClient(client), newLines()
	c.AddHook(lines)
	s, err := New(ctx, c, o)
	if err != nil {
		lines.close()
		_ = c.Close()
		return nil, err
	}
	s.owned, s.lines = true, lines
	return s, nil
}

// parse makes a client's options of a URL. The client retries nothing, and says nothing that a server did not ask for.
func parse(rawURL string) (*goredis.Options, Options, error) {
	var o Options
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, o, errors.New("open redis store: malformed URL, want redis://HOST:PORT/DATABASE")
	}
	q := u.Query()
	o.Prefix, o.Vhost = q.Get("prefix"), q.Get("vhost")
	if slots := q.Get("slots"); slots != "" && slots != "vhost" {
		return nil, o, fmt.Errorf("open redis store: the option slots is %q, and there is vhost only: all keys of a vhost in one slot", slots)
	}
	for _, k := range []string{"prefix", "vhost", "slots"} {
		q.Del(k)
	}
	for _, k := range []string{"max_retries", "protocol"} {
		if q.Has(k) {
			return nil, o, fmt.Errorf("open redis store: the option %s is the store's own", k)
		}
	}
	u.RawQuery = q.Encode()
	c, err := goredis.ParseURL(u.String())
	if err != nil {
		reason := err.Error()
		if p, ok := u.User.Password(); ok && p != "" && strings.Contains(reason, p) || strings.Contains(reason, u.String()) {
			reason = "malformed URL"
		}
		return nil, o, fmt.Errorf("open redis store: %s", reason)
	}
	c.MaxRetries = -1
	c.DisableIdentity = true
	c.ContextTimeoutEnabled = true
	c.Protocol = 2
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return c, o, nil
}
