package dashi_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/backends/memory"
	"github.com/dashi-mq/dashi/channel"
	"github.com/dashi-mq/dashi/virtual"
	"github.com/dashi-mq/dashi/virtual/broker"
)

func dial(t *testing.T, url string) *dashi.Connection {
	t.Helper()
	c, err := dashi.Dial(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

func open(t *testing.T, c *dashi.Connection) *channel.Channel {
	t.Helper()
	ch, err := c.Channel(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestDialSaysWhatIsWrongWithAURLAndShowsNoPassword(t *testing.T) {
	for _, c := range []struct{ url, say string }{
		{"", "not a URL"},
		{"memory", "not a URL"},
		{"nope://u:s3cret@host/", `"nope"`},
		{"memory://u:s3cret@%zz/", "not a valid URL"},
		{"memory://x?lease=soon", "lease"},
		{"memory://x?session_ttl=-", "session_ttl"},
		{"memory://x?lease=-5s", "lease"},
		{"memory://x?channel_max=many", "channel_max"},
		{"memory://x?fresh=perhaps", "fresh"},
		{"memory://x?barrier=0s", "barrier"},
		{"memory://x?lase=10s", "lase"},
	} {
		conn, err := dashi.Dial(t.Context(), c.url)
		if err == nil {
			_ = conn.Close(t.Context())
			t.Errorf("%q: no error", c.url)
			continue
		}
		if !strings.Contains(err.Error(), c.say) || strings.Contains(err.Error(), "s3cret") {
			t.Errorf("%q: %v, want it to say %q and no password", c.url, err, c.say)
		}
	}
}

func TestDialTakesTheBrokersOptionsFromTheURL(t *testing.T) {
	c := dial(t, "memory://?user=alice&vhost=shop&channel_max=2&lease=2s&consumer_timeout=1m&barrier=500ms&fresh=true")
	if i := c.Info(); i.User != "alice" || i.Vhost != "shop" || i.ChannelMax != 2 || !i.Virtual {
		t.Errorf("%+v", i)
	}
	open(t, c)
	open(t, c)
	if _, err := c.Channel(t.Context()); !errors.Is(err, channel.ErrNotAllowed) {
		t.Errorf("a third channel: %v", err)
	}
}

func TestNamedMemoryIsSharedAndVhostsAreApart(t *testing.T) {
	t.Cleanup(func() { memory.Forget("shared\x00"); memory.Forget("shared\x00other") })
	a, b := open(t, dial(t, "memory://shared")), open(t, dial(t, "memory://shared"))
	other := open(t, dial(t, "memory://shared?vhost=other"))
	if _, err := a.QueueDeclare(t.Context(), "q", channel.QueueOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := b.QueueDeclarePassive(t.Context(), "q"); err != nil {
		t.Errorf("the same name: %v", err)
	}
	if _, err := other.QueueDeclarePassive(t.Context(), "q"); !errors.Is(err, channel.ErrNotFound) {
		t.Errorf("another vhost: %v", err)
	}
}

func TestOpenLeavesTheStoreOpenAndDialClosesIt(t *testing.T) {
	store := memory.New().Open()
	c, err := dashi.Open(t.Context(), store, broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := store.Ping(t.Context()); err != nil {
		t.Errorf("Open's store after Close: %v", err)
	}
	if err := c.Close(t.Context()); err != nil {
		t.Errorf("a second Close: %v", err)
	}
}

func TestCloseWithAnEndedContextDropsEverything(t *testing.T) {
	place := memory.New()
	c, err := dashi.Open(t.Context(), place.Open(), broker.Options{})
	if err != nil {
		t.Fatal(err)
	}
	ch := open(t, c)
	if _, err := ch.QueueDeclare(t.Context(), "mine", channel.QueueOptions{Exclusive: true}); err != nil {
		t.Fatal(err)
	}
	ended, stop := context.WithCancel(t.Context())
	stop()
	_ = c.Close(ended)
	if ch.Err() == nil || c.Err() == nil {
		t.Errorf("after the drop: channel %v, connection %v", ch.Err(), c.Err())
	}
	// Nobody said goodbye: the exclusive queue stays until the session's time is over.
	s := place.Open()
	if refs, err := s.List(t.Context()); err != nil || !hasQueue(refs, "mine") {
		t.Errorf("%v, %v: the exclusive queue has gone", refs, err)
	}
}

func hasQueue(refs []virtual.QueueRef, name string) bool {
	for _, r := range refs {
		if r.Name == name {
			return true
		}
	}
	return false
}
