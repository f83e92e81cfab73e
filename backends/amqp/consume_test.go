package amqp

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/channel"
)

func TestDeliveriesComeInOrderBetweenTheAnswersOfConsumeAndCancel(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	const n = 1000
	var want []string
	for i := range n {
		want = append(want, fmt.Sprint(i))
		publish(t, p, q, want[i])
	}
	call(t, p, &channel.Consume{Queue: q, Tag: "tag"})
	waitFor[channel.Delivered](l, 10)
	call(t, p, &channel.Cancel{Tag: "tag"})
	heard := l.wait("", func([]any) bool { return true })
	if _, ok := heard[len(heard)-1].(channel.Reply); !ok {
		t.Errorf("the last thing heard is %#v", heard[len(heard)-1])
	}
	ds := only[channel.Delivered](heard)
	if got := bodies(ds); got != strings.Join(want[:len(ds)], " ") {
		t.Errorf("out of order: %s", got)
	}
	for i, d := range ds {
		if d.DeliveryTag != uint64(i+1) || d.ConsumerTag != "tag" {
			t.Fatalf("delivery %d is %+v", i, d)
		}
	}
	started := slices.IndexFunc(heard, func(h any) bool {
		r, ok := h.(channel.Reply)
		if !ok {
			return false
		}
		_, ok = r.Method.(*channel.Consume)
		return ok
	})
	if first := slices.IndexFunc(heard, func(h any) bool { _, ok := h.(channel.Delivered); return ok }); first < started {
		t.Error("a delivery came before the answer to consume")
	}
	// What came before can still be acked, and nothing else was lost.
	if err := p.SettleWait(bounded(t), channel.Settle{Tag: uint64(len(ds)), Multiple: true, Kind: channel.Ack, Method: "basic.ack"}); err != nil {
		t.Fatal(err)
	}
	if r := call(t, p, &channel.QueueDelete{Name: q}); r.Messages != n-len(ds) {
		t.Errorf("%d messages are left of %d, and %d were delivered", r.Messages, n, len(ds))
	}
}

func TestAnsweredMessagesGoWhereTheyShould(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	publish(t, p, q, "ack", "nack", "reject", "requeue", "give-back", "reject-requeue")
	call(t, p, &channel.Consume{Queue: q, Tag: "tag"})
	waitFor[channel.Delivered](l, 6)
	call(t, p, &channel.Cancel{Tag: "tag"})
	for i, s := range []channel.Settle{
		{Kind: channel.Ack, Method: "basic.ack"},
		{Kind: channel.Nack, Method: "basic.nack"},
		{Kind: channel.Nack, Method: "basic.reject"},
		{Kind: channel.Requeue, Method: "basic.nack"},
		{Kind: channel.GiveBack, Method: "basic.nack"},
		{Kind: channel.Requeue, Method: "basic.reject"},
	} {
		s.Tag = uint64(i + 1)
		if err := p.Settle(s); err != nil {
			t.Fatal(err)
		}
	}
	var back []channel.Delivered
	for {
		d := call(t, p, &channel.Get{Queue: q, NoAck: true}).Delivery
		if d == nil {
			break
		}
		if !d.Redelivered {
			t.Errorf("%s is not redelivered", d.Body)
		}
		back = append(back, *d)
	}
	if got := bodies(back); got != "requeue give-back reject-requeue" {
		t.Errorf("came back: %s", got)
	}
	e := wantCode(t, p.SettleWait(bounded(t), channel.Settle{Tag: 1, Kind: channel.Ack, Method: "basic.ack"}), channel.PreconditionFailed)
	if e.Op != "basic.ack" {
		t.Errorf("got %#v", e)
	}
}

func TestCreditBoundsWhatIsHandedOver(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	publish(t, p, q, "1", "2", "3", "4", "5", "6", "7", "8")
	call(t, p, &channel.Consume{Queue: q, Tag: "bounded", Credit: 2, NoAck: true})
	waitFor[channel.Delivered](l, 2)
	// The server has sent all eight before the answers to these, and another consumer has been served meanwhile.
	q2 := tempQueue(t, p)
	call(t, p, &channel.Consume{Queue: q2, Tag: "free", NoAck: true})
	publish(t, p, q2, "other")
	if got := bodies(waitFor[channel.Delivered](l, 3)); got != "1 2 other" {
		t.Errorf("got %s", got)
	}
	p.Grant("bounded", 3)
	if got := bodies(waitFor[channel.Delivered](l, 6)); got != "1 2 other 3 4 5" {
		t.Errorf("got %s", got)
	}
	call(t, p, &channel.Cancel{Tag: "bounded"}) // hands over the rest, which the server counts as delivered
	if got := bodies(waitFor[channel.Delivered](l, 9)); got != "1 2 other 3 4 5 6 7 8" {
		t.Errorf("got %s", got)
	}
	p.Grant("bounded", 1)
	p.Grant("never there", 1)
}

func TestCancelByTheServerComesAfterTheLastDelivery(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	admin, _ := openTest(t, tr)
	for i := range 20 {
		q := tempQueue(t, admin)
		for range 20 {
			publish(t, admin, q, "x")
		}
		// The tag is used again and again: it is free once Cancelled came.
		call(t, p, &channel.Consume{Queue: q, Tag: "tag", Credit: 5})
		waitFor[channel.Delivered](l, 20*i+5)
		call(t, admin, &channel.QueueDelete{Name: q})
		heard := l.wait("the cancel", func(h []any) bool { return count[cancelled](h) == i+1 })
		if _, ok := heard[len(heard)-1].(cancelled); !ok || count[channel.Delivered](heard) != 20*(i+1) {
			t.Fatalf("round %d: %d deliveries, then %#v", i, count[channel.Delivered](heard), heard[len(heard)-1])
		}
	}
}
