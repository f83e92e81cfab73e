package main

import (
	"context"
	"errors"
	"io"
)

// feed reads lines ahead. A Read of a terminal or a pipe cannot be interrupted, so when ctx ends while nothing comes its
// goroutine ends with the process.
type feed struct {
	c     chan []byte
	err   error // other than the end of the stream; set before c is closed
	ended bool  // all was read
}

// newFeed takes lines from next until it returns an error, at most so many ahead of who wants them.
func newFeed(ctx context.Context, next func() ([]byte, error), ahead int) *feed {
	f := &feed{c: make(chan []byte, ahead)}
	go func() {
		defer close(f.c)
		for {
			line, err := next()
			if err != nil {
				if !errors.Is(err, io.EOF) {
					f.err = err
				}
				return
			}
			select {
			case f.c <- line:
			case <-ctx.Done():
				return
			}
		}
	}()
	return f
}

// next returns the next line, or false at the end or when ctx has ended.
func (f *feed) next(ctx context.Context) ([]byte, bool) {
	if ctx.Err() != nil {
		return nil, false
	}
	select {
	case line, ok := <-f.c:
		f.ended = !ok
		return line, ok
	case <-ctx.Done():
		return nil, false
	}
}
