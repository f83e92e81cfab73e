package amqp

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"go.uber.org/goleak"
)

func TestInfoTellsWhatTheServerSaid(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	i := tr.Info()
	if !strings.Contains(i.Product, " ") || i.User == "" || i.Vhost == "" || i.ChannelMax < 1 || i.Virtual || strings.Contains(i.URL, "guest:guest") {
		t.Errorf("got %+v", i)
	}
}

func TestAMessageComesBackAsItWasSent(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, _ := openTest(t, tr)
	q := tempQueue(t, p)
	sent := channel.Publishing{
		Headers: channel.Table{
			"bool": true, "int8": int8(-8), "uint8": uint8(8), "int16": int16(-16), "uint16": uint16(16), "int32": int32(-32), "uint32": uint32(32),
			"int64": int64(-1 << 60), "float32": float32(1.5), "float64": 2.5, "string": "é", "bytes": []byte{0, 1, 255}, "nil": nil,
			"time": time.Unix(1700000000, 0), "decimal": channel.Decimal{Scale: 2, Value: 314},
			"table": channel.Table{"deep": channel.Table{"er": int32(1)}, "empty": channel.Table{}},
			"array": []any{int32(1), "two", []any{}, channel.Table{"three": nil}, channel.Decimal{Value: 4}},
		},
		ContentType: "text/plain", ContentEncoding: "utf-8", DeliveryMode: channel.Persistent, Priority: 7, CorrelationId: "c", ReplyTo: "r",
		Expiration: "60000", MessageId: "m", Timestamp: time.Unix(1700000001, 0), Type: "t", UserId: tr.Info().User, AppId: "a",
		Body: []byte("body\x00\xff"),
	}
	if err := p.Publish(bounded(t), &channel.Publish{Key: q, Publishing: sent}); err != nil {
		t.Fatal(err)
	}
	d := call(t, p, &channel.Get{Queue: q, NoAck: true}).Delivery
	if d == nil {
		t.Fatal("the queue is empty")
	}
	got := channel.Publishing{
		Headers: d.Headers, ContentType: d.ContentType, ContentEncoding: d.ContentEncoding, DeliveryMode: d.DeliveryMode, Priority: d.Priority,
		CorrelationId: d.CorrelationId, ReplyTo: d.ReplyTo, Expiration: d.Expiration, MessageId: d.MessageId, Timestamp: d.Timestamp,
		Type: d.Type, UserId: d.UserId, AppId: d.AppId, Body: d.Body,
	}
	if !reflect.DeepEqual(got, sent) {
		t.Errorf("got  %#v\nsent %#v", got, sent)
	}
	if d.DeliveryTag != 1 || d.RoutingKey != q || d.Exchange != "" || d.Redelivered {
		t.Errorf("got %+v", d)
	}
	if r := call(t, p, &channel.Get{Queue: q}); r.Delivery != nil {
		t.Error("an empty queue gave a message")
	}
}

func TestIntegersOfAnySizeAreKept(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, _ := openTest(t, tr)
	q := tempQueue(t, p)
	in := channel.Table{"small": 5, "large": 1 << 40, "negative": -1 << 40, "uint": uint(7), "uint64": uint64(1 << 62)}
	if err := p.Publish(bounded(t), &channel.Publish{Key: q, Publishing: channel.Publishing{Headers: in}}); err != nil {
		t.Fatal(err)
	}
	want := channel.Table{"small": int32(5), "large": int64(1 << 40), "negative": int64(-1 << 40), "uint": int64(7), "uint64": int64(1 << 62)}
	if got := call(t, p, &channel.Get{Queue: q, NoAck: true}).Delivery.Headers; !reflect.DeepEqual(got, want) {
		t.Errorf("got %#v", got)
	}
}

func TestEveryMethodReachesTheServer(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	x, y := unique(t), unique(t)
	q := tempQueue(t, p)
	methods := []channel.Method{
		&channel.ExchangeDeclare{Name: x, Type: channel.Topic, AutoDelete: true},
		&channel.ExchangeDeclare{Name: x, Type: channel.Topic, Passive: true},
		&channel.ExchangeDeclare{Name: y, Type: channel.Fanout},
		&channel.ExchangeBind{Source: x, Destination: y, Key: "k"},
		&channel.ExchangeBind{Source: x, Destination: y, Key: "k", Args: channel.Table{"a": 1}},
		&channel.ExchangeBind{Source: x, Destination: y, Key: "k", Unbind: true},
		&channel.ExchangeDelete{Name: y, IfUnused: true}, // and x, which has lost its last binding
		&channel.ExchangeDeclare{Name: x, Type: channel.Topic, AutoDelete: true},
		&channel.QueueDeclare{Name: q, Passive: true},
		&channel.QueueBind{Queue: q, Exchange: x, Key: "#", Args: channel.Table{"a": 1}},
		&channel.QueueBind{Queue: q, Exchange: x, Key: "#", Args: channel.Table{"a": 1}, Unbind: true},
		&channel.QueuePurge{Name: q},
		&channel.Qos{Count: 3},
		&channel.Consume{Queue: q, Tag: "tag"},
		&channel.Cancel{Tag: "tag"},
		&channel.Get{Queue: q},
		&channel.Recover{Requeue: true},
		&channel.Flow{Active: true},
		&channel.ConfirmSelect{},
		&channel.QueueDelete{Name: q},
	}
	for _, m := range methods {
		r := call(t, p, m)
		if r.Method != m {
			t.Errorf("%s: the reply is to %v", channel.MethodName(m), r.Method)
		}
	}
	tx, _ := openTest(t, tr)
	for _, m := range []channel.Method{&channel.TxSelect{}, &channel.TxCommit{}, &channel.TxRollback{}} {
		call(t, tx, m)
	}
	replies := only[channel.Reply](waitReplies(l, len(methods)+1))
	for i, m := range methods {
		if replies[i+1].Method != m {
			t.Errorf("the sink heard as reply %d that to %s", i+1, channel.MethodName(replies[i+1].Method))
		}
	}
}

func waitReplies(l *log, n int) []any {
	return l.wait("replies", func(h []any) bool { return count[channel.Reply](h) >= n })
}

func TestNoWaitHasTheSameEffectAndNoReply(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	x, q := unique(t), unique(t)
	for _, m := range []channel.Method{
		&channel.ExchangeDeclare{Name: x, Type: channel.Fanout, NoWait: true},
		&channel.QueueDeclare{Name: q, Exclusive: true, NoWait: true},
		&channel.QueueBind{Queue: q, Exchange: x, NoWait: true},
		&channel.ConfirmSelect{NoWait: true},
		&channel.Consume{Queue: q, Tag: "tag", NoWait: true},
	} {
		call(t, p, m)
	}
	if err := p.Publish(bounded(t), &channel.Publish{Exchange: x, Publishing: channel.Publishing{Body: []byte("1")}}); err != nil {
		t.Fatal(err)
	}
	waitFor[channel.Delivered](l, 1)
	waitFor[answer](l, 1)
	call(t, p, &channel.Cancel{Tag: "tag", NoWait: true})
	call(t, p, &channel.ExchangeDelete{Name: x, NoWait: true})
	if err := p.Flush(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if n := count[channel.Reply](l.wait("", func([]any) bool { return true })); n != 0 {
		t.Errorf("the sink heard %d replies", n)
	}
	call(t, p, &channel.QueuePurge{Name: q, NoWait: true})
	call(t, p, &channel.QueueDeclare{Name: "dashi.test.no such queue", Passive: true, NoWait: true})
	e := l.waitClosed()
	if e == nil || e.Code != channel.NotFound || e.Op != `queue.declare "dashi.test.no such queue"` {
		t.Errorf("closed with %v", e)
	}
}

func TestAnErrorClosesTheChannelAloneAndIsKept(t *testing.T) {
	tr, cl := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	other, _ := openTest(t, tr)
	_, err := p.Call(bounded(t), &channel.QueueDeclare{Name: "dashi.test.missing", Passive: true})
	e := wantCode(t, err, channel.NotFound)
	if !e.Server || e.Connection || e.Op != `queue.declare "dashi.test.missing"` || strings.Contains(e.Text, "NOT_FOUND") || e.Text == "" {
		t.Errorf("got %#v", e)
	}
	if l.waitClosed() != e {
		t.Error("the sink heard of another error")
	}
	_, err = p.Call(bounded(t), &channel.Qos{Count: 1})
	if err != e {
		t.Errorf("the next call says %v", err)
	}
	if err := p.Publish(bounded(t), &channel.Publish{}); err != e {
		t.Errorf("a publish says %v", err)
	}
	if err := p.Settle(channel.Settle{Tag: 1}); err != e {
		t.Errorf("an ack says %v", err)
	}
	if err := p.Flush(bounded(t)); err != e {
		t.Errorf("a flush says %v", err)
	}
	if err := p.Close(bounded(t)); err != e && err != nil {
		t.Errorf("close says %v", err)
	}
	tempQueue(t, other)
	if n := count[closed](cl.wait("", func([]any) bool { return true })); n != 0 {
		t.Error("the connection ended too")
	}
}

func TestAnAsynchronousErrorNamesItsMethod(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	if err := p.Publish(bounded(t), &channel.Publish{Exchange: "dashi.test.missing"}); err != nil {
		t.Fatal(err)
	}
	if e := l.waitClosed(); e == nil || e.Code != channel.NotFound || e.Op != "basic.publish" {
		t.Errorf("closed with %v", e)
	}
	p, l = openTest(t, tr)
	if err := p.Settle(channel.Settle{Tag: 7, Kind: channel.Ack, Method: "basic.ack"}); err != nil {
		t.Fatal(err)
	}
	if e := l.waitClosed(); e == nil || e.Code != channel.PreconditionFailed || e.Op != "basic.ack" || e.Text != "unknown delivery tag 7" {
		t.Errorf("closed with %v", e)
	}
}

func TestAnErrorOfTheConnectionClosesAllOfIt(t *testing.T) {
	tr, cl := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	_, l2 := openTest(t, tr)
	_, err := p.Call(bounded(t), &channel.ExchangeDeclare{Name: "dashi.test.x", Type: "no such type"})
	e := wantCode(t, err, channel.CommandInvalid)
	if !e.Connection || !e.Server || e.Op != `exchange.declare "dashi.test.x"` {
		t.Errorf("got %#v", e)
	}
	for i, l := range []*log{l, l2, cl} {
		if e := l.waitClosed(); e == nil || e.Code != channel.CommandInvalid || !e.Connection || !strings.HasPrefix(e.Op, "exchange.declare") {
			t.Errorf("sink %d closed with %#v", i, e)
		}
	}
	if _, err := tr.OpenChannel(bounded(t), newLog(t)); err == nil {
		t.Error("a channel opened on a closed connection")
	} else {
		wantCode(t, err, channel.CommandInvalid)
	}
}

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

func TestOneChannelTooManyIsRefusedAndHarmless(t *testing.T) {
	u := serverURL(t)
	sep := "?"
	if strings.Contains(u, "?") {
		sep = "&"
	}
	tr, _ := dialTest(t, u+sep+"channel_max=3")
	if n := tr.Info().ChannelMax; n != 3 {
		t.Fatalf("channel-max is %d", n)
	}
	var ports []channel.Port
	for range 3 {
		p, _ := openTest(t, tr)
		ports = append(ports, p)
	}
	_, err := tr.OpenChannel(bounded(t), newLog(t))
	wantCode(t, err, channel.NotAllowed)
	tempQueue(t, ports[0])
	if err := ports[1].Close(bounded(t)); err != nil {
		t.Fatal(err)
	}
	openTest(t, tr)
}

func TestClosingAChannelReturnsItsMessages(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	for _, ctx := range []context.Context{bounded(t), ended()} {
		p, l := openTest(t, tr)
		other, _ := openTest(t, tr)
		q := tempQueue(t, other)
		publish(t, p, q, "1", "2")
		call(t, p, &channel.Consume{Queue: q, Tag: "tag"})
		waitFor[channel.Delivered](l, 2)
		if err := p.Close(ctx); err != nil {
			t.Fatal(err)
		}
		if e := l.waitClosed(); e != nil {
			t.Errorf("closed with %v", e)
		}
		if err := p.Close(bounded(t)); err != nil {
			t.Errorf("the second close says %v", err)
		}
		if _, err := p.Call(bounded(t), &channel.Qos{}); !errors.Is(err, channel.ErrClosed) {
			t.Errorf("a call on a closed channel says %v", err)
		}
		for _, want := range []string{"1", "2"} {
			var d *channel.Delivered
			for d == nil && !t.Failed() { // with an ended context the goodbye comes a little later
				d = call(t, other, &channel.Get{Queue: q, NoAck: true}).Delivery
			}
			if string(d.Body) != want || !d.Redelivered {
				t.Errorf("got %q, redelivered %v", d.Body, d.Redelivered)
			}
		}
	}
}

func TestCloseStoresWhatWasSentAndJoinsEverything(t *testing.T) {
	u := serverURL(t)
	tr, _ := dialTest(t, u)
	keep, _ := openTest(t, tr)
	q := call(t, keep, &channel.QueueDeclare{Name: unique(t), AutoDelete: true}).Queue
	ignore := goleak.IgnoreCurrent()

	l := newLog(t)
	c, err := Dial(bounded(t), u, channel.Config{}, l)
	if err != nil {
		t.Fatal(err)
	}
	var logs []*log
	for range 5 {
		p, pl := openTest(t, c)
		logs = append(logs, pl)
		call(t, p, &channel.Consume{Queue: tempQueue(t, p), Tag: "tag", Credit: 1})
		for range 100 {
			publish(t, p, q, "x")
		}
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := c.Close(bounded(t)); err != nil {
				t.Errorf("close: %v", err)
			}
		})
	}
	wg.Wait()
	goleak.VerifyNone(t, ignore)
	for _, l := range append(logs, l) {
		if e := l.waitClosed(); e != nil {
			t.Errorf("closed with %v", e)
		}
	}
	if r := call(t, keep, &channel.QueueDelete{Name: q}); r.Messages != 500 {
		t.Errorf("%d of 500 messages were stored", r.Messages)
	}
	if _, err := c.OpenChannel(bounded(t), newLog(t)); !errors.Is(err, channel.ErrClosed) {
		t.Errorf("a closed connection says %v", err)
	}
}

func TestCloseWithAnEndedContextDropsTheConnection(t *testing.T) {
	u := serverURL(t)
	tr, _ := dialTest(t, u)
	watch, _ := openTest(t, tr)
	q := call(t, watch, &channel.QueueDeclare{Name: unique(t)}).Queue
	publish(t, watch, q, "1")
	ignore := goleak.IgnoreCurrent()

	l := newLog(t)
	c, err := Dial(bounded(t), u, channel.Config{}, l)
	if err != nil {
		t.Fatal(err)
	}
	p, pl := openTest(t, c)
	call(t, p, &channel.Consume{Queue: q, Tag: "tag"})
	waitFor[channel.Delivered](pl, 1)
	if err := c.Close(ended()); err != nil {
		t.Fatal(err)
	}
	goleak.VerifyNone(t, ignore)
	if e, e2 := pl.waitClosed(), l.waitClosed(); e != nil || e2 != nil {
		t.Errorf("closed with %v and %v", e, e2)
	}
	var d *channel.Delivered
	for d == nil {
		d = call(t, watch, &channel.Get{Queue: q, NoAck: true}).Delivery
	}
	if !d.Redelivered {
		t.Error("the message is not redelivered")
	}
	call(t, watch, &channel.QueueDelete{Name: q})
}

func TestALostConnectionEndsEverythingWithItsCause(t *testing.T) {
	px, u := newProxy(t, serverURL(t))
	tr, cl := dialTest(t, u)
	p, l := openTest(t, tr)
	px.cut()
	for _, l := range []*log{l, cl} {
		e := l.waitClosed()
		if e == nil || e.Code != channel.ConnectionForced || e.Server || !e.Connection || e.Cause == nil {
			t.Errorf("closed with %#v", e)
		}
	}
	_, err := p.Call(bounded(t), &channel.Qos{})
	wantCode(t, err, channel.ConnectionForced)
	_, err = tr.OpenChannel(bounded(t), newLog(t))
	wantCode(t, err, channel.ConnectionForced)
}

func TestCallsEndWithTheirContext(t *testing.T) {
	px, u := newProxy(t, serverURL(t))
	tr, _ := dialTest(t, u)
	p, l := openTest(t, tr)
	held := px.freeze()
	cause := errors.New("enough")
	ctx, cancel := context.WithCancelCause(context.Background())
	result := make(chan error)
	go func() {
		_, err := p.Call(ctx, &channel.QueueDeclare{Name: "dashi.test.q"})
		result <- err
	}()
	<-held // the method is on its way
	cancel(cause)
	if err := <-result; !errors.Is(err, cause) {
		t.Errorf("the call says %v", err)
	}
	if e := l.waitClosed(); e == nil || !errors.Is(e, cause) || e.Connection {
		t.Errorf("closed with %v", e)
	}
	if _, err := tr.OpenChannel(ctx, newLog(t)); !errors.Is(err, cause) {
		t.Errorf("open says %v", err)
	}
	px.thaw()
}

func TestPublishWaitsForRoomAndAcksDoNot(t *testing.T) {
	px, u := newProxy(t, serverURL(t))
	tr, _ := dialTest(t, u)
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	publish(t, p, q, "1", "2")
	call(t, p, &channel.Consume{Queue: q, Tag: "tag"})
	waitFor[channel.Delivered](l, 2)
	call(t, p, &channel.Cancel{Tag: "tag"})
	px.freeze()
	big := make([]byte, 256<<10)
	stored := 0
	for {
		ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
		err := p.Publish(ctx, &channel.Publish{Key: q, Publishing: channel.Publishing{Body: big}})
		cancel()
		if err != nil {
			if !errors.Is(err, context.DeadlineExceeded) {
				t.Fatal(err)
			}
			break
		}
		if stored++; stored > 400 {
			t.Fatal("100 MiB found room")
		}
	}
	if err := p.Settle(channel.Settle{Tag: 1, Kind: channel.Ack, Method: "basic.ack"}); err != nil {
		t.Fatal(err)
	}
	px.thaw()
	if err := p.SettleWait(bounded(t), channel.Settle{Tag: 2, Kind: channel.Ack, Method: "basic.ack"}); err != nil {
		t.Fatal(err)
	}
	if r := call(t, p, &channel.QueueDelete{Name: q}); r.Messages != stored {
		t.Errorf("%d messages accepted, %d stored", stored, r.Messages)
	}
}

func TestManyGoroutinesMayUseAChannel(t *testing.T) {
	tr, _ := dialTest(t, serverURL(t))
	p, l := openTest(t, tr)
	q := tempQueue(t, p)
	call(t, p, &channel.Qos{Count: 50})
	call(t, p, &channel.ConfirmSelect{})
	call(t, p, &channel.Consume{Queue: q, Tag: "tag"})
	const n = 1000
	var wg sync.WaitGroup
	wg.Go(func() {
		for range n {
			publish(t, p, q, "x")
		}
	})
	wg.Go(func() {
		for range 20 {
			if err := p.Flush(bounded(t)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Go(func() {
		done := 0
		for done < n {
			for _, d := range waitFor[channel.Delivered](l, done+1)[done:] {
				done++
				wg.Go(func() {
					if err := p.Settle(channel.Settle{Tag: d.DeliveryTag, Kind: channel.Ack, Method: "basic.ack"}); err != nil {
						t.Error(err)
					}
				})
			}
		}
	})
	wg.Wait()
	if r := call(t, p, &channel.QueueDelete{Name: q}); r.Messages != 0 {
		t.Errorf("%d messages are left", r.Messages)
	}
}

func TestLoginAndVhostAreRefusedInOurWords(t *testing.T) {
	u := serverURL(t)
	a, err := parse(u, channel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = Dial(bounded(t), "amqp://guest:s3cret@"+a.addr+"/", channel.Config{}, newLog(t))
	wantCode(t, err, channel.AccessRefused)
	if strings.Contains(err.Error(), "s3cret") || !strings.Contains(err.Error(), `"guest"`) {
		t.Error(err)
	}
	_, err = Dial(bounded(t), strings.TrimSuffix(u, "/")+"/no%20such%20vhost", channel.Config{}, newLog(t))
	e := wantCode(t, err, channel.NotAllowed)
	if e.Op != `connection.open "no such vhost"` || strings.Contains(err.Error(), "guest:guest") {
		t.Error(err)
	}
}

func TestTLSIsSpokenForAmqps(t *testing.T) {
	u := serverURL(t)
	a, err := parse(u, channel.Config{})
	if err != nil {
		t.Fatal(err)
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"broker.example"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "ca.pem")
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
	listener, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}})
	if err != nil {
		t.Fatal(err)
	}
	px := &proxy{l: listener, server: a.addr, frozen: make(chan struct{})}
	px.thaw()
	px.wg.Go(px.accept)
	t.Cleanup(func() { _ = listener.Close(); px.cut(); px.wg.Wait() })

	user := strings.SplitN(strings.TrimPrefix(u, "amqp://"), "@", 2)[0]
	at := "amqps://" + user + "@" + listener.Addr().String() + "/"
	if _, err := Dial(bounded(t), at, channel.Config{}, newLog(t)); err == nil || errors.As(err, new(*net.OpError)) {
		t.Errorf("an unknown certificate: %v", err)
	}
	tr, _ := dialTest(t, at+"?server_name_indication=broker.example&cacertfile="+file)
	p, _ := openTest(t, tr)
	tempQueue(t, p)
	if err := tr.Close(ended()); err != nil {
		t.Error(err)
	}

	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	tr2, err := Dial(bounded(t), at, channel.Config{Options: []any{&tls.Config{RootCAs: pool, ServerName: "broker.example"}}}, newLog(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := tr2.Close(bounded(t)); err != nil {
		t.Error(err)
	}
}
