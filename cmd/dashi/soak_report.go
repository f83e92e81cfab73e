package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"

	"github.com/dashi-mq/dashi/internal/soak"
)

// soakReport is the outcome of a run, and its line of JSON.
type soakReport struct {
	URL       string  `json:"url"`
	Seed      uint64  `json:"seed"`
	Producers int     `json:"producers"`
	Consumers int     `json:"consumers"`
	Queues    int     `json:"queues"`
	LoadS     float64 `json:"load_s"`
	ElapsedS  float64 `json:"elapsed_s"`
	soak.Counts
	soak.Verdict
	Left   int      `json:"left"`            // in the queues, with nobody connected
	Ended  []string `json:"ended,omitempty"` // processes that ended and were not asked to, or were asked to and did not
	Passed bool     `json:"passed"`
}

func (r *soakReport) fill(run *soakRun) {
	r.Counts, r.Verdict = run.ledger.Counts, *run.judge()
	r.Ended = run.fleet.broken()
	r.ElapsedS = round3(time.Since(run.begin).Seconds())
	r.Passed = r.wrong() == nil
}

// wrong says in one line what is wrong; the findings say which.
func (r *soakReport) wrong() error {
	var wrong []error
	for _, x := range []struct {
		n    int
		what string
	}{
		{r.Lost, "lost"},
		{r.Duplicates, "came twice and nothing allows it"},
		{r.Nowhere, "came from nowhere"},
		{r.WrongQueue, "came from the wrong queue"},
		{r.Damaged, "damaged"},
		{r.Left, "left in the queues"},
		{len(r.Ended), "of the processes did not end as they should"},
	} {
		if x.n != 0 {
			wrong = append(wrong, fmt.Errorf("%s %s", grouped(int64(x.n)), x.what))
		}
	}
	if r.Confirmed == 0 {
		wrong = append(wrong, errors.New("nothing was confirmed, so nothing is shown"))
	}
	return errors.Join(wrong...)
}

// write prints the line, or what a person wants to know of it.
func (r *soakReport) write(w io.Writer, asJSON bool) error {
	if asJSON {
		line, err := json.Marshal(r)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(w, "%s\n", line)
		return err
	}
	g := func(n int) string { return grouped(int64(n)) }
	fmt.Fprintf(w, "%s and %s on %s of %s, seed %d, %.1f s of load and %.1f s in all\n", plural(int64(r.Producers), "producer"),
		plural(int64(r.Consumers), "consumer"), plural(int64(r.Queues), "queue"), r.URL, r.Seed, r.LoadS, r.ElapsedS)
	fmt.Fprintf(w, "  crashes    %s and %s killed, %s of the server, %s lost\n", plural(int64(r.KilledProducers), "producer"),
		plural(int64(r.KilledConsumers), "consumer"), plural(int64(r.Restarts), "restart"), plural(int64(r.SessionsLost), "session"))
	fmt.Fprintf(w, "  published  %s messages, %s of them once more; %s confirmed, %s never, %s nacked\n", g(r.Published-r.Again), g(r.Again),
		g(r.Confirmed), g(r.Unconfirmed), g(r.Nacked))
	fmt.Fprintf(w, "  delivered  %s; %s acked, %s rejected, %s put back, %s with an answer that may not have arrived\n", g(r.Got), g(r.Acked),
		g(r.Rejected), g(r.Requeued), g(r.Unknown))
	fmt.Fprintf(w, "  confirmed  %s copies in queues, %s of them rejected to dead-letter queues: lost %s\n", g(r.Copies), g(r.Dead), g(r.Lost))
	fmt.Fprintf(w, "  again      %s\n", r.again())
	_, err := fmt.Fprintf(w, "  wrong      %s duplicates that nothing allows, %s from nowhere, %s from the wrong queue, %s damaged, %s left\n",
		g(r.Duplicates), g(r.Nowhere), g(r.WrongQueue), g(r.Damaged), g(r.Left))
	for _, finding := range slices.Concat(r.Findings, r.Ended) {
		fmt.Fprintf(w, "  ! %s\n", finding)
	}
	return err
}

// again says how much came again, and why.
func (r *soakReport) again() string {
	if len(r.CameAgain) == 0 {
		return "nothing"
	}
	text := ""
	for i, rule := range slices.Sorted(maps.Keys(r.CameAgain)) {
		if i > 0 {
			text += "\n             "
		}
		text += fmt.Sprintf("%s %s", grouped(int64(r.CameAgain[rule])), rule)
	}
	return text
}
