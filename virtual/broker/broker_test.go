package broker_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

// process opens a broker on a store and a connection on it, both closed at the end of the test.
func process(t *testing.T, s virtual.Store, o broker.Options) (*broker.Broker, *channel.Connection) {
	t.Helper()
	b, err := broker.Open(t.Context(), s, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close(context.Background()) })
	c, err := channel.Connect(t.Context(), b.Connect)
	if err != nil {
		t.Fatal(err)
	}
	return b, c
}

func open(t *testing.T, c *channel.Connection) *channel.Channel {
	t.Helper()
	ch, err := c.Channel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func declare(t *testing.T, ch *channel.Channel, name string, args channel.Table) string {
	t.Helper()
	q, err := ch.QueueDeclare(t.Context(), name, channel.QueueOptions{Durable: true, Args: args})
	if err != nil {
		t.Fatal(err)
	}
	return q.Name
}

// A process that comes to a place sees the queues there before anything else of it is ready.
func TestAProcessOpensWhereAQueueExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		place := memory.New()
		_, first := process(t, place.Open(), broker.Options{})
		declare(t, open(t, first), "q", channel.Table{"x-expires": int64(60_000)})
		_, second := process(t, place.Open(), broker.Options{})
		if _, err := open(t, second).QueueDeclarePassive(t.Context(), "q"); err != nil {
			t.Error(err)
		}
		time.Sleep(70 * time.Second)
		if _, err := open(t, second).QueueDeclarePassive(t.Context(), "q"); !errors.Is(err, channel.ErrNotFound) {
			t.Errorf("after its time: %v", err)
		}
	})
}

// Consumers that differ in priority have their pump look whenever room is made: what a pump gives back of a shared window
// itself is none of that, or it would look for ever.
func TestAPumpWithPrioritiesAndASharedWindowComesToRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := process(t, memory.New().Open(), broker.Options{})
		ch, other := open(t, c), open(t, c)
		queues := []string{declare(t, ch, "a", nil), declare(t, ch, "b", nil)}
		if err := ch.Qos(t.Context(), 1, 0, true); err != nil {
			t.Fatal(err)
		}
		var taken atomic.Int32
		for _, q := range queues {
			for i, on := range []*channel.Channel{ch, other} {
				ds, err := on.Consume(t.Context(), q, channel.ConsumeOptions{Args: channel.Table{"x-priority": int64(2 - i)}})
				if err != nil {
					t.Fatal(err)
				}
				go func() {
					for range ds {
						taken.Add(1)
					}
				}()
			}
		}
		synctest.Wait() // which never ends while anything turns
		for range 3 {
			for _, q := range queues {
				if err := ch.Publish(t.Context(), "", q, channel.Publishing{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		synctest.Wait()
		if n := taken.Load(); n != 6 {
			t.Errorf("%d deliveries, want 6", n)
		}
	})
}

// A dead letter that finds a queue at its limit is refused as any other message: a queue with reject-publish-dlx passes it on.
func TestADeadLetterThatIsRefusedIsPassedOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c := process(t, memory.New().Open(), broker.Options{})
		ch := open(t, c)
		declare(t, ch, "last", nil)
		declare(t, ch, "full", channel.Table{
			"x-max-length": int64(0), "x-overflow": "reject-publish-dlx", "x-dead-letter-exchange": "", "x-dead-letter-routing-key": "last",
		})
		declare(t, ch, "first", channel.Table{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "full"})
		if err := ch.Publish(t.Context(), "", "first", channel.Publishing{}); err != nil {
			t.Fatal(err)
		}
		d, _, err := ch.Get(t.Context(), "first", false)
		if err == nil {
			err = d.Reject(false)
		}
		if err == nil {
			err = ch.Flush(t.Context())
		}
		if err != nil {
			t.Fatal(err)
		}
		d, ok, err := ch.Get(t.Context(), "last", true)
		if err != nil || !ok {
			t.Fatalf("nothing was passed on: %v", err)
		}
		if deaths, _ := d.Headers["x-death"].([]any); len(deaths) != 2 {
			t.Errorf("x-death is %v, want two deaths", deaths)
		}
	})
}

func TestClosingUnderLoadInEveryOrderNeitherHangsNorLeaksNorRaces(t *testing.T) {
	rounds := 1000
	if testing.Short() {
		rounds = 50
	}
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	for range rounds {
		closeUnderLoad(t, r.Perm(4), r.IntN(2) == 0, time.Duration(r.IntN(300))*time.Microsecond)
	}
}

// closeUnderLoad publishes, consumes by chan and iterator, and gets, and meanwhile closes channel, connection, broker and
// store in the given order, gracefully or with an ended context.
func closeUnderLoad(t *testing.T, order []int, graceful bool, after time.Duration) {
	place := memory.New()
	store := place.Open()
	ctx := t.Context()
	b, err := broker.Open(ctx, store, broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	conn, err := channel.Connect(ctx, b.Connect)
	if err != nil {
		t.Fatal(err)
	}
	pub, sub := open(t, conn), open(t, conn)
	q := declare(t, pub, "", channel.Table{"x-max-length": 50})
	var load sync.WaitGroup
	load.Go(func() {
		for pub.Publish(ctx, "", q, channel.Publishing{Body: []byte("x")}) == nil && pub.Err() == nil {
		}
	})
	load.Go(func() {
		for d, err := range sub.Deliveries(ctx, q, channel.ConsumeOptions{}) {
			if err != nil || d.Ack(false) != nil {
				break
			}
		}
	})
	load.Go(func() {
		if ds, err := sub.Consume(ctx, q, channel.ConsumeOptions{}); err == nil {
			for d := range ds {
				_ = d.Nack(false, true)
			}
		}
	})
	load.Go(func() {
		for {
			if _, _, err := pub.Get(ctx, q, true); err != nil {
				return
			}
		}
	})
	pause := time.NewTimer(after)
	<-pause.C
	end := context.Background()
	if !graceful {
		ended, stop := context.WithCancel(end)
		stop()
		end = ended
	}
	for _, what := range order {
		switch what {
		case 0:
			_ = sub.Close(end)
		case 1:
			_ = conn.Close(end)
		case 2:
			_ = b.Close(end)
		case 3:
			_ = store.Close()
		}
	}
	load.Wait()
	if conn.Err() == nil || pub.Err() == nil || sub.Err() == nil {
		t.Fatalf("closed in order %v: connection %v, channels %v, %v", order, conn.Err(), pub.Err(), sub.Err())
	}
}

var errLost = errors.New("connection reset")

// losing makes calls fail now and then, before their effect or after it.
type losing struct {
	mu     sync.Mutex
	r      *rand.Rand
	off    bool
	before int
	after  int
}

func (l *losing) pass(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
	l.mu.Lock()
	n := l.r.IntN(20)
	off := l.off
	l.mu.Unlock()
	if off || n > 1 {
		return next(ctx)
	}
	if n == 0 {
		l.mu.Lock()
		l.before++
		l.mu.Unlock()
		return errLost
	}
	err := next(ctx)
	l.mu.Lock()
	l.after++
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return errLost
}

func TestLostCallsAndLostRepliesNeitherLoseNorDuplicate(t *testing.T) {
	before, after := 0, 0
	for i := range 20 {
		seed := rand.Uint64()
		t.Run(fmt.Sprint(i), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b, a := loseReplies(t, seed)
				before, after = before+b, after+a
			})
		})
	}
	if before == 0 || after == 0 {
		t.Errorf("%d calls and %d replies were lost: the test shows nothing", before, after)
	}
}

func loseReplies(t *testing.T, seed uint64) (before, after int) {
	t.Logf("seed %d", seed)
	ctx := t.Context()
	place := memory.New()
	faults := &losing{r: rand.New(rand.NewPCG(seed, 0)), off: true}
	_, sender := process(t, virtual.Intercept(place.Open(), faults.pass), broker.Options{})
	_, taker := process(t, virtual.Intercept(place.Open(), faults.pass), broker.Options{})
	pub, sub := open(t, sender), open(t, taker)
	if err := pub.Confirm(ctx); err != nil {
		t.Fatal(err)
	}
	q1, q2 := declare(t, pub, "one", nil), declare(t, pub, "two", channel.Table{"x-max-length": 10000})
	for _, q := range []string{q1, q2} {
		if err := pub.QueueBind(ctx, q, "", "amq.fanout", nil); err != nil {
			t.Fatal(err)
		}
	}
	faults.mu.Lock()
	faults.off = false
	faults.mu.Unlock()

	const n = 300
	nacked := map[string]bool{}
	var confirms []*channel.Confirmation
	for i := range n {
		c, err := pub.PublishDeferred(ctx, "amq.fanout", "", channel.Publishing{Body: fmt.Append(nil, i)})
		if err != nil {
			t.Fatal(err)
		}
		confirms = append(confirms, c)
	}
	for i, c := range confirms {
		acked, err := c.Wait(ctx)
		if err != nil {
			t.Fatal(err)
		}
		if !acked {
			nacked[fmt.Sprint(i)] = true
		}
	}
	for _, q := range []string{q1, q2} {
		want := n - len(nacked)
		var got []string
		for d, err := range sub.Deliveries(ctx, q, channel.ConsumeOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			if !nacked[string(d.Body)] {
				got = append(got, string(d.Body))
				want--
			}
			if err := d.Ack(false); err != nil {
				t.Fatal(err)
			}
			if want == 0 {
				break
			}
		}
		slices.Sort(got)
		if unique := len(slices.Compact(got)); unique != n-len(nacked) {
			t.Errorf("%s: %d different messages came, of %d acked ones", q, unique, n-len(nacked))
		}
		if len(got) > n-len(nacked) {
			t.Errorf("%s: %d messages came, of %d acked ones", q, len(got), n-len(nacked))
		}
	}
	if err := sub.Flush(ctx); err != nil {
		t.Fatal(err)
	}
	faults.mu.Lock()
	defer faults.mu.Unlock()
	faults.off = true
	t.Logf("%d calls lost, %d replies lost, %d messages nacked", faults.before, faults.after, len(nacked))
	return faults.before, faults.after
}

func TestMessageThatWasNotAcceptedTakesNoNumber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		release := make(chan struct{})
		var held atomic.Bool
		hold := func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if c.Method == "Put" && held.Load() {
				<-release
			}
			return next(ctx)
		}
		_, conn := process(t, virtual.Intercept(memory.New().Open(), hold), broker.Options{})
		first, ch := open(t, conn), open(t, conn)
		q := declare(t, ch, "q", nil)
		if err := ch.Confirm(ctx); err != nil {
			t.Fatal(err)
		}
		held.Store(true)
		var load sync.WaitGroup
		load.Go(func() { _ = first.Publish(ctx, "", q, channel.Publishing{}) }) // waits in the store
		synctest.Wait()
		short, stop := context.WithTimeout(ctx, time.Second)
		defer stop()
		accepted := 0
		for ; accepted < 100_000; accepted++ { // until too many wait
			if err := ch.Publish(short, "", q, channel.Publishing{}); err != nil {
				if !errors.Is(err, context.DeadlineExceeded) {
					t.Fatal(err)
				}
				break
			}
		}
		held.Store(false)
		close(release)
		load.Wait()
		c, err := ch.PublishDeferred(ctx, "", q, channel.Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		wait, end := context.WithTimeout(ctx, time.Minute)
		defer end()
		if acked, err := c.Wait(wait); !acked || err != nil || c.DeliveryTag != uint64(accepted+1) {
			t.Errorf("number %d after %d accepted ones: acked %v, %v", c.DeliveryTag, accepted, acked, err)
		}
	})
}

func TestReaderThatStopsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		_, conn := process(t, memory.New().Open(), broker.Options{})
		ch := open(t, conn)
		stuck, busy := declare(t, ch, "stuck", nil), declare(t, ch, "busy", nil)
		for _, autoAck := range []bool{false, true} { // on the same channel, by chans that nobody reads
			if _, err := ch.Consume(ctx, stuck, channel.ConsumeOptions{AutoAck: autoAck}); err != nil {
				t.Fatal(err)
			}
		}
		const n = 5000
		for range n {
			for _, q := range []string{stuck, busy} {
				if err := ch.Publish(ctx, "", q, channel.Publishing{Body: make([]byte, 100)}); err != nil {
					t.Fatal(err)
				}
			}
		}
		seen := 0
		for d, err := range ch.Deliveries(ctx, busy, channel.ConsumeOptions{}) {
			if err != nil {
				t.Fatal(err)
			}
			_ = d.Ack(false)
			if seen++; seen == n {
				break
			}
		}
		synctest.Wait()
		q, err := ch.QueueDeclarePassive(ctx, stuck)
		if err != nil {
			t.Fatal(err)
		}
		// Each of the two keeps no more than its credit, its chan's buffer and what its goroutine holds.
		if taken := n - q.Messages; taken > 2*(256+256+64+1) {
			t.Errorf("%d messages were taken for readers that do not read", taken)
		}
	})
}

func TestIdleIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		var calls atomic.Int64
		counting := func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
			calls.Add(1)
			return next(ctx)
		}
		_, conn := process(t, virtual.Intercept(memory.New().Open(), counting), broker.Options{})
		ch := open(t, conn)
		for i := range 1000 {
			q := declare(t, ch, fmt.Sprint("q", i), nil)
			if _, err := ch.Consume(ctx, q, channel.ConsumeOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		synctest.Wait()
		calls.Store(0)
		time.Sleep(time.Hour) // of virtual time
		// A heartbeat every 10 s, and three waiting calls a minute.
		if n := calls.Load(); n > 360+3*60+10 {
			t.Errorf("1,000 consumed, idle queues made %d calls of the store in an hour", n)
		} else {
			t.Logf("1,000 consumed, idle queues made %d calls of the store in an hour", n)
		}
	})
}

func TestFrozenSingleActiveConsumerTakesNothingMore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx := t.Context()
		place := memory.New()
		frozen := make(chan struct{})
		var stop atomic.Bool
		freeze := func(ctx context.Context, _ virtual.Call, next func(context.Context) error) error {
			if stop.Load() {
				select {
				case <-frozen:
				case <-ctx.Done():
				}
			}
			return next(ctx)
		}
		_, one := process(t, virtual.Intercept(place.Open(), freeze), broker.Options{})
		_, two := process(t, place.Open(), broker.Options{})
		a, b := open(t, one), open(t, two)
		q := declare(t, b, "single", channel.Table{"x-single-active-consumer": true})
		first, err := a.Consume(ctx, q, channel.ConsumeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		second, err := b.Consume(ctx, q, channel.ConsumeOptions{})
		if err != nil {
			t.Fatal(err)
		}
		post := func(body string) {
			if err := b.Publish(ctx, "", q, channel.Publishing{Body: []byte(body)}); err != nil {
				t.Fatal(err)
			}
		}
		post("1")
		if d := <-first; string(d.Body) != "1" {
			t.Fatalf("the first consumer got %q", d.Body)
		}
		stop.Store(true)
		time.Sleep(time.Minute) // longer than session and lease
		if d := <-second; string(d.Body) != "1" || !d.Redelivered {
			t.Fatalf("the second consumer got %q, redelivered %v: want what the first had unacked", d.Body, d.Redelivered)
		}
		stop.Store(false)
		close(frozen)
		time.Sleep(time.Second)
		post("2")
		if d := <-second; string(d.Body) != "2" {
			t.Fatalf("the second consumer got %q", d.Body)
		}
		select {
		case d := <-first:
			t.Errorf("the first consumer got %q after it had lost the queue", d.Body)
		default:
		}
	})
}

func Example() {
	ctx := context.Background()
	store := memory.New().Open()
	b, err := broker.Open(ctx, store, broker.Options{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close(ctx)
	conn, _ := channel.Connect(ctx, b.Connect)
	ch, _ := conn.Channel(ctx)
	q, _ := ch.QueueDeclare(ctx, "jobs", channel.QueueOptions{})
	_ = ch.Publish(ctx, "", q.Name, channel.Publishing{Body: []byte("work")})
	d, ok, _ := ch.Get(ctx, q.Name, true)
	fmt.Println(string(d.Body), ok)
	// Output: work true
}
