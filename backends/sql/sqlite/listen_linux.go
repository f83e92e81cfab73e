package sqlite

import (
	"os"
	"syscall"
	"time"
)

// listen has events sent when a file is written to. idle is how often to look all the same. stop ends it.
func listen(file string) (events <-chan struct{}, stop func(), idle time.Duration) {
	fd, err := syscall.InotifyInit1(syscall.IN_CLOEXEC | syscall.IN_NONBLOCK)
	if err != nil { // there are too many already
		return nil, func() {}, often
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := syscall.InotifyAddWatch(fd, file, syscall.IN_MODIFY); err != nil {
		_ = f.Close()
		return nil, func() {}, often
	}
	c, done := make(chan struct{}, 1), make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			if _, err := f.Read(buf); err != nil {
				return
			}
			select {
			case c <- struct{}{}:
			default:
			}
		}
	}()
	return c, func() {
		_ = f.Close()
		<-done
	}, seldom
}
