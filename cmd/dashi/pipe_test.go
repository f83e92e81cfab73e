package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
)

// runHere runs consume or publish as the program does, but also on memory, which is shared within a process.
func runHere(ctx context.Context, s streams, args ...string) int {
	var c cli
	parser, err := newParser(&c, s)
	if err != nil {
		panic(err)
	}
	parsed, err := parser.Parse(args)
	switch {
	case err != nil:
		err = unusable("%w", err)
	case strings.HasPrefix(parsed.Command(), "consume"):
		err = c.Consume.consume(ctx, s)
	default:
		err = c.Publish.publish(ctx, s)
	}
	code, err := exitCode(ctx, err)
	if err != nil {
		fmt.Fprintf(s.err, "dashi: %s\n", oneLine(err))
	}
	return code
}

// place is a place of a test's own, and a channel to look into it.
type place struct {
	t   *testing.T
	url string
	ch  *channel.Channel
}

func newPlace(t *testing.T) *place {
	t.Helper()
	name := strings.ToLower(strings.ReplaceAll(t.Name(), "/", "-"))
	t.Cleanup(func() { memory.Forget(name + "\x00") }) // of the vhost ""
	return openPlace(t, "memory://"+name)
}

func openPlace(t *testing.T, url string) *place {
	t.Helper()
	p := &place{t: t, url: url}
	conn, err := dashi.Dial(t.Context(), p.url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	if p.ch, err = conn.Channel(t.Context()); err != nil {
		t.Fatal(err)
	}
	return p
}

// publish runs "dashi publish" on lines.
func (p *place) publish(in io.Reader, args ...string) result {
	return p.run(p.t.Context(), in, append([]string{"publish"}, args...)...)
}

func (p *place) run(ctx context.Context, in io.Reader, args ...string) result {
	var out, err bytes.Buffer
	code := runHere(ctx, streams{in, &out, &err}, append([]string{args[0], "--url", p.url}, args[1:]...)...)
	return result{code, out.String(), err.String()}
}

// has checks the bodies of the messages that are ready in a queue, and leaves them there.
func (p *place) has(queue string, want ...string) {
	p.t.Helper()
	var got []string
	for _, d := range p.messages(queue) {
		got = append(got, string(d.Body))
	}
	if !slices.Equal(got, want) {
		p.t.Errorf("queue %q has %q, want %q", queue, got, want)
	}
}

// messages returns the messages that are ready in a queue, and puts them back.
func (p *place) messages(queue string) (ds []channel.Delivery) {
	p.t.Helper()
	for {
		d, ok, err := p.ch.Get(p.t.Context(), queue, false)
		if err != nil {
			p.t.Fatal(err)
		}
		if !ok {
			break
		}
		ds = append(ds, d)
	}
	for _, d := range ds {
		_ = d.Nack(false, true)
	}
	if err := p.ch.Flush(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
	return ds
}

// queue declares a durable queue.
func (p *place) queue(name string, args channel.Table) {
	p.t.Helper()
	if _, err := p.ch.QueueDeclare(p.t.Context(), name, channel.QueueOptions{Durable: true, Args: args}); err != nil {
		p.t.Fatal(err)
	}
}

// consumer is a "dashi consume" that runs.
type consumer struct {
	code   chan int
	err    *firstSaid
	cancel context.CancelFunc
}

// firstSaid is standard error, and tells when its first line is there.
type firstSaid struct {
	text  bytes.Buffer
	first chan struct{}
}

func (w *firstSaid) Write(b []byte) (int, error) {
	if w.text.Len() == 0 {
		defer close(w.first)
	}
	return w.text.Write(b)
}

// consume starts "dashi consume" and returns when it has said what it consumes, or has ended.
func (p *place) consume(out io.Writer, args ...string) *consumer {
	p.t.Helper()
	ctx, cancel := context.WithCancel(p.t.Context())
	c := &consumer{make(chan int, 1), &firstSaid{first: make(chan struct{})}, cancel}
	go func() {
		c.code <- runHere(ctx, streams{nil, out, c.err}, append([]string{"consume", "--url", p.url}, args...)...)
	}()
	<-c.err.first
	p.t.Cleanup(cancel)
	return c
}

// ends waits for the end, and checks the exit code and what was said.
func (c *consumer) ends(t *testing.T, code int, says ...string) {
	t.Helper()
	if got := <-c.code; got != code {
		t.Errorf("exit code %d, want %d", got, code)
	}
	for _, text := range says {
		if !strings.Contains(c.err.text.String(), text) {
			t.Errorf("standard error does not say %q:\n%s", text, c.err.text.String())
		}
	}
}
