package redis

import (
	"context"

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
	args   []any
}

// sha calls a script by its name, and whole sends it.
func (c *call) sha(ctx context.Context) *goredis.Cmd   { return c.cmd(ctx, "evalsha", c.script.sha) }
func (c *call) whole(ctx context.Context) *goredis.Cmd { return c.cmd(ctx, "eval", c.script.text) }

func (c *call) cmd(ctx context.Context, verb, what string) *goredis.Cmd {
	return goredis.NewCmd(ctx, append([]any{verb, what, 1, c.base}, c.args...)...)
}

// run runs a script, which is the whole of a call. The server has it from its first use on; one that has lost it, by a flush
// or a restart, is told again, since it has done nothing then.
func (s *Store) run(ctx context.Context, base string, script *script, args ...any) *goredis.Cmd {
	if err := s.enter(ctx); err != nil {
		c := goredis.NewCmd(ctx)
		c.SetErr(err)
		return c
	}
	defer s.leave()
	run := call{script, base, args}
	c := run.sha(ctx)
	if err := s.client.Process(ctx, once{c}); goredis.HasErrorPrefix(err, "NOSCRIPT") {
		c = run.whole(ctx)
		_ = s.client.Process(ctx, once{c}) // c has the error
	}
	return c
}

// runAll runs scripts in several parts, those on one server in one round trip, and returns their answers. With an error it is not known
// which of them were done.
func (s *Store) runAll(ctx context.Context, calls []call) ([][]any, error) {
	if len(calls) == 1 {
		answer, err := s.run(ctx, calls[0].base, calls[0].script, calls[0].args...).Slice()
		return [][]any{answer}, err
	}
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	cmds := make([]*goredis.Cmd, len(calls))
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
	answers := make([][]any, len(calls))
	for i, c := range cmds {
		var err error
		if answers[i], err = c.Slice(); err != nil {
			return nil, err
		}
	}
	return answers, nil
}
