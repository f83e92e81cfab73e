package main

import (
	"os"
	"strings"
	"testing"
)

func TestWithoutAURLMessagesGoThroughAFile(t *testing.T) {
	t.Chdir(t.TempDir())
	runDashi(t.Context(), strings.NewReader("one\ntwo\n"), "publish", "--queue", "jobs").want(t, exitOK)
	if _, err := os.Stat("dashi.db"); err != nil {
		t.Fatal(err)
	}
	r := runDashi(t.Context(), nil, "consume", "--queue", "jobs", "--count", "2")
	if r.code != exitOK || r.out != "one\ntwo\n" {
		t.Errorf("exit code %d, output %q, %s; want what was published", r.code, r.out, r.err)
	}
}

func TestConformanceOfAFile(t *testing.T) {
	conforms(t, "sqlite://"+t.TempDir()+"/try.db?synchronous=normal")
}

func TestConformanceOfARedis(t *testing.T) {
	server := os.Getenv("DASHI_REDIS_URL")
	if server == "" {
		t.Skip("needs DASHI_REDIS_URL")
	}
	conforms(t, server)
}

// conforms runs a few rows on a place, in every rig.
func conforms(t *testing.T, url string) {
	t.Helper()
	for _, rig := range []string{"one", "two", "five"} {
		r := runDashi(t.Context(), nil, "conformance", url, "--rig", rig, "--run", "EX-0")
		if r.code != exitOK || !strings.Contains(r.out, "rig "+rig) || strings.Contains(r.out, "fail ") {
			t.Errorf("rig %s: exit code %d\n%s%s", rig, r.code, r.out, r.err)
		}
	}
}
