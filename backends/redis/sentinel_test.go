package redis_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	goredis "github.com/redis/go-redis/v9"

	"github.com/dashi-mq/dashi/channel"
)

// freePort returns a port of the loopback that was free a moment ago.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err, "Listen")
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	must(t, err, "the address")
	return port
}

// watched are a master and its replica, and a Sentinel that watches them.
type watched struct {
	master, replica   *ownServer
	masterAt          string // HOST:PORT
	replicaAt, toldAt string
}

const sentinelPassword, serverPassword = "secret-of-sentinels", "secret-of-servers"

// startWatched starts them, all asking for passwords.
func startWatched(t *testing.T) *watched {
	t.Helper()
	w := &watched{masterAt: "127.0.0.1:" + freePort(t), replicaAt: "127.0.0.1:" + freePort(t), toldAt: "127.0.0.1:" + freePort(t)}
	server := func(at string, more ...string) *ownServer {
		host, port, _ := net.SplitHostPort(at)
		return startServer(t, append([]string{
			"--port", port, "--bind", host, "--requirepass", serverPassword, "--masterauth", serverPassword, "--appendonly", "yes", "--repl-diskless-sync-delay", "0",
		}, more...)...)
	}
	w.master = server(w.masterAt)
	_, port, _ := net.SplitHostPort(w.masterAt)
	w.replica = server(w.replicaAt, "--replicaof", "127.0.0.1 "+port)
	w.replicates(t)

	conf := filepath.Join(w.master.dir, "sentinel.conf") // a Sentinel writes into it
	host, told, _ := net.SplitHostPort(w.toldAt)
	must(t, os.WriteFile(conf, []byte(fmt.Sprintf("port %s\nbind %s\nrequirepass %s\nsentinel monitor orders 127.0.0.1 %s 1\nsentinel auth-pass orders %s\n"+
		"sentinel down-after-milliseconds orders 500\nsentinel failover-timeout orders 5000\n", told, host, sentinelPassword, port, serverPassword)), 0o600), "sentinel.conf")
	startProcess(t, conf, "--sentinel")
	c := goredis.NewSentinelClient(&goredis.Options{Addr: w.toldAt, Password: sentinelPassword})
	defer c.Close()
	eventually(t, "the Sentinel knows a replica", func() bool {
		replicas, err := c.Replicas(t.Context(), "orders").Result()
		return err == nil && len(replicas) == 1
	})
	return w
}

// replicates waits until the replica has what its master has.
func (w *watched) replicates(t *testing.T) {
	t.Helper()
	c := goredis.NewClient(&goredis.Options{Addr: w.masterAt, Password: serverPassword, MaxRetries: -1})
	defer c.Close()
	eventually(t, "a replica follows its master", func() bool { return c.Wait(t.Context(), 1, time.Second).Val() == 1 })
}

func (w *watched) url(query string) string {
	return "redis://:" + sentinelPassword + "@" + w.toldAt + "?master_name=orders&password=" + serverPassword + query
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for end := time.Now().Add(limit); !holds(); <-tick.C {
		if time.Now().After(end) {
			t.Fatalf("it does not come to be that %s", what)
		}
	}
}

// TestConsumersGoOnAfterAFailOver kills a master whose replica takes over.
func TestConsumersGoOnAfterAFailOver(t *testing.T) {
	if testing.Short() {
		t.Skip("takes seconds of real time")
	}
	w := startWatched(t)
	u := w.url("&prefix=place")
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	in, out := process(t, u), process(t, u)
	_, err := in.QueueDeclare(ctx, "orders", channel.QueueOptions{Durable: true})
	must(t, err, "QueueDeclare")
	must(t, in.Confirm(ctx), "Confirm")
	deliveries, err := out.Consume(ctx, "orders", channel.ConsumeOptions{})
	must(t, err, "Consume")
	for i := range 20 {
		if i == 10 {
			w.replicates(t) // else what was confirmed may be lost with the master
			w.master.kill()
		}
		passOn(ctx, t, in, deliveries, fmt.Sprint("m", i))
	}
}
