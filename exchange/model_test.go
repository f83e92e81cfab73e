package exchange

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
)

// model is the routing of direct, fanout and topic exchanges, default, hops and alternates included, in the shortest way
// to say it: a set of bindings that is searched.
type model struct {
	exchanges map[string][2]string // name to kind and alternate
	queues    map[string]bool
	bindings  map[string]Binding // by what is equal in them, written without ID
}

func modelKey(b Binding) string { return fmt.Sprintf("%#v", b) }

// route returns the queues reached, the exchanges passed and the alternates missing, each in alphabetical order.
func (m *model) route(exchange string, keys []string) [3]string {
	queues, missing := make(map[string]bool), make(map[string]bool)
	done := make(map[string]bool)
	var visit func(name string)
	visit = func(name string) {
		if done[name] || m.exchanges[name] == [2]string{} {
			return
		}
		done[name] = true
		kind, alternate := m.exchanges[name][0], m.exchanges[name][1]
		selected := false
		for _, b := range m.bindings {
			if b.Source != name {
				continue
			}
			if !slices.ContainsFunc(keys, func(key string) bool {
				return kind == "fanout" || kind == "direct" && b.Key == key || kind == "topic" && naiveTopic(b.Key, key)
			}) {
				continue
			}
			selected = true
			if b.ToExchange {
				visit(b.Destination)
			} else {
				queues[b.Destination] = true
			}
		}
		if !selected && alternate != "" {
			if m.exchanges[alternate] == [2]string{} {
				missing[alternate] = true
			}
			visit(alternate)
		}
	}
	if exchange == "" {
		for _, key := range keys {
			if m.queues[key] {
				queues[key] = true
			}
		}
	} else {
		visit(exchange)
	}
	var out [3]string
	for i, set := range []map[string]bool{queues, done, missing} {
		out[i] = strings.Join(slices.Sorted(maps.Keys(set)), " ")
	}
	return out
}

func (m *model) drop(gone func(Binding) bool) {
	maps.DeleteFunc(m.bindings, func(_ string, b Binding) bool { return gone(b) })
}

// Random changes, and after each some routes, which come from the cache or not, compared with the model. A stale cache
// entry, a lost binding or one that stays show here.
func TestRoutesAgreeWithAModelUnderRandomChanges(t *testing.T) {
	keys := []string{"", "a", "b", "a.b", "a.a", "a.b.a", "q1"}
	patterns := append([]string{"#", "*", "a.#", "#.b", "*.*", "#.a.#"}, keys...)
	kinds := []string{"direct", "fanout", "topic"}
	exchanges := []string{"x1", "x2", "x3", "x4"}
	queues := []string{"q1", "q2", "q3", "q4", "q5"}
	for seed := range uint64(30) {
		rnd := newRand(seed)
		top := New()
		if seed%2 == 1 {
			top.idBits = 3 // bindings by the dozen have the same hash
		}
		m := &model{exchanges: map[string][2]string{}, queues: map[string]bool{}, bindings: map[string]Binding{}}
		var r Result
		for step := range 400 {
			var op string
			switch rnd.IntN(12) {
			case 0:
				name, kind, alternate := pick(rnd, exchanges), pick(rnd, kinds), pick(rnd, append([]string{"", ""}, exchanges...))
				op = fmt.Sprintf("declare %s %s, alternate %s", kind, name, alternate)
				_, err := top.AddExchange(name, kind, map[string]any{"alternate-exchange": alternate}, false)
				if m.exchanges[name] == [2]string{} {
					m.exchanges[name] = [2]string{kind, alternate}
				} else if err == nil {
					t.Fatalf("seed %d, step %d: %s: replaced", seed, step, op)
				}
			case 1:
				if rnd.IntN(4) > 0 {
					continue
				}
				name := pick(rnd, exchanges)
				op = "delete exchange " + name
				top.RemoveExchange(name)
				delete(m.exchanges, name)
				m.drop(func(b Binding) bool { return b.Source == name || b.ToExchange && b.Destination == name })
			case 2:
				name := pick(rnd, queues)
				op = "declare queue " + name
				top.AddQueue(name)
				m.queues[name] = true
			case 3:
				if rnd.IntN(3) > 0 {
					continue
				}
				name := pick(rnd, queues)
				op = "delete queue " + name
				top.RemoveQueue(name)
				delete(m.queues, name)
				m.drop(func(b Binding) bool { return !b.ToExchange && b.Destination == name })
			default:
				b := Binding{Source: pick(rnd, exchanges), Destination: pick(rnd, queues), Key: pick(rnd, patterns)}
				if rnd.IntN(3) == 0 {
					b.ToExchange, b.Destination = true, pick(rnd, exchanges)
				}
				if rnd.IntN(4) == 0 {
					b.Args = map[string]any{"n": int32(rnd.IntN(2))}
				}
				_, there := m.bindings[modelKey(b)]
				if rnd.IntN(3) == 0 {
					op = "unbind " + b.ID()
					if top.Unbind(b) != there {
						t.Fatalf("seed %d, step %d: %s: there was %v", seed, step, op, there)
					}
					delete(m.bindings, modelKey(b))
					break
				}
				op = "bind " + b.ID()
				exists := m.exchanges[b.Source] != [2]string{} && (b.ToExchange && m.exchanges[b.Destination] != [2]string{} || !b.ToExchange && m.queues[b.Destination])
				added, err := top.Bind(b)
				if added != (exists && !there) || (err == nil) != exists {
					t.Fatalf("seed %d, step %d: %s: %v, %v", seed, step, op, added, err)
				}
				if exists {
					m.bindings[modelKey(b)] = b
				}
			}
			if top.Len() != len(m.bindings) {
				t.Fatalf("seed %d, step %d, after %s: %d bindings, want %d", seed, step, op, top.Len(), len(m.bindings))
			}
			for name := range m.exchanges {
				hops := 0
				for _, b := range top.BindingsOf(name) {
					if b.ToExchange {
						hops++
					}
				}
				if x := top.Exchange(name); x.hops != hops {
					t.Fatalf("seed %d, step %d, after %s: %s has %d hops, not %d", seed, step, op, name, hops, x.hops)
				}
			}
			for range 12 {
				exchange, msg := pick(rnd, append([]string{""}, exchanges...)), Message{Key: pick(rnd, keys)}
				if rnd.IntN(6) == 0 {
					msg.CC = []string{pick(rnd, keys), pick(rnd, keys)}
				}
				want := m.route(exchange, append([]string{msg.Key}, msg.CC...))
				known := exchange == "" || m.exchanges[exchange] != [2]string{}
				if top.Route(&r, exchange, &msg) != known {
					t.Fatalf("seed %d, step %d, after %s: known is %v", seed, step, op, !known)
				}
				passed := exchangeNames(&r)
				slices.Sort(passed)
				slices.Sort(r.Missing)
				if got := [3]string{strings.Join(queueNames(&r), " "), strings.Join(passed, " "), strings.Join(r.Missing, " ")}; got != want {
					t.Fatalf("seed %d, step %d, after %s: %q by %q %q reached %q, want %q", seed, step, op, exchange, msg.Key, msg.CC, got, want)
				}
				if got := strings.Join(top.Explain(exchange, &msg).Queues, " "); got != want[0] {
					t.Fatalf("seed %d, step %d, after %s: Explain %q by %q %q says %q, want %q", seed, step, op, exchange, msg.Key, msg.CC, got, want[0])
				}
			}
		}
	}
}

// One binding comes and goes while many route under the read lock. Each says before and after whether it is there; what
// was routed in between must agree. With the race detector this is also the proof that Route writes nothing shared.
func TestConcurrentRoutesNeverSeeAStaleBinding(t *testing.T) {
	top := build(t, "topic x", "fanout y", "x-local-random z", "queue a b", "x => y k", "x -> a #", "x => z z", "z -> a -")
	var mu sync.RWMutex
	there := false
	var readers sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		readers.Go(func() {
			var r Result
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				mu.RLock()
				top.Route(&r, "x", &Message{Key: "k"})
				want := 1
				if there {
					want = 2
				}
				if len(r.Queues) != want {
					t.Errorf("%d queues, want %d", len(r.Queues), want)
				}
				top.Queue("a").Local.Store(i%2 == 0)
				top.Route(&r, "x", &Message{Key: "z"})
				top.Explain("x", &Message{Key: "k"})
				mu.RUnlock()
			}
		})
	}
	b := Binding{Source: "y", Destination: "b", Key: "any"}
	for range 2000 {
		mu.Lock()
		if there {
			there = !top.Unbind(b)
		} else {
			there, _ = top.Bind(b)
		}
		mu.Unlock()
	}
	close(stop)
	readers.Wait()
}
