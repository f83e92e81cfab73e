package faultproxy

import (
	"io"
	"net"
	"sync"
	"time"
)

// lingering bounds how long a connection that was cut takes what its sides still send: closing it at once would reset it.
const lingering = time.Second

// link is one connection through the proxy.
type link struct {
	client, server *net.TCPConn
	requests       way
	replies        way
	ended          chan struct{} // closed when nothing is forwarded any more
	end            sync.Once

	mu      sync.Mutex    // guards the faults of both ways
	changed chan struct{} // closed, and another one made, when they change
}

// way is one direction of a link, with the faults that it has met.
type way struct {
	from, to *net.TCPConn
	stall    spell
	drip     spell
	every    time.Duration
	broken   *Fault // a Cut or Reset to come
	pass     int64  // after so many bytes
}

func newLink(client, server *net.TCPConn) *link {
	return &link{
		client: client, server: server, ended: make(chan struct{}), changed: make(chan struct{}),
		requests: way{from: client, to: server}, replies: way{from: server, to: client},
	}
}

// meet makes a fault happen to the link.
func (l *link) meet(f Fault) { l.meetUntil(f, f.over()) }

func (l *link) meetUntil(f Fault, until time.Time) {
	if (f.Kind == Cut || f.Kind == Reset) && f.After <= 0 {
		l.stop(f.Kind)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range [...]struct {
		*way
		is Way
	}{{&l.requests, Requests}, {&l.replies, Replies}} {
		if f.Way != Both && f.Way != w.is {
			continue
		}
		switch f.Kind {
		case Stall:
			w.stall = spell{true, until}
		case Drip:
			w.drip, w.every = spell{true, until}, f.Every
			if f.Every <= 0 {
				w.every = 10 * time.Millisecond
			}
		case Cut, Reset:
			w.broken, w.pass = &f, f.After
		}
	}
	l.tell()
}

// heal ends stalls and drips.
func (l *link) heal() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, w := range [...]*way{&l.requests, &l.replies} {
		w.stall, w.drip = spell{}, spell{}
	}
	l.tell()
}

// tell wakes who waits for a change. l.mu is held.
func (l *link) tell() {
	close(l.changed)
	l.changed = make(chan struct{})
}

// run forwards both ways and returns when both have ended.
func (l *link) run() {
	var wg sync.WaitGroup
	wg.Go(func() { l.pump(&l.requests) })
	wg.Go(func() { l.pump(&l.replies) })
	wg.Wait()
	l.close()
}

// pump forwards one way until its end, which it passes on, or that of the link. Then it takes what still comes.
func (l *link) pump(w *way) {
	buf := make([]byte, 32<<10)
	for {
		n, err := w.from.Read(buf)
		if n > 0 && !l.forward(w, buf[:n]) {
			break
		}
		if err == io.EOF && l.wait(w) {
			_ = w.to.CloseWrite()
			return
		}
		if err != nil {
			break
		}
	}
	l.stop(Cut) // the other way, too
	_, _ = io.Copy(io.Discard, w.from)
}

// forward writes b with all faults that the way has met; false when the link has ended.
func (l *link) forward(w *way, b []byte) bool {
	for len(b) > 0 {
		if !l.wait(w) {
			return false
		}
		n, broken, every := l.step(w, len(b))
		if _, err := w.to.Write(b[:n]); err != nil {
			return false
		}
		b = b[n:]
		if !l.passed(w, broken, n) || !l.pause(every) {
			return false
		}
	}
	return true
}

// wait returns when the way is not stalled; false when the link has ended.
func (l *link) wait(w *way) bool {
	for {
		l.mu.Lock()
		stall, changed := w.stall, l.changed
		l.mu.Unlock()
		select {
		case <-l.ended:
			return false
		default:
		}
		if !stall.now() {
			return true
		}
		over, letGo := stall.left()
		select {
		case <-over:
		case <-changed:
		case <-l.ended:
		}
		letGo()
	}
}

// step is how much of n bytes may be written now, on the way to what break, and how long to wait then.
func (l *link) step(w *way, n int) (_ int, broken *Fault, every time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if w.drip.now() {
		n, every = 1, w.every
	}
	if w.broken != nil {
		n = int(min(int64(n), w.pass))
	}
	return n, w.broken, every
}

// passed counts what was written, and breaks the link where it was to break; false then. A break that was injected meanwhile counts
// from the next byte.
func (l *link) passed(w *way, broken *Fault, n int) bool {
	if broken == nil {
		return true
	}
	l.mu.Lock()
	if w.broken == broken {
		w.pass -= int64(n)
	}
	over := w.broken == broken && w.pass == 0
	l.mu.Unlock()
	if over {
		l.stop(broken.Kind)
	}
	return !over
}

func (l *link) pause(d time.Duration) bool {
	if d == 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.ended:
		return false
	}
}

// stop ends the link, by FIN or RST. The pumps take what the sides send until they have ended, for a while.
func (l *link) stop(how Kind) {
	l.end.Do(func() {
		close(l.ended)
		for _, c := range [...]*net.TCPConn{l.client, l.server} {
			if how == Reset {
				_ = c.SetLinger(0)
				_ = c.Close()
				continue
			}
			_ = c.CloseWrite()
			_ = c.SetDeadline(time.Now().Add(lingering))
		}
	})
}

// close ends the link at once.
func (l *link) close() {
	l.stop(Cut)
	_ = l.client.Close()
	_ = l.server.Close()
}
