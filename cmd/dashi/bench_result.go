package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/url"
	"runtime"
	"runtime/debug"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/channel"
)

// benchResult is the one line of JSON, with the fields of the other benchmarks that it is compared with.
type benchResult struct {
	Peer   string         `json:"peer"`
	Case   string         `json:"case"`
	N      int64          `json:"n"`
	Body   int            `json:"body"`
	Params map[string]any `json:"params,omitempty"`

	MsgsPerS    float64 `json:"msgs_per_s"` // published, delivered and acknowledged, over the whole window
	PublishPerS float64 `json:"publish_per_s,omitempty"`
	ConsumePerS float64 `json:"consume_per_s,omitempty"` // with --drain only
	ElapsedS    float64 `json:"elapsed_s"`

	LatMode  string  `json:"lat_mode,omitempty"` // saturated (mostly backlog) or paced (open loop at --rate)
	LatP50us float64 `json:"lat_p50_us,omitempty"`
	LatP99us float64 `json:"lat_p99_us,omitempty"`
	LatMaxus float64 `json:"lat_max_us,omitempty"`

	CPUClientS  float64 `json:"cpu_client_s"`
	CPUServerS  float64 `json:"cpu_server_s,omitempty"` // with --server-pid only
	CPUOtherS   float64 `json:"cpu_other_s"`
	CPUStealS   float64 `json:"cpu_steal_s"`
	CPUusPerMsg float64 `json:"cpu_us_per_msg"`

	AllocsPerMsg float64 `json:"allocs_per_msg,omitempty"`
	BytesPerMsg  float64 `json:"bytes_per_msg,omitempty"`

	Duplicates int64             `json:"duplicates,omitempty"`
	Extra      map[string]any    `json:"extra,omitempty"`
	Versions   map[string]string `json:"versions,omitempty"`
	Go         string            `json:"go,omitempty"`
	CPUs       int               `json:"cpus"`
	Time       string            `json:"time"`
}

// fill computes the figures of a run.
func (r *benchResult) fill(b *bench) {
	c, n := b.cmd, float64(b.cmd.N)
	r.N, r.Body = c.N, c.Body
	r.Peer = orElse(c.Peer, "dashi "+schemeOf(c.URL))
	r.Case = orElse(c.Case, caseOf(c))
	r.ElapsedS = b.elapsed.Seconds()
	r.MsgsPerS = round1(n / r.ElapsedS)
	r.PublishPerS = round1(n / b.publishing.Seconds())
	if c.Drain {
		r.ConsumePerS = round1(n / (b.elapsed - b.publishing).Seconds())
	}
	h := &b.latency
	r.LatMode = "saturated"
	if c.Rate > 0 {
		r.LatMode = "paced"
	}
	us := func(ns int64) float64 { return round1(float64(ns) / 1e3) }
	r.LatP50us, r.LatP99us, r.LatMaxus = us(h.quantile(.50)), us(h.quantile(.99)), us(h.max)
	u := b.used
	r.CPUClientS, r.CPUServerS, r.CPUOtherS, r.CPUStealS = round3(u.client), round3(u.server), round3(u.other), round3(u.stolen)
	r.CPUusPerMsg = round3((u.client + u.server) * 1e6 / n)
	r.AllocsPerMsg, r.BytesPerMsg = round3(float64(u.allocs)/n), round1(float64(u.bytes)/n)
	r.Duplicates = b.duplicates
	r.Params = map[string]any{
		"url": channel.Redact(c.URL), "producers": c.Producers, "consumers": c.Consumers, "persistent": c.Persistent, "confirm_window": c.Confirm,
		"ack": c.Ack, "ack_every": c.AckEvery, "prefetch": c.Prefetch, "rate": c.Rate, "exchange": c.Exchange, "drain": c.Drain,
	}
	if b.args != nil {
		r.Params["queue_args"] = b.args
	}
	r.Versions = versions("github.com/rabbitmq/amqp091-go")
	r.Versions["dashi"] = version()
	if product := b.places[0].Info().Product; product != "" {
		r.Versions["server"] = product
	}
	r.Go, r.CPUs, r.Time = runtime.Version(), runtime.NumCPU(), time.Now().UTC().Format(time.RFC3339)
}

// caseOf names what was measured as the other benchmarks do.
func caseOf(c *benchCmd) string {
	kind := "transient"
	if c.Persistent {
		kind = "persistent"
	}
	if c.Confirm > 0 {
		kind += "+confirm"
	}
	if c.Drain {
		kind += "+drain"
	}
	s := fmt.Sprintf("%s ack-%s %dx%d", kind, c.Ack, c.Producers, c.Consumers)
	if c.Exchange != "topic" {
		s += " " + c.Exchange
	}
	if c.QueueArgs != "" {
		s += " queue-args"
	}
	return s
}

func schemeOf(rawURL string) string {
	u, err := url.Parse(rawURL)
	if err != nil {
		return ""
	}
	return u.Scheme
}

// versions are those of the named modules as they were built in.
func versions(modules ...string) map[string]string {
	v := map[string]string{}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if slices.Contains(modules, m.Path) {
				v[m.Path] = m.Version
			}
		}
	}
	return v
}

// write prints the line, or what a person wants to know of it.
func (r *benchResult) write(w io.Writer, c *benchCmd, b *bench) error {
	if c.JSON {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", line)
		return err
	}
	fmt.Fprintf(w, "%s of %s through %s: %s exchange, %s, %s, prefetch %d, ack %s", plural(c.N, "message"), sized(int64(c.Body)),
		channel.Redact(c.URL), c.Exchange, plural(int64(c.Producers), "producer"), plural(int64(c.Consumers), "consumer"), c.Prefetch, c.Ack)
	if c.Confirm > 0 {
		fmt.Fprintf(w, ", confirms")
	}
	fmt.Fprintf(w, "\n  rate     %s messages/s in %.3f s (published at %s/s)\n", grouped(int64(r.MsgsPerS)), r.ElapsedS, grouped(int64(r.PublishPerS)))
	note := "as fast as it goes: mostly backlog, use --rate"
	if c.Rate > 0 {
		note = fmt.Sprintf("at %s/s, from the intended send time", grouped(int64(c.Rate)))
	}
	h := &b.latency
	fmt.Fprintf(w, "  latency  p50 %s, p99 %s, max %s (%s)\n", brief(h.quantile(.50)), brief(h.quantile(.99)), brief(h.max), note)
	fmt.Fprintf(w, "  CPU      %.2f µs a message", r.CPUusPerMsg)
	// A server that nobody named the process of counts among the others.
	if known := b.places[0].Info().Virtual || len(c.ServerPID) > 0; known && r.CPUOtherS > 0.1*r.ElapsedS {
		fmt.Fprintf(w, "; other processes took %.2f s meanwhile: repeat it on a quiet machine", r.CPUOtherS)
	}
	_, err := fmt.Fprintf(w, "\n  memory   %.2f allocations and %.0f bytes a message, one of %d being its body\n", r.AllocsPerMsg, r.BytesPerMsg, c.Body)
	return err
}

func round1(f float64) float64 { return float64(int64(f*10+.5)) / 10 }
func round3(f float64) float64 { return float64(int64(f*1000+.5)) / 1000 }
