package main

import (
	"context"
	"fmt"
	"time"

	"github.com/dashi-mq/dashi"
	"github.com/dashi-mq/dashi/channel"
)

// hangUpLimit is how long a command waits at its end for what is on its way.
const hangUpLimit = 10 * time.Second

// hangUp closes a connection in order, whether ctx has ended or not.
func hangUp(ctx context.Context, conn *dashi.Connection) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), hangUpLimit)
	defer stop()
	return conn.Close(ctx)
}

// betweenProcesses refuses the URL of a place that one process has for itself; who says which processes have to share it.
func betweenProcesses(command, rawURL, who string) error {
	scheme, err := channel.Scheme(rawURL)
	switch {
	case err != nil:
		return unusable("%s: %w", command, err)
	case scheme == "memory":
		return unusable("%s: memory:// lives in one process, and %s are processes of their own: give the URL of a server or of a store that processes share", command, who)
	}
	return nil
}

// refused is the error of a place that cannot be used as asked for, or of an interruption before anything was done.
func refused(ctx context.Context, command string, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("%s: %w", command, context.Canceled)
	}
	return unusable("%s: %w", command, err)
}
