package exchange

import (
	"fmt"
	"testing"
)

// BenchmarkHeaders has 10,000 bindings that ask for three headers each. Half of the messages fit some, half none. With
// values=rare one of the headers tells nearly all; with values=common each value is that of some 450 bindings and
// only the three together tell.
func BenchmarkHeaders(b *testing.B) {
	const n, messages = 10_000, 4096
	rare := func(i int) map[string]any {
		return map[string]any{"kind": fmt.Sprint("kind", i%10), "region": fmt.Sprint("region", i%100), "customer": i / 2}
	}
	rareAny := func(i int) map[string]any { // nobody shares these, or every message would reach a tenth of the bindings
		return map[string]any{"kind": fmt.Sprint("only", i), "region": fmt.Sprint("only", i), "customer": i / 2}
	}
	common := func(i int) map[string]any {
		return map[string]any{"kind": fmt.Sprint("kind", i%22), "region": i / 22 % 22, "customer": float64(i / (22 * 22))}
	}
	for _, c := range []struct {
		name, mode    string
		args, headers func(int) map[string]any
	}{
		{"match=all/values=rare", "all", rare, rare},
		{"match=all/values=common", "all", common, common},
		{"match=any/values=rare", "any", rareAny, rare},
	} {
		b.Run(fmt.Sprintf("bindings=%d/%s", n, c.name), func(b *testing.B) {
			top := build(b, "headers x")
			for i := range n {
				top.AddQueue(queueNumber(i))
				args := c.args(i)
				args[argMatch] = c.mode
				if _, err := top.Bind(Binding{Source: "x", Destination: queueNumber(i), Args: args}); err != nil {
					b.Fatal(err)
				}
			}
			rnd := newRand(1)
			headers := make([]map[string]any, messages)
			for i := range headers {
				headers[i] = c.headers(rnd.IntN(n))
				headers[i]["trace"], headers[i]["size"], headers[i]["urgent"] = fmt.Sprint(rnd.Uint64()), i, true
				if i%2 == 1 {
					headers[i]["customer"] = int64(-i)
				}
			}
			var r Result
			for _, h := range headers[:64] {
				m := Message{Headers: h}
				top.Route(&r, "x", &m)
				if got, want := len(r.Queues), len(top.Explain("x", &m).Queues); got != want {
					b.Fatalf("%d queues, by comparing with each binding %d", got, want)
				}
			}
			b.ReportAllocs()
			var m Message
			matches, i := 0, 0
			for b.Loop() {
				m.Headers = headers[i%messages]
				i++
				top.Route(&r, "x", &m)
				matches += len(r.Queues)
			}
			b.ReportMetric(float64(matches)/float64(b.N), "matches/op")
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(matches), "ns/match")
		})
	}
}
