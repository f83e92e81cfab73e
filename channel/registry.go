package channel

import (
	"context"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"sync"
)

var (
	dialersMu sync.RWMutex
	dialers   = map[string]Dialer{}
)

// Register makes a transport known for a URL scheme. Packages call it in an init; a scheme registered twice panics,
// as in database/sql.
func Register(scheme string, d Dialer) {
	dialersMu.Lock()
	defer dialersMu.Unlock()
	if d == nil {
		panic("channel: Register dialer is nil")
	}
	if _, dup := dialers[scheme]; dup {
		panic("channel: Register called twice for scheme " + scheme)
	}
	dialers[scheme] = d
}

// Registered returns the schemes that have a transport, in order.
func Registered() []string {
	dialersMu.RLock()
	defer dialersMu.RUnlock()
	return slices.Sorted(maps.Keys(dialers))
}

// Lookup returns the dialer of a scheme.
func Lookup(scheme string) (Dialer, bool) {
	dialersMu.RLock()
	defer dialersMu.RUnlock()
	d, ok := dialers[scheme]
	return d, ok
}

// Dial opens a connection by its URL with the transport registered for the scheme.
func Dial(ctx context.Context, rawURL string, cfg Config) (*Connection, error) {
	scheme, err := Scheme(rawURL)
	if err != nil {
		return nil, err
	}
	d, ok := Lookup(scheme)
	if !ok {
		return nil, fmt.Errorf("dial %s: no transport for scheme %q (have %v; forgotten import?)", Redact(rawURL), scheme, Registered())
	}
	return Connect(ctx, func(ctx context.Context, s ConnectionSink) (Transport, error) {
		return d(ctx, rawURL, cfg, s)
	})
}

// Scheme returns the scheme of a URL, or an error that shows no password.
func Scheme(rawURL string) (string, error) {
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok || scheme == "" {
		return "", fmt.Errorf("%q is not a URL: no scheme before ://", Redact(rawURL))
	}
	if _, err := url.Parse(rawURL); err != nil {
		// The parser's message may quote the user part, so only its reason is kept.
		why := "malformed"
		if e, ok := err.(*url.Error); ok && !strings.Contains(e.Err.Error(), "userinfo") && !strings.Contains(rest, "@") {
			why = e.Err.Error()
		}
		return "", fmt.Errorf("%q is not a valid URL: %s", Redact(rawURL), why)
	}
	return scheme, nil
}

// Redact returns the URL with everything that may be a password replaced by "xxxxx". It works on malformed URLs too.
func Redact(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Opaque == "" {
		if q := u.Query(); len(q) > 0 {
			for k := range q {
				if l := strings.ToLower(k); strings.Contains(l, "pass") || strings.Contains(l, "secret") || strings.Contains(l, "token") {
					q.Set(k, "xxxxx")
				}
			}
			u.RawQuery = q.Encode()
		}
		s, scheme := u.Redacted(), u.Scheme+":"
		if s == scheme || strings.HasPrefix(s, scheme+"?") {
			s = scheme + "//" + s[len(scheme):] // an empty authority is a part of the name: memory://
		}
		return s
	}
	scheme, rest, ok := strings.Cut(rawURL, "://")
	if !ok {
		scheme, rest = "", rawURL
	} else {
		scheme += "://"
	}
	// In a malformed URL the last @ ends whatever may hold a password, wherever it stands.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, _, _ := strings.Cut(rest[:i], ":")
		rest = user + ":xxxxx" + rest[i:]
	}
	return scheme + rest
}
