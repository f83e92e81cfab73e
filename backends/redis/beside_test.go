package redis_test

import (
	"context"
	"encoding"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/redis"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// Benchmarks of the engine on Redis beside a client that does no more than run the same scripts. Both in one run, since
// only the ratio means something: "of-bare" is the engine's rate, or its time, as a part of the bare client's.

const (
	besideBody  = 256
	besideBatch = 100
	besideKey   = "api.error.db"
)

// scripted is a place in a server, and the arguments of a Put there as the engine sends it.
type scripted struct {
	server, prefix string
	queue          string
	put            []any // EVALSHA of a Put of one message
	counts
}

// newScripted makes a place with one queue, bound to amq.topic.
func newScripted(b *testing.B) *scripted {
	s := &scripted{server: serverURL(b)}
	s.prefix = fmt.Sprintf("bench-%d", time.Now().UnixNano())
	b.Cleanup(func() { remove(s.server, s.prefix) })
	ch := s.process(b)
	q, err := ch.QueueDeclare(b.Context(), "orders", channel.QueueOptions{Durable: true})
	must(b, err, "QueueDeclare")
	s.queue = q.Name
	must(b, ch.QueueBind(b.Context(), s.queue, "*.error.#", "amq.topic", nil), "QueueBind")
	must(b, ch.Publish(b.Context(), "amq.topic", besideKey, channel.Publishing{Body: make([]byte, besideBody)}), "Publish")
	must(b, ch.Flush(b.Context()), "Flush")
	s.purge(b, ch)
	return s
}

func (s *scripted) purge(b *testing.B, ch *channel.Channel) {
	_, err := ch.QueuePurge(b.Context(), s.queue)
	must(b, err, "QueuePurge")
}

// client is a bare client of the server.
func (s *scripted) client(b *testing.B) *goredis.Client {
	o, err := goredis.ParseURL(s.server)
	must(b, err, "ParseURL")
	o.Protocol, o.DisableIdentity = 2, true
	c := goredis.NewClient(o)
	b.Cleanup(func() { _ = c.Close() })
	return c
}

// process is a channel of a process of its own, whose commands are counted.
func (s *scripted) process(b *testing.B) *channel.Channel {
	c := s.client(b)
	c.AddHook(s)
	store, err := redis.New(b.Context(), c, redis.Options{Prefix: s.prefix})
	must(b, err, "New")
	conn, err := dashi.Open(b.Context(), store, broker.Options{})
	must(b, err, "Open")
	b.Cleanup(func() {
		ctx, stop := context.WithTimeout(context.Background(), limit)
		defer stop()
		_ = conn.Close(ctx)
		_ = store.Close()
	})
	ch, err := conn.Channel(b.Context())
	must(b, err, "Channel")
	return ch
}

// ProcessHook counts commands, and keeps the first Put, with what is in it: the store uses its memory again.
func (s *scripted) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook {
	next = s.counts.ProcessHook(next)
	return func(ctx context.Context, cmd goredis.Cmder) error {
		if a := cmd.Args(); s.put == nil && len(a) > 1 && a[1] == redis.PutSHA {
			s.put = slices.Clone(a)
			for i, arg := range s.put {
				if v, ok := arg.(encoding.BinaryMarshaler); ok {
					b, err := v.MarshalBinary()
					if err != nil {
						return err
					}
					s.put[i] = slices.Clone(b)
				}
			}
		}
		return next(ctx, cmd)
	}
}

// bare drives the scripts.
type bare struct {
	s        *scripted
	c        *goredis.Client
	name     string // of the producer, the holder and the waiter
	sequence int
	id       string // of the queue
	base     string
	head     []any // of a Put, with the producer and the guard
	tail     any
	value    []byte
}

func (s *scripted) bare(b *testing.B, name string) *bare {
	guards := s.put[6].(int)
	at := 7 + 2*guards // of the number of queues
	value := s.put[at+10].([]byte)
	w := &bare{s: s, c: s.client(b), name: name, base: s.put[3].(string), id: s.put[at+1].(string), tail: s.put[at+9], value: value}
	w.head = slices.Clone(s.put[:at])
	w.head[4] = name
	return w
}

// stamp is a value whose body ends with the time.
func (w *bare) stamp() []byte {
	v := slices.Clone(w.value)
	binary.LittleEndian.PutUint64(v[len(v)-8:], uint64(time.Now().UnixNano()))
	return v
}

func (w *bare) publish(ctx context.Context, values ...[]byte) error {
	w.sequence++
	a := append(make([]any, 0, len(w.head)+9+2*len(values)), w.head...)
	a[5] = w.sequence
	a = append(a, 1, w.id, len(values), false, false, -1, -1, false, -1)
	for _, v := range values {
		a = append(a, w.tail, v)
	}
	return w.c.Do(ctx, a...).Err()
}

// take returns the members, and the values, of up to n messages. It parks.
func (w *bare) take(ctx context.Context, n int) (members, values []any, err error) {
	w.sequence++
	answer, err := w.c.Do(ctx, "evalsha", redis.GetSHA, 1, w.base, w.id, n, 0, 10_000_000, w.name, strconv.Itoa(w.sequence),
		false, false, "0", w.name, "", "", "").Slice()
	if err != nil {
		return nil, nil, err
	}
	if answer[0] != "" {
		return nil, nil, fmt.Errorf("a Get says %v", answer[0])
	}
	if taken := answer[1].([]any); len(taken) > 0 {
		return taken[1].([]any), taken[2].([]any), nil
	}
	return nil, nil, nil
}

func (w *bare) ack(ctx context.Context, members []any) error {
	a := append(make([]any, 0, 11+len(members)), "evalsha", redis.AckSHA, 1, w.base, 1, w.id, w.name, "a", 0, len(members), strconv.Itoa(w.sequence))
	return w.c.Do(ctx, append(a, members...)...).Err()
}

// consume takes and acks until n are there, and sleeps until it is woken when there are none.
func (w *bare) consume(ctx context.Context, n int, seen func(value []byte)) error {
	ears := w.c.Subscribe(ctx, w.base+"wake:"+w.name)
	defer ears.Close()
	if _, err := ears.Receive(ctx); err != nil {
		return err
	}
	for n > 0 {
		members, values, err := w.take(ctx, min(n, besideBatch))
		if err != nil {
			return err
		}
		if len(members) == 0 {
			if _, err := ears.ReceiveMessage(ctx); err != nil {
				return err
			}
			continue
		}
		for _, v := range values {
			seen([]byte(v.(string)))
		}
		if err := w.ack(ctx, members); err != nil {
			return err
		}
		n -= len(members)
	}
	return nil
}

// share is the part of all that falls to i of n.
func share(all, n, i int) int { return (all + n - 1 - i) / n }

// BenchmarkBesideScripts is the job of the engine and of a bare client: to publish, route, deliver and ack messages of 256
// bytes, with a prefetch of 100. floor is the least that can be called a queue with leases: a list of ids, a hash of bodies,
// a sorted set of leases; nothing ends a lease, nobody waits, and nothing is routed.
func BenchmarkBesideScripts(b *testing.B) {
	for _, n := range []int{1, 4} {
		b.Run(fmt.Sprintf("%dx%d", n, n), func(b *testing.B) {
			s := newScripted(b)
			engine := s.throughEngine(b, n)
			commands := s.counts.n.Load()
			bare := s.throughBare(b, n)
			floor := s.throughFloor(b, n)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(b.N)/engine.Seconds(), "msgs/s")
			b.ReportMetric(float64(b.N)/bare.Seconds(), "bare-msgs/s")
			b.ReportMetric(float64(b.N)/floor.Seconds(), "floor-msgs/s")
			b.ReportMetric(bare.Seconds()/engine.Seconds(), "of-bare")
			b.ReportMetric(floor.Seconds()/engine.Seconds(), "of-floor")
			b.ReportMetric(float64(commands)/float64(b.N), "commands/msg")
		})
	}
}

func (s *scripted) throughEngine(b *testing.B, n int) time.Duration {
	ctx := b.Context()
	pubs, subs := make([]*channel.Channel, n), make([]*channel.Channel, n)
	deliveries := make([]<-chan channel.Delivery, n)
	for i := range n {
		pubs[i], subs[i] = s.process(b), s.process(b)
		must(b, subs[i].Qos(ctx, besideBatch, 0, false), "Qos")
		var err error
		deliveries[i], err = subs[i].Consume(ctx, s.queue, channel.ConsumeOptions{Tag: "c"})
		must(b, err, "Consume")
	}
	s.counts.n.Store(0)
	begin := time.Now()
	var left atomic.Int64
	left.Store(int64(b.N))
	done := make(chan struct{})
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			body := make([]byte, besideBody)
			for range share(b.N, n, i) {
				if err := pubs[i].Publish(ctx, "amq.topic", besideKey, channel.Publishing{Body: body, DeliveryMode: 2}); err != nil {
					b.Error(err)
				}
			}
			if err := pubs[i].Flush(ctx); err != nil {
				b.Error(err)
			}
		})
		all.Go(func() {
			for {
				select {
				case d := <-deliveries[i]:
					if err := d.Ack(false); err != nil {
						b.Error(err)
					}
					if left.Add(-1) == 0 {
						close(done)
					}
					continue
				case <-done:
				}
				break
			}
			if err := subs[i].Flush(ctx); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	took := time.Since(begin)
	for _, ch := range append(pubs, subs...) { // they are in the way of who comes next
		must(b, ch.Close(ctx), "Close")
	}
	return took
}

func (s *scripted) throughBare(b *testing.B, n int) time.Duration {
	var all sync.WaitGroup
	pubs, subs := make([]*bare, n), make([]*bare, n)
	for i := range n {
		pubs[i], subs[i] = s.bare(b, fmt.Sprint("p", i)), s.bare(b, fmt.Sprint("c", i))
	}
	ctx := b.Context()
	begin := time.Now()
	for i := range n {
		all.Go(func() {
			for left := share(b.N, n, i); left > 0; left -= besideBatch {
				if err := pubs[i].publish(ctx, slices.Repeat([][]byte{pubs[i].value}, min(left, besideBatch))...); err != nil {
					b.Error(err)
				}
			}
		})
		all.Go(func() {
			if err := subs[i].consume(ctx, share(b.N, n, i), func([]byte) {}); err != nil {
				b.Error(err)
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}

// BenchmarkBesideEVALSHA publishes one message after the other, each with its confirm awaited.
func BenchmarkBesideEVALSHA(b *testing.B) {
	s := newScripted(b)
	ch, w, ctx := s.process(b), s.bare(b, "p"), b.Context()
	must(b, ch.Confirm(ctx), "Confirm")
	body := make([]byte, besideBody)
	var engine, bare time.Duration
	for i := 0; i < b.N; {
		n := min(200, b.N-i) // in turns, since machines are noisy
		begin := time.Now()
		for range n {
			c, err := ch.PublishDeferred(ctx, "amq.topic", besideKey, channel.Publishing{Body: body, DeliveryMode: 2})
			must(b, err, "Publish")
			if ok, err := c.Wait(ctx); !ok {
				b.Fatal("not confirmed", err)
			}
		}
		middle := time.Now()
		for range n {
			must(b, w.publish(ctx, w.value), "EVALSHA")
		}
		engine, bare = engine+middle.Sub(begin), bare+time.Since(middle)
		i += n
	}
	b.ReportMetric(float64(engine.Nanoseconds())/float64(b.N), "ns/op")
	b.ReportMetric(float64(bare.Nanoseconds())/float64(b.N), "bare-ns/op")
	b.ReportMetric(bare.Seconds()/engine.Seconds(), "of-bare")
}

// BenchmarkBesideLatency is the time from publish to delivery of 1,000 messages a second.
func BenchmarkBesideLatency(b *testing.B) {
	s := newScripted(b)
	pub, sub, ctx := s.process(b), s.process(b), b.Context()
	age := func(body []byte) time.Duration {
		return time.Duration(time.Now().UnixNano() - int64(binary.LittleEndian.Uint64(body[len(body)-8:])))
	}
	paced := func(send func() error) {
		tick := time.NewTicker(time.Millisecond)
		defer tick.Stop()
		for range b.N {
			<-tick.C
			if err := send(); err != nil {
				b.Error(err)
			}
		}
	}
	var engine, bare []time.Duration
	var all sync.WaitGroup
	all.Go(func() {
		must(b, sub.Qos(ctx, besideBatch, 0, false), "Qos")
		for d, err := range sub.Deliveries(ctx, s.queue, channel.ConsumeOptions{}) {
			if err != nil {
				b.Error(err)
				return
			}
			engine = append(engine, age(d.Body))
			if err := d.Ack(false); err != nil {
				b.Error(err)
			}
			if len(engine) == b.N {
				return
			}
		}
	})
	paced(func() error {
		body := make([]byte, besideBody)
		binary.LittleEndian.PutUint64(body[len(body)-8:], uint64(time.Now().UnixNano()))
		return pub.Publish(ctx, "amq.topic", besideKey, channel.Publishing{Body: body, DeliveryMode: 2})
	})
	all.Wait()
	p, c := s.bare(b, "p"), s.bare(b, "c")
	all.Go(func() {
		if err := c.consume(ctx, b.N, func(v []byte) { bare = append(bare, age(v)) }); err != nil {
			b.Error(err)
		}
	})
	paced(func() error { return p.publish(ctx, p.stamp()) })
	all.Wait()
	for name, at := range map[string]int{"p50": b.N / 2, "p99": b.N * 99 / 100} {
		slices.Sort(engine)
		slices.Sort(bare)
		b.ReportMetric(float64(engine[at].Microseconds()), name+"-µs")
		b.ReportMetric(float64(bare[at].Microseconds()), "bare-"+name+"-µs")
		b.ReportMetric(engine[at].Seconds()/bare[at].Seconds(), name+"-of-bare")
	}
	b.ReportMetric(0, "ns/op")
}

// floorLease pops ids, notes their leases, and returns ids and bodies.
var floorLease = goredis.NewScript(`
local ids = redis.call('LPOP', KEYS[1], ARGV[1])
if not ids then return false end
local z, out = {}, {}
for i, id in ipairs(ids) do z[2*i-1] = ARGV[2]; z[2*i] = id end
redis.call('ZADD', KEYS[2], unpack(z))
local bodies = redis.call('HMGET', KEYS[3], unpack(ids))
for i, id in ipairs(ids) do out[2*i-1] = id; out[2*i] = bodies[i] end
return out
`)

func (s *scripted) throughFloor(b *testing.B, n int) time.Duration {
	ctx := b.Context()
	list, bodies, leases := s.prefix+":floor:q", s.prefix+":floor:b", s.prefix+":floor:l"
	pubs, subs := make([]*goredis.Client, n), make([]*goredis.Client, n)
	for i := range n {
		pubs[i], subs[i] = s.client(b), s.client(b)
	}
	must(b, floorLease.Load(ctx, subs[0]).Err(), "SCRIPT LOAD")
	body := make([]byte, besideBody)
	publish := func(c *goredis.Client, from, to int) error {
		var ids, fields []any
		for id := from; id < to; id++ {
			name := strconv.Itoa(id)
			ids, fields = append(ids, name), append(fields, name, body)
		}
		_, err := c.Pipelined(ctx, func(p goredis.Pipeliner) error {
			p.HSet(ctx, bodies, fields...)
			p.RPush(ctx, list, ids...)
			return nil
		})
		return err
	}
	take := func(c *goredis.Client) (int, error) {
		taken, err := floorLease.EvalSha(ctx, c, []string{list, leases, bodies}, besideBatch, time.Now().Add(time.Minute).UnixMilli()).Slice()
		if errors.Is(err, goredis.Nil) {
			time.Sleep(200 * time.Microsecond)
			return 0, nil
		}
		var ids []any
		var fields []string
		for i := 0; i+1 < len(taken); i += 2 {
			ids, fields = append(ids, taken[i]), append(fields, taken[i].(string))
		}
		if err == nil {
			_, err = c.Pipelined(ctx, func(p goredis.Pipeliner) error {
				p.ZRem(ctx, leases, ids...)
				p.HDel(ctx, bodies, fields...)
				return nil
			})
		}
		return len(ids), err
	}
	var left atomic.Int64
	left.Store(int64(b.N))
	var all sync.WaitGroup
	begin := time.Now()
	for i := range n {
		all.Go(func() {
			first := i * b.N
			for k := 0; k < share(b.N, n, i); k += besideBatch {
				if err := publish(pubs[i], first+k, first+min(k+besideBatch, share(b.N, n, i))); err != nil {
					b.Error(err)
				}
			}
		})
		all.Go(func() {
			for left.Load() > 0 {
				n, err := take(subs[i])
				if err != nil {
					b.Error(err)
					return
				}
				left.Add(-int64(n))
			}
		})
	}
	all.Wait()
	return time.Since(begin)
}
