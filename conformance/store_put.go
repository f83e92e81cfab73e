package conformance

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/dashi-mq/dashi/virtual"
)

const (
	wherePut    = "virtual/store.go, Store.Put"
	whereGet    = "virtual/store.go, Store.Get"
	whereSettle = "virtual/store.go, Store.Settle"
	whereDoc    = "virtual/doc.go, Rules for all methods"
	whereTraits = "virtual/traits.go, Traits"
)

var putChecks = []StoreCheck{
	{
		Name: "Put/Order/WithinBatch", run: putWithinBatch, Where: wherePut,
		Rule: "Put appends each message to the queue it names, in order per queue.",
	},
	{
		Name: "Put/Order/AcrossBatches", run: putAcrossBatches, Where: whereTraits,
		Rule: "Ordered: each producer's messages come in the order of Put, exactly.",
	},
	{
		Name: "Put/Order/ManyQueues", run: putManyQueues, Where: wherePut,
		Rule: "Put appends each message to the queue it names, in order per queue.",
	},
	{
		Name: "Put/Order/Concurrent", run: putConcurrent, Where: whereTraits,
		Rule: "Ordered: each producer's messages come in the order of Put, exactly. All methods may be called concurrently.",
	},
	{
		Name: "Put/Visible", run: putVisible, Where: wherePut,
		Rule: "nil means all are stored, as durably as the store can.",
	},
	{
		Name: "Put/Nothing", run: putNothing, Where: wherePut,
		Rule: "nil means all are stored: a batch of none is no error.",
	},
	{
		Name: "Put/Body/EveryByte", run: putEveryByte, Where: "virtual/store.go, Payload",
		Rule: "A payload is bytes, any bytes: it comes back as it was put.",
	},
	{
		Name: "Put/Body/Empty", run: putEmptyBody, Where: "virtual/store.go, Payload",
		Rule: "A payload of no bytes is a payload.",
	},
	{
		Name: "Put/Body/Large", run: putLargeBody, Where: "virtual/traits.go, MaxBody",
		Rule: "MaxBody bounds one payload, in bytes; 0: no bound.",
	},
	{
		Name: "Put/IDs", run: putIDs, Where: "virtual/store.go, ID",
		Rule: "ID identifies a message in its queue: 16 random bytes, which come back as they were given.",
	},
	{
		Name: "Put/TooLarge", run: putTooLarge, Needs: []Claim{claimMaxBody}, Where: "virtual/errors.go, ErrTooLarge",
		Rule: "ErrTooLarge: the message is larger than the store takes. *BatchError names the items that failed; the others are stored.",
	},
	{
		Name: "Put/Batch/HalfFailed", run: putHalfFailed, Needs: []Claim{claimNamespace}, Where: wherePut,
		Rule: "*BatchError names the items that failed; the others are stored.",
	},
	{
		Name: "Put/Slices", run: putSlices, Where: whereDoc,
		Rule: "Slices and the requests are the caller's: a store does not keep them.",
	},
}

func putWithinBatch(e *storeEnv) {
	q := e.ref("orders")
	want := numbered("m", e.batch(50))
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: e.messages(q, want...)}), "Put")
	e.holds(e.b, q, "a batch put by one process and taken by another", want...)
}

func putAcrossBatches(e *storeEnv) {
	q := e.ref("orders")
	var want []string
	for i := range 12 {
		part := numbered(strings.Repeat("x", i+1), e.batch(i%5+1))
		e.put(e.a, q, part...)
		want = append(want, part...)
	}
	e.holds(e.b, q, "twelve batches of different sizes", want...)
}

func putManyQueues(e *storeEnv) {
	qs := e.refs(3)
	var ms []*virtual.Message
	want := make([][]string, len(qs))
	for i, body := range numbered("m", e.batch(30)) {
		n := (i * i) % len(qs)
		ms = append(ms, e.message(qs[n], body))
		want[n] = append(want[n], body)
	}
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: ms}), "Put")
	for i, q := range qs {
		e.holds(e.b, q, "messages of one batch for several queues, mixed", want[i]...)
	}
}

// producerOf splits a body such as "p3-17" off its number.
func producerOf(body string) string {
	p, _, _ := strings.Cut(body, "-")
	return p
}

func putConcurrent(e *storeEnv) {
	q := e.ref("orders")
	const producers, each = 8, 40
	var all []*call[struct{}]
	for p := range producers {
		s := e.a
		if p%2 == 1 {
			s = e.b
		}
		ms := e.messages(q, numbered("p"+string(rune('0'+p))+"-", each)...)
		all = append(all, calls(e, func(ctx context.Context) (struct{}, error) {
			for len(ms) > 0 {
				n := min(1+len(ms)%3, len(ms), e.batch(3))
				if err := s.Put(ctx, virtual.PutRequest{Messages: ms[:n]}); err != nil {
					return struct{}{}, err
				}
				ms = ms[n:]
			}
			return struct{}{}, nil
		}))
	}
	for _, c := range all {
		_, err := c.wait(e, "a producer", e.patience())
		e.must(err, "Put beside other producers")
	}
	ts := e.take(e.a, q, producers*each, e.long())
	by := map[string][]string{}
	for _, body := range texts(ts) {
		by[producerOf(body)] = append(by[producerOf(body)], body)
	}
	for p := range producers {
		name := "p" + string(rune('0'+p))
		got, want := by[name], numbered(name+"-", each)
		if !e.traits.Ordered {
			got, want = slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))
		}
		if !slices.Equal(got, want) {
			e.Fatalf("the messages of one of %d producers: saw %s, want %s", producers, show(got), show(want))
		}
	}
	e.settle(e.a, virtual.Ack, 0, ts...)
	e.empty(e.b, q, "after all were taken")
}

func putVisible(e *storeEnv) {
	q := e.ref("orders")
	for _, body := range numbered("m", 10) {
		e.put(e.a, q, body)
		ts := e.take(e.b, q, 1, e.long())
		e.same("a message whose Put has just returned", ts, body)
		e.settle(e.b, virtual.Ack, 0, ts...)
	}
}

func putNothing(e *storeEnv) {
	q := e.ref("orders")
	e.must(e.a.Put(e.ctx, virtual.PutRequest{}), "Put of no messages")
	e.must(e.a.Settle(e.ctx, nil), "Settle of nothing")
	e.put(e.a, q, "only")
	e.holds(e.b, q, "after a Put of nothing", "only")
}

// bodyBack puts a body and takes it.
func (e *storeEnv) bodyBack(q virtual.QueueRef, what string, body []byte) {
	e.Helper()
	m := e.message(q, string(body))
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: []*virtual.Message{m}}), "Put of %s", what)
	ts := e.take(e.b, q, 1, e.long())
	got := ts[0].Payload.Bytes()
	if !bytes.Equal(got, body) {
		at := 0
		for at < min(len(got), len(body)) && got[at] == body[at] {
			at++
		}
		e.Fatalf("%s came back as %d bytes, want %d; the first difference is at byte %d", what, len(got), len(body), at)
	}
	if size := ts[0].Payload.Size(); size < len(body)/2 || size > 2*len(body)+256 {
		e.Errorf("%s came back with Size %d, want roughly %d", what, size, len(body))
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
}

func putEveryByte(e *storeEnv) {
	q := e.ref("orders")
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	e.bodyBack(q, "a body of all 256 byte values", all)
	slices.Reverse(all)
	e.bodyBack(q, "a body of all 256 byte values, backwards", all)
	for _, b := range []string{"\x00", "\x00\x00\x00", "a\x00b", "\r\n.\r\n", "\xff\xfe", "'\"\\;--%s{}", "\n", " ", "null", "{}"} {
		e.bodyBack(q, "the body "+show([]string{b}), []byte(b))
	}
}

func putEmptyBody(e *storeEnv) {
	q := e.ref("orders")
	e.put(e.a, q, "", "between", "")
	e.holds(e.b, q, "empty bodies beside another", "", "between", "")
}

func putLargeBody(e *storeEnv) {
	q := e.ref("orders")
	size := 4 << 20
	if e.traits.MaxBody > 0 {
		size = min(e.traits.MaxBody, 64<<20) // what it claims it takes
	}
	r := rand.NewChaCha8([32]byte{1})
	body := make([]byte, size)
	_, _ = r.Read(body)
	e.bodyBack(q, "a large body", body)
	e.bodyBack(q, "a small body after a large one", []byte("small"))
}

func putIDs(e *storeEnv) {
	q := e.ref("orders")
	ids := []virtual.ID{{}, {15: 1}, {0: 1}, {7: 0xff}, newID(), newID()}
	for i := range ids[0] {
		var id virtual.ID
		id[i] = 0x80
		ids = append(ids, id)
	}
	ids = append(ids, virtual.ID([]byte("abcdefgh\x00\x01\x02\x03\n\r'\"")), virtual.ID(bytes.Repeat([]byte{0xff}, 16)))
	want := map[string]virtual.ID{}
	var ms []*virtual.Message
	for i, body := range numbered("m", len(ids)) {
		m := e.message(q, body)
		m.ID = ids[i]
		ms = append(ms, m)
		want[body] = ids[i]
	}
	e.putAll(e.a, ms)
	ts := e.take(e.b, q, len(ms), e.long())
	for _, t := range ts {
		body := string(t.Payload.Bytes())
		if t.ID != want[body] {
			e.Fatalf("message %s has come back with id %x, want %x", body, t.ID, want[body])
		}
		delete(want, body)
	}
	if len(want) > 0 {
		e.Fatalf("%d messages did not come: ids that are nearly alike were taken for one", len(want))
	}
	e.settle(e.b, virtual.Ack, 0, ts...)
	e.empty(e.a, q, "after all were acked by their ids")
}

func putTooLarge(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	ms := e.messages(q, "first", strings.Repeat("x", e.traits.MaxBody+1), "behind")
	ms = append(ms, e.message(other, "elsewhere"))
	err := e.a.Put(e.ctx, virtual.PutRequest{Messages: ms})
	e.is(virtual.ItemErr(err, 1), virtual.ErrTooLarge, "a payload of one byte more than MaxBody")
	if strings.Contains(err.Error(), "xxxxxxxx") {
		e.Errorf("the error shows the payload")
	}
	want := []string{"first", "behind"}
	if e.traits.Ordered {
		want = want[:1]
		e.is(virtual.ItemErr(err, 2), virtual.ErrBehind, "what came behind it in the same queue")
	}
	e.holds(e.b, q, "beside one that was too large", want...)
	e.holds(e.b, other, "beside one that was too large, in another queue", "elsewhere")
}

func putHalfFailed(e *storeEnv) {
	q, other := e.ref("orders"), e.ref("others")
	gone := e.create(virtual.QueueRef{Name: "deleted", Incarnation: "1"})
	_, err := capability[virtual.Namespace](e, e.a).Delete(e.ctx, gone)
	e.must(err, "Delete")
	ms := []*virtual.Message{
		e.message(gone, "lost-1"), e.message(q, "m1"), e.message(gone, "lost-2"), e.message(q, "m2"), e.message(other, "o1"),
		e.message(gone, "lost-3"), e.message(q, "m3"),
	}
	err = e.b.Put(e.ctx, virtual.PutRequest{Messages: ms})
	b := e.only(err, "a batch of which three messages name a deleted queue", 0, 2, 5)
	if !errors.Is(b.Items[0].Err, virtual.ErrNoQueue) {
		e.Errorf("the first one's error is %v, want %v", b.Items[0].Err, virtual.ErrNoQueue)
	}
	e.holds(e.a, q, "the rest of a batch that failed in part", "m1", "m2", "m3")
	e.holds(e.a, other, "the rest of a batch that failed in part, another queue", "o1")
}

func putSlices(e *storeEnv) {
	q := e.ref("orders")
	want := numbered("m", e.batch(6))
	ms := e.messages(q, want...)
	was := slices.Clone(ms)
	backing := append(ms, e.message(q, "beyond"))
	ms = backing[:len(ms)]
	e.must(e.a.Put(e.ctx, virtual.PutRequest{Messages: ms}), "Put")
	if !slices.Equal(ms, was) {
		e.Fatalf("Put has changed the caller's slice")
	}
	if string(backing[len(ms)].Payload.Bytes()) != "beyond" {
		e.Fatalf("Put has written behind the caller's slice")
	}
	for i := range ms {
		ms[i] = e.message(q, "not put")
	}
	ts := e.take(e.b, q, len(want), e.long())
	e.same("after the caller has used its slice again", ts, want...)
	st := answers(virtual.Ack, 0, ts...)
	kept := slices.Clone(st)
	e.must(e.b.Settle(e.ctx, st), "Settle")
	if !slices.Equal(st, kept) {
		e.Fatalf("Settle has changed the caller's slice")
	}
	clear(st)
	e.empty(e.a, q, "after all were acked")
}
