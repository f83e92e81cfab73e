package interop

import (
	"fmt"
	"reflect"
	"unsafe"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/gsl"

	"github.com/dashi-mq/dashi/exchange"
)

func must(err error) {
	if err != nil {
		panic(err)
	}
}

// topics is dashi's topic exchange. Each pattern has a queue of its own, so that as many queues are found as patterns.
type topics struct {
	topology *exchange.Topology
	queues   []string
	result   exchange.Result
}

func newDashi(patterns []string) matcher {
	d := &topics{topology: exchange.New(), queues: make([]string, len(patterns))}
	_, err := d.topology.AddExchange("x", string(exchange.Topic), nil, false)
	must(err)
	for i := range patterns {
		d.queues[i] = fmt.Sprint("q", i)
		d.topology.AddQueue(d.queues[i])
	}
	return d
}

func (d *topics) binding(i int, pattern string) exchange.Binding {
	return exchange.Binding{Source: "x", Destination: d.queues[i], Key: pattern}
}

func (d *topics) insert(i int, pattern string) {
	_, err := d.topology.Bind(d.binding(i, pattern))
	must(err)
}

func (d *topics) remove(i int, pattern string) { d.topology.Unbind(d.binding(i, pattern)) }

func (d *topics) match(key string) int {
	d.topology.Route(&d.result, "x", &exchange.Message{Key: key})
	return len(d.result.Queues)
}

// sublist is the subject index of a NATS server. What its Insert takes has no exported name, which type inference
// gets by; the one field that has to be set is found by reflection.
type sublist[T any] struct {
	list   *server.Sublist
	put    func(*server.Sublist, *T) error
	delete func(*server.Sublist, *T) error
	subs   []*T
}

func newSublistNoCache(patterns []string) matcher {
	return newSublist(server.NewSublistNoCache(), patterns, (*server.Sublist).Insert, (*server.Sublist).Remove)
}

func newSublistWithCache(patterns []string) matcher {
	return newSublist(server.NewSublistWithCache(), patterns, (*server.Sublist).Insert, (*server.Sublist).Remove)
}

func newSublist[T any](list *server.Sublist, patterns []string, put, remove func(*server.Sublist, *T) error) matcher {
	subject, ok := reflect.TypeFor[T]().FieldByName("subject")
	if !ok || subject.Type != reflect.TypeFor[[]byte]() {
		panic("a subscription of nats-server has no subject any more")
	}
	plain, ok := reflect.TypeFor[server.SublistResult]().FieldByName("psubs")
	if !ok || plain.Offset != 0 || plain.Type.Kind() != reflect.Slice {
		panic("a result of nats-server does not begin with its subscriptions any more")
	}
	s := &sublist[T]{list: list, put: put, delete: remove, subs: make([]*T, len(patterns))}
	for i, pattern := range patterns {
		s.subs[i] = new(T)
		*(*[]byte)(unsafe.Add(unsafe.Pointer(s.subs[i]), subject.Offset)) = []byte(pattern)
	}
	return s
}

func (s *sublist[T]) insert(i int, _ string) { must(s.put(s.list, s.subs[i])) }
func (s *sublist[T]) remove(i int, _ string) { must(s.delete(s.list, s.subs[i])) }

func (s *sublist[T]) match(key string) int {
	return len(*(*[]unsafe.Pointer)(unsafe.Pointer(s.list.Match(key))))
}

// generic is the subject index that NATS servers use for everything but clients: any value, no cache.
type generic struct {
	list  *gsl.GenericSublist[int32]
	found int
}

func newGSL([]string) matcher { return &generic{list: gsl.NewSublist[int32]()} }

func (g *generic) insert(i int, pattern string) { must(g.list.Insert(pattern, int32(i))) }
func (g *generic) remove(i int, pattern string) { must(g.list.Remove(pattern, int32(i))) }

func (g *generic) match(key string) int {
	g.found = 0
	g.list.Match(key, func(int32) { g.found++ })
	return g.found
}
