package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

func TestConsumeRefusesWrongFlags(t *testing.T) {
	const url = "redis://u:s3cret@127.0.0.1:1/0"
	checkMisuse(t, []misuse{
		{"memory", []string{"--url", "memory://x"}, "give the URL of a server or of a store that processes share"},
		{"unknown scheme", []string{"--url", "carrier-pigeon://u:s3cret@h/"}, "carrier-pigeon"},
		{"nobody there", []string{"--url", url, "--queue", "q"}, "xxxxx"},
		{"negative prefetch", []string{"--url", url, "--prefetch", "-1"}, "--prefetch"},
		{"prefetch beyond AMQP", []string{"--url", url, "--prefetch", "65536"}, "--prefetch"},
		{"negative count", []string{"--url", url, "--count=-1"}, "--count"},
		{"taken and given back", []string{"--url", url, "--no-ack", "--requeue"}, "--no-ack"},
		{"taken beyond the count", []string{"--url", url, "--no-ack", "--count", "1"}, "--count"},
		{"empty type", []string{"--url", url, "--type="}, "--type"},
		{"binding without colon", []string{"--url", url, "--bind", "logs"}, "--bind"},
		{"binding to the default exchange", []string{"--url", url, "--bind", ":key"}, "--bind"},
		{"argument without value", []string{"--url", url, "--argument", "x-max-length"}, "--argument"},
		{"argument twice", []string{"--url", url, "--argument", "a=1", "--argument", "a=2"}, "--argument: a is there twice"},
		{"argument out of range", []string{"--url", url, "--argument", "a=1e999"}, "--argument: a: number 1e999"},
		{"unknown format", []string{"--url", url, "--format", "xml"}, "--format"},
		{"broken template", []string{"--url", url, "--format", "{{.Body"}, "--format"},
		{"unknown field", []string{"--url", url, "--format", "{{.Colour}}"}, "--format"},
		{"an argument", []string{"--url", url, "errors"}, "errors"},
	}, "consume")
}

func TestConsumeDeclaresWhatIsMissingAndSaysWhatItConsumes(t *testing.T) {
	for _, c := range []struct {
		name string
		args []string
		says string
	}{
		{"a queue", []string{"--queue", "errors"}, `dashi: consuming queue "errors"` + "\n"},
		{"bindings", []string{"--queue", "errors", "--bind", "logs:*.error.#", "--bind", "logs:a,b:c"},
			`dashi: consuming queue "errors", bound to "logs" by "*.error.#", "logs" by "a,b:c"` + "\n"},
		{"a queue of its own", []string{"--bind", "amq.fanout:"}, `dashi: consuming queue "amq.gen-`},
		{"headers", []string{"--queue", "q", "--bind", "amq.headers:k=1,x-match=any"}, `"amq.headers" by headers "k=1,x-match=any"`},
		{"a new headers exchange", []string{"--queue", "q", "--type", "headers", "--bind", "docs:k=1"}, `"docs" by headers "k=1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			run := newPlace(t).consume(io.Discard, c.args...)
			run.cancel()
			run.ends(t, exitInterrupted, c.says, "interrupted after 0 messages")
		})
	}
}

func TestConsumeTakesWhatExistsAsItIs(t *testing.T) {
	p := newPlace(t)
	p.queue("jobs", channel.Table{"x-max-length": 10})
	for name, kind := range map[string]string{"docs": channel.Headers, "plain": channel.Direct} {
		if err := p.ch.ExchangeDeclare(t.Context(), name, kind, channel.ExchangeOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	run := p.consume(io.Discard, "--queue", "jobs", "--bind", "docs:type=pdf,pages=3", "--bind", "plain:a=b")
	run.cancel()
	run.ends(t, exitInterrupted, `bound to "docs" by headers "type=pdf,pages=3", "plain" by "a=b"`)
	for _, m := range []struct {
		exchange, key, body string
		headers             channel.Table
	}{
		{"docs", "", "both", channel.Table{"type": "pdf", "pages": 3}},
		{"docs", "", "pages is text", channel.Table{"type": "pdf", "pages": "3"}},
		{"plain", "a=b", "by key", nil},
	} {
		if err := p.ch.Publish(t.Context(), m.exchange, m.key, channel.Publishing{Headers: m.headers, Body: []byte(m.body)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.ch.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.has("jobs", "both", "by key")
}

func TestConsumeAsksForTheQueueThatFlagsDescribe(t *testing.T) {
	p := newPlace(t)
	run := p.consume(io.Discard, "--queue", "short", "--argument", "x-max-length=1")
	run.cancel()
	run.ends(t, exitInterrupted)
	p.publish(nil, "--queue", "short", "a", "b").want(t, exitOK)
	p.has("short", "b")
	for _, args := range [][]string{{"--argument", "x-max-length=2"}, {"--no-durable"}, {"--auto-delete"}, {"--exclusive"}} {
		r := p.run(t.Context(), nil, append([]string{"consume", "--queue", "short"}, args...)...)
		r.want(t, exitUnusable, "short")
	}
	p.run(t.Context(), nil, "consume", "--queue", "q", "--type", "round", "--bind", "x:").want(t, exitUnusable, `--bind "x:"`, "round")
	p.run(t.Context(), nil, "consume", "--queue", "q", "--bind", "amq.headers:pdf").want(t, exitUnusable, "--bind", "NAME=VALUE")
}

func TestConsumeEndsAfterItsCount(t *testing.T) {
	p := newPlace(t)
	p.publish(nil, "--queue", "q", "a", "b", "c").want(t, exitOK)
	r := p.run(t.Context(), nil, "consume", "--queue", "q", "--count", "2")
	if r.code != exitOK || r.out != "a\nb\n" || strings.Count(r.err, "\n") != 1 {
		t.Errorf("%+v", r)
	}
	p.has("q", "c")
}

func TestLookingTakesNothing(t *testing.T) {
	p := newPlace(t)
	p.publish(nil, "--queue", "q", "a", "b", "c").want(t, exitOK)
	// More than the prefetch: what is looked at is not answered.
	r := p.run(t.Context(), nil, "consume", "--queue", "q", "--requeue", "--prefetch", "1", "--count", "2")
	if r.code != exitOK || r.out != "a\nb\n" {
		t.Errorf("%+v", r)
	}
	p.has("q", "a", "b", "c")
}

// closedPipe takes so many writes and fails then, as a pipe does whose reader has gone.
type closedPipe struct {
	room int
	bytes.Buffer
}

func (w *closedPipe) Write(b []byte) (int, error) {
	if w.room == 0 {
		return 0, errors.New("broken pipe")
	}
	w.room--
	return w.Buffer.Write(b)
}

func TestClosedOutputLosesNothing(t *testing.T) {
	p := newPlace(t)
	p.publish(nil, "--queue", "q", "a", "b", "c", "d").want(t, exitOK)
	out := &closedPipe{room: 2}
	run := p.consume(out, "--queue", "q")
	run.ends(t, exitFailed, "after 2 messages: broken pipe")
	if out.String() != "a\nb\n" {
		t.Errorf("written: %q", out.String())
	}
	if p.has("q", "c", "d"); t.Failed() {
		return
	}

	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer write.Close()
	_ = read.Close()
	p.consume(write, "--queue", "q").ends(t, exitFailed, "after 0 messages: ", "pipe")
	p.has("q", "c", "d")
}

// gate stops a write in its middle until it is opened.
type gate struct {
	reached, open chan struct{}
	bytes.Buffer
}

func (g *gate) Write(b []byte) (int, error) {
	g.reached <- struct{}{}
	<-g.open
	return g.Buffer.Write(b)
}

func TestInterruptedConsumerGivesBackWhatItDidNotWrite(t *testing.T) {
	p := newPlace(t)
	p.publish(nil, "--queue", "q", "a", "b", "c", "d").want(t, exitOK)
	out := &gate{reached: make(chan struct{}), open: make(chan struct{}, 2)}
	run := p.consume(out, "--queue", "q")
	for i := range 2 {
		select {
		case <-out.reached:
		case code := <-run.code:
			t.Fatalf("it ended with %d: %s", code, run.err.text.String())
		}
		if i == 0 {
			out.open <- struct{}{}
		}
	}
	// "b" is on its way, "c" and "d" are here already
	run.cancel()
	out.open <- struct{}{}
	run.ends(t, exitInterrupted, "interrupted after 2 messages")
	if out.String() != "a\nb\n" {
		t.Errorf("written: %q", out.String())
	}
	p.has("q", "c", "d")
}

func TestConsumeTellsThatItsQueueHasGone(t *testing.T) {
	p := newPlace(t)
	read, write := io.Pipe()
	run := p.consume(write, "--queue", "q")
	p.publish(nil, "--queue", "q", "a").want(t, exitOK)
	if line, err := bufio.NewReader(read).ReadString('\n'); line != "a\n" { // it consumes
		t.Fatal(line, err)
	}
	if _, err := p.ch.QueueDelete(t.Context(), "q", channel.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	run.ends(t, exitFailed, "after 1 message: consumer cancelled by the server")
}

func TestFormats(t *testing.T) {
	d := channel.Delivery{
		Exchange: "logs", RoutingKey: "a.b", Redelivered: true, ContentType: "text/plain", DeliveryMode: 2, Timestamp: time.Unix(1, 0),
		Headers: channel.Table{"n": int32(5), "f": 5.0, "b": []byte{0xff}}, Body: []byte("<x>"),
	}
	binary := channel.Delivery{Body: []byte{0xff, '\n'}}
	for _, c := range []struct {
		format string
		d      channel.Delivery
		want   string
	}{
		{"body", d, "<x>\n"},
		{"body", binary, "\xff\n\n"},
		{"key", d, "a.b\t<x>\n"},
		{"json", d, `{"exchange":"logs","routing_key":"a.b","redelivered":true,"properties":{"content_type":"text/plain","delivery_mode":2,"timestamp":1},` +
			`"headers":{"b":{"$bytes":"/w=="},"f":5.0,"n":5},"body":"<x>"}` + "\n"},
		{"json", binary, `{"exchange":"","routing_key":"","properties":{},"body_base64":"/wo="}` + "\n"},
		{"json", channel.Delivery{}, `{"exchange":"","routing_key":"","properties":{},"body":""}` + "\n"},
		{`{{.RoutingKey}}{{"\t"}}{{.Headers.n}} {{.ContentType}}: {{.Body}}`, d, "a.b\t5 text/plain: <x>\n"},
	} {
		r, err := newRenderer(c.format)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := r([]byte("before "), &c.d); err != nil || string(got) != "before "+c.want {
			t.Errorf("%s: %q, %v\nwant %q", c.format, got, err, c.want)
		}
	}
}

func TestWindowLeavesToOthersWhatIsBeyondTheCount(t *testing.T) {
	for _, c := range []struct {
		cmd  consumeCmd
		want int
	}{
		{consumeCmd{Prefetch: 100}, 100},
		{consumeCmd{Prefetch: 100, Count: 3}, 3},
		{consumeCmd{Prefetch: 100, Count: 300}, 100},
		{consumeCmd{Count: 3}, 3},
		{consumeCmd{}, 0},
		{consumeCmd{Prefetch: 100, Requeue: true}, 0},
		{consumeCmd{Prefetch: 1, Requeue: true, Count: 3}, 3},
		{consumeCmd{Prefetch: 1, Requeue: true, Count: 100_000}, 0}, // beyond what AMQP can say
	} {
		if got := c.cmd.window(); got != c.want {
			t.Errorf("%+v: %d, want %d", c.cmd, got, c.want)
		}
	}
}
