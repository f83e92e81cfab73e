package virtual_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi/virtual"
)

func TestBatchErrorNamesItems(t *testing.T) {
	var failed *virtual.BatchError
	if err := failed.Or(); err != nil {
		t.Fatalf("no item failed, and the error is %v", err)
	}
	failed = failed.Add(2, virtual.ErrStale)
	failed = failed.Add(5, fmt.Errorf("%w: 10 bytes", virtual.ErrTooLarge))
	err := fmt.Errorf("put: %w", failed.Or())
	for _, target := range []error{virtual.ErrStale, virtual.ErrTooLarge} {
		if !errors.Is(err, target) {
			t.Errorf("%v does not match %v", err, target)
		}
	}
	if errors.Is(err, virtual.ErrFull) {
		t.Errorf("%v matches %v", err, virtual.ErrFull)
	}
	if text := failed.Error(); !strings.Contains(text, "2 items") || !strings.Contains(text, "item 2") || !strings.Contains(text, "stale") {
		t.Errorf("the text is %q", text)
	}
	if text := (&virtual.BatchError{}).Error(); text == "" {
		t.Error("one without items has no text")
	}
	var indexes []int
	for _, it := range failed.Items {
		indexes = append(indexes, it.Index)
	}
	if !slices.Equal(indexes, []int{2, 5}) {
		t.Errorf("items are %v", indexes)
	}
}

func TestItemErrIsTheErrorOfOneItem(t *testing.T) {
	var failed *virtual.BatchError
	failed = failed.Add(1, virtual.ErrFull)
	plain := errors.New("connection lost")
	for _, c := range []struct {
		err   error
		index int
		want  error
	}{
		{nil, 0, nil},
		{failed, 0, nil},
		{failed, 1, virtual.ErrFull},
		{fmt.Errorf("put: %w", failed), 1, virtual.ErrFull},
		{fmt.Errorf("put: %w", failed), 2, nil},
		{plain, 3, plain},
		{context.Canceled, 0, context.Canceled},
	} {
		if got := virtual.ItemErr(c.err, c.index); got != c.want {
			t.Errorf("item %d of %v: %v, want %v", c.index, c.err, got, c.want)
		}
	}
}

func TestGuardAndConflictErrorsMatchAndNameRecords(t *testing.T) {
	differ := []virtual.Revision{{Key: "x/1", Rev: 7}, {Key: "y", Rev: 0}}
	guard, conflict := error(&virtual.GuardError{Differ: differ}), error(&virtual.ConflictError{Differ: differ})
	if !errors.Is(guard, virtual.ErrGuard) || errors.Is(guard, virtual.ErrConflict) {
		t.Errorf("%v matches wrongly", guard)
	}
	if !errors.Is(conflict, virtual.ErrConflict) || errors.Is(conflict, virtual.ErrGuard) {
		t.Errorf("%v matches wrongly", conflict)
	}
	for _, err := range []error{guard, conflict} {
		for _, word := range []string{`"x/1" is at 7`, `"y" is at 0`} {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q does not say %s", err, word)
			}
		}
	}
}

func TestKindsHaveNames(t *testing.T) {
	got := fmt.Sprint(virtual.Ack, virtual.Requeue, virtual.Return, virtual.Extend)
	if got != "ack requeue return extend" {
		t.Errorf("the kinds are %s", got)
	}
}

func TestBytesIsAPayload(t *testing.T) {
	var p virtual.Payload = virtual.Bytes("abc")
	if string(p.Bytes()) != "abc" || p.Size() != 3 {
		t.Errorf("%q of %d", p.Bytes(), p.Size())
	}
}

func TestOpenFindsTheStoreOfAScheme(t *testing.T) {
	opened := ""
	virtual.Register("test-scheme", func(_ context.Context, url string) (virtual.Store, error) {
		opened = url
		return new(five), nil
	})
	if !slices.Contains(virtual.Registered(), "test-scheme") || !slices.IsSorted(virtual.Registered()) {
		t.Errorf("registered are %v", virtual.Registered())
	}
	s, err := virtual.Open(t.Context(), "test-scheme://host/place?x=1")
	if err != nil || s == nil || opened != "test-scheme://host/place?x=1" {
		t.Errorf("opened %q: %v", opened, err)
	}
	for url, word := range map[string]string{
		"nothing://user:secret@host": `"nothing"`,
		"no url, secret":             "not a URL",
		"":                           "not a URL",
	} {
		_, err := virtual.Open(t.Context(), url)
		if err == nil || !strings.Contains(err.Error(), word) {
			t.Errorf("%q: %v, want an error that says %s", url, err, word)
		} else if strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the error shows what may be a password", url)
		}
	}
}

func TestRegisterPanicsOnMisuse(t *testing.T) {
	opener := func(context.Context, string) (virtual.Store, error) { return new(five), nil }
	virtual.Register("test-twice", opener)
	for name, f := range map[string]func(){
		"twice":         func() { virtual.Register("test-twice", opener) },
		"nil":           func() { virtual.Register("test-nil", nil) },
		"of two stores": func() { virtual.Register("memory", opener) },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			f()
		}()
	}
}
