package redis

import (
	"strings"
	"testing"

	goredis "github.com/redis/go-redis/v9"
)

func TestAURLSaysWhatClientThereIs(t *testing.T) {
	for _, c := range []struct {
		url, kind, addr string
		tls             bool
	}{
		{"redis://user:pw@h1:7001/3?cluster=false", "server", "h1:7001", false},
		{"rediss://user:pw@h1?cluster=false", "server", "h1:6379", true},
		{"unix:///tmp/socket?db=3", "server", "/tmp/socket", false},
		{"redis://user:pw@h1:7001?addr=h2:7002&addr=h3:7003&vhost=v&prefix=p&slots=vhost", "cluster", "h1:7001 h2:7002 h3:7003", false},
		{"rediss://user:pw@h1:7001/0?cluster=true&pool_size=7", "cluster", "h1:7001", true},
		{"redis://sentinel:spw@h1:7001/3?master_name=m&addr=h2:7002&username=user&password=pw", "sentinel", "FailoverClient", false},
		{"rediss://h1:7001?master_name=m&cluster=false", "sentinel", "FailoverClient", true},
	} {
		t.Run(c.url, func(t *testing.T) {
			u, err := parse(c.url)
			if err != nil {
				t.Fatal(err)
			}
			client, err := u.client(t.Context(), newLines())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			var o *goredis.Options
			kind, addr := "server", ""
			switch client := client.(type) {
			case *goredis.ClusterClient:
				all := client.Options()
				if all.MaxRedirects <= 0 {
					t.Errorf("%d redirects are followed", all.MaxRedirects)
				}
				kind, addr = "cluster", strings.Join(all.Addrs, " ")
				o = &goredis.Options{
					MaxRetries: all.MaxRetries, Protocol: all.Protocol, DisableIdentity: all.DisableIdentity, ContextTimeoutEnabled: all.ContextTimeoutEnabled,
					TLSConfig: all.TLSConfig, Username: all.Username, Password: all.Password, PoolSize: all.PoolSize,
				}
			case *goredis.Client:
				o = client.Options()
				addr = o.Addr
				if addr == "FailoverClient" {
					kind = "sentinel"
				}
			}
			if kind != c.kind || addr != c.addr {
				t.Errorf("it is a client of a %s at %s, want of a %s at %s", kind, addr, c.kind, c.addr)
			}
			if o.MaxRetries > 0 || o.Protocol != 2 || !o.DisableIdentity || !o.ContextTimeoutEnabled || (o.TLSConfig != nil) != c.tls {
				t.Errorf("%d retries, protocol %d, identity %v, contexts %v, TLS %v", o.MaxRetries, o.Protocol, !o.DisableIdentity, o.ContextTimeoutEnabled, o.TLSConfig != nil)
			}
			if strings.Contains(c.url, "user:pw") != (o.Username == "user" && o.Password == "pw") && kind != "sentinel" {
				t.Errorf("user %q with password %q", o.Username, o.Password)
			}
			if kind == "sentinel" && strings.Contains(c.url, "username=user") && (o.Username != "user" || o.Password != "pw" || o.DB != 3) {
				t.Errorf("user %q with password %q in database %d", o.Username, o.Password, o.DB)
			}
		})
	}
}

func TestAURLIsRefusedWithAReason(t *testing.T) {
	for rawURL, reason := range map[string]string{
		"redis://h?max_retries=3":                             "the option max_retries is the store's own",
		"redis://h?addr=h2:1&read_only=true":                  "the option read_only is the store's own",
		"redis://h?master_name=m&route_by_latency=true":       "the option route_by_latency is the store's own", // go-redis panics
		"redis://h?master_name=m&replica_only=true":           "the option replica_only is the store's own",
		"redis://h/3?addr=h2:1":                               "a Cluster has no database but 0",
		"redis://h?cluster=perhaps":                           "the option cluster is neither true nor false",
		"redis://h?cluster=false&addr=h2:1":                   "the option cluster is false, and the other options say otherwise",
		"redis://h?cluster=true&master_name=m":                "the option cluster is true, and the other options say otherwise",
		"redis://h?addr=h2":                                   "unable to parse addr param: h2",
		"redis://h?colour=red":                                "unexpected option: colour",
		"redis://h?addr=h2:1&colour=red":                      "unexpected option: colour",
		"redis://h?master_name=m&colour=red":                  "unexpected option: colour",
		"redis://:secret@h/secret?master_name=m":              "malformed URL",
		"redis://h/secret?master_name=m&password=secret":      "malformed URL",
		"redis://:secret@h?addr=secret":                       "malformed URL",
		"unix://?addr=h2:1":                                   "invalid URL scheme: unix",
		"redis://h?cluster=true&slots=queue&dial_timeout=new": "invalid dial_timeout duration",
	} {
		u, err := parse(rawURL)
		if err == nil {
			_, err = u.client(t.Context(), newLines())
		}
		if err == nil || !strings.Contains(err.Error(), reason) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v, want: %s", rawURL, err, reason)
		}
	}
}
