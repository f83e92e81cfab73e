package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

func TestProxyForwardsAndBreaks(t *testing.T) {
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := server.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = io.Copy(c, c)
	}()
	t.Cleanup(func() { _ = server.Close(); <-served })

	ctx, cancel := context.WithCancel(t.Context())
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, []string{"proxy", "--to", server.Addr().String(), "--every", "50ms", "--fault", "cut"}, streams{nil, in, io.Discard})
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("it says nothing")
	}
	address, _, _ := strings.Cut(lines.Text(), " ")
	told := make(chan string, 1)
	go func() {
		for lines.Scan() {
			select {
			case told <- lines.Text():
			default:
			}
		}
	}()
	c, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); err != nil { // until it is cut
		t.Error(err)
	}
	if text := <-told; !strings.Contains(text, " cut") {
		t.Errorf("it says %q", text)
	}
	cancel()
	if n := <-code; n != exitInterrupted {
		t.Errorf("exit code %d", n)
	}
	_ = in.Close()
}

func TestProxyRefuses(t *testing.T) {
	for _, c := range []struct {
		says string
		args []string
	}{
		{"--to", nil},
		{"missing port", []string{"--to", "localhost"}},
		{"not one of cut", []string{"--to", "localhost:1", "--fault", "fire"}},
		{"takes no time", []string{"--to", "localhost:1", "--fault", "cut=1s"}},
		{"is not a time", []string{"--to", "localhost:1", "--fault", "stall=long"}},
		{"--every must be positive", []string{"--to", "localhost:1", "--every", "0s"}},
		{"nowhere", []string{"--to", "localhost:1", "--listen", "nowhere"}},
	} {
		runDashi(t.Context(), nil, append([]string{"proxy"}, c.args...)...).want(t, exitUnusable, c.says)
	}
}
