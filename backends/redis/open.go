package redis

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

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

// Open opens the store of a URL:
//
//	redis://USER:PASSWORD@HOST:PORT/DATABASE, rediss:// for TLS, unix:///PATH?db=DATABASE
//	redis://USER:PASSWORD@HOST:PORT                               a node of a Cluster, if it says that it is one
//	redis://USER:PASSWORD@HOST:PORT?addr=HOST:PORT&addr=…         nodes of a Cluster, of which one must answer
//	redis://HOST:PORT/DATABASE?master_name=NAME&addr=HOST:PORT…   Sentinels, and the name of what they watch; the server's username and
//	                                                              password stand in the query, the Sentinels' before the host
//
// Options in the query are prefix, vhost, slots, replicas and replica_wait, as in Options, cluster (true or false: do not ask), and those of go-redis' client of
// that kind, but for retries, the protocol, and reading from replicas. Close closes the connections. Errors show no password.
func Open(ctx context.Context, rawURL string) (*Store, error) {
	t, err := parse(rawURL)
	if err != nil {
		return nil, err
	}
	lines := newLines()
	client, err := t.client(ctx, lines)
	if err != nil {
		lines.close()
		return nil, err
	}
	s, err := newStore(ctx, client, t.options, lines)
	if err != nil {
		lines.close()
		_ = client.Close()
		return nil, err
	}
	return s, nil
}

// target is what a URL says.
type target struct {
	options Options
	url     *url.URL // what is left for go-redis
	cluster string   // true, false, or ask
}

// own are the options of go-redis that are the store's to set: it repeats nothing by itself, and reads what it has written.
var own = []string{"max_retries", "protocol", "read_only", "route_by_latency", "route_by_latency_tolerance", "route_randomly", "replica_only", "use_disconnected_replicas"}

func parse(rawURL string) (*target, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("open redis store: malformed URL, want redis://HOST:PORT/DATABASE")
	}
	q := u.Query()
	t := &target{url: u, options: Options{Prefix: q.Get("prefix"), Vhost: q.Get("vhost"), Slots: q.Get("slots")}, cluster: q.Get("cluster")}
	for _, k := range own {
		if q.Has(k) {
			return nil, fmt.Errorf("open redis store: the option %s is the store's own", k)
		}
	}
	switch sentinel := q.Has("master_name"); t.cluster {
	case "":
		if !sentinel && q.Has("addr") {
			t.cluster = "true"
		}
	case "true", "false":
		if sentinel && t.cluster == "true" || !sentinel && t.cluster == "false" && q.Has("addr") {
			return nil, fmt.Errorf("open redis store: the option cluster is %s, and the other options say otherwise", t.cluster)
		}
	default:
		return nil, errors.New("open redis store: the option cluster is neither true nor false")
	}
	if text := q.Get("replicas"); text != "" {
		if t.options.Replicas, err = strconv.Atoi(text); err != nil {
			return nil, errors.New("open redis store: the option replicas is no number")
		}
	}
	if text := q.Get("replica_wait"); text != "" {
		if t.options.ReplicaWait, err = time.ParseDuration(text); err != nil {
			return nil, errors.New("open redis store: the option replica_wait is no duration, such as 500ms")
		}
	}
	for _, k := range []string{"prefix", "vhost", "slots", "cluster", "replicas", "replica_wait"} {
		q.Del(k)
	}
	u.RawQuery = q.Encode()
	return t, nil
}

// client makes a client, which retries nothing, and says nothing that a server did not ask for. Of a single server it asks whether
// that is a node of a Cluster.
func (t *target) client(ctx context.Context, l *lines) (goredis.UniversalClient, error) {
	switch {
	case t.url.Query().Has("master_name"):
		return t.sentinel(l)
	case t.cluster == "true":
		return t.nodes(l)
	}
	o, err := goredis.ParseURL(t.url.String())
	if err != nil {
		return nil, t.refuse(err)
	}
	o.MaxRetries, o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 2, true, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	c := l.on(goredis.NewClient(o))
	if t.cluster == "false" || t.url.Scheme == "unix" {
		return c, nil
	}
	var info *goredis.StringCmd
	if err := l.ask(ctx, func() error { info = c.Info(ctx, "cluster"); return info.Err() }); err != nil {
		return c, nil // a user who may not ask may say it; what else is wrong will be seen
	}
	if strings.Contains(info.Val(), "cluster_enabled:1") {
		_ = c.Close()
		return t.nodes(l)
	}
	return c, nil
}

// nodes makes a client of a Cluster. It follows redirects (max_redirects), which is no retry: who redirects has done nothing.
func (t *target) nodes(l *lines) (goredis.UniversalClient, error) {
	if p := strings.Trim(t.url.Path, "/"); p != "" && p != "0" {
		return nil, errors.New("open redis store: a Cluster has no database but 0")
	}
	o, err := goredis.ParseClusterURL(t.url.String())
	if err != nil {
		return nil, t.refuse(err)
	}
	o.MaxRetries, o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 2, true, true
	o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	o.DisableRoutingPolicies = true // every command has its keys, or is for any node
	o.NewClient = func(o *goredis.Options) *goredis.Client { return l.on(goredis.NewClient(o)) }
	return goredis.NewClusterClient(o), nil
}

// sentinel makes a client of the master that Sentinels name.
func (t *target) sentinel(l *lines) (goredis.UniversalClient, error) {
	o, err := goredis.ParseFailoverURL(t.url.String())
	if err != nil {
		return nil, t.refuse(err)
	}
	o.MaxRetries, o.Protocol, o.DisableIdentity, o.ContextTimeoutEnabled = -1, 2, true, true
	return l.on(goredis.NewFailoverClient(o)), nil
}

// refuse says why go-redis does not take a URL, unless that would show a password.
func (t *target) refuse(err error) error {
	reason := err.Error()
	password, _ := t.url.User.Password()
	for _, secret := range []string{password, t.url.Query().Get("password"), t.url.String()} {
		if secret != "" && strings.Contains(reason, secret) {
			reason = "malformed URL"
		}
	}
	return fmt.Errorf("open redis store: %s", reason)
}
