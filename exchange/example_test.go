package exchange_test

import (
	"fmt"
	"slices"

	"github.com/dashi-mq/dashi/exchange"
)

func Example() {
	t := exchange.New()
	if _, err := t.AddExchange("logs", "topic", nil, false); err != nil {
		panic(err)
	}
	t.AddQueue("errors")
	t.AddQueue("all")
	for _, b := range []exchange.Binding{
		{Source: "logs", Destination: "errors", Key: "*.error.#"},
		{Source: "logs", Destination: "all", Key: "#"},
	} {
		if _, err := t.Bind(b); err != nil {
			panic(err)
		}
	}

	var r exchange.Result // may be used again for the next message
	for _, key := range []string{"api.error.db", "api.info"} {
		t.Route(&r, "logs", &exchange.Message{Key: key})
		var names []string
		for _, q := range r.Queues {
			names = append(names, q.Name)
		}
		slices.Sort(names)
		fmt.Println(key, names)
	}
	// Output:
	// api.error.db [all errors]
	// api.info [all]
}

func ExampleTopology_Explain() {
	t := exchange.New()
	t.AddExchange("logs", "topic", map[string]any{"alternate-exchange": "unrouted"}, false)
	t.AddExchange("unrouted", "fanout", nil, false)
	t.AddQueue("errors")
	t.AddQueue("rest")
	t.Bind(exchange.Binding{Source: "logs", Destination: "errors", Key: "*.error.*"})
	t.Bind(exchange.Binding{Source: "unrouted", Destination: "rest"})

	fmt.Print(t.Explain("logs", &exchange.Message{Key: "api.info.db"}))
	// Output:
	// key "api.info.db"
	// exchange "logs" (topic)
	//   - "*.error.*" -> queue "errors": word 2 is "info", not "error"
	//   nothing matches: goes to the alternate exchange "unrouted"
	//     exchange "unrouted" (fanout)
	//       + "" -> queue "rest": fanout takes every message
	// reaches 1 queue: "rest"
}

func ExampleBinding_ID() {
	b := exchange.Binding{
		Source: "archive", Destination: "reports",
		Args: map[string]any{"x-match": "any", "format": "pdf", "pages": int32(1)},
	}
	fmt.Println(b.ID())
	// Output:
	// "archive" to queue "reports" by "" {"format"=S"pdf" "pages"=I1 "x-match"=S"any"}
}
