package amqp

import (
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/dashi-mq/dashi/channel"
)

func TestConfirmsAnswerEveryMessageOnce(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	call(t, p, &channel.ConfirmSelect{})
	const n = 2000
	for i := range n {
		publish(t, p, q, fmt.Sprint(i))
	}
	if err := p.Flush(bounded(t)); err != nil {
		t.Fatal(err)
	}
	var next uint64 = 1
	for _, a := range waitFor[answer](l, 1) {
		if !a.ack || a.number < next || !a.multiple && a.number != next {
			t.Fatalf("answer %+v where %d was next", a, next)
		}
		next = a.number + 1
	}
	if next != n+1 {
		t.Errorf("after Flush %d of %d messages are answered", next-1, n)
	}
	if r := call(t, p, &channel.QueueDeclare{Name: q, Passive: true}); r.Messages != n {
		t.Errorf("the queue has %d messages", r.Messages)
	}
}

func TestFlushListsRefusedMessages(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, _ := openTest(t, tr)
	q := call(t, p, &channel.QueueDeclare{Exclusive: true, Args: channel.Table{"x-max-length": 2, "x-overflow": "reject-publish"}}).Queue
	call(t, p, &channel.ConfirmSelect{})
	publish(t, p, q, "1", "2")
	if err := p.Flush(bounded(t)); err != nil {
		t.Fatal(err)
	}
	publish(t, p, q, "3", "4")
	var lost *channel.LostError
	if err := p.Flush(bounded(t)); !errors.As(err, &lost) || !slices.Equal(lost.Numbers, []uint64{3, 4}) {
		t.Errorf("got %v", err)
	}
	if err := p.Flush(bounded(t)); err != nil {
		t.Errorf("told twice: %v", err)
	}
}

func TestReturnComesBeforeConfirm(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	call(t, p, &channel.ConfirmSelect{})
	const n = 500
	for i := range n {
		publish(t, p, q, "routed") // so that confirms and returns are mixed
		m := &channel.Publish{Key: "dashi.test.nowhere", Publishing: channel.Publishing{Mandatory: true, MessageId: fmt.Sprint(2 * (i + 1))}}
		if err := p.Publish(bounded(t), m); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.Flush(bounded(t)); err != nil {
		t.Fatal(err)
	}
	returned := map[string]bool{}
	var answered uint64
	for _, h := range l.wait("returns", func(h []any) bool { return count[channel.Return](h) == n }) {
		switch h := h.(type) {
		case channel.Return:
			returned[h.MessageId] = true
			if h.ReplyCode != channel.NoRoute || h.RoutingKey != "dashi.test.nowhere" || h.ReplyText != "NO_ROUTE" {
				t.Fatalf("got %+v", h)
			}
		case answer:
			for ; answered < h.number; answered++ {
				if id := fmt.Sprint(answered + 1); (answered+1)%2 == 0 && !returned[id] {
					t.Fatalf("message %s was confirmed before it was returned", id)
				}
			}
		}
	}
}

func TestReturnsComeBeforeTheAnswerToCommit(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	call(t, p, &channel.TxSelect{})
	for range 50 {
		for range 20 {
			m := &channel.Publish{Key: "dashi.test.nowhere", Publishing: channel.Publishing{Mandatory: true}}
			if err := p.Publish(bounded(t), m); err != nil {
				t.Fatal(err)
			}
		}
		call(t, p, &channel.TxCommit{})
	}
	seen, commits := 0, 0
	for _, h := range l.wait("", func([]any) bool { return true }) {
		switch h := h.(type) {
		case channel.Return:
			seen++
		case channel.Reply:
			if _, ok := h.Method.(*channel.TxCommit); ok {
				if commits++; seen != commits*20 {
					t.Fatalf("%d returns before the answer to commit %d", seen, commits)
				}
			}
		}
	}
}
