package soak

import (
	"fmt"
	"os"
	"path/filepath"
	"time"
)

// Answer is what a consumer says to a delivery.
type Answer byte

// The answers.
const (
	Ack     Answer = 'a'
	Reject  Answer = 'r' // it is dead-lettered
	Requeue Answer = 'q'
)

// Book is where one process writes. Its methods are safe for concurrent use; each hands its lines to the kernel before it returns, in
// one write.
type Book struct{ f *os.File }

// Create opens a new book in the run's directory. Producers and consumers are known by their names: producer-N, consumer-N with
// N a number that no other process of the run has.
func Create(dir, name string) (*Book, error) {
	f, err := os.OpenFile(filepath.Join(dir, name+bookSuffix), os.O_WRONLY|os.O_CREATE|os.O_EXCL|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	return &Book{f}, nil
}

// Close closes the file.
func (b *Book) Close() error { return b.f.Close() }

// Now is the time as books have it.
func Now() int64 { return time.Now().UnixNano() }

// Published is written before a publish.
func (b *Book) Published(seq uint64) error { return b.line("p %d %d\n", seq, Now()) }

// Confirmed is written after a confirm.
func (b *Book) Confirmed(seq uint64) error { return b.line("c %d %d\n", seq, Now()) }

// Nacked is written after a negative confirm.
func (b *Book) Nacked(seq uint64) error { return b.line("n %d %d\n", seq, Now()) }

// Got is written when a message has come, as the process's delivery number d in a session, before anything else is done with it.
func (b *Book) Got(d uint64, session, queue int, id ID) error {
	return b.line("g %d %d %d %d %d %d\n", d, session, queue, id.Producer, id.Seq, Now())
}

// Damaged is written in place of Got for what is no message of ours, or not as it was sent.
func (b *Book) Damaged(queue int) error { return b.line("b %d %d\n", queue, Now()) }

// Answering is written before a delivery is answered.
func (b *Book) Answering(d uint64, a Answer) error { return b.line("s %d %c %d\n", d, a, Now()) }

// Answered is written when the place has said that the answers of deliveries have reached it, as it was asked to at the time asked.
func (b *Book) Answered(asked int64, ds ...uint64) error {
	var text []byte
	for _, d := range ds {
		text = fmt.Appendf(text, "d %d %d\n", d, asked)
	}
	_, err := b.f.Write(text)
	return err
}

// Lost is written when a session has ended that nobody had asked to.
func (b *Book) Lost(session int) error { return b.line("e %d %d\n", session, Now()) }

// Killing is written before a process is killed.
func (b *Book) Killing(name string) error { return b.line("k %s %d\n", name, Now()) }

// Restarting is written before the server is restarted, Restarted when it is back.
func (b *Book) Restarting() error { return b.line("r %d\n", Now()) }

// Restarted is written after the server was restarted.
func (b *Book) Restarted() error { return b.line("R %d\n", Now()) }

func (b *Book) line(format string, a ...any) error {
	_, err := fmt.Fprintf(b.f, format, a...) // one write: Fprintf has a buffer for the whole text
	return err
}
