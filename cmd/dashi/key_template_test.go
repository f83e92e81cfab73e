package main

import (
	"math/rand/v2"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestKeyTemplates(t *testing.T) {
	const syslog = "Nov 24 14:48:01 host sshd[123]: error: Connection from 10.0.0.1"
	for _, c := range []struct{ template, line, want string }{
		{"$5.$6", syslog, "sshd_123.error"},
		{"logs.${4}x.$4", syslog, "logs.hostx.host"},
		{"$10.$11.$1", syslog, "_._.nov"}, // the tenth is none
		{"$9", syslog, "10_0_0_1"},
		{"$1", "  ---  ", "_"},
		{"$1.$2", "", "_._"},
		{"$2", "a \xff\xfe", "_"},
		{"$2", "a GRÖSSE", "grösse"},
		{"$program.$level.$words", syslog, "sshd.error.connection.from"},
		{"$level", `{"level":"warn","msg":"x"}`, "warn"},
		{"$words.x", "12:00", "_.x"},
		{"a$$b.$$1", "x", "a$b.$1"},
		{"fixed", "x", "fixed"},
		{"", "x", ""},
	} {
		k, err := parseKeyTemplate(c.template)
		if err != nil {
			t.Errorf("%q: %v", c.template, err)
			continue
		}
		if got := k.key([]byte(c.line)); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.template, c.line, got, c.want)
		}
	}
}

func TestWrongKeyTemplatesAreRefused(t *testing.T) {
	for template, says := range map[string]string{
		"$":                             `after "$"`,
		"a.$.b":                         `after "a.$"`,
		"a.${5":                         `after "a.$"`,
		"${}":                           `after "$"`,
		"$0":                            "counted from 1",
		"$99999999999999999999":         "counted from 1",
		"$colour":                       "no field $colour",
		"${level2}":                     `after "$"`,
		"\xff":                          "UTF-8",
		strings.Repeat("$1.", 7):        "could have 287 bytes",
		strings.Repeat("k", 256):        "could have 256 bytes",
		"$level.$program.$words.$1.$2x": "could have 287 bytes",
	} {
		if _, err := parseKeyTemplate(template); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%q: %v, want %q", template, err, says)
		}
	}
}

func TestKeysOfTemplatesAreKeysWhateverTheLine(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 0))
	k, err := parseKeyTemplate("$1.$2.$words")
	if err != nil {
		t.Fatal(err)
	}
	lines := [][]byte{[]byte(strings.Repeat("x", 1<<20)), []byte(strings.Repeat("é", keyHead)), []byte(strings.Repeat("wörd ", 1<<18))}
	for range 2000 {
		line := make([]byte, r.IntN(300))
		for i := range line {
			line[i] = byte(r.IntN(256))
		}
		lines = append(lines, line)
	}
	for _, line := range lines {
		key := k.key(line)
		words := strings.Split(key, ".")
		if !utf8.ValidString(key) || len(key) > maxKey || len(words) < 3 || len(words) > 5 || strings.ContainsAny(key, "*#") {
			t.Errorf("%.100q: key %q", line, key)
		}
	}
}
