// Package faultproxy stands between a client and a server and breaks what goes through: it forwards TCP connections to a
// target, and cuts, resets, stalls and drips them, or accepts and never answers, when it is told to or at random moments.
//
//	p, err := faultproxy.New(target, faultproxy.Options{})
//	…                                  // the client dials p.Addr()
//	p.Inject(faultproxy.Fault{Kind: faultproxy.Cut, Way: faultproxy.Replies, After: 100}) // in the middle of a reply
//	p.Inject(faultproxy.Fault{Kind: faultproxy.Stall, For: time.Second})
//
// All methods are safe for concurrent use. Every goroutine belongs to the Proxy, and Close waits for all of them.
package faultproxy
