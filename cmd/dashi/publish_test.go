package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
)

func TestPublishRefusesWrongFlags(t *testing.T) {
	const url = "redis://u:s3cret@127.0.0.1:1/0"
	checkMisuse(t, []misuse{
		{"memory", []string{"--url", "memory://x", "--queue", "q"}, "give the URL of a server or of a store that processes share"},
		{"nobody there", []string{"--url", url, "--queue", "q"}, "xxxxx"},
		{"nowhere to", []string{"--url", url}, "--exchange or --queue"},
		{"queue and exchange", []string{"--url", url, "--queue", "q", "--exchange", "x"}, "--queue"},
		{"queue and key", []string{"--url", url, "--queue", "q", "--key", "k"}, "--key"},
		{"type of nothing", []string{"--url", url, "--json", "--type", "topic"}, "--type"},
		{"two keys", []string{"--url", url, "--exchange", "x", "--key", "k", "--key-from", "$1"}, "--key-from"},
		{"long key", []string{"--url", url, "--exchange", "x", "--key", strings.Repeat("k", 256)}, "--key must be at most 255 bytes"},
		{"long content type", []string{"--url", url, "--queue", "q", "--content-type", strings.Repeat("k", 256)}, "--content-type"},
		{"broken template", []string{"--url", url, "--exchange", "x", "--key-from", "$5.$"}, "--key-from"},
		{"unknown field", []string{"--url", url, "--exchange", "x", "--key-from", "$colour"}, "--key-from: there is no field $colour"},
		{"header without value", []string{"--url", url, "--queue", "q", "--header", "x"}, "--header"},
		{"header out of range", []string{"--url", url, "--queue", "q", "--header", "x=18446744073709551616e999"}, "--header"},
		{"priority out of range", []string{"--url", url, "--queue", "q", "--priority", "256"}, "--priority"},
		{"expiration of nothing", []string{"--url", url, "--queue", "q", "--expiration", "1us"}, "--expiration"},
		{"expiration that is none", []string{"--url", url, "--queue", "q", "--expiration", "soon"}, "--expiration"},
		{"negative count", []string{"--url", url, "--queue", "q", "--count=-1"}, "--count"},
		{"properties beside those of JSON", []string{"--url", url, "--queue", "q", "--json", "--no-persistent"}, "--no-persistent"},
	}, "publish")
}

func TestEachLineIsAMessage(t *testing.T) {
	long := strings.Repeat("0123456789", 500_000)
	for _, c := range []struct {
		name, text string
		args, want []string
	}{
		{"nothing", "", nil, nil},
		{"lines", "a\nb\n", nil, []string{"a", "b"}},
		{"no line feed at the end", "a\nb", nil, []string{"a", "b"}},
		{"empty lines", "\n\na\n", nil, []string{"", "", "a"}},
		{"CR LF", "a\r\n\r\nb\r\r\n", nil, []string{"a", "", "b\r"}},
		{"binary", "\x00\xff\n", nil, []string{"\x00\xff"}},
		{"long", long + "\nb", nil, []string{long, "b"}},
		{"as many as wanted", "a\nb\nc\n", []string{"--count", "2"}, []string{"a", "b"}},
		{"arguments", "a\n", []string{"x", "y\nz", ""}, []string{"x", "y\nz", ""}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.queue("q", nil)
			r := p.publish(strings.NewReader(c.text), append([]string{"--queue", "q"}, c.args...)...)
			r.want(t, exitOK)
			p.has("q", c.want...)
		})
	}
}

func TestEveryLineOfManyIsConfirmedInOrder(t *testing.T) {
	p := newPlace(t)
	p.queue("q", nil)
	var lines []string
	for i := range 5 * sendWindow {
		lines = append(lines, fmt.Sprint(i))
	}
	p.publish(strings.NewReader(strings.Join(lines, "\n")), "--queue", "q").want(t, exitOK)
	p.has("q", lines...)
}

func TestPublishSetsWhatFlagsSay(t *testing.T) {
	p := newPlace(t)
	p.queue("q", nil)
	p.publish(nil, "--queue", "q", "--header", "n=1", "--header", `s="1"`, "--header", "t=a=b", "--header", "e=", "--content-type", "text/plain",
		"--priority", "3", "--expiration", "1m", "--mandatory", "x").want(t, exitOK)
	p.publish(nil, "--queue", "q", "--no-persistent", "y").want(t, exitOK)
	ds := p.messages("q")
	if len(ds) != 2 {
		t.Fatalf("%d messages", len(ds))
	}
	x, y := ds[0], ds[1]
	if want := (channel.Table{"n": int64(1), "s": "1", "t": "a=b", "e": ""}); !reflect.DeepEqual(x.Headers, want) {
		t.Errorf("headers %v", x.Headers)
	}
	if x.ContentType != "text/plain" || x.Priority != 3 || x.Expiration != "60000" || x.DeliveryMode != channel.Persistent {
		t.Errorf("properties %+v", x)
	}
	if y.Headers != nil || y.DeliveryMode != channel.Transient || y.Priority != 0 || y.Expiration != "" {
		t.Errorf("properties %+v", y)
	}
}

func TestKeysComeFromLines(t *testing.T) {
	p := newPlace(t)
	run := p.consume(io.Discard, "--queue", "errors", "--bind", "logs:*.error.#")
	run.cancel()
	run.ends(t, exitInterrupted)
	p.publish(strings.NewReader("1 web error db\n2 web info db\n3 web Error: x\n4\n"), "--exchange", "logs", "--type", "topic", "--key-from", "$2.$3").want(t, exitOK)
	p.has("errors", "1 web error db", "3 web Error: x")
	p.publish(nil, "--exchange", "logs", "--key", "a.error.b", "fixed").want(t, exitOK)
	p.has("errors", "1 web error db", "3 web Error: x", "fixed")
	p.publish(nil, "--exchange", "nowhere", "x").want(t, exitUnusable, `no exchange "nowhere"`, "--type")
}

func TestMandatoryMessagesThatReachNoQueueAreTold(t *testing.T) {
	p := newPlace(t)
	r := p.publish(nil, "--exchange", "amq.direct", "--key", "nobody", "--mandatory", "s3cret", "s3cret")
	if r.code != exitFailed || strings.Count(r.err, `routing key "nobody" reached no queue of exchange "amq.direct"`) != 2 {
		t.Errorf("%+v", r)
	}
	if !strings.HasSuffix(r.err, "dashi: publish: 2 lines confirmed, 2 of them in no queue\n") || strings.Contains(r.err, "s3cret") {
		t.Errorf("said:\n%s", r.err)
	}
	p.publish(nil, "--exchange", "amq.direct", "--key", "nobody", "x").want(t, exitOK)
}

func TestRefusedLinesAreCounted(t *testing.T) {
	p := newPlace(t)
	p.queue("full", channel.Table{"x-max-length": 1, "x-overflow": "reject-publish"})
	p.publish(nil, "--queue", "full", "first").want(t, exitOK)
	p.publish(nil, "--queue", "full", "a", "b").want(t, exitFailed, "publish: 0 lines confirmed, 2 refused (the first is line 1)")
	p.has("full", "first")
}

func TestPublishTellsHowFarItCame(t *testing.T) {
	line := func(exchange, body string) string {
		return fmt.Sprintf(`{"exchange":%q,"routing_key":"q","body":%q}`, exchange, body) + "\n"
	}
	for _, c := range []struct {
		name string
		in   io.Reader
		args []string
		want []string
		says []string
	}{
		{"the channel ends", strings.NewReader(line("", "a") + line("nowhere", "b")), []string{"--json"}, []string{"a"},
			[]string{"1 line confirmed, 1 not answered (from line 2 on)", "404 NOT_FOUND"}},
		{"no JSON", strings.NewReader(line("", "a") + "b\n" + line("", "c")), []string{"--json"}, []string{"a"}, []string{"1 line confirmed: line 2: "}},
		{"no body", strings.NewReader("{}\n"), []string{"--json"}, nil, []string{"line 1: ", "neither body nor body_base64"}},
		{"two bodies", strings.NewReader(`{"body":"","body_base64":""}`), []string{"--json"}, nil, []string{"not both"}},
		{"unknown field", strings.NewReader(`{"bodi":""}`), []string{"--json"}, nil, []string{"bodi"}},
		{"two objects", strings.NewReader(`{"body":""}{"body":""}`), []string{"--json"}, nil, []string{"more follows"}},
		{"wrong header", strings.NewReader(`{"body":"","headers":{"h":{"$time":"x"}}}`), []string{"--json"}, nil, []string{"headers: h: $time must be"}},
		{"key that is too long", strings.NewReader(line("", "a") + `{"routing_key":"` + strings.Repeat("k", 256) + `","body":""}`), []string{"--json"}, []string{"a"},
			[]string{"1 line confirmed: line 2: ", "routing key"}},
		{"broken input", io.MultiReader(strings.NewReader("a\n"), iotest.ErrReader(errors.New("bad sector"))), []string{"--queue", "q"}, []string{"a"},
			[]string{"1 line confirmed: bad sector"}},
		{"line without end", io.MultiReader(strings.NewReader("a\n"), bytes.NewReader(bytes.Repeat([]byte("x"), longestLine+1<<17))), []string{"--queue", "q"}, []string{"a"},
			[]string{"1 line confirmed: ", "longer than"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.queue("q", nil)
			p.publish(c.in, c.args...).want(t, exitFailed, c.says...)
			p.has("q", c.want...)
		})
	}
}

func TestLinesOfASlowPipeAreSentAtOnce(t *testing.T) {
	p := newPlace(t)
	out, written := io.Pipe()
	consumer := p.consume(written, "--queue", "q")
	in, feed := io.Pipe()
	done := make(chan result, 1)
	go func() { done <- p.publish(in, "--queue", "q") }()
	for i := range 3 { // the next line is written when the one before has come
		want := fmt.Sprintf("line %d\n", i)
		if _, err := io.WriteString(feed, want); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, len(want))
		if _, err := io.ReadFull(out, got); err != nil || string(got) != want {
			t.Fatalf("%q, %v", got, err)
		}
	}
	_ = feed.Close()
	r := <-done
	r.want(t, exitOK)
	consumer.cancel()
	consumer.ends(t, exitInterrupted, "after 3 messages")
}

func TestInterruptedPublishConfirmsWhatItSent(t *testing.T) {
	p := newPlace(t)
	p.queue("q", nil)
	in, feed := io.Pipe()
	defer feed.Close()
	ctx, interrupt := context.WithCancel(t.Context())
	done := make(chan result, 1)
	go func() { done <- p.run(ctx, in, "publish", "--queue", "q") }()
	for _, line := range []string{"a\n", "b\n", "half a line"} { // a write returns when it is read
		if _, err := io.WriteString(feed, line); err != nil {
			t.Fatal(err)
		}
	}
	for q, err := p.ch.QueueDeclarePassive(t.Context(), "q"); q.Messages < 2; q, err = p.ch.QueueDeclarePassive(t.Context(), "q") {
		if err != nil {
			t.Fatal(err)
		}
	}
	interrupt()
	r := <-done
	r.want(t, exitInterrupted, "publish: interrupted: 2 lines confirmed\n")
	p.has("q", "a", "b")
}

// "stuck" is a store like one behind a network, whose Puts are never answered.
func init() {
	virtual.Register("stuck", func(_ context.Context, rawURL string) (virtual.Store, error) {
		u, err := url.Parse(rawURL)
		if err != nil {
			return nil, err
		}
		slow := virtual.Claim(memory.Named(u.Host).Open(), func(t *virtual.Traits) { t.Quick = false })
		return virtual.Intercept(slow, func(ctx context.Context, c virtual.Call, next func(context.Context) error) error {
			if _, ok := c.Request.(*virtual.PutRequest); ok {
				<-ctx.Done()
				return ctx.Err()
			}
			return next(ctx)
		}), nil
	})
}

func TestAPlaceThatStandsStillGetsAWindowAndIsLeft(t *testing.T) {
	for _, c := range []struct {
		lines, size int
		says        string
	}{
		{2, 1, "0 lines confirmed, 2 not answered (from line 1 on)"},
		{3 * sendWindow, 1, fmt.Sprintf("0 lines confirmed, %d not answered", sendWindow)},
		{3, sendBytes / 2, "0 lines confirmed, 2 not answered"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, interrupt := context.WithCancel(t.Context())
			done := make(chan result, 1)
			p := &place{t: t, url: "stuck://publish"}
			defer memory.Forget("publish")
			text := strings.Repeat(strings.Repeat("x", c.size)+"\n", c.lines)
			go func() { done <- p.run(ctx, strings.NewReader(text), "publish", "--queue", "q") }()
			synctest.Wait()
			began := time.Now()
			interrupt()
			r := <-done
			r.want(t, exitInterrupted, c.says)
			if d := time.Since(began); d < hangUpLimit || d > 3*hangUpLimit {
				t.Errorf("it took %v", d)
			}
		})
	}
}

func TestPublishEndsWithItsChannelWhileNoLineComes(t *testing.T) {
	p := newPlace(t)
	if err := p.ch.Confirm(t.Context()); err != nil {
		t.Fatal(err)
	}
	silent := &feed{c: make(chan []byte)}
	s := newSending(p.ch, silent, nil, 0, io.Discard)
	done := make(chan error, 1)
	go func() { done <- s.run(t.Context()) }()
	if err := p.ch.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := <-done; !errors.Is(err, channel.ErrClosed) {
		t.Errorf("it ended with %v", err)
	}
}

func TestMessagesGoThroughPipesUnchanged(t *testing.T) {
	full := channel.Publishing{
		Headers: channel.Table{
			"nil": nil, "bool": true, "int": int64(-5), "big": int64(math.MaxInt64), "float": 0.1, "whole": 5.0, "huge": 1e300,
			"nan": math.NaN(), "inf": math.Inf(-1), "text": "a<b>\u2028\x00é", "bytes": []byte{0xff, 0}, "empty": []byte{}, "raw": "\xff",
			"time": time.Unix(1_700_000_000, 0).UTC(), "decimal": channel.Decimal{Scale: 2, Value: -1234},
			"table": channel.Table{"$time": "x", "list": []any{int64(1), 1.5, channel.Table{}, []any{}}}, "like": channel.Table{"$time": int64(1)},
			"other": channel.Table{"$colour": "red"}, "deep": channel.Table{"$table": channel.Table{"$bytes": "AA=="}},
		},
		ContentType: "text/plain", ContentEncoding: "identity", DeliveryMode: channel.Transient, Priority: 9, CorrelationId: "c", ReplyTo: "r", Expiration: "60000",
		MessageId: "m", Timestamp: time.Unix(1_700_000_000, 0).UTC(), Type: "t", AppId: "a", Body: []byte("<x>\n\"y\" é\u2028"),
	}
	for _, c := range []struct {
		name string
		m    channel.Publishing
	}{
		{"everything", full},
		{"nothing", channel.Publishing{}},
		{"binary", channel.Publishing{Body: []byte{0, 0xff, '\n', '\r'}}},
		{"no headers, and yet a table", channel.Publishing{Headers: channel.Table{}}},
		{"a header like a mark", channel.Publishing{Headers: channel.Table{"$time": int64(1)}}},
		{"the first second", channel.Publishing{Timestamp: time.Unix(0, 0).UTC()}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newPlace(t)
			p.queue("there", nil)
			if err := p.ch.QueueBind(t.Context(), "there", "a.#", "amq.topic", nil); err != nil {
				t.Fatal(err)
			}
			if err := p.ch.Publish(t.Context(), "amq.topic", "a.b", c.m); err != nil {
				t.Fatal(err)
			}
			first := p.run(t.Context(), nil, "consume", "--queue", "there", "--count", "1", "--format", "json")
			if strings.Count(first.out, "\n") != 1 {
				t.Fatalf("not a line:\n%s", first.out)
			}
			p.publish(strings.NewReader(first.out), "--json", "--mandatory").want(t, exitOK) // to where it came from
			ds := p.messages("there")
			if len(ds) != 1 {
				t.Fatalf("%d messages", len(ds))
			}
			d := ds[0]
			got := channel.Publishing{
				Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
				CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp, Type: d.Type, AppId: d.AppId,
			}
			want := c.m
			want.Body = nil
			if f, ok := got.Headers["nan"].(float64); ok && math.IsNaN(f) { // is not equal to itself
				got.Headers["nan"], want.Headers["nan"] = nil, nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("\n got %#v\nwant %#v", got, want)
			}
			if d.Exchange != "amq.topic" || d.RoutingKey != "a.b" || !bytes.Equal(d.Body, c.m.Body) {
				t.Errorf("%q %q %q", d.Exchange, d.RoutingKey, d.Body)
			}
			// And elsewhere, under another key.
			p.publish(strings.NewReader(first.out), "--json", "--queue", "q").want(t, exitOK)
			p.has("q", string(c.m.Body))
			p.publish(strings.NewReader(first.out), "--json", "--exchange", "amq.topic", "--key", "a.c").want(t, exitOK)
			if ds := p.messages("there"); len(ds) != 2 || ds[1].RoutingKey != "a.c" {
				t.Errorf("%d messages", len(ds))
			}
		})
	}
}
