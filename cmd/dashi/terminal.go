package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// isTerminal reports whether a person is at the other end. /dev/null is a character device, too, and nobody.
func isTerminal(stream any) bool {
	f, ok := stream.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	if err != nil || info.Mode()&os.ModeCharDevice == 0 {
		return false
	}
	null, err := os.Stat(os.DevNull)
	return err != nil || !os.SameFile(info, null)
}

// redraw is how often a terminal is brought up to date.
const redraw = 100 * time.Millisecond

// live redraws a block of lines on a terminal until it is stopped; elsewhere it is quiet.
type live struct {
	w    io.Writer
	stop chan struct{}
	done chan struct{}
}

// startLive shows what draw returns, again and again, and nothing when w is no terminal.
func startLive(w io.Writer, draw func() []string) *live {
	l := &live{w: w, stop: make(chan struct{}), done: make(chan struct{})}
	if !isTerminal(w) {
		close(l.done)
		return l
	}
	go func() {
		defer close(l.done)
		tick := time.NewTicker(redraw)
		defer tick.Stop()
		shown := 0
		for {
			lines := draw()
			fmt.Fprint(w, erase(shown), strings.Join(lines, "\n"), "\n")
			shown = len(lines)
			select {
			case <-tick.C:
			case <-l.stop:
				fmt.Fprint(w, erase(shown)) // what follows says it better
				return
			}
		}
	}()
	return l
}

// end takes the block away.
func (l *live) end() {
	close(l.stop)
	<-l.done
}

// erase goes up n lines and clears all below.
func erase(n int) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("\x1b[%dA\x1b[J", n)
}

// grouped writes a number with its thousands apart.
func grouped(n int64) string {
	s := fmt.Sprint(n)
	sign := ""
	if n < 0 {
		sign, s = "-", s[1:]
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return sign + s
}

// sized writes a number of bytes in the unit a person would take.
func sized(n int64) string {
	switch {
	case n < 1e3:
		return fmt.Sprintf("%d bytes", n)
	case n < 1e6:
		return fmt.Sprintf("%.1f kB", float64(n)/1e3)
	case n < 1e9:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	}
	return fmt.Sprintf("%.1f GB", float64(n)/1e9)
}

// plural is a count with its noun.
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return grouped(n) + " " + noun + "s"
}
