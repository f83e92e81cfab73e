package redis

import (
	"crypto/sha1"
	"embed"
	"encoding/hex"
	"strings"
)

//go:embed lua
var lua embed.FS

// script is a script of the server.
type script struct{ text, sha string }

// join makes one script of files. What all have is in common; the last one is the call itself.
func join(names ...string) *script {
	var b strings.Builder
	for _, n := range append([]string{"common"}, names...) {
		text, err := lua.ReadFile("lua/" + n + ".lua")
		if err != nil {
			panic(err) // not in this binary, which every test sees
		}
		b.Write(text)
	}
	sum := sha1.Sum([]byte(b.String())) // the name that Redis gives it
	return &script{b.String(), hex.EncodeToString(sum[:])}
}

// Every call of the store is one of these.
var (
	putScript     = join("queue", "waiter", "sweep", "registry", "put", "do_put")
	applyScript   = join("queue", "waiter", "sweep", "registry", "put", "settle", "do_apply")
	getScript     = join("queue", "waiter", "sweep", "do_get")
	settleScript  = join("queue", "waiter", "sweep", "settle", "do_settle")
	ackScript     = join("do_ack")
	renewScript   = join("queue", "waiter", "sweep", "do_renew")
	queueScript   = join("queue", "waiter", "sweep", "do_queue")
	expireScript  = join("queue", "waiter", "sweep", "do_expire")
	watchScript   = join("queue", "waiter", "sweep", "do_watch")
	updateScript  = join("registry", "do_update")
	changesScript = join("registry", "do_changes")
	sessionScript = join("registry", "do_session")
)
