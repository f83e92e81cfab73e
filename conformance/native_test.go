package conformance_test

import (
	"context"
	"os"
	"os/exec"
	"testing"

	_ "github.com/dashi-mq/dashi/backends/amqp"
	"github.com/dashi-mq/dashi/conformance"
)

// TestNative runs every row on a real RabbitMQ, the oracle of the suite: it shows that the suite is right.
//
//	DASHI_AMQP_URL      the server; without it the test is skipped
//	DASHI_AMQP_URL_2    the same server with another virtual host, for rows about two
//	DASHI_AMQP_RESTART  a command that restarts the server, such as ../scripts/servers restart rabbitmq, for rows about
//	                    what survives that
//
// Rows wait more than they work: go test -parallel 8 makes it three times faster.
func TestNative(t *testing.T) {
	url := os.Getenv("DASHI_AMQP_URL")
	if url == "" {
		t.Skip("no DASHI_AMQP_URL: the channel suite is not proved against RabbitMQ in this run (scripts/servers start rabbitmq prints one)")
	}
	o := conformance.NativeOptions{OtherVhostURL: os.Getenv("DASHI_AMQP_URL_2")}
	if command := os.Getenv("DASHI_AMQP_RESTART"); command != "" {
		o.Restart = func(ctx context.Context) error {
			c := exec.CommandContext(ctx, "sh", "-c", command)
			c.Stderr = os.Stderr
			return c.Run()
		}
	}
	c := conformance.ChannelConfig{
		Open:     func(context.Context) (conformance.Rig, error) { return conformance.Native(url, o), nil },
		URL:      url,
		RigName:  "native",
		Parallel: 8,
	}
	rows := conformance.RunChannel(t, c)
	rows.URL = "amqp://"
	whole := o.OtherVhostURL != "" && o.Restart != nil // with less, fewer rows can run than the report has
	if report := (&conformance.StoreReport{Name: "RabbitMQ 3.10", Channel: []*conformance.Report{rows}}); whole {
		if err := report.Keep("../docs/reports/rabbitmq.json"); err != nil {
			t.Error(err)
		}
	}
}
