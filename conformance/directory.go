package conformance

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"github.com/dashi-mq/dashi/virtual"
)

// InDirectory returns Open and Restart for a store that lives in a directory. Every place is a new directory, and every
// handle an open of it. Restart goes on with a copy of what the directory holds while the old handles are still open: what
// they kept to themselves is lost. Files keep their modes and modification times, which may say something to the store.
// It copies while nobody writes, as the suites promise for Restart.
//
// The suites make thousands of files and measure time: the directories are in /dev/shm where that has a gigabyte to spare
// and TMPDIR says nothing else, since a disk may stand still for longer than a lease lasts. No suite can tell what a loss of
// power takes.
func InDirectory(open func(dir string) (virtual.Store, error)) (func(T) (func() (virtual.Store, error), error), func(T) error) {
	var places sync.Map // *dirPlace, by the T it was made for
	return func(t T) (func() (virtual.Store, error), error) {
			p := &dirPlace{dir: filepath.Join(quickDir(t), "store")}
			places.Store(t, p)
			t.Cleanup(func() { places.Delete(t) })
			return func() (virtual.Store, error) { return open(p.now()) }, nil
		}, func(t T) error {
			p, ok := places.Load(t)
			if !ok {
				return fmt.Errorf("restart: no directory was made for %s", t.Name())
			}
			return p.(*dirPlace).move(filepath.Join(quickDir(t), "store"))
		}
}

// quickDir is t.TempDir, in memory where that can be had.
func quickDir(t T) string {
	in := memoryDir()
	if in == "" || os.Getenv("TMPDIR") != "" {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(in, "conformance-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// dirPlace is a place and the directory that it is in now.
type dirPlace struct {
	mu  sync.Mutex
	dir string
}

func (p *dirPlace) now() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dir
}

func (p *dirPlace) move(to string) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if err := copyDir(p.dir, to); err != nil {
		return fmt.Errorf("restart: %w", err)
	}
	p.dir = to
	return nil
}

// copyDir copies a directory with modes and modification times. Those of directories are set when nothing is written into
// them any more.
func copyDir(from, to string) error {
	var dirs []func() error
	err := filepath.WalkDir(from, func(file string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) && file == from {
			return nil // nobody has opened it
		}
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(from, file)
		if err != nil {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		copied := filepath.Join(to, rel)
		dated := func() error { return os.Chtimes(copied, info.ModTime(), info.ModTime()) }
		switch {
		case e.IsDir():
			dirs = append(dirs, dated)
			return os.Mkdir(copied, info.Mode().Perm())
		case info.Mode().IsRegular():
			if err := copyFile(file, copied, info.Mode().Perm()); err != nil {
				return err
			}
			return dated()
		case info.Mode()&fs.ModeSymlink != 0:
			link, err := os.Readlink(file)
			if err != nil {
				return err
			}
			return os.Symlink(link, copied)
		}
		return nil // a socket, a pipe: nothing that outlives its process
	})
	for _, dated := range dirs {
		if err == nil {
			err = dated()
		}
	}
	return err
}

func copyFile(from, to string, mode fs.FileMode) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, mode)
	if err != nil {
		return err
	}
	if _, err := io.Copy(out, in); err != nil {
		out.Close()
		return err
	}
	return out.Close()
}
