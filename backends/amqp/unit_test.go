package amqp

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

func TestBothSchemesAreRegistered(t *testing.T) {
	for _, scheme := range []string{"amqp", "amqps"} {
		if _, ok := channel.Lookup(scheme); !ok {
			t.Errorf("no dialer for %s", scheme)
		}
	}
}

func TestURLsAreUnderstood(t *testing.T) {
	for _, c := range []struct {
		url, addr, user, vhost string
		heartbeat, timeout     time.Duration
		tls                    string // server name
	}{
		{"amqp://", "localhost:5672", "guest", "/", 10 * time.Second, 30 * time.Second, ""},
		{"amqp://u:p@h:1/v%2Fw", "h:1", "u", "v/w", 10 * time.Second, 30 * time.Second, ""},
		{"amqp://u:p%40@[::1]/?heartbeat=3&connection_timeout=500&channel_max=9", "[::1]:5672", "u", "/", 3 * time.Second, 500 * time.Millisecond, ""},
		{"amqps://h/?heartbeat=0", "h:5671", "guest", "/", 0, 30 * time.Second, "h"},
		{"amqps://h/?server_name_indication=other", "h:5671", "guest", "/", 10 * time.Second, 30 * time.Second, "other"},
	} {
		a, err := parse(c.url, channel.Config{})
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		name := ""
		if a.tls != nil {
			name = a.tls.ServerName
		}
		if a.addr != c.addr || a.user != c.user || a.config.Vhost != c.vhost || a.config.Heartbeat != c.heartbeat || a.timeout != c.timeout || name != c.tls {
			t.Errorf("%s: got %+v, server name %q", c.url, a, name)
		}
		if a.config.Recovery != nil {
			t.Errorf("%s: the library would reconnect", c.url)
		}
	}
}

func TestBadAddressesAreRefusedWithoutShowingThePassword(t *testing.T) {
	for _, c := range []struct {
		url     string
		options []any
		says    string
	}{
		{"amqp://u:s3cret%zz@h/", nil, "not a valid URL"},
		{"amqp://u:s3cret@h:port/", nil, "not a valid URL"},
		{"amqp://u:s3cret/@h/", nil, ""},
		{"amqp://u:s3cret@h/?heartbeat=often", nil, "heartbeat"},
		{"amqp://u:s3cret@h/?heartbeat=-1", nil, "heartbeat"},
		{"amqp://u:s3cret@h/?channel_max=70000", nil, "channel_max"},
		{"amqp://u:s3cret@h/?connection_timeout=-1", nil, "connection_timeout"},
		{"amqp://u:s3cret@h/?auth_mechanism=magic", nil, "magic"},
		{"amqps://u:s3cret@h/?cacertfile=no/such/file", nil, "cacertfile"},
		{"amqps://u:s3cret@h/?cacertfile=unit_test.go", nil, "no certificate"},
		{"amqps://u:s3cret@h/?certfile=x", nil, "go together"},
		{"amqps://u:s3cret@h/?certfile=x&keyfile=y", nil, "certfile"},
		{"amqp://u:s3cret@h/", []any{42}, "int"},
		{"amqp://u:s3cret@h/", []any{(*tls.Config)(nil)}, "tls.Config"},
		{"http://u:s3cret@h/", nil, "scheme"},
		{"amqp://u:s3cret@127.0.0.1:1/", nil, "refused"},
	} {
		_, err := Dial(bounded(t), c.url, channel.Config{Options: c.options}, newLog(t))
		if err == nil || !strings.Contains(err.Error(), c.says) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%s: %v", c.url, err)
		}
	}
}

func TestDialEndsWithItsContextAndItsTimeout(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts, and never says a word
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	u := "amqp://" + l.Addr().String() + "/"
	if _, err := Dial(ended(), u, channel.Config{}, newLog(t)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	if _, err := Dial(ctx, u, channel.Config{}, newLog(t)); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := Dial(bounded(t), u+"?connection_timeout=10", channel.Config{}, newLog(t)); err == nil || !strings.Contains(err.Error(), "no answer within 10ms") {
		t.Errorf("got %v", err)
	}
}

func TestDialSaysWhenTheOtherSideIsNoBroker(t *testing.T) {
	for _, says := range []string{"", "HTTP/1.1 400 Bad Request\r\n\r\n"} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			if c, err := l.Accept(); err == nil {
				_, _ = io.ReadFull(c, make([]byte, 8))
				_, _ = io.WriteString(c, says)
				_ = c.Close()
			}
		}()
		_, err = Dial(bounded(t), "amqp://"+l.Addr().String()+"/", channel.Config{}, newLog(t))
		if err == nil {
			t.Errorf("after %q: no error", says)
		}
		_ = l.Close()
	}
}

func TestTablesTheClientCouldNotReadAreRefused(t *testing.T) {
	nest := func(n int, array bool) channel.Table {
		var v any = "x"
		for range n {
			if array {
				v = []any{v}
			} else {
				v = channel.Table{"k": v}
			}
		}
		return channel.Table{"k": v}
	}
	wide := make(channel.Table, maxEntries+1)
	for i := range maxEntries + 1 {
		wide[fmt.Sprint(i)] = nil
	}
	for _, c := range []struct {
		name string
		t    channel.Table
		ok   bool
	}{
		{"deep enough", nest(32, false), true},
		{"deep arrays", nest(32, true), true},
		{"too deep", nest(33, false), false},
		{"too deep arrays", nest(33, true), false},
		{"too wide", wide, false},
		{"too wide inside", channel.Table{"k": make([]any, maxEntries+1)}, false},
		{"unknown type", channel.Table{"k": struct{}{}}, false},
		{"unknown type inside", channel.Table{"k": []any{channel.Table{"l": 1i}}}, false},
		{"uint64", channel.Table{"k": uint64(1 << 63)}, false},
		{"uint", channel.Table{"k": uint(1 << 63)}, false},
		{"nil", nil, true},
	} {
		out, err := toTable(c.t)
		if (err == nil) != c.ok {
			t.Errorf("%s: %v", c.name, err)
		}
		if err == nil && out.Validate() != nil {
			t.Errorf("%s: the library says %v", c.name, out.Validate())
		}
	}
}

// frame makes a frame of AMQP 0-9-1.
func frame(kind byte, channelID uint16, payload []byte) []byte {
	b := []byte{kind}
	b = binary.BigEndian.AppendUint16(b, channelID)
	b = binary.BigEndian.AppendUint32(b, uint32(len(payload)))
	return append(append(b, payload...), 0xCE)
}

func closeMethod(id uint32, code uint16, text string, fault uint32) []byte {
	b := binary.BigEndian.AppendUint32(nil, id)
	b = binary.BigEndian.AppendUint16(b, code)
	b = append(append(b, byte(len(text))), text...)
	return binary.BigEndian.AppendUint32(b, fault)
}

func TestCloseMethodsAreFoundInAnyCutOfTheStream(t *testing.T) {
	stream := slices.Concat(
		frame(1, 1, closeMethod(60<<16|60, 404, "a method that looks like one", 0)),
		frame(3, 1, closeMethod(channelClose, 404, "in a body", 0)),
		frame(1, 1, closeMethod(channelClose, 404, "NOT_FOUND", 50<<16|10)),
		frame(8, 0, nil),
		frame(3, 2, make([]byte, 1000)),
		frame(1, 0, closeMethod(connectionClose, 320, "", 0)),
		frame(1, 9, closeMethod(channelClose, 406, strings.Repeat("x", 255), 60<<16|80)),
		frame(1, 9, closeMethod(channelClose, 406, "length is wrong", 60<<16|80)[:14]),
	)
	want := []closing{{404, "NOT_FOUND", "queue.declare"}, {320, "", ""}, {406, strings.Repeat("x", 255), "basic.ack"}}
	for size := 1; size < 300; size++ {
		var got []closing
		f := frames{closed: func(c closing) { got = append(got, c) }}
		for b := range slices.Chunk(stream, size) {
			f.feed(b)
		}
		if !slices.Equal(got, want) {
			t.Fatalf("in pieces of %d: got %+v", size, got)
		}
	}
}

func FuzzFramesSurviveAnything(f *testing.F) {
	f.Add(frame(1, 1, closeMethod(channelClose, 404, "NOT_FOUND", 50<<16|10)), 3)
	f.Add([]byte("HTTP/1.1 400 Bad Request\r\n\r\n"), 1)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		if size < 1 {
			size = 1
		}
		var whole, pieces []closing
		a := frames{closed: func(c closing) { whole = append(whole, c) }}
		a.feed(b)
		p := frames{closed: func(c closing) { pieces = append(pieces, c) }}
		for c := range slices.Chunk(b, size) {
			p.feed(c)
		}
		if !slices.Equal(whole, pieces) {
			t.Errorf("whole %+v, in pieces of %d %+v", whole, size, pieces)
		}
	})
}

func TestTheCloseLogIsBoundedAndForgetsWhatItTold(t *testing.T) {
	var l closeLog
	for i := range 3 * maxClosings {
		l.add(closing{404, "x", fmt.Sprint(i)})
	}
	if got := l.method(404, "x"); got != fmt.Sprint(2*maxClosings) {
		t.Errorf("the oldest is %s", got)
	}
	if got := l.method(404, "y"); got != "" {
		t.Errorf("got %s", got)
	}
	if len(l.last) != maxClosings-1 {
		t.Errorf("%d are kept", len(l.last))
	}
}

// stuck is a connection whose writes wait until they are let through.
type stuck struct {
	net.Conn
	gate    chan struct{}
	written bytes.Buffer
}

func (s *stuck) Write(b []byte) (int, error) {
	<-s.gate
	return s.written.Write(b)
}
func (s *stuck) Close() error                     { return nil }
func (s *stuck) SetWriteDeadline(time.Time) error { return nil }
func (s *stuck) Read([]byte) (int, error)         { return 0, io.EOF }

func TestTheWireTakesWhatItIsGivenAndWritesItInOrder(t *testing.T) {
	s := &stuck{gate: make(chan struct{})}
	w := newWire(s)
	var want bytes.Buffer
	for i := range 1000 {
		b := fmt.Appendf(nil, "%d,", i)
		want.Write(b)
		if n, err := w.Write(b); n != len(b) || err != nil {
			t.Fatal(n, err)
		}
	}
	close(s.gate)
	if err := w.Close(); err != nil { // writes the rest first
		t.Fatal(err)
	}
	if !bytes.Equal(s.written.Bytes(), want.Bytes()) {
		t.Error("what was written is not what was given")
	}
	if _, err := w.Write([]byte("x")); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a closed wire says %v", err)
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
}

func TestRoomIsWaitedForUntilTheContextEndsOrTheWireDoes(t *testing.T) {
	s := &stuck{gate: make(chan struct{})}
	w := newWire(s)
	if err := w.waitRoom(ended()); err != nil {
		t.Errorf("an empty wire says %v", err)
	}
	for range 3 { // one of them is being written
		if _, err := w.Write(make([]byte, writeBound)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.waitRoom(ended()); !errors.Is(err, context.Canceled) {
		t.Errorf("a full wire says %v", err)
	}
	free := make(chan error)
	go func() { free <- w.waitRoom(bounded(t)) }()
	s.gate <- struct{}{}
	if err := <-free; err != nil {
		t.Error(err)
	}
	if _, err := w.Write(make([]byte, 2*writeBound)); err != nil {
		t.Fatal(err)
	}
	go func() { free <- w.waitRoom(bounded(t)) }()
	w.drop()
	if err := <-free; err != nil {
		t.Error(err)
	}
	close(s.gate)
	<-w.written
}

func TestTextsOfTheServerLoseTheirCodeName(t *testing.T) {
	err := fromError(&amqp091.Error{Code: 404, Reason: "NOT_FOUND - no queue 'x'", Server: true}, "queue.declare")
	if got, want := err.Error(), "404 NOT_FOUND queue.declare: no queue 'x'"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	e := wantCode(t, fromError(errors.New("odd"), "op"), channel.SyntaxError)
	if e.Text != "odd" || e.Server {
		t.Errorf("got %#v", e)
	}
}
