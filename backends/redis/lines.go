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

// grace is how long a call whose context has ended may still wait for its reply before it is given up.
const grace = 50 * time.Millisecond

// ask makes a call of the client that returns soon after ctx has ended: the client looks at the deadline of a context while it waits
// for a reply, but not at its end. Since it does not say on which connection it waits, all are taken from it on which nothing was heard
// since a request that is no older than the call; others who wait there hear of a broken connection. A client of the program's own is
// left to its timeouts.
func (s *Store) ask(ctx context.Context, call func() error) error { return s.lines.ask(ctx, call) }

func (l *lines) ask(ctx context.Context, call func() error) error {
	if l == nil || ctx.Done() == nil {
		return call()
	}
	var over atomic.Bool
	begin := time.Now()
	stop := context.AfterFunc(ctx, func() {
		time.AfterFunc(grace, func() {
			if !over.Load() {
				l.breakSilent(begin)
			}
		})
	})
	err := call()
	over.Store(true)
	if !stop() && err != nil {
		return ctx.Err()
	}
	return err
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
	since  time.Time // what times are counted from
	mu     sync.Mutex
	open   map[*line]struct{}
	closed bool
}

// line is one of the connections.
type line struct {
	net.Conn // nil while it is made
	of       *lines
	dialing  context.CancelFunc
	raw      bool         // without TLS
	calls    atomic.Int32 // reads and writes under way
	asked    atomic.Int64 // when a request was sent of whose reply nothing has come, in nanoseconds since of.since; 0: none was
}

// rawLine is one without TLS: the client looks through it whether the server has closed it.
type rawLine struct {
	*line
	syscall.Conn
}

func newLines() *lines { return &lines{since: time.Now(), open: map[*line]struct{}{}} }

// on has a client make its connections known.
func (l *lines) on(c *goredis.Client) *goredis.Client {
	c.AddHook(l)
	return c
}

// DialHook is dial with connections that are known, and can be ended while they are made, too.
func (l *lines) DialHook(dial goredis.DialHook) goredis.DialHook {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		ctx, end := context.WithCancel(ctx)
		defer end()
		c := &line{of: l, dialing: end}
		c.ask()
		l.mu.Lock()
		if l.closed {
			end()
		}
		l.open[c] = struct{}{}
		l.mu.Unlock()
		conn, err := dial(ctx, network, address)
		l.mu.Lock()
		defer l.mu.Unlock()
		if err == nil && ctx.Err() != nil {
			_ = conn.Close()
			err = ctx.Err()
		}
		if err != nil {
			delete(l.open, c)
			if l.closed {
				err = virtual.ErrClosed
			}
			return nil, err
		}
		c.Conn = conn
		c.asked.Store(0)
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
		if c.raw && c.calls.Load() == 0 && c.asked.Load() == 0 {
			c.cut() // the client sees that when it takes it
		}
	}
}

// breakSilent ends the connections on which a request was sent since then, and nothing heard.
func (l *lines) breakSilent(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.open {
		if c.asked.Load() > int64(since.Sub(l.since)) {
			c.cut()
		}
	}
}

func (c *line) ask() { c.asked.Store(int64(time.Since(c.of.since)) + 1) }

func (c *line) Read(b []byte) (int, error) {
	c.calls.Add(1)
	defer c.calls.Add(-1)
	n, err := c.Conn.Read(b)
	if n > 0 {
		c.asked.Store(0)
	}
	return n, err
}

func (c *line) Write(b []byte) (int, error) {
	c.calls.Add(1)
	defer c.calls.Add(-1)
	c.ask()
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

// cut ends the connection without a word: TLS would say goodbye, and wait for that. The lock is held.
func (c *line) cut() {
	if c.Conn == nil {
		c.dialing()
		return
	}
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
