package conformance

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// BenchmarkStore measures a store by its five methods: Put, Get with Ack, and the way through a queue with four goroutines
// at each end, alone and in batches of 100 (or MaxBatch), with bodies of 256 bytes and 64 KiB (or MaxBody). One op is
// one message; msgs/s and bytes allocated for each are reported. It runs in real time, whatever c.Virtual says, on a new
// place for each.
//
//	func BenchmarkStore(b *testing.B) { conformance.BenchmarkStore(b, conformance.StoreConfig{Open: open}) }
func BenchmarkStore(b *testing.B, c StoreConfig) {
	for _, size := range []int{256, 64 << 10} {
		for _, batch := range []int{1, 100} {
			name := fmt.Sprintf("/body=%d/batch=%d", size, batch)
			b.Run("Put"+name, func(b *testing.B) { newBench(b, c, size, batch).benchPut() })
			b.Run("GetAck"+name, func(b *testing.B) { newBench(b, c, size, batch).benchGetAck() })
			b.Run("Through"+name, func(b *testing.B) { newBench(b, c, size, batch).benchThrough() })
		}
	}
}

// bench is one benchmark on one handle.
type bench struct {
	*testing.B
	s      virtual.Store
	q      virtual.QueueRef
	traits virtual.Traits
	batch  int
	body   virtual.Bytes
}

// benchT is the T that Open gets of a benchmark.
type benchT struct{ *testing.B }

func newBench(b *testing.B, c StoreConfig, size, batch int) *bench {
	open, err := c.Open(benchT{b})
	if err != nil {
		b.Fatalf("the place cannot be opened: %v", err)
	}
	s, err := open()
	if err != nil {
		b.Fatalf("a handle cannot be opened: %v", err)
	}
	b.Cleanup(func() { _ = virtual.Close(s) })
	n := &bench{B: b, s: s, q: virtual.QueueRef{Name: "bench", Incarnation: "1"}, traits: virtual.TraitsOf(s), batch: batch}
	if n.traits.MaxBody > 0 {
		size = min(size, n.traits.MaxBody)
	}
	n.body = make(virtual.Bytes, size)
	if n.traits.MaxBatch > 0 {
		n.batch = min(batch, n.traits.MaxBatch)
	}
	if n.traits.MaxBatchBytes > 0 {
		n.batch = max(1, min(n.batch, n.traits.MaxBatchBytes/size))
	}
	if ns, ok := virtual.As[virtual.Namespace](s); ok {
		if err := ns.Create(b.Context(), n.q); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportAllocs()
	return n
}

// lease is one that does not end.
func (b *bench) lease() time.Duration {
	if b.traits.LeaseMax > 0 {
		return min(time.Hour, b.traits.LeaseMax)
	}
	return time.Hour
}

// messages returns n new ones.
func (b *bench) messages(n int) []*virtual.Message {
	ms := make([]*virtual.Message, n)
	for i := range ms {
		ms[i] = &virtual.Message{Queue: b.q, ID: newID(), Payload: b.body}
		if b.traits.LeaseAtPut {
			ms[i].Lease = b.lease()
		}
	}
	return ms
}

func (b *bench) put(n int) error {
	for n > 0 {
		k := min(n, b.batch)
		if err := b.s.Put(b.Context(), virtual.PutRequest{Messages: b.messages(k)}); err != nil {
			return err
		}
		n -= k
	}
	return nil
}

// getAck takes messages until done says enough, given how many more there were.
func (b *bench) getAck(ctx context.Context, wait time.Duration, done func(n int) bool) error {
	var ts []virtual.Taken
	var st []virtual.Settlement
	for {
		var err error
		ts, _, err = b.s.Get(ctx, virtual.GetRequest{Queue: b.q, Max: b.batch, Wait: wait, Lease: b.lease()}, ts[:0])
		if err != nil && ctx.Err() == nil {
			return err
		}
		if len(ts) > 0 {
			st = st[:0]
			for _, t := range ts {
				st = append(st, virtual.Settlement{Queue: b.q, ID: t.ID, Receipt: t.Receipt, Kind: virtual.Ack})
			}
			if err := b.s.Settle(b.Context(), st); err != nil {
				return err
			}
		}
		if done(len(ts)) || ctx.Err() != nil {
			return nil
		}
	}
}

// rate reports messages a second.
func (b *bench) rate() { b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msgs/s") }

// keepAtMost bounds what lies in the queue while it is filled.
const keepAtMost = 64 << 20

func (b *bench) benchPut() {
	most := max(b.batch, keepAtMost/len(b.body))
	for left := b.N; left > 0; left -= most {
		if err := b.put(min(left, most)); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if _, err := b.s.Purge(b.Context(), b.q); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
	b.rate()
}

func (b *bench) benchGetAck() {
	most := max(b.batch, keepAtMost/len(b.body))
	for left := b.N; left > 0; left -= most {
		n := min(left, most)
		b.StopTimer()
		if err := b.put(n); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
		err := b.getAck(b.Context(), time.Second, func(k int) bool { n -= k; return n <= 0 })
		if err != nil {
			b.Fatal(err)
		}
	}
	b.rate()
}

// benchThrough has four goroutines put and four take. Those that put stay no more than some batches ahead.
func (b *bench) benchThrough() {
	const ends = 4
	ctx, stop := context.WithCancel(b.Context())
	defer stop()
	var toPut, through atomic.Int64
	toPut.Store(int64(b.N))
	room := make(chan struct{}, 8*ends)
	var all sync.WaitGroup
	work := func(f func() error) {
		all.Go(func() {
			if err := f(); err != nil {
				b.Error(err)
				stop()
			}
		})
	}
	for range ends {
		work(func() error {
			for ctx.Err() == nil {
				left := toPut.Add(-int64(b.batch)) + int64(b.batch)
				if left <= 0 {
					return nil
				}
				select {
				case room <- struct{}{}:
				case <-ctx.Done():
					return nil
				}
				if err := b.put(int(min(left, int64(b.batch)))); err != nil {
					return err
				}
			}
			return nil
		})
		work(func() error {
			return b.getAck(ctx, time.Second, func(k int) bool {
				now := through.Add(int64(k))
				for range now/int64(b.batch) - (now-int64(k))/int64(b.batch) { // whole batches that are through
					<-room
				}
				if now >= int64(b.N) {
					stop() // the others wait in vain
				}
				return now >= int64(b.N)
			})
		})
	}
	all.Wait()
	b.rate()
}
