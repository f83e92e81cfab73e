package virtual

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Opener opens a store for a URL of its scheme. Its errors never show a password.
type Opener func(ctx context.Context, url string) (Store, error)

var (
	openersMu sync.RWMutex
	openers   = map[string]Opener{}
)

// Register makes a store known for a URL scheme. Packages call it in an init; a scheme registered twice panics, as
// in database/sql.
func Register(scheme string, o Opener) {
	openersMu.Lock()
	defer openersMu.Unlock()
	if o == nil {
		panic("virtual: Register opener is nil")
	}
	if _, dup := openers[scheme]; dup {
		panic("virtual: Register called twice for scheme " + scheme)
	}
	openers[scheme] = o
}

// Registered returns the schemes that have a store, in order.
func Registered() []string {
	openersMu.RLock()
	defer openersMu.RUnlock()
	return slices.Sorted(maps.Keys(openers))
}

// Open opens the store of a URL by its scheme.
func Open(ctx context.Context, url string) (Store, error) {
	scheme, _, ok := strings.Cut(url, "://")
	if !ok {
		return nil, fmt.Errorf("open store: not a URL: no scheme before ://")
	}
	openersMu.RLock()
	o := openers[scheme]
	openersMu.RUnlock()
	if o == nil && strings.ContainsAny(scheme, ":@?") { // that may be a password
		return nil, fmt.Errorf("open store: not a URL: no scheme before ://")
	}
	if o == nil {
		return nil, fmt.Errorf("open store: no store for scheme %q (have %v; forgotten import?)", scheme, Registered())
	}
	return o(ctx, url)
}
