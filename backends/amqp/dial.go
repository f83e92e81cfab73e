package amqp

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/dashi-mq/dashi/channel"
	amqp091 "github.com/rabbitmq/amqp091-go"
)

const (
	defaultHeartbeat = 10 * time.Second
	defaultTimeout   = 30 * time.Second // of connecting, TLS and login together
	frameSize        = 128 << 10        // RabbitMQ's own default
)

func init() {
	channel.Register("amqp", Dial)
	channel.Register("amqps", Dial)
}

// Dial opens a connection to the server that an amqp or amqps URL names; see the package's comment. It is the dialer
// registered for those schemes, and programs use channel.Dial. cfg.Name is shown as the connection's name by RabbitMQ;
// cfg.Options may hold a *tls.Config, which is used for amqps.
//
// A network that fails is an error that wraps it; login and virtual host refused by the server are a *channel.Error with
// AccessRefused (403) and NotAllowed (530).
func Dial(ctx context.Context, rawURL string, cfg channel.Config, s channel.ConnectionSink) (channel.Transport, error) {
	shown := channel.Redact(rawURL)
	fail := func(err error) (channel.Transport, error) {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		return nil, fmt.Errorf("dial %s: %w", shown, err)
	}
	if err := ctx.Err(); err != nil {
		return fail(err)
	}
	a, err := parse(rawURL, cfg)
	if err != nil {
		return fail(err)
	}

	limited, cancel := context.WithTimeout(ctx, a.timeout)
	defer cancel()
	var d net.Dialer
	sock, err := d.DialContext(limited, "tcp", a.addr)
	if err != nil {
		return fail(err)
	}
	if a.tls != nil {
		t := tls.Client(sock, a.tls)
		if err := t.HandshakeContext(limited); err != nil {
			_ = sock.Close()
			return fail(err)
		}
		sock = t
	}

	w := newWire(sock)
	stop := context.AfterFunc(limited, w.drop)
	t, err := open(w, a, shown, s)
	if !stop() && err == nil { // the context ended at the last moment
		_ = t.Close(limited)
		err = context.Cause(limited)
	}
	if err != nil {
		w.drop()
		w.join()
		var e *amqp091.Error
		switch {
		case ctx.Err() != nil:
		case limited.Err() != nil:
			err = fmt.Errorf("no answer within %v", a.timeout)
		case errors.As(err, &e):
			err = a.refused(e, w)
		}
		return fail(err)
	}
	return t, nil
}

// open logs in over w. The transport's goroutines have started when it returns without an error.
func open(w *wire, a *address, shown string, s channel.ConnectionSink) (*transport, error) {
	conn, err := amqp091.Open(w, a.config)
	if err != nil {
		return nil, err
	}
	info := channel.Info{
		Product: product(conn.Properties), URL: shown, User: a.user, Vhost: conn.Config.Vhost, ChannelMax: int(conn.Config.ChannelMax),
	}
	return newTransport(conn, w, info, s), nil
}

// refused makes our error of the one that ended the login.
func (a *address) refused(e *amqp091.Error, w *wire) error {
	if !e.Server && e.Code == amqp091.FrameError {
		if err := w.failure(); err != nil {
			return fmt.Errorf("the connection ended during login: %w", err)
		}
	}
	out := &channel.Error{Code: e.Code, Text: plainText(e.Code, e.Reason), Server: e.Server, Connection: true}
	switch {
	case e == amqp091.ErrVhost, e.Server:
		out.Op = named("connection.open", a.config.Vhost)
	case e == amqp091.ErrCredentials, e == amqp091.ErrSASL:
		out.Op = "connection.start-ok"
		out.Text += " (user " + strconv.Quote(a.user) + ")"
	}
	return out
}

func product(properties amqp091.Table) string {
	var parts []string
	for _, key := range []string{"product", "version"} {
		if s, ok := properties[key].(string); ok && s != "" {
			parts = append(parts, s)
		}
	}
	if len(parts) == 0 {
		return "AMQP 0-9-1 server"
	}
	return strings.Join(parts, " ")
}

// address is what a URL and a Config come to.
type address struct {
	addr    string
	user    string
	tls     *tls.Config // nil: none
	timeout time.Duration
	config  amqp091.Config
}

func parse(rawURL string, cfg channel.Config) (*address, error) {
	// The library's own parser quotes the URL in its errors, password and all: whatever it could quote is found here.
	if _, err := channel.Scheme(rawURL); err != nil {
		return nil, errors.New("not a valid URL (reserved characters in user, password or vhost must be percent-encoded)")
	}
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, errors.New("not a valid URL")
	}
	uri, err := amqp091.ParseURI(rawURL)
	if err != nil {
		return nil, err
	}
	a := &address{
		addr:    net.JoinHostPort(uri.Host, strconv.Itoa(uri.Port)),
		user:    uri.Username,
		timeout: defaultTimeout,
		config: amqp091.Config{
			Vhost: uri.Vhost, ChannelMax: uri.ChannelMax, FrameSize: frameSize, Heartbeat: defaultHeartbeat, Locale: "en_US",
			Properties: amqp091.Table{"product": "dashi", "platform": "golang"},
		},
	}
	if h := u.Query().Get("heartbeat"); h != "" {
		n, err := strconv.ParseUint(h, 10, 16)
		if err != nil {
			return nil, fmt.Errorf("heartbeat %q is not a number of seconds", h)
		}
		a.config.Heartbeat = time.Duration(n) * time.Second
	}
	if uri.ConnectionTimeout < 0 {
		return nil, fmt.Errorf("connection_timeout %d is negative", uri.ConnectionTimeout)
	}
	if uri.ConnectionTimeout > 0 {
		a.timeout = time.Duration(uri.ConnectionTimeout) * time.Millisecond
	}
	if cfg.Name != "" {
		a.config.Properties.SetClientConnectionName(cfg.Name)
	}
	if a.config.SASL, err = mechanisms(uri); err != nil {
		return nil, err
	}
	var given *tls.Config
	for _, o := range cfg.Options {
		c, ok := o.(*tls.Config)
		if !ok || c == nil {
			return nil, fmt.Errorf("an option of type %T is not known here: want *tls.Config", o)
		}
		given = c
	}
	if uri.Scheme == "amqps" {
		if a.tls, err = tlsConfig(uri, given); err != nil {
			return nil, err
		}
	}
	return a, nil
}

func mechanisms(uri amqp091.URI) ([]amqp091.Authentication, error) {
	if len(uri.AuthMechanism) == 0 {
		return []amqp091.Authentication{uri.PlainAuth()}, nil
	}
	var all []amqp091.Authentication
	for _, m := range uri.AuthMechanism {
		switch strings.ToUpper(m) {
		case "PLAIN":
			all = append(all, uri.PlainAuth())
		case "AMQPLAIN":
			all = append(all, uri.AMQPlainAuth())
		case "EXTERNAL":
			all = append(all, &amqp091.ExternalAuth{})
		default:
			return nil, fmt.Errorf("auth_mechanism %q is not known: want plain, amqplain or external", m)
		}
	}
	return all, nil
}

func tlsConfig(uri amqp091.URI, given *tls.Config) (*tls.Config, error) {
	if given != nil {
		c := given.Clone()
		if c.ServerName == "" {
			c.ServerName = uri.Host
		}
		return c, nil
	}
	c := &tls.Config{ServerName: uri.ServerName, MinVersion: tls.VersionTLS12}
	if c.ServerName == "" {
		c.ServerName = uri.Host
	}
	if uri.CACertFile != "" {
		pem, err := os.ReadFile(uri.CACertFile)
		if err != nil {
			return nil, fmt.Errorf("cacertfile: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("cacertfile %s holds no certificate", uri.CACertFile)
		}
	}
	if (uri.CertFile == "") != (uri.KeyFile == "") {
		return nil, errors.New("certfile and keyfile go together")
	}
	if uri.CertFile != "" {
		pair, err := tls.LoadX509KeyPair(uri.CertFile, uri.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("certfile and keyfile: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}
