package amqp

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
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
