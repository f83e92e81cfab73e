package redis

import (
	"context"
	"errors"
	"fmt"
	"sync"

	goredis "github.com/redis/go-redis/v9"
)

// once is a command that the client does not send again when its reply is lost, whatever it does with others: the engine
// does, knowing what is ambiguous. A Cluster's client still follows redirects: who redirects has done nothing.
type once struct{ *goredis.Cmd }

func (once) NoRetry() bool { return true }

// call is a script with its arguments, to be run on the keys whose names begin with base.
type call struct {
	script *script
	base   string
	args   []any // made by arguments
}

// front is how much room arguments have for the command that they belong to.
const front = 4

// arguments returns room for n arguments of a call.
func arguments(n int) []any { return make([]any, front, front+n) }

// sha calls a script by its name, and whole sends it. One is done before the other is made: they share the arguments.
func (c *call) sha(ctx context.Context) *goredis.Cmd   { return c.cmd(ctx, "evalsha", c.script.sha) }
func (c *call) whole(ctx context.Context) *goredis.Cmd { return c.cmd(ctx, "eval", c.script.text) }

func (c *call) cmd(ctx context.Context, verb, what string) *goredis.Cmd {
	c.args[0], c.args[1], c.args[2], c.args[3] = verb, what, 1, c.base
	return goredis.NewCmd(ctx, c.args...)
}

// run runs a script, which is the whole of a call.
func (s *Store) run(ctx context.Context, base string, script *script, args ...any) *goredis.Cmd {
	return s.make(ctx, &call{script, base, append(arguments(len(args)), args...)})
}

// make makes a call. The server has its script from its first use on; one that has lost it, by a flush or a restart, is told again,
// since it has done nothing then.
func (s *Store) make(ctx context.Context, call *call) *goredis.Cmd {
	if err := s.enter(ctx); err != nil {
		return failed(ctx, err)
	}
	defer s.leave()
	var c *goredis.Cmd
	err := s.ask(ctx, func() error {
		c = call.sha(ctx)
		err := s.process(ctx, call, c)
		if goredis.HasErrorPrefix(err, "NOSCRIPT") {
			c = call.whole(ctx)
			err = s.process(ctx, call, c)
		}
		return err
	})
	if err == nil {
		return c
	}
	s.suspect(ctx, err)
	return failed(ctx, err)
}

// runAll runs scripts in several parts, those on one server in one round trip, and returns their answers. With an error it is not known
// which of them were done.
func (s *Store) runAll(ctx context.Context, calls []call) ([][]any, error) {
	if len(calls) > 1 && s.waits(&calls[0]) {
		return s.eachAlone(ctx, calls)
	}
	if len(calls) == 1 {
		answer, err := s.make(ctx, &calls[0]).Slice()
		return [][]any{answer}, err
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	cmds := make([]*goredis.Cmd, len(calls))
	err := s.ask(ctx, func() error {
		pipe := s.client.Pipeline()
		for i := range calls {
			cmds[i] = calls[i].sha(ctx)
			_ = pipe.Process(ctx, once{cmds[i]})
		}
		_, _ = pipe.Exec(ctx) // the commands have their errors
		for i, c := range cmds {
			if goredis.HasErrorPrefix(c.Err(), "NOSCRIPT") {
				cmds[i] = calls[i].whole(ctx)
				_ = pipe.Process(ctx, once{cmds[i]})
			}
		}
		_, _ = pipe.Exec(ctx) // of those, if there are any
		for _, c := range cmds {
			if err := c.Err(); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		s.suspect(ctx, err)
		return nil, err
	}
	answers := make([][]any, len(calls))
	for i, c := range cmds {
		if answers[i], err = c.Slice(); err != nil {
			return nil, err
		}
	}
	return answers, nil
}

// waits reports whether a call is to be waited for until replicas have it.
func (s *Store) waits(c *call) bool {
	return s.replicas > 0 && (c.script == putScript || c.script == applyScript)
}

// errReplicas says that a master has done what it was told, and too few of its replicas have it yet.
var errReplicas = errors.New("redis: too few replicas have the messages")

// process sends a command. Where messages are to be in replicas, too, it waits for them on the same connection: WAIT tells of what that
// connection wrote, which a request that is said again does, too.
func (s *Store) process(ctx context.Context, call *call, c *goredis.Cmd) error {
	if !s.waits(call) {
		return s.client.Process(ctx, once{c})
	}
	pipe := s.client.Pipeline()
	if cluster, ok := s.client.(*goredis.ClusterClient); ok {
		node, err := cluster.MasterForKey(ctx, call.base)
		if err != nil {
			return err
		}
		pipe = node.Pipeline()
	}
	_ = pipe.Process(ctx, once{c})
	have := goredis.NewIntCmd(ctx, "wait", s.replicas, s.patience.Milliseconds())
	_ = pipe.Process(ctx, have)
	_, _ = pipe.Exec(ctx) // the commands have their errors
	switch {
	case c.Err() != nil:
		return c.Err()
	case have.Err() != nil:
		return have.Err()
	case have.Val() < int64(s.replicas):
		return fmt.Errorf("%w: %d within %v, want %d", errReplicas, have.Val(), s.patience, s.replicas)
	}
	return nil
}

// eachAlone runs calls each on a connection of its own.
func (s *Store) eachAlone(ctx context.Context, calls []call) ([][]any, error) {
	answers, errs := make([][]any, len(calls)), make([]error, len(calls))
	var all sync.WaitGroup
	for i := range calls {
		all.Go(func() { answers[i], errs[i] = s.make(ctx, &calls[i]).Slice() })
	}
	all.Wait()
	return answers, errors.Join(errs...)
}

// suspect has idle connections ended when a call failed that no server has answered.
func (s *Store) suspect(ctx context.Context, err error) {
	_, answered := errors.AsType[goredis.Error](err)
	if s.lines != nil && ctx.Err() == nil && !answered && !errors.Is(err, errReplicas) {
		s.lines.doubt()
	}
}

// failed is a command that was not answered.
func failed(ctx context.Context, err error) *goredis.Cmd {
	c := goredis.NewCmd(ctx)
	c.SetErr(err)
	return c
}
