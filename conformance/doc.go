// Package conformance proves stores and transports: it holds the suites that anyone can run on their own.
//
// # A store
//
// Run is the whole proof of a store, and all that a store's author needs:
//
//	func TestStore(t *testing.T) {
//		conformance.Run(t, conformance.Config{Open: func(t conformance.T) (func() (virtual.Store, error), error) {
//			dir := t.TempDir()                                                     // one place ...
//			return func() (virtual.Store, error) { return mystore.Open(dir) }, nil // ... and a new handle for each process
//		}})
//	}
//
// It is made of RunStore, which checks the contract of package virtual (the five methods, then every trait and capability
// that the store claims; what it does not claim is counted as such), and RunChannel, which checks what a channel on it
// does. RunCrashes stops a process at each of its store calls, RunHistories asks whether calls at the same time could
// have been made one after the other, and RunProcesses proves what several processes rely on: docs/proof.md tells of them. InDirectory makes Open and Restart for a store that
// lives in a directory. docs/new-store.md walks through all of it.
//
// Profiles are stores in memory that behave as other kinds of store do: Dress one to see what a program makes of a
// queue service that knows no order, say, in virtual time.
//
// BenchmarkStore measures any store, and Counted counts the calls that are made to it.
//
// # The channel suite
//
// RunChannel checks what a channel must do, row by row of docs/semantics.md, one subtest each, on a Rig: a place where two
// processes run. VirtualOne, VirtualTwo and VirtualFive make rigs of a store, Native one of a real AMQP server. What
// one process declares and publishes the other consumes.
//
// # Outside go test
//
// CheckStore and CheckChannel run the same checks with a runner of their own and return a Report: it can be written as
// JSON and as Markdown.
//
// # Trust
//
// A check earns trust by failing. The tests of this package run wrong transports and broken stores, each wrong in one
// way, and require that the check named for it fails.
package conformance
