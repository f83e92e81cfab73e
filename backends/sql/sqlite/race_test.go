//go:build race

package sqlite_test

func init() { parallel = 6 } // SQLite, which is in Go, is ten times as slow with the race detector
