package conformance

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
)

// ReadReport reads what Run wrote.
func ReadReport(file string) (*StoreReport, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	r := new(StoreReport)
	if err := json.Unmarshal(text, r); err != nil {
		return nil, fmt.Errorf("report %s: %w", file, err)
	}
	return r, nil
}

func (r *StoreReport) write(file string) error {
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return fmt.Errorf("report: %w", err)
	}
	return os.WriteFile(file, append(text, '\n'), 0o644)
}

// Keep compares the report with an earlier one, or writes it where there is none or it is to be written anew.
func (r *StoreReport) Keep(file string) error { return r.keep(file, true) }

// keep writes nothing of a run that has left something out.
func (r *StoreReport) keep(file string, whole bool) error {
	old, err := ReadReport(file)
	switch {
	case whole && (errors.Is(err, fs.ErrNotExist) || os.Getenv("UPDATE_REPORTS") == "1"):
		return r.write(file)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	}
	if err != nil {
		return err
	}
	if d := old.differences(r); d != nil {
		return fmt.Errorf("not as in %s (UPDATE_REPORTS=1 writes it anew):\n  %s", file, strings.Join(d, "\n  "))
	}
	return nil
}

// differences lists the claims and verdicts in which two reports differ.
func (r *StoreReport) differences(now *StoreReport) (d []string) {
	for _, v := range now.Claims {
		if old := r.value(v.Claim); old != v.Value {
			d = append(d, fmt.Sprintf("claim %s: %q, was %q", v.Claim, v.Value, old))
		}
	}
	d = append(d, r.Store.differences(now.Store)...)
	for _, c := range now.Channel {
		d = append(d, r.channel(c.Rig).differences(c)...)
	}
	return d
}

func (r *Report) differences(now *Report) (d []string) {
	if r == nil || now == nil {
		if r != now {
			d = append(d, "a suite that was not run before, or not now")
		}
		return d
	}
	for _, row := range now.Rows {
		i := slices.IndexFunc(r.Rows, func(old RowResult) bool { return old.ID == row.ID })
		if i < 0 || r.Rows[i].Result != row.Result {
			was := Result("missing")
			if i >= 0 {
				was = r.Rows[i].Result
			}
			d = append(d, fmt.Sprintf("%s %s: %s, was %s", now.Rig, row.ID, row.Result, was))
		}
	}
	return d
}
