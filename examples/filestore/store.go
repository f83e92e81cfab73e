//go:build linux || darwin || freebsd || netbsd || openbsd

package main

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/url"
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

// name is the name of a message's file; names sort in the order of Put. While a message is leased, its name is the
// receipt: Extend does not change it, the next taking does.
type name struct {
	put          int64  // the time of Put in nanoseconds, made unique and rising
	taken, tries int    // how often: Return takes back a try, but no taking
	state        string // r: ready; l: leased, and ready again once the modification time is past; else gone
}

func (n name) String() string { return fmt.Sprintf("%016x-%d-%d-%s", n.put, n.taken, n.tries, n.state) }

// Open opens the store in dir, which is made if need be.
func Open(dir string) (*Store, error) { return &Store{dir}, os.MkdirAll(dir, 0o700) }

// Traits says what holds beyond the five methods.
func (s *Store) Traits() virtual.Traits {
	return virtual.Traits{Name: "files", Ordered: true, ExactSize: true, ExactAttempt: true, Age: true, StaleTold: true, Durable: true}
}

// Put writes each message to the file "new" and renames that into its place. The last number is kept in the file "lock".
func (s *Store) Put(ctx context.Context, r virtual.PutRequest) error {
	return s.locked(ctx, func(lock *os.File) error {
		var last int64 // 0 if there was none
		fmt.Fscanf(lock, "%x", &last)
		first := max(last+1, time.Now().UnixNano())
		if _, err := lock.WriteAt(fmt.Appendf(nil, "%016x", first+int64(len(r.Messages))), 0); err != nil {
			return err
		}
		var failed *virtual.BatchError
		behind := map[virtual.QueueRef]error{} // Ordered: nothing overtakes what failed
		for i, m := range r.Messages {
			q, err := s.queue(m.Queue), behind[m.Queue]
			if err == nil {
				err = os.WriteFile(q.path("new"), append(m.ID[:], m.Payload.Bytes()...), 0o600)
			}
			if err == nil {
				err = q.move("new", name{put: first + int64(i), state: "r"}, 0)
			}
			if err != nil {
				failed, behind[m.Queue] = failed.Add(i, err), virtual.ErrBehind
			}
		}
		return failed.Or()
	})
}

// Get takes what is ready. With nothing it looks again, after longer and longer pauses.
func (s *Store) Get(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
	had, start, res := len(buf), time.Now(), virtual.GetResult{}
	for pause := time.Millisecond; ; pause = min(pause*3/2, 30*time.Millisecond) {
		look := time.Now()
		err := s.locked(ctx, func(*os.File) (err error) { buf, res.Ready, err = s.queue(r.Queue).take(r, buf); return err })
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
		fmt.Sscanf(files[i], "%x-%d-%d-%s", &n.put, &n.taken, &n.tries, &n.state)
		data, err := os.ReadFile(q.path(files[i]))
		if err == nil && (n.String() != files[i] || len(data) < len(virtual.ID{})) {
			err = fmt.Errorf("%s is not a message", q.path(files[i]))
		}
		if size += len(data) - len(virtual.ID{}); err != nil || i > 0 && r.MaxBytes > 0 && size > r.MaxBytes {
			return buf, len(files) - i, err
		}
		if n.taken, n.tries, n.state = n.taken+1, n.tries+1, "l"; r.Lease <= 0 {
			n.state = "gone"
		}
		if err = q.move(files[i], n, r.Lease); err != nil {
			return buf, len(files) - i, err
		}
		m := &virtual.Message{Queue: r.Queue, ID: virtual.ID(data), Payload: virtual.Bytes(data[len(virtual.ID{}):])}
		buf = append(buf, virtual.Taken{Message: m, Receipt: n, Attempt: n.tries, Age: max(0, time.Since(time.Unix(0, n.put)))})
	}
	return buf, len(files) - max(0, min(r.Max, len(files))), err
}

// Settle renames or removes the files that the receipts name. One that is not there was taken by another, or is gone.
func (s *Store) Settle(ctx context.Context, ss []virtual.Settlement) error {
	return s.locked(ctx, func(*os.File) error {
		var failed *virtual.BatchError
		for i, one := range ss {
			n, _ := one.Receipt.(name)
			file := n.String()
			n.state = [...]string{virtual.Ack: "gone", virtual.Requeue: "r", virtual.Return: "r", virtual.Extend: "l"}[one.Kind]
			if one.Kind == virtual.Return {
				n.tries--
			}
			if err := s.queue(one.Queue).move(file, n, one.For); errors.Is(err, os.ErrNotExist) {
				failed = failed.Add(i, virtual.ErrStale)
			} else if err != nil {
				failed = failed.Add(i, err)
			}
		}
		return failed.Or()
	})
}

// Purge removes the files that are ready.
func (s *Store) Purge(ctx context.Context, ref virtual.QueueRef) (n int, err error) {
	err = s.locked(ctx, func(*os.File) error {
		q := s.queue(ref)
		files, err := q.ready()
		for ; n < len(files) && err == nil; n++ {
			err = os.Remove(q.path(files[n]))
		}
		return err
	})
	return n, err
}

// Size is what a Get counts that takes nothing.
func (s *Store) Size(ctx context.Context, ref virtual.QueueRef) (int, error) {
	_, res, err := s.Get(ctx, virtual.GetRequest{Queue: ref}, nil)
	return res.Ready, err
}

// locked calls f with the file "lock", locked. The locks end with the process that has them; one that is stopped keeps them.
func (s *Store) locked(ctx context.Context, f func(lock *os.File) error) error {
	next, failed := os.Open(s.dir) // locked while it waits: else one in a hurry would overtake it time and again
	lock, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	defer func() { errors.Join(next.Close(), lock.Close()) }() // those that were opened
	if err = errors.Join(failed, err, ctx.Err()); err == nil {
		err = errors.Join(syscall.Flock(int(next.Fd()), syscall.LOCK_EX), syscall.Flock(int(lock.Fd()), syscall.LOCK_EX), next.Close())
	}
	if err == nil {
		err = f(lock)
	}
	return err
}

type queue string // its directory, which comes into being by use

func (s *Store) queue(ref virtual.QueueRef) queue {
	unique := fmt.Sprintf("%.40s-%x", url.PathEscape(ref.Name), sha256.Sum256([]byte(ref.Incarnation+"\x00"+ref.Name)))
	os.Mkdir(filepath.Join(s.dir, unique), 0o700)
	return queue(filepath.Join(s.dir, unique))
}

func (q queue) path(file string) string { return filepath.Join(string(q), file) }

// ready returns the names of the files that are ready, in order.
func (q queue) ready() (ready []string, err error) {
	files, err := os.ReadDir(string(q)) // sorted
	due := func(f os.DirEntry) bool { i, err := f.Info(); return err == nil && time.Since(i.ModTime()) >= 0 }
	for _, f := range files {
		if end := f.Name()[len(f.Name())-1]; end == 'r' || end == 'l' && due(f) { // "new" is neither
			ready = append(ready, f.Name())
		}
	}
	return ready, err
}

// move gives a file the name of its next state, under which one that is leased is hidden for d, or removes what is gone.
func (q queue) move(file string, to name, d time.Duration) error {
	if to.state == "gone" {
		return os.Remove(q.path(file))
	}
	if info, err := os.Stat(q.path(file)); err == nil && file == to.String() && time.Since(info.ModTime()) >= 0 {
		return os.ErrNotExist // a lease that is over is not extended
	}
	if err := os.Chtimes(q.path(file), time.Time{}, time.Now().Add(d)); err != nil {
		return err
	}
	return os.Rename(q.path(file), q.path(to.String()))
}
