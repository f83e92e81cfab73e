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
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dashi-mq/dashi/channel"
	"go.uber.org/goleak"
)

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
