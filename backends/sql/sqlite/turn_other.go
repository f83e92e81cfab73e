//go:build !linux

package sqlite

import (
	"context"
	"time"
)

// turn does nothing here: whoever comes first writes.
type turn struct{}

func (*turn) take(context.Context, string) {}
func (*turn) pass()                        {}
func (*turn) close()                       {}

func nap(d time.Duration) { time.Sleep(d) }
