package channel_test

import (
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/channel"
)

// FuzzRedact makes URLs, valid and not, with a password in them, and looks for it in what may be shown.
func FuzzRedact(f *testing.F) {
	f.Add("amqp", "guest", "", "", "localhost:5672/%2f")
	f.Add("memory", "", "%zz", "", "place?x=1")
	f.Add("", "u", "[", "]", "[::1")
	f.Add("no scheme:", "a:b", "@", "@", "h@h")
	f.Add("x", "\x00", " ", ":", "://y")
	f.Add("x", "u", "", "", "%zz;&\x7f")
	f.Add("x", "u", "", "", "h/?a=%zz")
	f.Fuzz(func(t *testing.T, scheme, user, before, after, rest string) {
		const secret = "hunter2secret"
		if strings.ContainsAny(scheme+user+before+after, "/?#") || strings.Contains(strings.ToLower(scheme+user+before+after+rest), secret) {
			t.Skip("that ends the part in which a password can be")
		}
		for what, url := range map[string]string{
			"user part": scheme + "://" + user + ":" + before + secret + after + "@" + rest,
			"query":     "x://host/?password=" + secret + "&" + rest,
			"no scheme": user + ":" + before + secret + after + "@" + rest,
		} {
			if got := channel.Redact(url); strings.Contains(got, secret) {
				t.Errorf("%s: Redact(%q) is %q", what, url, got)
			}
			if _, err := channel.Scheme(url); err != nil && strings.Contains(err.Error(), secret) {
				t.Errorf("%s: Scheme(%q) says %v", what, url, err)
			}
			if _, err := channel.Dial(t.Context(), url, channel.Config{}); err == nil || strings.Contains(err.Error(), secret) {
				t.Errorf("%s: Dial(%q) says %v", what, url, err)
			}
		}
	})
}
