package faultproxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// echo is a server that sends back what it gets, and says how each connection ended and how much had come.
type echo struct {
	net.Listener
	ends chan ending
}

type ending struct {
	got int64
	err error // nil: in order
}

func newEcho(t *testing.T) *echo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{l, make(chan ending, 1000)}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				n, err := io.Copy(onlyWriter{c}, onlyReader{c})
				e.ends <- ending{n, err}
			})
		}
	})
	t.Cleanup(func() { _ = l.Close(); wg.Wait() })
	return e
}

// These hide what io.Copy would use to bypass the program, and to say something else about errors.
type (
	onlyReader struct{ io.Reader }
	onlyWriter struct{ io.Writer }
)

// open starts an echo server and a proxy before it, closed when the test ends, before the server is.
func open(t *testing.T, o Options) (*Proxy, *echo) {
	t.Helper()
	e := newEcho(t)
	p, err := New(e.Addr().String(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(p.Close(), p.Close()); err != nil {
			t.Error(err)
		}
		if n := p.Open(); n != 0 {
			t.Errorf("%d connections are open after Close", n)
		}
	})
	return p, e
}

// dial opens a connection through the proxy; nothing on it takes longer than 10 s.
func dial(t *testing.T, p *Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	return c.(*net.TCPConn)
}

func send(t *testing.T, c net.Conn, text string) {
	t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		t.Fatal(err)
	}
}

func want(t *testing.T, c net.Conn, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if _, err := io.ReadFull(c, b); err != nil || string(b) != text {
		t.Fatalf("got %q, %v, want %q", b, err, text)
	}
}

func wantEcho(t *testing.T, c net.Conn, text string) {
	t.Helper()
	send(t, c, text)
	want(t, c, text)
}

// wantSilence checks that nothing comes for a while.
func wantSilence(t *testing.T, c net.Conn) {
	t.Helper()
	_ = c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
	b := make([]byte, 1)
	if n, err := c.Read(b); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("got %q, %v, want silence", b[:n], err)
	}
	_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
}

func TestForwardsBothWays(t *testing.T) {
	p, e := open(t, Options{})
	c := dial(t, p)
	wantEcho(t, c, "hello")
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	go func() {
		_, _ = c.Write(large)
		_ = c.CloseWrite() // and what is on its way still comes
	}()
	got, err := io.ReadAll(c)
	if err != nil || !bytes.Equal(got, large) {
		t.Fatalf("%d bytes of %d came back, %v", len(got), len(large), err)
	}
	if end := <-e.ends; end.err != nil || end.got != int64(len(large)+5) {
		t.Errorf("the server saw %+v", end)
	}
	if accepted, injected := p.Counts(); accepted != 1 || injected != 0 {
		t.Errorf("%d accepted, %d injected", accepted, injected)
	}
}

func TestBreaks(t *testing.T) {
	const text = "0123456789"
	for _, c := range []struct {
		name  string
		fault Fault
		sent  string // after the fault
		came  string // of it, at the client
		got   int64  // of it, at the server; -1: some
		reset bool
	}{
		{"cut", Fault{Kind: Cut}, "", "", 0, false},
		{"reset", Fault{Kind: Reset}, "", "", 0, true},
		{"cut in the middle of a reply", Fault{Kind: Cut, Way: Replies, After: 4}, text, "0123", 10, false},
		{"cut in the middle of a request", Fault{Kind: Cut, Way: Requests, After: 4}, text, "", 4, false},
		{"reset in the middle of a reply", Fault{Kind: Reset, Way: Replies, After: 4}, text, "", -1, true},
		{"reset in the middle of a request", Fault{Kind: Reset, Way: Requests, After: 4}, text, "", -1, true},
		{"cut at the end", Fault{Kind: Cut, Way: Replies, After: 10}, text, text, 10, false},
		{"cut either way", Fault{Kind: Cut, After: 4}, text, "", 4, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, e := open(t, Options{})
			conn := dial(t, p)
			wantEcho(t, conn, "before")
			p.Inject(c.fault)
			var came []byte
			var err error
			if c.sent != "" { // even an empty write would be told of the reset, and the read then would not
				_, err = io.WriteString(conn, c.sent)
			}
			if err == nil {
				came, err = io.ReadAll(conn)
			}
			if reset := errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE); reset != c.reset || err != nil && !reset {
				t.Errorf("the client's connection ended with %v", err)
			}
			if !c.reset && c.fault.Way != Requests && c.fault.Way != Both && string(came) != c.came {
				t.Errorf("the client got %q, want %q", came, c.came)
			}
			end := <-e.ends
			if c.got >= 0 && end.got != 6+c.got {
				t.Errorf("the server got %d bytes, want 6 and %d", end.got, c.got)
			}
			if c.reset != (end.err != nil) {
				t.Errorf("the server's connection ended with %v", end.err)
			}
			wantEcho(t, dial(t, p), "another connection")
		})
	}
}

func TestStall(t *testing.T) {
	for _, way := range []Way{Both, Requests, Replies} {
		t.Run("of "+string(way), func(t *testing.T) {
			p, _ := open(t, Options{})
			old := dial(t, p)
			wantEcho(t, old, "before")
			p.Inject(Fault{Kind: Stall, Way: way})
			young := dial(t, p)
			for _, c := range []net.Conn{old, young} {
				send(t, c, "held up")
				wantSilence(t, c)
			}
			p.Heal()
			want(t, old, "held up")
			want(t, young, "held up")
			wantEcho(t, young, "after")
		})
	}
	t.Run("for a time", func(t *testing.T) {
		p, _ := open(t, Options{})
		c := dial(t, p)
		wantEcho(t, c, "before")
		begin := time.Now()
		p.Inject(Fault{Kind: Stall, Way: Replies, For: 100 * time.Millisecond})
		wantEcho(t, c, "held up")
		if d := time.Since(begin); d < 100*time.Millisecond {
			t.Errorf("it was over after %v", d)
		}
		wantEcho(t, dial(t, p), "after")
	})
	t.Run("and cut", func(t *testing.T) {
		p, _ := open(t, Options{})
		c := dial(t, p)
		wantEcho(t, c, "before")
		p.Inject(Fault{Kind: Stall})
		send(t, c, "lost")
		p.Inject(Fault{Kind: Cut})
		if came, err := io.ReadAll(c); len(came) > 0 || err != nil {
			t.Errorf("got %q, %v", came, err)
		}
	})
}

func TestHalfOpen(t *testing.T) {
	p, _ := open(t, Options{})
	old := dial(t, p)
	wantEcho(t, old, "before")
	p.Inject(Fault{Kind: HalfOpen})
	silent := dial(t, p)
	send(t, silent, "is anybody there?")
	wantSilence(t, silent)
	wantEcho(t, old, "as before")
	p.Heal()
	wantEcho(t, dial(t, p), "after")
	send(t, silent, "and now?")
	wantSilence(t, silent)
}

func TestDrip(t *testing.T) {
	p, _ := open(t, Options{})
	c := dial(t, p)
	wantEcho(t, c, "before")
	p.Inject(Fault{Kind: Drip, Way: Replies, Every: 5 * time.Millisecond})
	begin := time.Now()
	wantEcho(t, c, "0123456789")
	if d := time.Since(begin); d < 45*time.Millisecond {
		t.Errorf("ten bytes took %v", d)
	}
	p.Heal()
	wantEcho(t, c, "as before")
}

func TestRandomFaultsFollowTheSeed(t *testing.T) {
	const n = 12
	kinds := []Fault{{Kind: Cut}, {Kind: Reset}, {Kind: Stall, For: time.Millisecond}, {Kind: Cut, Way: Replies, After: 3}}
	run := func(seed uint64) (all []Fault) {
		injected := make(chan Fault, 1000)
		p, _ := open(t, Options{Every: 3 * time.Millisecond, Faults: kinds, Seed: seed, Injected: func(f Fault) {
			select {
			case injected <- f:
			default:
			}
		}})
		for len(all) < n {
			if c, err := net.Dial("tcp", p.Addr()); err == nil { // it may be reset before it is there
				_, _ = io.WriteString(c, "something")
				_, _ = io.Copy(io.Discard, io.LimitReader(c, 9))
				_ = c.Close()
			}
			select {
			case f := <-injected:
				all = append(all, f)
			default:
			}
		}
		return all
	}
	a, b, c := run(1), run(1), run(2)
	if !slices.Equal(a, b) || slices.Equal(a, c) {
		t.Errorf("seed 1: %v\nseed 1: %v\nseed 2: %v", a, b, c)
	}
}

func TestCloseEndsWhateverGoesOn(t *testing.T) {
	for _, f := range []Fault{{}, {Kind: Stall}, {Kind: Drip, Every: time.Hour}, {Kind: HalfOpen}, {Kind: Cut, Way: Replies, After: 1 << 20}} {
		t.Run(f.String(), func(t *testing.T) {
			p, _ := open(t, Options{})
			old := dial(t, p)
			wantEcho(t, old, "before")
			p.Inject(f)
			for _, c := range []net.Conn{old, dial(t, p), dial(t, p)} {
				send(t, c, "on its way")
			}
			if err := p.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := net.Dial("tcp", p.Addr()); err == nil {
				t.Error("it still listens")
			}
		})
	}
}

func TestTargetAway(t *testing.T) {
	p, e := open(t, Options{})
	_ = e.Close()
	c, err := net.Dial("tcp", p.Addr())
	if err == nil { // what dials may see the reset, or only what reads
		defer c.Close()
		_, err = c.Read(make([]byte, 1))
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("got %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	for _, c := range []struct {
		name, target string
		o            Options
	}{
		{"no port", "localhost", Options{}},
		{"nothing to choose from", "localhost:1", Options{Every: time.Second}},
		{"negative", "localhost:1", Options{Every: -time.Second}},
		{"nowhere to listen", "localhost:1", Options{Listen: "nowhere"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if p, err := New(c.target, c.o); err == nil {
				t.Errorf("made %v", p.Close())
			}
		})
	}
}
