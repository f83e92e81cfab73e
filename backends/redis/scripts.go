package redis

import (
	"embed"
	"strings"

	goredis "github.com/redis/go-redis/v9"
)

//go:embed lua
var lua embed.FS

// script joins files to one script. What is said once is in common; the last one is the call itself.
func script(names ...string) *goredis.Script {
	var b strings.Builder
	for _, n := range append([]string{"common"}, names...) {
		text, err := lua.ReadFile("lua/" + n + ".lua")
		if err != nil {
			panic(err) // not in this binary, which every test sees
		}
		b.Write(text)
	}
	return goredis.NewScript(b.String())
}

// Every call of the store is one of these.
var (
	putScript     = script("queue", "waiter", "sweep", "registry", "put", "do_put")
	applyScript   = script("queue", "waiter", "sweep", "registry", "put", "settle", "do_apply")
	getScript     = script("queue", "waiter", "sweep", "do_get")
	settleScript  = script("queue", "waiter", "sweep", "settle", "do_settle")
	ackScript     = script("do_ack")
	renewScript   = script("queue", "waiter", "sweep", "do_renew")
	queueScript   = script("queue", "waiter", "sweep", "do_queue")
	expireScript  = script("queue", "waiter", "sweep", "do_expire")
	watchScript   = script("queue", "waiter", "sweep", "do_watch")
	updateScript  = script("registry", "do_update")
	changesScript = script("registry", "do_changes")
	sessionScript = script("registry", "do_session")
)
