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
// killed at any instant. A loss of power is survived only with sync, for which Put and Ack wait for the disk. Leases and
// delays go by the machine's clock. A Get reads all names of a queue's directory, but opens only the files it takes.
type Store struct {
	dir  string
	sync bool
}

// queue is the file "queue" in the directory of a queue, locked. The lock ends with the process that has it.
type queue struct{ *os.File }

// name is the name of a message's file; names sort in the order of the queue. While a message is leased, its name is the
// receipt: Extend does not change it, the next taking does.
type name struct {
	behind            uint8         // 255 - Priority
	put               int64         // the time of Put in nanoseconds, made unique and rising
	ttl               time.Duration // as in the message
	takings, attempts int           // Return takes back an attempt, but no taking
	state             string        // r: ready; d (delayed) and l (leased): ready once the modification time is past
}

const layout = "%02x%016x-%d-%d-%d-%s"

func (n name) String() string {
	return fmt.Sprintf(layout, n.behind, n.put, n.ttl, n.takings, n.attempts, n.state)
}

// Open opens the store in dir, which is made if need be.
func Open(dir string, sync bool) (*Store, error) { return &Store{dir, sync}, os.MkdirAll(dir, 0o700) }

// Traits says what holds beyond the five methods.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{
		Name: "files", Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Durable: true, TTL: true,
		Levels: 256, MaxDelay: 366 * 24 * time.Hour,
	}
}

// Put writes each message to the file "new" and renames that into its place.
func (s *Store) Put(ctx context.Context, r virtual.PutRequest) error {
	var failed *virtual.BatchError
	behind := map[virtual.QueueRef]error{}
	for i, m := range r.Messages {
		err := behind[m.Queue]
		if err == nil {
			err = s.locked(ctx, m.Queue, func(q queue) error { return s.put(q, m) })
		}
		if err != nil {
			failed, behind[m.Queue] = failed.Add(i, err), virtual.ErrBehind
		}
	}
	return failed.Or()
}

func (s *Store) put(q queue, m *virtual.Message) error {
	n := name{behind: 255 - m.Priority, ttl: m.TTL, state: "d"}
	fmt.Fscanf(q, "%x", &n.put) // of the last Put; 0 if there was none
	n.put = max(n.put+1, time.Now().UnixNano())
	_, err := q.WriteAt(fmt.Appendf(nil, "%016x %q\n", n.put, m.Queue), 0)
	defer os.Remove(q.path("new")) // if it is still there
	err = errors.Join(err, os.WriteFile(q.path("new"), append(m.ID[:], m.Payload.Bytes()...), 0o600))
	err = s.flush(q.path("new"), err)
	if err == nil {
		err = q.move("new", n, m.Delay)
	}
	return s.flush(s.dir, s.flush(q.path("."), err))
}

// Get renames the first files that are ready. With none it looks again, after longer and longer pauses.
func (s *Store) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	had, start, res := len(buf), time.Now(), virtual.GetResult{}
	for pause := time.Millisecond; ; pause = min(pause*3/2, 30*time.Millisecond) {
		look := time.Now()
		err := s.locked(ctx, r.Queue, func(q queue) error {
			files, err := q.ready()
			res.Ready = len(files)
			for size := 0; res.Ready > 0 && len(buf)-had < r.Max && ctx.Err() == nil; res.Ready-- {
				file := files[len(files)-res.Ready]
				data, err := os.ReadFile(q.path(file))
				if size += len(data) - len(virtual.ID{}); err != nil || r.MaxBytes > 0 && size > r.MaxBytes && len(buf) > had {
					return err
				}
				t, err := q.take(r, file, data)
				if err != nil {
					return err
				}
				buf = append(buf, t)
			}
			return err
		})
		if len(buf) > had || ctx.Err() != nil {
			return buf, res, nil // what was taken is not dropped, whatever came after
		} else if err != nil || time.Since(start) >= r.Wait || r.Max <= 0 {
			return buf, res, err
		}
		select {
		case <-ctx.Done():
		case <-time.After(min(r.Wait-time.Since(start), max(pause, 10*time.Since(look)))): // a tenth of a CPU is enough
		}
	}
}

func (q queue) take(r virtual.GetRequest, file string, data []byte) (t virtual.Taken, err error) {
	var n name
	fmt.Sscanf(file, layout, &n.behind, &n.put, &n.ttl, &n.takings, &n.attempts, &n.state)
	if n.String() != file || len(data) < len(virtual.ID{}) {
		return t, fmt.Errorf("%s is not a message", q.path(file))
	}
	n.takings, n.attempts, n.state = n.takings+1, n.attempts+1, "l"
	t.Receipt, t.Attempt, t.Age = n, n.attempts, max(0, time.Since(time.Unix(0, n.put)))
	t.Message = &virtual.Message{Queue: r.Queue, ID: virtual.ID(data), Priority: 255 - n.behind, TTL: n.ttl, Payload: virtual.Bytes(data[16:])}
	if r.Lease <= 0 {
		return t, os.Remove(q.path(file))
	}
	return t, q.move(file, n, r.Lease)
}

// Settle removes or renames the files that the receipts name. One that is not there was taken by another, or is gone.
func (s *Store) Settle(ctx context.Context, ss []virtual.Settlement) error {
	var failed *virtual.BatchError
	for i, one := range ss {
		err := s.locked(ctx, one.Queue, func(q queue) error { return s.settle(q, one) })
		if errors.Is(err, os.ErrNotExist) {
			err = virtual.ErrStale
		}
		if err != nil {
			failed = failed.Add(i, err)
		}
	}
	return failed.Or()
}

func (s *Store) settle(q queue, one virtual.Settlement) error {
	n, _ := one.Receipt.(name)
	file := n.String()
	switch n.state = "d"; one.Kind {
	case virtual.Ack:
		return s.flush(q.path("."), os.Remove(q.path(file)))
	case virtual.Extend:
		n.state = "l"
	case virtual.Return:
		n.attempts--
	}
	return q.move(file, n, one.For)
}

// Purge removes the files that are ready.
func (s *Store) Purge(ctx context.Context, ref virtual.QueueRef) (int, error) {
	return s.count(ctx, ref, os.Remove)
}

// Size counts the files that are ready.
func (s *Store) Size(ctx context.Context, ref virtual.QueueRef) (int, error) {
	return s.count(ctx, ref, nil)
}

func (s *Store) count(ctx context.Context, ref virtual.QueueRef, do func(file string) error) (n int, err error) {
	err = s.locked(ctx, ref, func(q queue) error {
		files, err := q.ready()
		for n = len(files); do != nil && err == nil && len(files) > 0; files = files[1:] {
			err = do(q.path(files[0]))
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
	for _, file := range files {
		switch name := file.Name(); name[len(name)-1] { // "queue" and "new" have other endings
		case 'd', 'l':
			if info, err := file.Info(); err == nil && info.ModTime().After(time.Now()) {
				break
			}
			fallthrough
		case 'r':
			ready = append(ready, name)
		}
	}
	return ready, err
}

// move gives a file the name to, and hides it for d.
func (q queue) move(file string, to name, d time.Duration) error {
	if to.state == "d" && d <= 0 {
		to.state = "r"
	} else if err := os.Chtimes(q.path(file), time.Time{}, time.Now().Add(d)); err != nil {
		return err
	}
	return os.Rename(q.path(file), q.path(to.String()))
}

func (q queue) path(file string) string { return filepath.Join(filepath.Dir(q.Name()), file) }

// flush returns err, or flushes a file or directory to the disk if that is asked for.
func (s *Store) flush(path string, err error) error {
	if err != nil || !s.sync {
		return err
	}
	f, err := os.Open(path)
	return errors.Join(err, f.Sync(), f.Close())
}
