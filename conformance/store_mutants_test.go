package conformance

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/virtual"
)

// storeMutant is a store with one fault, and the check that must find it.
type storeMutant struct {
	fault  string
	caught string
	spoil  func(s *spoilt, p *ruin)
}

func storeMutants() []storeMutant {
	return slices.Concat(methodMutants, leaseMutants, traitMutants, boundMutants, unclaimedMutants, durableMutants, endedMutants, looseMutants, capabilityMutants)
}

// spoiltConfig is the suite on memory with one fault.
func spoiltConfig(m storeMutant, check string) StoreConfig {
	var p *ruin // of the one check that runs
	return StoreConfig{
		Name: "spoilt", Virtual: true, Run: check, Limit: 30 * time.Hour,
		Open: func(T) (func() (virtual.Store, error), error) {
			place := memory.New()
			p = newRuin()
			return func() (virtual.Store, error) {
				s := &spoilt{Store: place.Open()}
				m.spoil(s, p)
				if s.over != nil {
					return s.over(s), nil
				}
				return s, nil
			}, nil
		},
		Restart: func(T) error {
			if p.restart != nil {
				return p.restart()
			}
			return nil // what is in memory is as durable as memory
		},
	}
}

// TestEachBrokenStoreIsCaughtByItsCheck is the list of what the store suite is known to catch.
func TestEachBrokenStoreIsCaughtByItsCheck(t *testing.T) {
	mutants := storeMutants()
	for _, m := range mutants {
		t.Run(m.fault, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := CheckStore(t.Context(), spoiltConfig(m, m.caught))
				i := slices.IndexFunc(r.Rows, func(row RowResult) bool { return row.ID == m.caught })
				switch {
				case i < 0:
					t.Fatalf("there is no check %s", m.caught)
				case r.Rows[i].Result != Fail:
					t.Fatalf("%s says %s about a store with this fault, want it to fail", m.caught, r.Rows[i].Result)
				}
				t.Logf("caught: %s", strings.SplitN(r.Rows[i].Reason, "\n", 2)[0])
			})
		})
	}
	t.Logf("%d broken stores", len(mutants))
}

// TestCheckStoreNeedsNoTest runs the suite as a program would, on a sound store, in real time.
func TestCheckStoreNeedsNoTest(t *testing.T) {
	sound := spoiltConfig(storeMutant{spoil: func(*spoilt, *ruin) {}}, "Put/")
	sound.Virtual, sound.Unit = false, 20*time.Millisecond
	n := 0
	sound.Progress = func(RowResult) { n++ }
	r := CheckStore(context.Background(), sound)
	if r.Failed > 0 || r.Passed == 0 || r.Total != n || r.Rig != "store" {
		t.Errorf("%d told of: %s", n, r.Summary())
	}
	for _, row := range r.Rows {
		if row.Result == Fail {
			t.Errorf("%s: %s", row.ID, row.Reason)
		}
	}
	ended, stop := context.WithCancel(context.Background())
	stop()
	if r := CheckStore(ended, sound); r.Skipped != r.Total {
		t.Errorf("under a context that has ended: %s", r.Summary())
	}
}

// TestStoreChecksAreWellNamed keeps names unique, rules told and needs known.
func TestStoreChecksAreWellNamed(t *testing.T) {
	seen := map[string]bool{}
	var known []string
	for _, v := range Claims(memory.New().Open()) {
		known = append(known, string(v.Claim))
	}
	for _, k := range StoreChecks() {
		if seen[k.Name] || k.Rule == "" || !strings.HasPrefix(k.Where, "virtual/") || k.run == nil || !strings.Contains(k.Name, "/") {
			t.Errorf("check %q is not whole, or there are two", k.Name)
		}
		seen[k.Name] = true
		for _, n := range k.Needs {
			if !slices.Contains(known, string(n)) {
				t.Errorf("check %q needs %q, which no store can claim", k.Name, n)
			}
		}
	}
}

// TestAnUnclaimedCapabilityIsPrintedNo lets a store hide what it has.
func TestAnUnclaimedCapabilityIsPrintedNo(t *testing.T) {
	c := StoreConfig{Virtual: true, Run: "Registry/", Open: func(T) (func() (virtual.Store, error), error) {
		place := memory.New()
		return func() (virtual.Store, error) { return virtual.Only(place.Open()), nil }, nil
	}}
	synctest.Test(t, func(t *testing.T) {
		r := CheckStore(t.Context(), c)
		if r.Refused != r.Total || r.Total == 0 || r.Rows[0].Reason != "Registry: no" {
			t.Errorf("%s", r.Summary())
		}
		if text := claimText(Claims(virtual.Only(memory.New().Open()))); !strings.Contains(text, "Registry no") || !strings.Contains(text, "Ordered yes") {
			t.Errorf("claims: %s", text)
		}
	})
}

var methodMutants = []storeMutant{
	{"order broken inside a batch", "Put/Order/WithinBatch", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			r.Messages = slices.Clone(r.Messages)
			slices.Reverse(r.Messages)
			return s.Store.Put(ctx, r)
		}
	}},
	{"body cut at 0x00", "Put/Body/EveryByte", func(s *spoilt, p *ruin) {
		s.messages(func(m *virtual.Message) {
			body, _, _ := bytes.Cut(m.Payload.Bytes(), []byte{0})
			m.Payload = virtual.Bytes(body)
		})
	}},
	{"body must be UTF-8", "Put/Body/EveryByte", func(s *spoilt, p *ruin) {
		s.messages(func(m *virtual.Message) {
			m.Payload = virtual.Bytes(strings.ToValidUTF8(string(m.Payload.Bytes()), "?"))
		})
	}},
	{"empty body dropped", "Put/Body/Empty", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			r.Messages = slices.DeleteFunc(slices.Clone(r.Messages), func(m *virtual.Message) bool { return m.Payload.Size() == 0 })
			return s.Store.Put(ctx, r)
		}
	}},
	{"id cut at 0x00", "Put/IDs", func(s *spoilt, p *ruin) {
		s.messages(func(m *virtual.Message) {
			if i := bytes.IndexByte(m.ID[:], 0); i >= 0 {
				clear(m.ID[i:])
			}
		})
	}},
	{"id must be UTF-8", "Put/IDs", func(s *spoilt, p *ruin) {
		s.messages(func(m *virtual.Message) { copy(m.ID[:], strings.ToValidUTF8(string(m.ID[:]), "?")) })
	}},
	{"names cut at 254 bytes", "Names/Odd", func(s *spoilt, p *ruin) { s.renames(func(n string) string { return n[:min(254, len(n))] }) }},
	{"bodies read into one buffer", "Get/Body/Kept", func(s *spoilt, p *ruin) {
		buffer := make([]byte, 8<<20)
		s.hands(func(t *virtual.Taken) {
			c := *t.Message
			c.Payload = virtual.Bytes(buffer[:copy(buffer, t.Payload.Bytes())])
			t.Message = &c
		})
	}},
	{"no attempts at all", "Get/Attempt/Again", func(s *spoilt, p *ruin) {
		s.claims = func(t *virtual.Traits) { t.ExactAttempt = false }
		s.hands(func(t *virtual.Taken) { t.Attempt = 1 })
	}},
	{"caller's slice kept", "Put/Slices", func(s *spoilt, p *ruin) {
		s.put = func(_ context.Context, r virtual.PutRequest) error {
			p.Lock()
			defer p.Unlock()
			p.pending = append(p.pending, r)
			return nil
		}
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			p.Lock()
			pending := p.pending
			p.pending = nil
			p.Unlock()
			for _, r := range pending {
				if err := s.Store.Put(ctx, r); err != nil {
					return buf, virtual.GetResult{}, err
				}
			}
			return s.Store.Get(ctx, r, buf)
		}
	}},
	{"caller's slice sorted", "Put/Slices", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			err := s.Store.Put(ctx, r)
			slices.SortFunc(r.Messages, func(a, b *virtual.Message) int { return bytes.Compare(a.ID[:], b.ID[:]) })
			return err
		}
	}},
	{"half-failed batch reported as success", "Put/Batch/HalfFailed", func(s *spoilt, p *ruin) {
		s.put = func(ctx context.Context, r virtual.PutRequest) error {
			err := s.Store.Put(ctx, r)
			if _, half := errors.AsType[*virtual.BatchError](err); half {
				return nil
			}
			return err
		}
	}},
	{"names without case", "Names/Odd", func(s *spoilt, p *ruin) { s.renames(strings.ToLower) }},
	{"names cut at 64 bytes", "Names/Odd", func(s *spoilt, p *ruin) { s.renames(func(n string) string { return n[:min(64, len(n))] }) }},
	{"names trimmed", "Names/Odd", func(s *spoilt, p *ruin) { s.renames(strings.TrimSpace) }},
	{"incarnations share", "Names/Incarnations", func(s *spoilt, p *ruin) {
		s.requeues(func(q virtual.QueueRef) virtual.QueueRef { q.Incarnation = "1"; return q })
	}},
	{"one more than Max", "Get/Max", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Max++ }) }},
	{"MaxBytes ignored", "Get/MaxBytes", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.MaxBytes = 0 }) }},
	{"buf overwritten", "Get/Buf", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			return s.Store.Get(ctx, r, buf[:0])
		}
	}},
	{"Lease 0 leases", "Get/Lease0", func(s *spoilt, p *ruin) {
		s.gets(func(r *virtual.GetRequest) { r.Lease = max(r.Lease, time.Second) })
	}},
	{"Ready counts what was taken", "Get/Ready", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			res.Ready += len(ts) - len(buf)
			return ts, res, err
		}
	}},
	{"Wait ignored", "Get/Wait/PutElsewhere", func(s *spoilt, p *ruin) { s.gets(func(r *virtual.GetRequest) { r.Wait = 0 }) }},
	{"waits for as many as Max", "Get/Wait/WhatThereIs", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			if r.Wait > 0 && len(ts)-len(buf) < r.Max && err == nil {
				r.Max -= len(ts) - len(buf)
				ts, res, err = s.Store.Get(ctx, r, ts)
			}
			return ts, res, err
		}
	}},
	{"context ignored", "Context/EndsWait", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			return s.Store.Get(context.WithoutCancel(ctx), r, buf)
		}
	}},
	{"message dropped when the context ends", "Context/NothingDropped", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			ts, res, err := s.Store.Get(ctx, r, buf)
			if ctx.Err() != nil {
				return buf, res, ctx.Err()
			}
			return ts, res, err
		}
	}},
	{"size counts leased", "Size/ReadyOnly", func(s *spoilt, p *ruin) {
		s.tracks(p)
		s.size = func(ctx context.Context, q virtual.QueueRef) (int, error) {
			n, err := s.Store.Size(ctx, q)
			p.Lock()
			defer p.Unlock()
			return n + len(p.taken), err
		}
	}},
	{"purge takes leased", "Purge/ReadyOnly", func(s *spoilt, p *ruin) {
		s.tracks(p)
		s.purge = func(ctx context.Context, q virtual.QueueRef) (int, error) {
			p.Lock()
			defer p.Unlock()
			for _, t := range p.taken {
				_ = s.Store.Settle(ctx, answers(virtual.Ack, 0, t))
			}
			return s.Store.Purge(ctx, q)
		}
	}},
	{"purge leaves what came back", "Purge/Returned", func(s *spoilt, p *ruin) {
		s.purge = func(ctx context.Context, q virtual.QueueRef) (int, error) {
			ts, err := s.Store.Peek(ctx, q, 1<<20, nil)
			if err != nil {
				return 0, err
			}
			n, err := s.Store.Purge(ctx, q)
			for _, t := range ts {
				if t.Attempt > 0 {
					n--
					if err := s.Store.Put(ctx, virtual.PutRequest{Messages: []*virtual.Message{t.Message}}); err != nil {
						return n, err
					}
				}
			}
			return n, err
		}
	}},
	{"given twice under contention", "Race/NoneTwice", func(s *spoilt, p *ruin) {
		s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
			p.Lock()
			p.n++
			p.Unlock()
			ts, res, err := s.Store.Get(ctx, r, buf)
			yield()
			p.Lock()
			defer p.Unlock()
			p.n--
			if p.n > 0 && p.last != nil { // another one looks at the same time
				ts = append(ts, p.last...)
			}
			p.last = slices.Clone(ts[len(buf):])
			return ts, res, err
		}
	}},
	{"two at the same time are refused", "Race/AllMethods", func(s *spoilt, p *ruin) {
		s.size = func(ctx context.Context, q virtual.QueueRef) (int, error) {
			p.Lock()
			p.n++
			busy := p.n > 1
			p.Unlock()
			yield()
			p.Lock()
			p.n--
			p.Unlock()
			if busy {
				return 0, fmt.Errorf("busy")
			}
			return s.Store.Size(ctx, q)
		}
	}},
}

// requeues has everything that names a queue name another one.
func (s *spoilt) requeues(change func(q virtual.QueueRef) virtual.QueueRef) {
	s.put = func(ctx context.Context, r virtual.PutRequest) error {
		r.Messages = slices.Clone(r.Messages)
		for i, m := range r.Messages {
			c := *m
			c.Queue = change(c.Queue)
			r.Messages[i] = &c
		}
		return s.Store.Put(ctx, r)
	}
	s.get = func(ctx context.Context, r virtual.GetRequest, buf []virtual.Taken) ([]virtual.Taken, virtual.GetResult, error) {
		asked := r.Queue
		r.Queue = change(r.Queue)
		ts, res, err := s.Store.Get(ctx, r, buf)
		for i := len(buf); i < len(ts); i++ {
			c := *ts[i].Message
			c.Queue = asked
			ts[i].Message = &c
		}
		return ts, res, err
	}
	s.settle = func(ctx context.Context, all []virtual.Settlement) error {
		all = slices.Clone(all)
		for i := range all {
			all[i].Queue = change(all[i].Queue)
		}
		return s.Store.Settle(ctx, all)
	}
	s.size = func(ctx context.Context, q virtual.QueueRef) (int, error) { return s.Store.Size(ctx, change(q)) }
}

func (s *spoilt) renames(change func(string) string) {
	s.requeues(func(q virtual.QueueRef) virtual.QueueRef { q.Name = change(q.Name); return q })
}
