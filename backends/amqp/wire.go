package amqp

import (
	"context"
	"errors"
	"net"
	"sync"
	"time"
)

const (
	// writeBound is how many bytes may wait to be written before Publish waits.
	writeBound = 1 << 20
	// keepBuffer is the largest buffer that is kept for the next round.
	keepBuffer = 4 << 20
	// linger bounds how long an orderly close waits for the last bytes to leave.
	linger = time.Second
)

// wire is the connection as the client library holds it. Its Write does not wait for the network: the library writes under locks
// that its reader needs, so a peer that stops reading could otherwise stop everything, acks included. A goroutine writes what has
// gathered, many small messages at once. What comes in is watched for the server's close methods.
type wire struct {
	net.Conn // what is read and written: a TCP or TLS connection
	in       frames
	closes   closeLog

	mu      sync.Mutex // guards what follows
	work    *sync.Cond // signalled when there is something for the writer
	pending []byte
	room    chan struct{} // closed when there is room again; nil while nobody waits
	closed  bool
	err     error // the network's first error, while not closed

	written chan struct{} // closed when the writer has ended
	reading sync.Mutex    // held during Read
}

func newWire(c net.Conn) *wire {
	w := &wire{Conn: c, written: make(chan struct{})}
	w.work = sync.NewCond(&w.mu)
	w.in.closed = w.closes.add
	go w.writer()
	return w
}

// Read is called by the library's one reader.
func (w *wire) Read(b []byte) (int, error) {
	w.reading.Lock()
	defer w.reading.Unlock()
	n, err := w.Conn.Read(b)
	w.in.feed(b[:n])
	if err != nil {
		w.fail(err)
	}
	return n, err
}

// Write takes all of b, or fails because the connection has ended.
func (w *wire) Write(b []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err != nil {
		return 0, w.err
	}
	if w.closed {
		return 0, net.ErrClosed
	}
	if len(w.pending) == 0 {
		w.work.Signal()
	}
	w.pending = append(w.pending, b...)
	return len(b), nil
}

// waitRoom waits until fewer than writeBound bytes wait to be written, or the connection has ended.
func (w *wire) waitRoom(ctx context.Context) error {
	for {
		w.mu.Lock()
		if len(w.pending) < writeBound || w.closed || w.err != nil {
			w.mu.Unlock()
			return nil
		}
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func (w *wire) writer() {
	defer close(w.written)
	var buf []byte
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for len(w.pending) == 0 && !w.closed && w.err == nil {
			w.work.Wait()
		}
		if len(w.pending) == 0 || w.err != nil {
			return
		}
		buf, w.pending = w.pending, buf[:0]
		w.freed()
		w.mu.Unlock()
		_, err := w.Conn.Write(buf)
		if cap(buf) > keepBuffer {
			buf = nil
		}
		if err != nil {
			w.fail(err)
			_ = w.Conn.Close() // the reader finds out
		}
		w.mu.Lock()
		if err != nil {
			return
		}
	}
}

// freed lets those go on who wait for room. Called with mu held.
func (w *wire) freed() {
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
}

// fail keeps the network's first error.
func (w *wire) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.closed && w.err == nil {
		w.err = err
	}
	w.freed()
	w.work.Signal()
}

// failure returns the network's first error, or nil.
func (w *wire) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// ended reports whether nothing can be written any more.
func (w *wire) ended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.closed || w.err != nil
}

// Close is the library's: what has been written before leaves, within linger.
func (w *wire) Close() error {
	w.mu.Lock()
	first := !w.closed
	w.closed = true
	w.freed()
	w.work.Signal()
	w.mu.Unlock()
	if first {
		_ = w.Conn.SetWriteDeadline(time.Now().Add(linger))
		<-w.written
	}
	err := w.Conn.Close()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// drop ends the connection as a killed process would: nothing more is written, and the peer gets no goodbye.
func (w *wire) drop() {
	w.mu.Lock()
	w.closed = true
	w.pending = nil
	w.freed()
	w.work.Signal()
	w.mu.Unlock()
	c := w.Conn
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn() // without TLS's goodbye
	}
	_ = c.Close()
}

// join waits, after Close or drop, for the writer, and for the read in progress: no other will wait.
func (w *wire) join() {
	<-w.written
	w.reading.Lock()
	defer w.reading.Unlock()
}
