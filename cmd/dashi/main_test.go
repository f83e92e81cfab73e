package main

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	soaks := len(os.Args) > 1 && os.Args[1] == soakProcessName // "dashi soak" starts itself again, and this is itself
	if soaks || os.Getenv(beProgram) != "" {
		main()
	}
	_ = os.Unsetenv("DASHI_URL") // whoever runs the tests may have set it for themselves
	goleak.VerifyTestMain(m)
}

// result is what a run of the program left.
type result struct {
	code     int
	out, err string
}

// dashi runs the program in this process.
func runDashi(ctx context.Context, stdin io.Reader, args ...string) result {
	var out, err bytes.Buffer
	code := run(ctx, args, streams{stdin, &out, &err})
	return result{code, out.String(), err.String()}
}

// want checks the exit code, and that standard error says all of texts in one line.
func (r result) want(t *testing.T, code int, texts ...string) {
	t.Helper()
	if r.code != code {
		t.Errorf("exit code %d, want %d", r.code, code)
	}
	if n := strings.Count(r.err, "\n"); (n != 0) != (code != 0) || n > 1 {
		t.Errorf("standard error has %d lines:\n%s", n, r.err)
	}
	for _, text := range texts {
		if !strings.Contains(r.err, text) {
			t.Errorf("standard error does not say %q:\n%s", text, r.err)
		}
	}
	if t.Failed() {
		t.Logf("standard output:\n%s", r.out)
	}
}

// file writes a file for a test.
func file(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestHelpTeachesByExamples(t *testing.T) {
	for _, args := range [][]string{{}, {"--help"}, {"-h"}} {
		r := runDashi(t.Context(), nil, args...)
		r.want(t, exitOK)
		for _, text := range []string{"Exit codes: 0", "demo", "bench", "conformance", "soak", "proxy", "explain", "publish", "consume", "memory://", "DASHI_URL"} {
			if !strings.Contains(r.out, text) {
				t.Errorf("%v: the help does not say %q:\n%s", args, text, r.out)
			}
		}
	}
	for _, command := range []string{"demo", "bench", "conformance", "soak", "proxy", "explain", "publish", "consume"} {
		r := runDashi(t.Context(), nil, command, "--help")
		r.want(t, exitOK)
		if !strings.Contains(r.out, "    dashi "+command+" ") || !strings.Contains(strings.ToLower(r.out), "exit code") {
			t.Errorf("%s --help has no example, or no exit codes:\n%s", command, r.out)
		}
	}
}

func TestVersionIsOneLine(t *testing.T) {
	r := runDashi(t.Context(), nil, "--version")
	r.want(t, exitOK)
	if strings.Count(r.out, "\n") != 1 || len(r.out) < 2 {
		t.Errorf("%q", r.out)
	}
}

// misuse is a command line that cannot be used, in which every password is "s3cret", and what is said of it.
type misuse struct {
	name string
	args []string
	says string
}

// checkMisuse checks that each is refused with one line that shows no password. The arguments of all begin with before.
func checkMisuse(t *testing.T, all []misuse, before ...string) {
	t.Helper()
	for _, c := range all {
		t.Run(c.name, func(t *testing.T) {
			r := runDashi(t.Context(), strings.NewReader(""), append(before[:len(before):len(before)], c.args...)...)
			r.want(t, exitUnusable, "dashi: ", c.says)
			if strings.Contains(r.err, "s3cret") {
				t.Errorf("the password is shown: %s", r.err)
			}
		})
	}
}

func TestWrongUsageExits2AndShowsNoPassword(t *testing.T) {
	checkMisuse(t, []misuse{
		{"unknown command", []string{"dance"}, "dance"},
		{"unknown flag", []string{"bench", "--fast"}, "--fast"},
		{"flag without value", []string{"bench", "--url"}, "--url"},
		{"flag of another type", []string{"bench", "--n", "many"}, "many"},
		{"URL as an argument", []string{"bench", "amqp://u:s3cret@h/"}, "amqp://u:xxxxx@h/"},
		{"missing arguments", []string{"explain"}, "-f"},
		{"missing URL", []string{"conformance"}, "<url>"},
		{"unknown scheme", []string{"bench", "--url", "carrier-pigeon://u:s3cret@h/"}, "carrier-pigeon"},
		{"no URL", []string{"bench", "--url", "localhost"}, "localhost"},
		{"malformed URL", []string{"bench", "--url", "amqp://u:s3cret@h:port/"}, "xxxxx"},
		{"unknown option", []string{"demo", "--url", "memory://?colour=red", os.DevNull}, "colour"},
		{"nobody there", []string{"bench", "--url", "amqp://u:s3cret@127.0.0.1:1/"}, "xxxxx"},
		{"memory for processes", []string{"soak", "--url", "memory://shared"}, "give the URL of a server or of a store that processes share"},
		{"soak of nothing", []string{"soak"}, "--url"},
		{"nobody there", []string{"soak", "--url", "amqp://u:s3cret@127.0.0.1:1/"}, "xxxxx"},
		{"nobody there", []string{"demo", "--url", "amqp://u:s3cret@127.0.0.1:1/", os.DevNull}, "xxxxx"},
	})
}

func TestNumbersAreReadable(t *testing.T) {
	for n, want := range map[int64]string{0: "0", 999: "999", 1000: "1,000", 1234567: "1,234,567", -1000: "-1,000", -999: "-999"} {
		if got := grouped(n); got != want {
			t.Errorf("grouped(%d) = %q", n, got)
		}
	}
	for n, want := range map[int64]string{1: "1 bytes", 1500: "1.5 kB", 2_500_000: "2.5 MB", 3e9: "3.0 GB"} {
		if got := sized(n); got != want {
			t.Errorf("sized(%d) = %q", n, got)
		}
	}
	for ns, want := range map[int64]string{1234: "1.23µs", 123456: "123µs", 123456789: "123.5ms"} {
		if got := brief(ns); got != want {
			t.Errorf("brief(%d) = %q", ns, got)
		}
	}
}

func TestNullDeviceIsNoTerminal(t *testing.T) {
	f, err := os.Open(os.DevNull)
	if err != nil {
		t.Skip(err)
	}
	defer f.Close()
	if isTerminal(f) || isTerminal(&bytes.Buffer{}) || isTerminal(nil) {
		t.Error("taken for a terminal")
	}
}
