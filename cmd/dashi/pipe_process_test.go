package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// beProgram makes a process of the tests the program.
const beProgram = "DASHI_TEST_BE_PROGRAM"

// process is the program in a process of its own, whose standard output is a pipe.
type process struct {
	*exec.Cmd
	out *os.File
	err bytes.Buffer
}

func (p *place) process(args ...string) *process {
	p.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	p.t.Cleanup(stop)
	read, write, err := os.Pipe()
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { _ = read.Close() })
	c := &process{Cmd: exec.CommandContext(ctx, os.Args[0], args...), out: read}
	c.Env = append(os.Environ(), beProgram+"=1", "DASHI_URL="+p.url)
	c.Stdout, c.Stderr = write, &c.err
	if err := c.Start(); err != nil {
		p.t.Fatal(err)
	}
	_ = write.Close()
	return c
}

// ends checks how the process ended, and returns of how many messages it tells.
func (c *process) ends(t *testing.T, code int, format string) (n int) {
	t.Helper()
	var exit *exec.ExitError
	if err := c.Wait(); !errors.As(err, &exit) || exit.ExitCode() != code {
		t.Errorf("it ended with %v, want exit code %d", err, code)
	}
	lines := strings.Split(strings.TrimSpace(c.err.String()), "\n")
	if _, err := fmt.Sscanf(lines[len(lines)-1], format, &n); err != nil {
		t.Fatalf("%v: said\n%s\nwant %q", err, c.err.String(), format)
	}
	return n
}

// comesTo waits until a queue has so many messages.
func (p *place) comesTo(queue string, want int) {
	p.t.Helper()
	ctx, stop := context.WithTimeout(p.t.Context(), 20*time.Second)
	defer stop()
	for {
		q, err := p.ch.QueueDeclarePassive(ctx, queue)
		if err != nil {
			p.t.Fatalf("the queue does not come to %d messages: %v", want, err)
		}
		if q.Messages == want {
			return
		}
	}
}

func TestProcessesOnAServerLoseNothing(t *testing.T) {
	for _, variable := range []string{"DASHI_REDIS_URL", "DASHI_AMQP_URL"} {
		t.Run(variable, func(t *testing.T) {
			url := os.Getenv(variable)
			if url == "" {
				t.Skipf("needs %s: two processes share a server", variable)
			}
			p := openPlace(t, url)
			name := fmt.Sprintf("dashi-pipe-%d", time.Now().UnixNano())
			defer func() {
				_, err := p.ch.QueueDelete(context.Background(), name, channel.DeleteOptions{})
				if err := errors.Join(err, p.ch.ExchangeDelete(context.Background(), name, channel.DeleteOptions{})); err != nil {
					t.Error(err)
				}
			}()
			run := p.consume(&bytes.Buffer{}, "--queue", name, "--bind", name+":*.error", "--bind", name+":info.#")
			run.cancel()
			run.ends(t, exitInterrupted, "bound to")

			const lines = 1000 // together more than a pipe takes
			line := func(i int) string { return fmt.Sprintf("%d web error %s\n", i, strings.Repeat("x", 1000)) }
			var text strings.Builder
			for i := range lines {
				text.WriteString(line(i) + "x debug web\n")
			}
			p.publish(strings.NewReader(text.String()), "--exchange", name, "--type", "topic", "--key-from", "$2.$3").want(t, exitOK)
			p.comesTo(name, lines)

			// A reader that goes away, as head does.
			c := p.process("consume", "--queue", name)
			readLines := bufio.NewReader(c.out)
			for i := range 3 {
				if got, err := readLines.ReadString('\n'); got != line(i) {
					t.Fatalf("%q, %v", got, err)
				}
			}
			_ = c.out.Close()
			written := c.ends(t, exitFailed, "dashi: consume: after %d messages: write /dev/stdout: broken pipe")
			p.comesTo(name, lines-written)

			// ^C while messages come. What was written is read after it.
			c = p.process("consume", "--queue", name, "--prefetch", "10")
			readLines = bufio.NewReader(c.out)
			got, err := readLines.ReadString('\n')
			if got != line(written) {
				t.Fatalf("%q, %v, want that of line %d", got, err, written)
			}
			if err := c.Process.Signal(os.Interrupt); err != nil {
				t.Fatal(err)
			}
			read := 1
			for ; err == nil; read++ {
				_, err = readLines.ReadString('\n')
			}
			more := c.ends(t, exitInterrupted, "dashi: consume: interrupted after %d message")
			if read-1 != more {
				t.Errorf("it wrote %d lines and told of %d", read-1, more)
			}
			p.comesTo(name, lines-written-more)
		})
	}
}

func TestServerThatTellsNoTypesBindsByKeyOrHeaders(t *testing.T) {
	url := os.Getenv("DASHI_AMQP_URL")
	if url == "" {
		t.Skip("needs DASHI_AMQP_URL: other places tell the types of their exchanges")
	}
	byKey := []string{"--key", "type=pdf,pages=3", "by key"}
	byHeaders := []string{"--header", "type=pdf", "--header", "pages=3", "by headers"}
	for _, c := range []struct {
		kind, want    string
		first, second []string // only the second is for the queue
	}{
		{channel.Headers, "by headers\n", byKey, byHeaders},
		{channel.Direct, "by key\n", byHeaders, byKey},
	} {
		p := openPlace(t, url)
		name := fmt.Sprintf("dashi-pipe-%d", time.Now().UnixNano())
		if err := p.ch.ExchangeDeclare(t.Context(), name, c.kind, channel.ExchangeOptions{AutoDelete: true}); err != nil {
			t.Fatal(err)
		}
		out, written := io.Pipe()
		run := p.consume(written, "--bind", name+":type=pdf,pages=3")
		for _, args := range [][]string{c.first, c.second} {
			p.publish(nil, append([]string{"--exchange", name}, args...)...).want(t, exitOK)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); line != c.want {
			t.Errorf("%s exchange: %q, %v", c.kind, line, err)
		}
		run.cancel()
		run.ends(t, exitInterrupted, "after 1 message")
	}
}
