package channel

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func openFake(t *testing.T) (*Channel, *fakePort, *fakeTransport) {
	t.Helper()
	c, f := dialFake()
	ch, err := c.Channel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return ch, f.ports[0], f
}

func TestBadArgumentsAreRefusedLocallyNamingWhatAndWhere(t *testing.T) {
	long, garbled := strings.Repeat("x", 256), "a\xff"
	deep := Table{}
	for range 100 {
		deep = Table{"t": deep}
	}
	for _, c := range []struct {
		name string
		call func(ctx context.Context, ch *Channel) error
		say  []string
	}{
		{"queue name too long", func(ctx context.Context, ch *Channel) error {
			_, err := ch.QueueDeclare(ctx, long, QueueOptions{})
			return err
		}, []string{"queue.declare", "queue", "256 bytes"}},
		{"exchange name not UTF-8", func(ctx context.Context, ch *Channel) error {
			return ch.ExchangeDeclare(ctx, garbled, Topic, ExchangeOptions{})
		}, []string{"exchange.declare", "exchange", "UTF-8"}},
		{"binding key too long", func(ctx context.Context, ch *Channel) error { return ch.QueueBind(ctx, "q", long, "x", nil) },
			[]string{"queue.bind", "routing key", "256"}},
		{"routing key not UTF-8", func(ctx context.Context, ch *Channel) error { return ch.Publish(ctx, "x", garbled, Publishing{}) },
			[]string{"basic.publish", "routing key", "UTF-8"}},
		{"property too long", func(ctx context.Context, ch *Channel) error {
			return ch.Publish(ctx, "x", "", Publishing{CorrelationId: long})
		}, []string{"basic.publish", "correlation id", "256"}},
		{"header of a foreign type", func(ctx context.Context, ch *Channel) error {
			return ch.Publish(ctx, "x", "", Publishing{Headers: Table{"h": struct{}{}}})
		}, []string{"basic.publish", "headers", "h", "struct {}"}},
		{"header of a foreign type, nested", func(ctx context.Context, ch *Channel) error {
			return ch.Publish(ctx, "x", "", Publishing{Headers: Table{"a": []any{Table{"b": make(chan int)}}}})
		}, []string{"a[0].b", "chan int"}},
		{"header too large for a signed integer", func(ctx context.Context, ch *Channel) error {
			return ch.Publish(ctx, "x", "", Publishing{Headers: Table{"n": uint64(math.MaxUint64)}})
		}, []string{"headers", "n", "18446744073709551615"}},
		{"header key too long", func(ctx context.Context, ch *Channel) error {
			return ch.Publish(ctx, "x", "", Publishing{Headers: Table{long: nil}})
		}, []string{"table key", "256"}},
		{"arguments nested without end", func(ctx context.Context, ch *Channel) error {
			_, err := ch.QueueDeclare(ctx, "q", QueueOptions{Args: deep})
			return err
		}, []string{"arguments", "nested"}},
		{"negative prefetch", func(ctx context.Context, ch *Channel) error { return ch.Qos(ctx, -1, 0, false) }, []string{"basic.qos", "-1"}},
		{"prefetch over 16 bits", func(ctx context.Context, ch *Channel) error { return ch.Qos(ctx, 65536, 0, false) }, []string{"basic.qos", "65536"}},
		{"negative prefetch size", func(ctx context.Context, ch *Channel) error { return ch.Qos(ctx, 0, -5, false) }, []string{"basic.qos", "-5"}},
		{"negative credit", func(ctx context.Context, ch *Channel) error {
			_, err := ch.Consume(ctx, "q", ConsumeOptions{Credit: -1})
			return err
		}, []string{"basic.consume", "-1"}},
		{"deferred without confirm mode", func(ctx context.Context, ch *Channel) error {
			_, err := ch.PublishDeferred(ctx, "x", "", Publishing{})
			return err
		}, []string{"confirm mode"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch, p, _ := openFake(t)
			p.call = func(context.Context, Method) (Reply, error) {
				t.Error("it was sent")
				return Reply{}, nil
			}
			err := c.call(t.Context(), ch)
			if err == nil {
				t.Fatal("no error")
			}
			for _, s := range c.say {
				if !strings.Contains(err.Error(), s) {
					t.Errorf("%q does not say %q", err, s)
				}
			}
			if len(p.published) > 0 {
				t.Error("it was sent")
			}
			if ch.Err() != nil {
				t.Errorf("the channel was harmed: %v", ch.Err())
			}
		})
	}
}

func TestEndedContextIsItsOwnError(t *testing.T) {
	ch, _, _ := openFake(t)
	ctx, stop := context.WithCancel(t.Context())
	stop()
	_, err := ch.QueueDeclare(ctx, "q", QueueOptions{})
	if !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "queue.declare") {
		t.Errorf("declare: %v", err)
	}
	if err := ch.Publish(ctx, "", "q", Publishing{}); !errors.Is(err, context.Canceled) {
		t.Errorf("publish: %v", err)
	}
	if ch.Err() != nil {
		t.Errorf("the channel was harmed: %v", ch.Err())
	}
}

func TestTheFirstErrorStays(t *testing.T) {
	ch, p, _ := openFake(t)
	first := &Error{Code: NotFound, Text: "no queue 'q' in vhost '/'", Server: true}
	closed := ch.NotifyClose(make(chan *Error, 1))
	p.fail(first)
	p.fail(&Error{Code: InternalError})
	if err := ch.Publish(t.Context(), "", "q", Publishing{}); err != first {
		t.Errorf("publish: %v", err)
	}
	if err := ch.Ack(1, false); err != first {
		t.Errorf("ack: %v", err)
	}
	if _, err := ch.QueueDeclare(t.Context(), "q", QueueOptions{}); !errors.Is(err, ErrNotFound) {
		t.Errorf("declare: %v", err)
	}
	if e := <-closed; e != first {
		t.Errorf("NotifyClose: %v", e)
	}
	if _, open := <-closed; open {
		t.Error("NotifyClose gave a second error")
	}
	if _, open := <-ch.NotifyClose(make(chan *Error)); open {
		t.Error("a late listener's chan is open")
	}
}

func TestOurOwnCloseIsErrClosed(t *testing.T) {
	ch, _, _ := openFake(t)
	for range 2 {
		if err := ch.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	err := ch.Publish(t.Context(), "", "q", Publishing{})
	if !errors.Is(err, ErrClosed) || !strings.Contains(err.Error(), "basic.publish") {
		t.Errorf("got %v", err)
	}
	if err := ch.Connection().Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Connection().Channel(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("channel on a closed connection: %v", err)
	}
}

func TestConfirmsResolveWhateverTheirOrder(t *testing.T) {
	ch, p, _ := openFake(t)
	if n := ch.GetNextPublishSeqNo(); n != 0 {
		t.Errorf("next number %d outside confirm mode", n)
	}
	if err := ch.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	var cs []*Confirmation
	for range 10 {
		c, err := ch.PublishDeferred(t.Context(), "", "q", Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		cs = append(cs, c)
	}
	if err := ch.Publish(t.Context(), "", "q", Publishing{}); err != nil { // number 11, nobody's
		t.Fatal(err)
	}
	p.sink.Confirm(3, false, true)
	p.sink.Confirm(2, false, false)
	p.sink.Confirm(7, true, true)
	p.sink.Confirm(99, true, true) // never given
	want := []bool{true, false, true, true, true, true, true}
	for i, w := range want {
		if acked, err := cs[i].Wait(t.Context()); err != nil || acked != w {
			t.Errorf("number %d: %v, %v, want %v", i+1, acked, err, w)
		}
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := cs[8].Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait with an ended context: %v", err)
	}
	p.fail(&Error{Code: ConnectionForced, Text: "bye"})
	for _, c := range cs[7:] {
		if _, err := c.Wait(t.Context()); !errors.Is(err, &Error{Code: ConnectionForced}) {
			t.Errorf("number %d after the end: %v", c.DeliveryTag, err)
		}
	}
}

func TestWhoWaitsForEachConfirmIsKnownByIt(t *testing.T) {
	ch, p, _ := openFake(t)
	ctx := t.Context()
	if err := ch.Confirm(ctx); err != nil {
		t.Fatal(err)
	}
	// publish returns whether the transport was told that the message is awaited.
	publish := func(wait bool) bool {
		c, err := ch.PublishDeferred(ctx, "", "q", Publishing{})
		if err != nil {
			t.Fatal(err)
		}
		p.sink.Confirm(c.DeliveryTag, false, true)
		if wait {
			if _, err := c.Wait(ctx); err != nil {
				t.Fatal(err)
			}
		}
		return (<-p.published).Awaited
	}
	for i := range 3 * habit {
		if got, want := publish(true), i >= habit; got != want {
			t.Errorf("message %d of one who waits for each: awaited %v, want %v", i+1, got, want)
		}
	}
	publish(false)
	if publish(true) {
		t.Error("awaited, though the one before was not waited for")
	}
	for range 2 * habit {
		if publish(false) {
			t.Error("awaited, of one who waits for none")
		}
	}
}

func TestNotAcceptedMessageTakesNoNumber(t *testing.T) {
	var c confirms
	c.enable()
	for range 3 {
		if _, _, err := c.expect(true); err != nil {
			t.Fatal(err)
		}
	}
	c.withdraw()
	d, _, _ := c.expect(true)
	if d.DeliveryTag != 3 {
		t.Errorf("number %d, want 3", d.DeliveryTag)
	}
}

func TestListenerThatDoesNotReadBlocksNothing(t *testing.T) {
	ch, p, _ := openFake(t)
	full := ch.NotifyReturn(make(chan Return)) // never read while they come
	quick := ch.NotifyReturn(make(chan Return, 1000))
	for i := range 1000 {
		p.sink.Return(Return{ReplyCode: i})
	}
	for i := range 1000 {
		if r := <-quick; r.ReplyCode != i {
			t.Fatalf("return %d is number %d", r.ReplyCode, i)
		}
	}
	for i := range 1000 {
		if r := <-full; r.ReplyCode != i {
			t.Fatalf("return %d is number %d", r.ReplyCode, i)
		}
	}
	p.fail(nil)
	if _, open := <-full; open {
		t.Error("the chan is open after the end")
	}
}

func deliveries(tag string, from, n int) []Delivered {
	ds := make([]Delivered, n)
	for i := range ds {
		ds[i] = Delivered{Publishing: new(Publishing), ConsumerTag: tag, DeliveryTag: uint64(from + i), Body: []byte{byte(i)}}
	}
	return ds
}

func TestBreakingOutOfTheIteratorGivesBackWhatWasNotSeen(t *testing.T) {
	ch, p, _ := openFake(t)
	p.call = func(_ context.Context, m Method) (Reply, error) {
		r := Reply{Method: m}
		p.sink.Reply(r)
		if c, ok := m.(*Consume); ok {
			p.sink.Deliver(deliveries(c.Tag, 1, 5))
		}
		return r, nil
	}
	seen := 0
	for d, err := range ch.Deliveries(t.Context(), "q", ConsumeOptions{}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen++; d.DeliveryTag == 2 {
			break
		}
	}
	if seen != 2 {
		t.Errorf("%d deliveries, want 2", seen)
	}
	for tag := uint64(3); tag <= 5; tag++ {
		if s := <-p.settled; s.Tag != tag || s.Kind != GiveBack {
			t.Errorf("settled %+v, want %d given back", s, tag)
		}
	}
	if n := <-p.granted; n != 2 {
		t.Errorf("granted %d, want the 2 that were taken", n)
	}
}

func TestIteratorEndsWithItsCause(t *testing.T) {
	gone := &Error{Code: ConnectionForced, Text: "stop"}
	for _, c := range []struct {
		name string
		end  func(ch *Channel, p *fakePort, tag string, stop func())
		want error
	}{
		{"the server's cancel", func(_ *Channel, p *fakePort, tag string, _ func()) { p.sink.Cancelled(tag) }, ErrCancelled},
		{"the channel's error", func(_ *Channel, p *fakePort, _ string, _ func()) { p.fail(gone) }, gone},
		{"the context's end", func(_ *Channel, _ *fakePort, _ string, stop func()) { stop() }, context.Canceled},
		{"our own cancel", func(ch *Channel, _ *fakePort, tag string, _ func()) { _ = ch.Cancel(context.Background(), tag) }, nil},
		{"our own close", func(ch *Channel, _ *fakePort, _ string, _ func()) { go ch.Close(context.Background()) }, ErrClosed},
	} {
		t.Run(c.name, func(t *testing.T) {
			ch, p, _ := openFake(t)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			p.call = func(_ context.Context, m Method) (Reply, error) {
				r := Reply{Method: m}
				p.sink.Reply(r)
				if c, ok := m.(*Consume); ok {
					p.sink.Deliver(deliveries(c.Tag, 1, 1))
				}
				return r, nil
			}
			var causes []error
			for d, err := range ch.Deliveries(ctx, "q", ConsumeOptions{Tag: "tag"}) {
				if err != nil {
					causes = append(causes, err)
					continue
				}
				c.end(ch, p, d.ConsumerTag, stop)
			}
			switch {
			case c.want == nil && len(causes) > 0:
				t.Errorf("ended with %v", causes)
			case c.want != nil && (len(causes) != 1 || !errors.Is(causes[0], c.want)):
				t.Errorf("ended with %v, want %v", causes, c.want)
			}
		})
	}
}

func TestChanIsClosedWithItsCauseAndUnseenGoBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := dialFake()
		ch, err := c.Channel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		p := f.ports[0]
		ctx, stop := context.WithCancel(t.Context())
		causes := make(chan error, 1)
		ds, err := ch.Consume(ctx, "q", ConsumeOptions{Tag: "tag", Credit: 3, Ended: func(cause error) { causes <- cause }})
		if err != nil {
			t.Fatal(err)
		}
		p.sink.Deliver(deliveries("tag", 1, 8))
		if d := <-ds; d.DeliveryTag != 1 {
			t.Fatalf("first tag %d", d.DeliveryTag)
		}
		synctest.Wait()
		stop()
		synctest.Wait()
		if cause := <-causes; !errors.Is(cause, context.Canceled) {
			t.Errorf("ended with %v", cause)
		}
		seen := 0
		for range ds {
			seen++
		}
		back := len(p.settled)
		if seen+back != 7 || back < 4 {
			t.Errorf("%d more were read, %d given back, of 7", seen, back)
		}
		_ = c.Close(t.Context())
	})
}

func TestWaitingCallEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, f := dialFake()
		ch, err := c.Channel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		release := make(chan struct{})
		f.ports[0].call = func(context.Context, Method) (Reply, error) { <-release; return Reply{}, nil }
		var calls sync.WaitGroup
		calls.Go(func() { _ = ch.Qos(t.Context(), 1, 0, false) })
		synctest.Wait()
		ctx, stop := context.WithTimeout(t.Context(), time.Second)
		defer stop()
		if err := ch.Qos(ctx, 2, 0, false); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		close(release)
		calls.Wait()
		_ = c.Close(t.Context())
	})
}

func TestLockHandsOverUnderContention(t *testing.T) {
	l := newCtxLock()
	n := 0
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 2000 {
				ctx, stop := context.WithCancel(context.Background())
				if i%3 == 0 {
					stop()
				}
				if l.lock(ctx) == nil {
					n++
					l.unlock()
				}
				stop()
			}
		})
	}
	wg.Wait()
	if l.n.Load() != 0 || len(l.token) != 0 {
		t.Errorf("%d holders and waiters, %d tokens are left", l.n.Load(), len(l.token))
	}
	if n == 0 {
		t.Error("nobody got the lock")
	}
}

func TestURLsInErrorsShowNoPassword(t *testing.T) {
	for _, u := range []string{
		"nope://user:s3cret@host/", "user:s3cret@host", "amqp://user:s3cret@ho st/", "amqp://user:s3cr:et@host:port/", "://user:s3cret@host",
		"amqp://us%er:s3cret@host/", "nope://host/?password=s3cret", "nope://u:p@s3cret@host/",
	} {
		_, err := Dial(t.Context(), u, Config{})
		if err == nil {
			t.Errorf("%s: no error", u)
		} else if strings.Contains(err.Error(), "s3cr") {
			t.Errorf("%s: %v", u, err)
		}
	}
	_, err := Dial(t.Context(), "nope://host/", Config{})
	if err == nil || !strings.Contains(err.Error(), `"nope"`) || !strings.Contains(err.Error(), "import") {
		t.Errorf("unknown scheme: %v", err)
	}
}

func TestErrorsMatchByWhatTheTargetSays(t *testing.T) {
	cause := errors.New("disk full")
	err := error(&Error{Code: NotFound, Op: `queue.declare "q"`, Text: "no queue 'q'", Server: true, Cause: cause})
	if !errors.Is(err, ErrNotFound) || errors.Is(err, ErrNotAllowed) || !errors.Is(err, cause) {
		t.Errorf("%v matches the wrong targets", err)
	}
	if e, ok := errors.AsType[*Error](err); !ok || e.Code != 404 {
		t.Errorf("%v is no *Error", err)
	}
	if s := err.Error(); s != `404 NOT_FOUND queue.declare "q": no queue 'q' (disk full)` {
		t.Error(s)
	}
}

func TestCloneTableSharesNothingAndSpeaksAMQP(t *testing.T) {
	in := Table{"i": 1, "u": uint(2), "b": []byte("x"), "a": []any{Table{"k": []byte("y")}}, "t": time.Unix(5, 7), "nil": nil}
	out := CloneTable(in)
	if out["i"] != int64(1) || out["u"] != int64(2) || !out["t"].(time.Time).Equal(time.Unix(5, 0)) {
		t.Errorf("%#v", out)
	}
	out["b"].([]byte)[0] = 'z'
	out["a"].([]any)[0].(Table)["k"].([]byte)[0] = 'z'
	if string(in["b"].([]byte)) != "x" || string(in["a"].([]any)[0].(Table)["k"].([]byte)) != "y" {
		t.Error("the copy shares bytes")
	}
	if CloneTable(nil) != nil || CloneTable(Table{}) == nil {
		t.Error("nil and empty are not kept apart")
	}
}

// The server refuses a used tag by closing the connection, which it tells nobody who does not wait.
func TestConsumerOfAUsedTagEndsThoughNobodyWaits(t *testing.T) {
	conn, _ := dialFake()
	ch, err := conn.Channel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ch.Consume(t.Context(), "q", ConsumeOptions{Tag: "tag"}); err != nil {
		t.Fatal(err)
	}
	second, err := ch.Consume(t.Context(), "q", ConsumeOptions{Tag: "tag", NoWait: true})
	if err != nil {
		t.Fatal(err)
	}
	if d, open := <-second; open {
		t.Errorf("the second consumer got %v", d)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
}
