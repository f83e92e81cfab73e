package main

import (
	"bufio"
	"context"
	"io"
	"net"
	"strings"
	"sync/atomic"
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

	p := startProxy(t, "--to", server.Addr().String(), "--every", "50ms", "--fault", "cut")
	c, err := net.DialTimeout("tcp", p.address, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadAll(c); err != nil { // until it is cut
		t.Error(err)
	}
	if text := <-p.told; !strings.Contains(text, " cut") {
		t.Errorf("it says %q", text)
	}
}

// startedProxy is the command at work.
type startedProxy struct {
	address string
	told    chan string // the first fault
	faults  atomic.Int64
}

// startProxy runs the command until the test ends.
func startProxy(t *testing.T, args ...string) *startedProxy {
	t.Helper()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	out, in := io.Pipe()
	code := make(chan int, 1)
	go func() {
		code <- run(ctx, append([]string{"proxy"}, args...), streams{nil, in, io.Discard})
		_ = in.Close()
	}()
	lines := bufio.NewScanner(out)
	if !lines.Scan() {
		t.Fatal("it says nothing")
	}
	p := &startedProxy{told: make(chan string, 1)}
	p.address, _, _ = strings.Cut(lines.Text(), " ")
	read := make(chan struct{})
	go func() {
		defer close(read)
		for lines.Scan() {
			if p.faults.Add(1) == 1 {
				p.told <- lines.Text()
			}
		}
	}()
	t.Cleanup(func() {
		cancel()
		if n := <-code; n != exitInterrupted {
			t.Errorf("exit code %d", n)
		}
		<-read
	})
	return p
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
