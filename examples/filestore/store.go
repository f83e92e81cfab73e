//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// Store is a virtual.Store on a directory, for all processes of one machine. A queue is a directory in it, a message a
// file in that, and the file's name is the state of the message: every change is one rename or remove, so a process may be
// killed at any instant. A loss of power may take what the kernel has not written yet. Leases go by the machine's clock.
type Store struct{ dir string }

// queue is the file "queue" in the directory of a queue, locked. The lock ends with the process that has it.
type queue struct{ *os.File }

// name is the name of a message's file; names sort in the order of Put. While a message is leased, its name is the
// receipt: Extend does not change it, the next taking does.
type name struct {
	put               int64  // the time of Put in nanoseconds, made unique and rising
	takings, attempts int    // Return takes back an attempt, but no taking
	state             string // r: ready; l: leased, and ready again once the modification time is past
}

func (n name) String() string { return fmt.Sprintf("%016x-%d-%d-%s", n.put, n.takings, n.attempts, n.state) }

// Open opens the store in dir, which is made if need be.
func Open(dir string) (*Store, error) { return &Store{dir}, os.MkdirAll(dir, 0o700) }

// Traits says what holds beyond the five methods.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{Name: "files", Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Durable: true}
}

// Put writes each message to the file "new" and renames that into its place.
func (s *Store) Put(ctx context.Context, r virtual.PutRequest) error {
	var failed *virtual.BatchError
	behind := map[virtual.QueueRef]bool{} // Ordered: one message failed, and the later ones with it
	for i, m := range r.Messages {
		err := s.locked(ctx, m.Queue, func(q queue) error {
			if behind[m.Queue] {
				return virtual.ErrBehind
			}
			n := name{state: "r"}
			fmt.Fscanf(q, "%x", &n.put) // of the last Put; 0 if there was none
			n.put = max(n.put+1, time.Now().UnixNano())
			_, err := q.WriteAt(fmt.Appendf(nil, "%016x %q\n", n.put, m.Queue), 0)
			err = errors.Join(err, os.WriteFile(q.path("new"), append(m.ID[:], m.Payload.Bytes()...), 0o600))
			if err != nil {
				return err // the next Put writes over "new"
			}
			return q.move("new", n, 0)
		})
		if err != nil {
			failed, behind[m.Queue] = failed.Add(i, err), true
		}
	}
	return failed.Or()
}

// Get takes what is ready. With nothing it looks again, after longer and longer pauses.
func (s *Store) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	had, start, res := len(buf), time.Now(), virtual.GetResult{}
	for pause := time.Millisecond; ; pause = min(pause*3/2, 30*time.Millisecond) {
		look := time.Now()
		err := s.locked(ctx, r.Queue, func(q queue) (err error) { buf, res.Ready, err = q.take(r, buf); return err })
		if len(buf) > had {
			return buf, res, nil // what was taken is not dropped, whatever came after
		} else if err != nil || time.Since(start) >= r.Wait || r.Max <= 0 {
			return buf, res, err
		}
		time.Sleep(min(r.Wait-time.Since(start), max(pause, 10*time.Since(look)))) // a tenth of a CPU is enough
	}
}

// take renames the first files that are ready, and counts the others.
func (q queue) take(r virtual.GetRequest, buf []virtual.Taken) (all []virtual.Taken, left int, err error) {
	files, err := q.ready()
	for size, i := 0, 0; i < len(files) && i < r.Max; i++ {
		var n name
		fmt.Sscanf(files[i], "%x-%d-%d-%s", &n.put, &n.takings, &n.attempts, &n.state)
		data, err := os.ReadFile(q.path(files[i]))
		if err == nil && (n.String() != files[i] || len(data) < len(virtual.ID{})) {
			err = fmt.Errorf("%s is not a message", q.path(files[i]))
		}
		if size += len(data) - len(virtual.ID{}); err != nil || i > 0 && r.MaxBytes > 0 && size > r.MaxBytes {
			return buf, len(files) - i, err
		}
		if n.takings, n.attempts, n.state = n.takings+1, n.attempts+1, "l"; r.Lease > 0 {
			err = q.move(files[i], n, r.Lease)
		} else {
			err = os.Remove(q.path(files[i]))
		}
		if err != nil {
			return buf, len(files) - i, err
		}
		m := &virtual.Message{Queue: r.Queue, ID: virtual.ID(data), Payload: virtual.Bytes(data[len(virtual.ID{}):])}
		buf = append(buf, virtual.Taken{Message: m, Receipt: n, Attempt: n.attempts, Age: max(0, time.Since(time.Unix(0, n.put)))})
	}
	return buf, max(0, len(files)-max(0, r.Max)), err
}

// Settle removes or renames the files that the receipts name. One that is not there was taken by another, or is gone.
func (s *Store) Settle(ctx context.Context, ss []virtual.Settlement) error {
	var failed *virtual.BatchError
	for i, one := range ss {
		err := s.locked(ctx, one.Queue, func(q queue) error {
			n, _ := one.Receipt.(name)
			file := n.String()
			switch n.state = "r"; one.Kind {
			case virtual.Ack:
				return os.Remove(q.path(file))
			case virtual.Extend:
				n.state = "l"
			case virtual.Return:
				n.attempts--
			}
			return q.move(file, n, one.For)
		})
		if errors.Is(err, os.ErrNotExist) {
			failed = failed.Add(i, virtual.ErrStale)
		} else if err != nil {
			failed = failed.Add(i, err)
		}
	}
	return failed.Or()
}

// Purge removes the files that are ready.
func (s *Store) Purge(ctx context.Context, q virtual.QueueRef) (int, error) {
	return s.each(ctx, q, os.Remove)
}

// Size counts the files that are ready.
func (s *Store) Size(ctx context.Context, q virtual.QueueRef) (int, error) {
	return s.each(ctx, q, nil)
}

func (s *Store) each(ctx context.Context, ref virtual.QueueRef, f func(file string) error) (n int, err error) {
	err = s.locked(ctx, ref, func(q queue) error {
		files, err := q.ready()
		for n = len(files); f != nil && err == nil && len(files) > 0; files = files[1:] {
			err = f(q.path(files[0]))
		}
		return err
	})
	return n, err
}

// locked calls f with a queue. It does not wait for the lock in the kernel, since a process that is stopped keeps it.
func (s *Store) locked(ctx context.Context, ref virtual.QueueRef, f func(q queue) error) error {
	dir := filepath.Join(s.dir, fmt.Sprintf("%x", sha256.Sum256([]byte(ref.Incarnation+"\x00"+ref.Name))))
	made := os.MkdirAll(dir, 0o700)
	lock, err := os.OpenFile(filepath.Join(dir, "queue"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return errors.Join(made, err)
	}
	defer lock.Close()
	for pause := 50 * time.Microsecond; ctx.Err() == nil; pause = min(2*pause, 5*time.Millisecond) {
		if err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err == nil {
			return f(queue{lock})
		} else if err != syscall.EWOULDBLOCK {
			return err
		}
		time.Sleep(pause)
	}
	return ctx.Err()
}

// ready returns the names of the files that are ready, in order.
func (q queue) ready() (ready []string, err error) {
	files, err := os.ReadDir(q.path(".")) // sorted
	due := func(f os.DirEntry) bool { i, err := f.Info(); return err == nil && time.Since(i.ModTime()) >= 0 }
	for _, f := range files {
		if end := f.Name()[len(f.Name())-1]; end == 'r' || end == 'l' && due(f) { // "queue" and "new" end otherwise
			ready = append(ready, f.Name())
		}
	}
	return ready, err
}

// move gives a file the name that is its next state; what is leased is hidden for d.
func (q queue) move(file string, to name, d time.Duration) error {
	if err := os.Chtimes(q.path(file), time.Time{}, time.Now().Add(d)); err != nil {
		return err
	}
	return os.Rename(q.path(file), q.path(to.String()))
}

func (q queue) path(file string) string { return filepath.Join(filepath.Dir(q.Name()), file) }
