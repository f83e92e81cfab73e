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

// join makes one script of files, named in order with spaces between. What all have is in common; the last one is the call itself.
func join(names string) *script {
	var b strings.Builder
	for _, n := range strings.Fields("common " + names) {
		text, err := lua.ReadFile("lua/" + n + ".lua")
		if err != nil {
			panic(err) // not in this binary, which every test sees
		}
		b.Write(text)
	}
	sum := sha1.Sum([]byte(b.String())) // the name that Redis gives it
	return &script{b.String(), hex.EncodeToString(sum[:])}
}

// cold is what few calls need of queues, behind core, wake, take and next.
const cold = " queue held waiter sweep "

// Every call of the store is one of these. A script makes its functions anew each time it is called, so that a plain Put or Get
// comes behind the few that it needs and before all others.
var (
	putScript     = join("core wake append plain_put take next" + cold + "registry put do_put")
	applyScript   = join("core wake append take next" + cold + "registry put settle do_apply")
	getScript     = join("core take next plain_get wake" + cold + "do_get")
	settleScript  = join("core wake take next" + cold + "settle do_settle")
	ackScript     = join("take do_ack")
	renewScript   = join("core wake take next" + cold + "do_renew")
	queueScript   = join("core wake take next" + cold + "do_queue")
	expireScript  = join("core wake take next" + cold + "do_expire")
	watchScript   = join("core wake take next" + cold + "do_watch")
	updateScript  = join("registry do_update")
	changesScript = join("registry do_changes")
	sessionScript = join("registry do_session")
)
