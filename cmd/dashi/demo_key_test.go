package main

import (
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/dashi-mq/dashi/exchange"
)

func TestKeysOfRealLogs(t *testing.T) {
	for _, c := range []struct{ file, line, want string }{
		{"/var/log/dpkg.log", "2024-11-24 14:48:01 status half-configured libfoo:amd64 1.2-3", "info.dpkg.status.half-configured.libfoo_amd64"},
		{"/var/log/dpkg.log.1", "2024-11-24 14:48:01 startup archives unpack", "info.dpkg.startup.archives.unpack"},
		{"/var/log/syslog", "Nov 24 14:48:01 host sshd[123]: Connection closed by 10.0.0.1 port 22", "info.sshd.connection.closed.by"},
		{"/var/log/syslog", "<11>Nov  4 14:48:01 host cron: (root) CMD (run-parts)", "error.cron.root.cmd.run-parts"},
		{"syslog", "2024-11-24T14:48:01.123456+00:00 host kernel: [  1.5] usb 1-1: device failed", "error.kernel.usb.device.failed"},
		{"x", `<34>1 2003-10-11T22:14:15.003Z mymachine.example.com su - ID47 - 'su root' failed for lonvick`, "error.su.su.root.failed"},
		{"journal", "Nov 24 14:48:01 host systemd[1]: Started Daily apt.", "info.systemd.started.daily.apt"},
		{"access.log", `10.0.0.1 - - [24/Nov/2024:14:48:01 +0000] "GET /api/users?id=7 HTTP/1.1" 200 12 "-" "curl"`, "info.access.status200.get.api"},
		{"access.log", `::1 - bob [24/Nov/2024:14:48:01 +0000] "POST /login HTTP/2" 404 12`, "warn.access.status404.post.login"},
		{"access.log", `::1 - - [24/Nov/2024:14:48:01 +0000] "GET / HTTP/2" 503 12`, "error.access.status503.get"},
		{"error.log", "2024/11/24 14:48:01 [error] 12#12: *7 open() \"/x\" failed", "error.error.open.x.failed"},
		{"app.log", "2024/11/24 14:48:01 main.go:12: listening on :8080", "info.app.main_go_12.listening.on"},
		{"app.log", `time=2024-11-24T14:48:01Z level=WARN msg="slow query" table=users`, "warn.app.slow.query"},
		{"app.log", `level=info caller=compact.go:519 component=tsdb msg="write block"`, "info.tsdb.write.block"},
		{"app.log", `{"time":"2024-11-24T14:48:01Z","level":"ERROR","msg":"no such user","logger":"auth"}`, "error.auth.no.such.user"},
		{"app.log", `{"level":30,"name":"web","msg":"request done"}`, "info.web.request.done"},
		{"app.log", `{"PRIORITY":"4","SYSLOG_IDENTIFIER":"dhclient","MESSAGE":"No DHCPOFFERS"}`, "warn.dhclient.no.dhcpoffers"},
		{"app.log", `{"broken json`, "info.app.broken.json"},
		{"glog", "E1124 14:48:01.123456   12 server.go:77] cannot bind", "error.server.cannot.bind"},
		{"dmesg", "[    0.000000] Linux version 6.1.0-9-amd64", "info.kernel.linux.version"},
		{"a.log", "2024-01-01 10:00:00 ERROR store: disk full", "error.store.disk.full"},
		{"a.log", "WARNING: deprecated option", "warn.a.deprecated.option"},
		{"a.log", "Mon Nov 24 14:48:01 2024 hello world", "info.a.hello.world"},
		{"a.log", "", "info.a"},
		{"a.log", "   \t\r", "info.a"},
		{"a.log", "12345 67.8 10.0.0.1", "info.a"},
		{"a.log", "bad \xff\xfe bytes \x00\x01", "info.a.bad.bytes"},
		{"a.log", "* # a.b *.# ...", "info.a.a_b"},
		{"a.log", "größe überschritten", "info.a.größe.überschritten"},
		{"", "hello", "info.stdin.hello"},
		{"/x/.hidden", "hello", "info.stdin.hello"},
		{"#.log", "hello", "info.file.hello"},
	} {
		if got := newKeyer(c.file).key([]byte(c.line)); got != c.want {
			t.Errorf("%s: %q\n got %q\nwant %q", c.file, c.line, got, c.want)
		}
	}
}

func checkKey(t *testing.T, line []byte) {
	t.Helper()
	key := newKeyer("x.log").key(line)
	words := strings.Split(key, ".")
	if !utf8.ValidString(key) || len(key) > 255 || len(words) < 2 || len(words) > 2+keyWords || slices.Contains(words, "") || strings.ContainsAny(key, "*#") {
		t.Errorf("%.100q: key %q", line, key)
	}
}

func TestKeysOfGarbageAreKeys(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		line := make([]byte, r.IntN(300))
		for i := range line {
			line[i] = byte(r.IntN(256))
		}
		checkKey(t, line)
	}
	checkKey(t, []byte(strings.Repeat("x", 2<<20)))
	checkKey(t, []byte(strings.Repeat("é", keyHead))) // is cut in the middle of a rune
	checkKey(t, []byte(strings.Repeat("word ", 1<<20)))
}

func FuzzKey(f *testing.F) {
	f.Add([]byte("Nov 24 14:48:01 host sshd[1]: x"))
	f.Add([]byte(`{"level":"warn"}`))
	f.Fuzz(checkKey)
}

func TestMatchingAgreesWithTheLibrary(t *testing.T) {
	for _, pattern := range []string{"#", "error.#", "*.x.#", "*.*.x.#", "*.x", "a.b"} {
		top := exchange.New()
		if _, err := top.AddExchange("t", "topic", nil, false); err != nil {
			t.Fatal(err)
		}
		top.AddQueue("q")
		if _, err := top.Bind(exchange.Binding{Source: "t", Destination: "q", Key: pattern}); err != nil {
			t.Fatal(err)
		}
		for _, key := range []string{"", "error", "error.x", "errors.x", "a.x", "a.x.b", "a.b", "a.b.x", "a.b.x.c", "a.b.xx", "x", "a", "a.b.c"} {
			if want := len(top.Explain("t", &exchange.Message{Key: key}).Queues) == 1; matches(pattern, key) != want {
				t.Errorf("pattern %q, key %q: %v", pattern, key, !want)
			}
		}
	}
}
