package amqp

import (
	"context"
	"crypto/rand"
	"errors"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// limit bounds every wait of these tests; none comes near it.
const limit = 30 * time.Second

// serverURL returns the URL of the server to test against, or skips the test.
func serverURL(t testing.TB) string {
	t.Helper()
	u := os.Getenv("DASHI_AMQP_URL")
	if u == "" {
		t.Skip("needs a real server: DASHI_AMQP_URL is not set (scripts/servers start rabbitmq prints one)")
	}
	return u
}

func bounded(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	t.Cleanup(cancel)
	return ctx
}

func ended() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	return ctx
}

// log is a sink that keeps what it hears as one ordered list, and fails when called twice at once.
type log struct {
	t    testing.TB
	busy sync.Mutex

	mu      sync.Mutex
	changed chan struct{}
	heard   []any // []channel.Delivered one by one, channel.Reply, channel.Return, answer, cancelled, *channel.Error (Closed)
}

type (
	answer struct {
		number        uint64
		multiple, ack bool
	}
	cancelled string
	closed    struct{ err *channel.Error }
	event     channel.Event
)

func newLog(t testing.TB) *log { return &log{t: t, changed: make(chan struct{})} }

func (l *log) add(v any) {
	if !l.busy.TryLock() {
		l.t.Error("the sink is called twice at once")
		return
	}
	defer l.busy.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.heard); n > 0 {
		if _, ok := l.heard[n-1].(closed); ok {
			l.t.Errorf("the sink hears %#v after Closed", v)
		}
	}
	l.heard = append(l.heard, v)
	close(l.changed)
	l.changed = make(chan struct{})
}

func (l *log) Deliver(ds []channel.Delivered) {
	for _, d := range ds {
		l.add(d)
	}
}
func (l *log) Reply(r channel.Reply)         { l.add(r) }
func (l *log) Return(r channel.Return)       { l.add(r) }
func (l *log) Confirm(n uint64, m, ack bool) { l.add(answer{n, m, ack}) }
func (l *log) Cancelled(tag string)          { l.add(cancelled(tag)) }
func (l *log) Closed(err *channel.Error)     { l.add(closed{err}) }
func (l *log) Event(e channel.Event)         { l.add(event(e)) }

// wait returns what has been heard as soon as it satisfies ok.
func (l *log) wait(what string, ok func(heard []any) bool) []any {
	l.t.Helper()
	timeout := time.After(limit)
	for {
		l.mu.Lock()
		heard, changed := slices.Clone(l.heard), l.changed
		l.mu.Unlock()
		if ok(heard) {
			return heard
		}
		select {
		case <-changed:
		case <-timeout:
			l.t.Fatalf("waiting for %s; heard only %#v", what, heard)
		}
	}
}

func count[T any](heard []any) int { return len(only[T](heard)) }

func only[T any](heard []any) []T {
	var out []T
	for _, h := range heard {
		if v, ok := h.(T); ok {
			out = append(out, v)
		}
	}
	return out
}

// waitFor waits for n of a kind.
func waitFor[T any](l *log, n int) []T {
	l.t.Helper()
	return only[T](l.wait("more notices", func(heard []any) bool { return count[T](heard) >= n }))
}

func (l *log) waitClosed() *channel.Error {
	l.t.Helper()
	return waitFor[closed](l, 1)[0].err
}

// dialTest opens a transport that the test's end closes.
func dialTest(t testing.TB, url string) (channel.Transport, *log) {
	t.Helper()
	l := newLog(t)
	tr, err := Dial(bounded(t), url, channel.Config{Name: t.Name()}, l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := tr.Close(bounded(t)); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return tr, l
}

func openTest(t testing.TB, tr channel.Transport) (channel.Port, *log) {
	t.Helper()
	l := newLog(t)
	p, err := tr.OpenChannel(bounded(t), l)
	if err != nil {
		t.Fatal(err)
	}
	return p, l
}

func call(t testing.TB, p channel.Port, m channel.Method) channel.Reply {
	t.Helper()
	r, err := p.Call(bounded(t), m)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// unique returns a name that no other run has used.
func unique(t testing.TB) string { return "dashi.test." + t.Name() + "." + rand.Text() }

// tempQueue declares an exclusive queue.
func tempQueue(t testing.TB, p channel.Port) string {
	t.Helper()
	return call(t, p, &channel.QueueDeclare{Exclusive: true}).Queue
}

func publish(t testing.TB, p channel.Port, queue string, bodies ...string) {
	t.Helper()
	for _, b := range bodies {
		if err := p.Publish(bounded(t), &channel.Publish{Key: queue, Publishing: channel.Publishing{Body: []byte(b)}}); err != nil {
			t.Fatal(err)
		}
	}
}

func bodies(ds []channel.Delivered) string {
	var s []string
	for _, d := range ds {
		s = append(s, string(d.Body))
	}
	return strings.Join(s, " ")
}

func wantCode(t testing.TB, err error, code int) *channel.Error {
	t.Helper()
	var e *channel.Error
	if !errors.As(err, &e) || e.Code != code {
		t.Fatalf("got error %v (%T), want code %d", err, err, code)
	}
	return e
}

// proxy forwards connections to a server, and can fail as networks do.
type proxy struct {
	l      net.Listener
	server string
	wg     sync.WaitGroup

	mu     sync.Mutex
	frozen chan struct{} // closed when bytes flow; replaced when they stop
	held   chan struct{} // closed when bytes wait because they do not flow
	conns  []net.Conn
}

// newProxy returns a proxy to the server of rawURL, and the URL that leads through it.
func newProxy(t *testing.T, rawURL string) (*proxy, string) {
	t.Helper()
	a, err := parse(rawURL, channel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{l: l, server: a.addr, frozen: make(chan struct{})}
	close(p.frozen)
	p.wg.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		p.thaw()
		p.cut()
		p.wg.Wait()
	})
	return p, strings.Replace(rawURL, a.addr, l.Addr().String(), 1)
}

func (p *proxy) accept() {
	for {
		in, err := p.l.Accept()
		if err != nil {
			return
		}
		out, err := net.Dial("tcp", p.server)
		if err != nil {
			_ = in.Close()
			return
		}
		p.mu.Lock()
		p.conns = append(p.conns, in, out)
		p.mu.Unlock()
		p.wg.Go(func() { p.copy(in, out) })
		p.wg.Go(func() { p.copy(out, in) })
	}
}

func (p *proxy) copy(to, from net.Conn) {
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		p.mu.Lock()
		flow := p.frozen
		select {
		case <-flow:
		case <-p.held:
		default:
			close(p.held)
		}
		p.mu.Unlock()
		<-flow
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	_, _ = to.Close(), from.Close()
}

// freeze lets no byte through from now on; the chan it returns is closed when some wait.
func (p *proxy) freeze() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frozen, p.held = make(chan struct{}), make(chan struct{})
	return p.held
}

func (p *proxy) thaw() {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.frozen:
	default:
		close(p.frozen)
	}
}

// cut ends all connections.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}
