package dashi_test

import (
	"context"
	"os"
	"testing"

	_ "github.com/dashi-mq/dashi/backends/amqp"
	"github.com/dashi-mq/dashi/channel"
)

// BenchmarkPeer is the main path on the RabbitMQ of DASHI_AMQP_URL. Peers that are Go libraries are in the module interop.
func BenchmarkPeer(b *testing.B) {
	url := os.Getenv("DASHI_AMQP_URL")
	if url == "" {
		b.Skip("DASHI_AMQP_URL is not set")
	}
	for _, size := range []struct {
		name string
		n    int
	}{{"1x1", 1}, {"4x4", 4}} {
		b.Run("rabbitmq/"+size.name, func(b *testing.B) {
			conn, err := channel.Dial(b.Context(), url, channel.Config{})
			if err != nil {
				b.Fatal(err)
			}
			defer conn.Close(context.Background())
			b.ResetTimer()
			path{name: "rabbitmq", limits: true}.through(b, conn, size.n)
			b.StopTimer()
			perSecond(b)
		})
	}
}
