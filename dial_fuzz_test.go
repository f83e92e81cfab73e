package dashi_test

import (
	"context"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/virtual"
)

// FuzzDial dials URLs with a password in them, valid and not, and looks for it in the errors. Nothing is reached: the
// context has ended.
func FuzzDial(f *testing.F) {
	f.Add("memory", "guest", "place?lease=10s")
	f.Add("memory", "", "?lease=never&fresh=perhaps")
	f.Add("nothing", "u", "host")
	f.Add("memory", "%", "[")
	f.Add("", ":", "@://")
	f.Fuzz(func(t *testing.T, scheme, user, rest string) {
		const secret = "hunter2secret"
		if strings.ContainsAny(scheme+user, "/?#") || strings.HasPrefix(strings.ToLower(scheme), "amqp") {
			t.Skip("that ends the part in which a password can be, or reaches a server")
		}
		ctx, stop := context.WithCancel(t.Context())
		stop()
		for what, url := range map[string]string{
			"user part": scheme + "://" + user + ":" + secret + "@" + rest,
			"query":     "memory://?token=" + secret + "&" + rest,
			"no scheme": user + ":" + secret + "@" + rest,
		} {
			c, err := dashi.Dial(ctx, url)
			if err == nil {
				_ = c.Close(ctx)
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: Dial(%q) says %v", what, url, err)
			}
			if s, err := virtual.Open(ctx, url); err == nil {
				_ = virtual.Close(s)
			} else if strings.Contains(err.Error(), secret) {
				t.Errorf("%s: Open(%q) says %v", what, url, err)
			}
		}
	})
}
