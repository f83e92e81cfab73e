package redis

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/virtual"
)

// patience is how long Close lets calls that are on their way come to their end before it takes their connections away.
const patience = time.Second

// ask makes a call of the client and returns when it has its answer or ctx has ended: the client looks at the deadline of a
// context while it waits for a reply, but not at its end. A call that was given up goes on until the client's own timeouts or
// Close end it, and nobody hears of it. It belongs to a call that has entered.
func (s *Store) ask(ctx context.Context, call func() error) error {
	if ctx.Done() == nil {
		return call()
	}
	done := make(chan error, 1)
	s.tasks.Go(func() { done <- call() })
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done: // both at once
		return err
	default:
		return ctx.Err()
	}
}

// finish waits for all calls. Those that do not end by themselves lose their connections, where these are the store's own.
func (s *Store) finish() {
	if s.lines != nil {
		t := time.AfterFunc(patience, s.lines.close)
		defer t.Stop()
	}
	s.tasks.Wait()
}

// lines are the connections of a client of the store's own, so that Close can end all of them, whatever the client is doing
// with them: a client ends those that it has in its pool, and not one on which it still says hello.
type lines struct {
	mu     sync.Mutex
	open   map[*line]struct{}
	closed bool
}

// line is one of the connections.
type line struct {
	net.Conn
	of    *lines
	raw   bool         // without TLS
	calls atomic.Int32 // reads and writes under way
	asked atomic.Bool  // a request was sent, and nothing of its reply has come
}

// rawLine is one without TLS: the client looks through it whether the server has closed it.
type rawLine struct {
	*line
	syscall.Conn
}

func newLines() *lines { return &lines{open: map[*line]struct{}{}} }

// DialHook is dial with connections that are known.
func (l *lines) DialHook(dial goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c := &line{Conn: conn, of: l}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.closed {
			_ = conn.Close()
			return nil, virtual.ErrClosed
		}
		l.open[c] = struct{}{}
		raw, ok := conn.(syscall.Conn)
		if c.raw = ok; ok {
			return rawLine{c, raw}, nil
		}
		return c, nil
	}
}

// ProcessHook leaves commands alone.
func (*lines) ProcessHook(next goredis.ProcessHook) goredis.ProcessHook { return next }

// ProcessPipelineHook leaves pipelines alone.
func (*lines) ProcessPipelineHook(next goredis.ProcessPipelineHook) goredis.ProcessPipelineHook {
	return next
}

// doubt ends the connections on which nothing is under way, since another one has broken: each of them may break at its next use, as
// all do whose server or network has gone, and a call is not made again often enough to try them all. Those with TLS stay: the client
// would not see that they have ended.
func (l *lines) doubt() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if c.raw && c.calls.Load() == 0 && !c.asked.Load() {
			c.cut() // the client sees that when it takes it
		}
	}
}

func (c *line) Read(b []byte) (int, error) {
	c.calls.Add(1)
	defer c.calls.Add(-1)
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.asked.Store(false)
	}
	return n, err
}

func (c *line) Write(b []byte) (int, error) {
	c.calls.Add(1)
	defer c.calls.Add(-1)
	c.asked.Store(true)
	return c.Conn.Write(b)
}

// close ends all connections, and those to come.
func (l *lines) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		c.cut()
	}
	clear(l.open)
}

// cut ends the connection without a word: TLS would say goodbye, and wait for that.
func (c *line) cut() {
	if under, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		_ = under.NetConn().Close()
		return
	}
	_ = c.Conn.Close()
}

// Close closes the connection.
func (c *line) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c)
	c.of.mu.Unlock()
	return c.Conn.Close()
}
