package exchange

import (
	"encoding/json"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"
)

func wantText(t *testing.T, e *Explanation, want string) {
	t.Helper()
	if got, want := e.String(), strings.TrimPrefix(want, "\n"); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestExplainShowsTheWayAndWhatDoesNotMatch(t *testing.T) {
	top := build(t, "topic logs alt=lost", "fanout audit", "direct errors alt=lost", "direct lost alt=gone", "queue all web api db",
		"logs => audit #", "logs => errors *.error.#", "logs -> web web.#", "logs -> api api.error.*", "logs -> api api.warn.db", "logs -> db *",
		"audit -> all -", "audit => logs loop", "errors -> db db")
	wantText(t, top.Explain("logs", &Message{Key: "api.error.db"}), `
key "api.error.db"
exchange "logs" (topic)
  + "api.error.*" -> queue "api": fits the key
  + "#" -> exchange "audit": fits the key
    exchange "audit" (fanout)
      + "" -> queue "all": fanout takes every message
      + "loop" -> exchange "logs": fanout takes every message
        exchange "logs", see above
  + "*.error.#" -> exchange "errors": fits the key
    exchange "errors" (direct)
      - "db" -> queue "db": is not "api.error.db"
      nothing matches: goes to the alternate exchange "lost"
        exchange "lost" (direct)
          has no bindings
          nothing matches: goes to the alternate exchange "gone"
            which does not exist
  - "api.warn.db" -> queue "api": word 2 is "error", not "warn"
  - "*" -> queue "db": wants 1 word, the key has 3
  - "web.#" -> queue "web": does not fit "api.error.db"
reaches 2 queues: "all", "api"
`)
}

func TestExplainHeaders(t *testing.T) {
	top := build(t, "headers x", "queue a b c d e")
	for _, b := range []Binding{
		{Destination: "a", Args: table{"format": "pdf", "pages": int32(3)}},
		{Destination: "b", Args: table{"x-match": "any", "format": "zip", "pages": int8(3)}},
		{Destination: "c", Args: table{"format": "zip"}},
		{Destination: "d", Args: table{"x-match": "any", "lang": "de", "urgent": nil}},
		{Destination: "e", Args: table{"urgent": nil}},
	} {
		b.Source = "x"
		bind(t, top, b)
	}
	wantText(t, top.Explain("x", &Message{Headers: table{"format": []byte("pdf"), "pages": 3.0}}), `
key ""
exchange "x" (headers)
  + "" {"format"=S"pdf" "pages"=I3} -> queue "a": all headers fit
  + "" {"format"=S"zip" "pages"=b3 "x-match"=S"any"} -> queue "b": header "pages" fits
  - "" {"format"=S"zip"} -> queue "c": header "format" is x"pdf", not S"zip"
  - "" {"lang"=S"de" "urgent"=V "x-match"=S"any"} -> queue "d": none of 2 headers fits
  - "" {"urgent"=V} -> queue "e": header "urgent" is missing
reaches 2 queues: "a", "b"
`)
}

func TestExplainDefaultUnknownAndSeveralKeys(t *testing.T) {
	top := build(t, "direct x", "queue a b", "x -> a a", "x -> b b")
	wantText(t, top.Explain("nowhere", &Message{Key: "a"}), `
there is no exchange "nowhere"
`)
	wantText(t, top.Explain("", &Message{Key: "a", CC: []string{"c", ""}}), `
keys "a", "c", ""
the default exchange
  + "a" -> queue "a": every queue is bound by its own name
  - "c" -> queue "c": no such queue
  - "" -> queue "": no queue is named by the empty key
reaches 1 queue: "a"
`)
	wantText(t, top.Explain("x", &Message{Key: "z", CC: []string{"a"}}), `
keys "z", "a"
exchange "x" (direct)
  + "a" -> queue "a": equals the key ("a")
  - "b" -> queue "b": fits none of 2 keys
reaches 1 queue: "a"
`)
	wantText(t, top.Explain("x", &Message{Key: "z"}), `
key "z"
exchange "x" (direct)
  - "a" -> queue "a": is not "z"
  - "b" -> queue "b": is not "z"
reaches no queue
`)
}

func TestExplainHashAndRandom(t *testing.T) {
	top := build(t, "x-consistent-hash h", "x-random r", "x-local-random l", "queue a b", "h -> a 1", "h -> a 2", "h -> b 2",
		"r -> a -", "r -> b -", "l -> a -", "l -> b -")
	top.Queue("a").Local.Store(true)
	for i := range 20 {
		m := byNumber(i)
		e := top.Explain("h", m)
		if got := strings.Join(e.Queues, " "); got != reached(t, top, "h", m) {
			t.Errorf("key %d: Explain says %q, Route %q", i, got, reached(t, top, "h", m))
		}
		if why := e.Hops[0].Bindings; len(why) != 3 || !why[0].Match || why[1].Match || why[2].Match {
			t.Errorf("key %d: one binding is to match: %+v", i, why)
		}
	}
	wantText(t, top.Explain("r", &Message{Key: "k"}), `
key "k"
exchange "r" (x-random)
  + "" -> queue "a": one is chosen at random
  + "" -> queue "b": one is chosen at random
may, by chance, reach 2 queues: "a", "b"
`)
	wantText(t, top.Explain("l", &Message{Key: "k"}), `
key "k"
exchange "l" (x-local-random)
  + "" -> queue "a": one is chosen at random
  - "" -> queue "b": has no consumer in this process
may, by chance, reach 1 queue: "a"
`)
}

func TestExplainWritesOutOnlySomeOfManyMismatches(t *testing.T) {
	top := build(t, "direct x", "queue q")
	for i := range 1000 {
		bind(t, top, Binding{Source: "x", Destination: "q", Key: fmt.Sprint(i)})
	}
	e := top.Explain("x", &Message{Key: "500"})
	if len(e.Hops[0].Bindings) != 1000 {
		t.Errorf("%d bindings", len(e.Hops[0].Bindings))
	}
	text := e.String()
	if n := strings.Count(text, "\n"); n != 1+1+1+textMismatches+1+1 || !strings.Contains(text, "and 979 more that do not match") {
		t.Errorf("%d lines:\n%s", n, text)
	}
}

func TestExplanationIsJSON(t *testing.T) {
	top := build(t, "headers x alt=y", "queue q")
	bind(t, top, Binding{Source: "x", Destination: "q", Args: table{"a": math.NaN(), "b": []byte{0xff}, "c": time.Unix(1, 0), "d": decimal{1, 2}}})
	data, err := json.Marshal(top.Explain("x", &Message{Key: "k", Headers: table{"a": math.Inf(1)}}))
	if err != nil {
		t.Fatal(err)
	}
	var back Explanation
	if err := json.Unmarshal(data, &back); err != nil {
		t.Fatal(err)
	}
	if again, _ := json.Marshal(back); string(again) != string(data) {
		t.Errorf("%s\nis not\n%s", again, data)
	}
	if data, _ = json.Marshal(top.Explain("no", &Message{})); string(data) != `{"exchange":"no","keys":[""],"known":false,"hops":[],"queues":[]}` {
		t.Errorf("%s", data)
	}
}
