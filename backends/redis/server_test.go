package redis_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/conformance"
	"github.com/dashi-mq/dashi/virtual"
)

// ownServer is a server that a test may fill, stop and kill.
type ownServer struct {
	t       cleaner
	dir     string
	args    []string
	process *exec.Cmd
}

// startServer starts a server of the test's own on a socket in dir, which is short, or skips the test.
func startServer(t testing.TB, args ...string) *ownServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		t.Skip("needs the program redis-server (scripts/servers start redis installs it where there is no Docker engine)")
	}
	dir, err := os.MkdirTemp("", "dashi-redis-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	s := &ownServer{t: t, dir: dir, args: args}
	t.Cleanup(s.kill)
	if err := s.start(); err != nil {
		t.Fatal(err)
	}
	return s
}

func (s *ownServer) url() string { return "unix://" + filepath.Join(s.dir, "socket") }

func (s *ownServer) start() error {
	s.process = exec.Command("redis-server", append([]string{
		"--port", "0", "--unixsocket", filepath.Join(s.dir, "socket"), "--dir", s.dir, "--save", "", "--logfile", filepath.Join(s.dir, "log"),
	}, s.args...)...)
	if err := s.process.Start(); err != nil {
		return err
	}
	o, err := goredis.ParseURL(s.url())
	if err != nil {
		return err
	}
	c := goredis.NewClient(o)
	defer c.Close()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); ; <-tick.C {
		if err = c.Ping(context.Background()).Err(); err == nil || goredis.HasErrorPrefix(err, "NOAUTH") {
			return nil
		}
		if time.Now().After(end) {
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			return fmt.Errorf("redis-server does not answer: %w\n%s", err, log)
		}
	}
}

// startProcess starts another program of Redis, which ends with the test.
func startProcess(t *testing.T, args ...string) {
	t.Helper()
	p := exec.Command("redis-server", args...)
	must(t, p.Start(), "start of redis-server")
	t.Cleanup(func() {
		_ = p.Process.Kill()
		_ = p.Wait()
	})
}

// kill ends the server as a crash of it does.
func (s *ownServer) kill() {
	if s.process != nil {
		_ = s.process.Process.Kill()
		_ = s.process.Wait()
		s.process = nil
	}
}

func TestWhatAServerAnsweredIsThereAfterItWasKilled(t *testing.T) {
	s := startServer(t, "--appendonly", "yes", "--appendfsync", "always")
	r := conformance.RunStore(t, conformance.StoreConfig{
		Name: "redis, killed", Run: "Durable", Open: inServer(s.url()),
		Restart: func(conformance.T) error {
			s.kill()
			return s.start()
		},
	})
	if r.Passed != r.Total {
		t.Errorf("%s: want all", r.Summary())
	}
}

func TestDurableIsNotClaimedOfAServerThatKeepsNothing(t *testing.T) {
	s := open(t, newPlace(t, startServer(t, "--appendonly", "no").url()))
	if virtual.TraitsOf(s).Durable {
		t.Error("Durable is claimed of a server without an append-only file")
	}
	hidden := startServer(t, "--appendonly", "yes", "--rename-command", "CONFIG", "")
	if s := open(t, newPlace(t, hidden.url())); !virtual.TraitsOf(s).Durable {
		t.Error("Durable is not claimed of a server that says it by INFO alone")
	}
}

// fill takes all the memory that a server is allowed, and all it needs to take no more.
func fill(t *testing.T, s *ownServer) *goredis.Client {
	t.Helper()
	o, err := goredis.ParseURL(s.url())
	if err != nil {
		t.Fatal(err)
	}
	c := goredis.NewClient(o)
	t.Cleanup(func() { _ = c.Close() })
	if err := c.ConfigSet(t.Context(), "maxmemory", "1mb").Err(); err != nil { // less than an empty one uses
		t.Fatal(err)
	}
	return c
}
