//go:build race

package sqlite_test

import "time"

// SQLite, which is in Go, is ten times as slow with the race detector.
func init() { parallel, unit = 6, 800*time.Millisecond }
