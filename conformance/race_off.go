//go:build !race

package conformance

// raceEnabled says that the race detector slows everything down, so that rows use smaller volumes.
const raceEnabled = false
