package redis_test

import (
	"net"
	"syscall"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/virtual"
)

// TestNothingIsStoredThatReplicasDoNotHave has a replica stand still: until it goes on, a Put has failed however often it is made, and then
// it is there once.
func TestNothingIsStoredThatReplicasDoNotHave(t *testing.T) {
	host, port := "127.0.0.1", freePort(t)
	at := net.JoinHostPort(host, port)
	startServer(t, "--port", port, "--bind", host, "--appendonly", "yes", "--repl-diskless-sync-delay", "0")
	replica := startServer(t, "--replicaof", host+" "+port)
	c := goredis.NewClient(&goredis.Options{Addr: at, MaxRetries: -1})
	defer c.Close()
	eventually(t, "a replica follows its master", func() bool { return c.Wait(t.Context(), 1, time.Second).Val() == 1 })

	s := open(t, "redis://"+at+"?replicas=1&replica_wait=50ms")
	r := virtual.PutRequest{Messages: []*virtual.Message{{Queue: orders, Payload: virtual.Bytes("m")}}, Producer: "p", Sequence: 1}
	eventually(t, "a Put is stored", func() bool { return s.Put(t.Context(), r) == nil })
	must(t, replica.process.Process.Signal(syscall.SIGSTOP), "SIGSTOP")
	r.Sequence = 2
	for range 3 { // by connections that have written nothing before, too: the first one may be any of the pool
		if err := s.Put(t.Context(), r); err == nil {
			t.Fatal("a Put says that a replica has it that stands still")
		}
		other := open(t, "redis://"+at+"?replicas=1&replica_wait=50ms")
		if err := other.Put(t.Context(), r); err == nil {
			t.Fatal("a Put that was made again says that a replica has it that stands still")
		}
	}
	must(t, replica.process.Process.Signal(syscall.SIGCONT), "SIGCONT")
	eventually(t, "the Put is stored", func() bool { return s.Put(t.Context(), r) == nil })
	if n, err := s.Size(t.Context(), orders); n != 2 || err != nil {
		t.Errorf("%d messages, %v; want one of each Put", n, err)
	}
}
