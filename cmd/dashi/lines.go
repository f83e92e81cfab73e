package main

import (
	"bufio"
	"errors"
	"io"
)

// maxLine is how much of one line goes into one message. What is longer, such as a disk image that somebody took for a
// log, goes in several, so that memory stays bounded and servers with a limit on messages take it.
const maxLine = 8 << 20

// lineReader splits a stream into lines of whatever bytes.
type lineReader struct {
	r    *bufio.Reader
	max  int
	cut  bool  // the piece before ended at max, within a line
	err  error // what ended the stream
	cuts int   // how many lines went in several pieces
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 64<<10), max: maxLine}
}

// next returns the next line without its line feed, in memory of its own, or why there is no more: io.EOF, or the
// reader's error. A line longer than max comes in several pieces.
func (l *lineReader) next() ([]byte, error) {
	var line []byte
	for l.err == nil {
		part, err := l.r.ReadSlice('\n')
		full := errors.Is(err, bufio.ErrBufferFull)
		ended := err == nil
		if ended {
			part = part[:len(part)-1]
		} else if !full {
			l.err = err
		}
		if line == nil {
			line = make([]byte, 0, len(part))
		}
		line = append(line, part...)
		switch {
		case full && len(line) >= l.max:
			if !l.cut {
				l.cuts++
			}
			l.cut = true
			return line, nil
		case full:
		case len(line) == 0 && (l.cut || !ended): // nothing was left of a line that was cut, or of the stream
			l.cut, line = false, nil
		default:
			l.cut = false
			return line, nil
		}
	}
	return nil, l.err
}
