package dashitest_test

import (
	"context"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/dashitest"
)

// App is a program under test: it answers each order with a receipt.
type App struct{ ch *channel.Channel }

func NewApp(ctx context.Context, conn *dashi.Connection) (*App, error) {
	ch, err := conn.Channel(ctx)
	if err != nil {
		return nil, err
	}
	for _, name := range []string{"orders", "receipts"} {
		if _, err := ch.QueueDeclare(ctx, name, channel.QueueOptions{Durable: true}); err != nil {
			return nil, err
		}
	}
	return &App{ch}, nil
}

// Serve answers one order.
func (a *App) Serve(ctx context.Context) error {
	for order, err := range a.ch.Deliveries(ctx, "orders", channel.ConsumeOptions{}) {
		if err != nil {
			return err
		}
		if err := a.ch.Publish(ctx, "", "receipts", channel.Publishing{Body: append([]byte("thanks for "), order.Body...)}); err != nil {
			return err
		}
		return order.Ack(false)
	}
	return nil
}

func TestOrderGetsAReceipt(t *testing.T) {
	conn := dashitest.Open(t, dashitest.NoLeftovers()) // fails the test if the order is not acked
	ctx := t.Context()
	app, err := NewApp(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	ch, err := conn.Channel(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := ch.Publish(ctx, "", "orders", channel.Publishing{Body: []byte("tea")}); err != nil {
		t.Fatal(err)
	}
	if err := app.Serve(ctx); err != nil {
		t.Fatal(err)
	}
	receipt, ok, err := ch.Get(ctx, "receipts", true)
	if err != nil || !ok || string(receipt.Body) != "thanks for tea" {
		t.Fatalf("receipt %q, %v, %v", receipt.Body, ok, err)
	}
}

// One line opens a broker for a test: TestOrderGetsAReceipt above is a whole one.
func ExampleOpen() {
	_ = func(t *testing.T) { // func TestSignup(t *testing.T)
		conn := dashitest.Open(t, dashitest.NoLeftovers())
		ch, err := conn.Channel(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		// … the program under test gets conn, or ch …
		_ = ch
	}
	// Output:
}
