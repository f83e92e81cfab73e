package sql

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi/virtual"
)

// mark is the outcome of a producer's last request.
type mark struct {
	sequence uint64
	failed   *virtual.BatchError
	evicted  []virtual.Taken
}

func (m *mark) evictions() []virtual.Taken {
	if m == nil {
		return nil
	}
	return m.evicted
}

// failure is the error of a request with this outcome, if err is none.
func (m *mark) failure(err error) error {
	if err != nil || m == nil {
		return err
	}
	return m.failed.Or()
}

// outcome is a mark as it is stored, where not all went well.
type outcome struct {
	Failed  []failure  `json:"failed,omitempty"`
	Evicted []eviction `json:"evicted,omitempty"`
	At      int64      `json:"at"`
}

type failure struct {
	Item int    `json:"item"`
	Why  string `json:"why"`
}

type eviction struct {
	Queue    virtual.QueueRef `json:"queue"`
	ID       []byte           `json:"id"`
	Priority uint8            `json:"priority,omitempty"`
	TTL      time.Duration    `json:"ttl,omitempty"`
	Payload  []byte           `json:"payload"`
	Attempt  int              `json:"attempt"`
	Age      time.Duration    `json:"age"`
	// Of a lease: what the receipt is made of.
	Number, Place int64
	Token         uint64
}

// reasons are the errors of items as they are stored.
var reasons = map[string]error{
	"no queue": virtual.ErrNoQueue, "full": virtual.ErrFull, "stale": virtual.ErrStale, "too large": virtual.ErrTooLarge, "behind": virtual.ErrBehind,
}

func (m *mark) encode(now int64) (any, error) {
	if m.failed == nil && len(m.evicted) == 0 {
		return nil, nil
	}
	o := outcome{At: now}
	if m.failed != nil {
		for _, f := range m.failed.Items {
			for why, err := range reasons {
				if errors.Is(f.Err, err) {
					o.Failed = append(o.Failed, failure{f.Index, why})
				}
			}
		}
	}
	for _, t := range m.evicted {
		e := eviction{Queue: t.Queue, ID: t.ID[:], Priority: t.Priority, TTL: t.TTL, Payload: t.Payload.Bytes(), Attempt: t.Attempt, Age: t.Age}
		if r, ok := t.Receipt.(receipt); ok {
			e.Number, e.Place, e.Token = r.queue, r.place, r.take
		}
		o.Evicted = append(o.Evicted, e)
	}
	b, err := json.Marshal(o)
	return b, err
}

// decode reads an outcome, at the time now.
func (m *mark) decode(b []byte, now int64) error {
	var o outcome
	if err := json.Unmarshal(b, &o); err != nil {
		return err
	}
	for _, f := range o.Failed {
		m.failed = m.failed.Add(f.Item, reasons[f.Why])
	}
	for _, e := range o.Evicted {
		t := virtual.Taken{
			Message: &virtual.Message{Queue: e.Queue, Priority: e.Priority, TTL: e.TTL, Payload: virtual.Bytes(e.Payload)},
			Attempt: e.Attempt, Age: e.Age + duration(max(0, now-o.At)),
		}
		copy(t.ID[:], e.ID)
		if e.Number != 0 {
			t.Receipt = receipt{e.Number, e.Place, "", e.Token}
		}
		m.evicted = append(m.evicted, t)
	}
	return nil
}

// admit answers a request that is repeated, behind its producer, or whose guard does not hold.
func (t *tx) admit(r *virtual.PutRequest) (m *mark, answered bool, err error) {
	if r.Producer != "" {
		if m, err = t.loadMark(r.Producer); err != nil {
			return nil, false, err
		}
	}
	if m != nil && r.Sequence < m.sequence {
		return nil, true, virtual.ErrSequence
	}
	if m != nil && r.Sequence == m.sequence {
		return m, true, nil
	}
	return nil, false, t.guard(r.Guard)
}

func (t *tx) loadMark(producer string) (*mark, error) {
	if m := t.c.marks[producer]; m != nil {
		return m, nil
	}
	var m *mark
	var bad error
	err := t.Query("SELECT sequence, outcome FROM dashi_mark WHERE vhost = ? AND producer = ?", func(r Row) bool {
		m = &mark{sequence: uint64(r.Int(0))}
		if r[1] != nil {
			bad = m.decode(r.Blob(1), t.now)
		}
		return true
	}, t.s.vhost, producer)
	if bad != nil {
		return nil, t.fail(fmt.Errorf("a row of dashi_mark is damaged: %w", bad))
	}
	if err == nil && m != nil {
		t.c.marks[producer] = m
	}
	return m, err
}

const upsertMark = `INSERT INTO dashi_mark (vhost, producer, sequence, used, outcome) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (vhost, producer) DO UPDATE SET sequence = excluded.sequence, used = excluded.used, outcome = excluded.outcome`

// mark keeps the outcome of a producer's request.
func (t *tx) mark(r *virtual.PutRequest, m *mark) error {
	if r.Producer == "" {
		return nil
	}
	outcome, err := m.encode(t.now)
	if err != nil {
		return t.fail(err)
	}
	if t.c.marks[r.Producer] == nil { // a new one: now and then those that are old go
		if _, err := t.Exec("DELETE FROM dashi_mark WHERE vhost = ? AND used < ?", t.s.vhost, t.now-forget); err != nil {
			return err
		}
	}
	t.c.marks[r.Producer] = m
	_, err = t.Exec(upsertMark, t.s.vhost, r.Producer, int64(r.Sequence), t.now, outcome)
	return err
}
