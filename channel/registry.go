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
	if !ok || !isScheme(scheme) {
		return "", fmt.Errorf("%q is not a URL: no scheme before ://", Redact(rawURL))
	}
	if _, err := url.Parse(rawURL); err != nil {
		// The parser's message may quote the user part, so only its reason is kept.
		why := "malformed"
		if e, ok := err.(*url.Error); ok && !strings.Contains(e.Err.Error(), "userinfo") && !strings.Contains(rest, "@") && !strings.Contains(rest, "?") {
			why = e.Err.Error()
		}
		return "", fmt.Errorf("%q is not a valid URL: %s", Redact(rawURL), why)
	}
	return scheme, nil
}

// Redact returns the URL with everything that may be a password replaced by "xxxxx". It works on malformed URLs too.
func Redact(rawURL string) string {
	if u, err := url.Parse(rawURL); err == nil && u.Opaque == "" {
		if u.RawQuery != "" {
			q := u.Query() // what is malformed in it is left out
			for k := range q {
				if secret(k) {
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
	if !ok || !isScheme(scheme) {
		scheme, rest = "", rawURL
	} else {
		scheme += "://"
	}
	if i := strings.IndexByte(rest, '?'); i >= 0 && secret(rest[i:]) {
		rest = rest[:i] + "?xxxxx"
	}
	// In a malformed URL the last @ ends whatever may hold a password, wherever it stands.
	if i := strings.LastIndexByte(rest, '@'); i >= 0 {
		user, _, _ := strings.Cut(rest[:i], ":")
		rest = user + ":xxxxx" + rest[i:]
	}
	return scheme + rest
}

// secret says whether a word of a query may be the name of a password.
func secret(word string) bool {
	word = strings.ToLower(word)
	return strings.Contains(word, "pass") || strings.Contains(word, "secret") || strings.Contains(word, "token")
}

// isScheme says whether s can stand before the :// of a URL. What else stands there may be a part of a password.
func isScheme(s string) bool {
	for i, c := range []byte(s) {
		letter := 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z'
		if !letter && (i == 0 || (c < '0' || c > '9') && c != '+' && c != '-' && c != '.') {
			return false
		}
	}
	return s != ""
}
