package main

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// readLines returns all lines that a reader of pieces of at most max bytes sees.
func readLines(r io.Reader, limit int) (lines []string, l *lineReader) {
	l = newLineReader(r)
	l.max = limit
	for {
		line, err := l.next()
		if err != nil {
			return lines, l
		}
		lines = append(lines, string(line))
	}
}

func TestLinesAreWhole(t *testing.T) {
	long := strings.Repeat("0123456789", 300_000) // beyond any buffer
	for _, c := range []struct {
		name, text string
		want       []string
	}{
		{"nothing", "", nil},
		{"one", "a\n", []string{"a"}},
		{"no line feed at the end", "a\nb", []string{"a", "b"}},
		{"empty lines", "\n\na\n\n", []string{"", "", "a", ""}},
		{"carriage returns are kept", "a\r\nb\r", []string{"a\r", "b\r"}},
		{"binary", "\x00\xff\n\xfe", []string{"\x00\xff", "\xfe"}},
		{"long", long + "\nb\n" + long, []string{long, "b", long}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, r := range []io.Reader{strings.NewReader(c.text), iotest.HalfReader(strings.NewReader(c.text)), iotest.DataErrReader(strings.NewReader(c.text))} {
				if got, l := readLines(r, maxLine); !slices.Equal(got, c.want) || l.cuts != 0 {
					t.Errorf("%d lines, %d cut", len(got), l.cuts)
				}
			}
		})
	}
}

func TestEndlessLineGoesInPieces(t *testing.T) {
	const piece = 64 << 10 // what the reader's buffer holds
	for _, n := range []int{piece - 1, piece, piece + 1, 3 * piece, 3*piece + 7} {
		text := strings.Repeat("x", n)
		got, l := readLines(strings.NewReader("a\n"+text+"\nb"), piece)
		if joined := strings.Join(got, ""); joined != "a"+text+"b" || got[0] != "a" || got[len(got)-1] != "b" {
			t.Errorf("%d: %d pieces with %d bytes", n, len(got), len(joined))
		}
		if slices.Contains(got, "") || l.cuts > 1 || (n > 2*piece && l.cuts != 1) {
			t.Errorf("%d: %d cuts, empty pieces: %v", n, l.cuts, slices.Contains(got, ""))
		}
	}
}

func TestLineReaderTellsWhyItEnds(t *testing.T) {
	broken := errors.New("bad sector")
	l := newLineReader(io.MultiReader(strings.NewReader("a\nb"), iotest.ErrReader(broken)))
	for _, want := range []string{"a", "b"} {
		if line, err := l.next(); err != nil || string(line) != want {
			t.Errorf("%q, %v", line, err)
		}
	}
	for range 2 {
		if _, err := l.next(); !errors.Is(err, broken) {
			t.Errorf("ends with %v", err)
		}
	}
}
