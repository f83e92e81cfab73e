// Package model is a small AMQP 0-9-1 broker that can be run step by step: how RabbitMQ 3.10 behaves, written down a second
// time, as plainly as it can be. It has no store, no goroutines and no clock of its own. What it shares with the engine are
// the types of package channel, and nothing else: a test that compares the two compares two opinions.
//
// A Broker is plain data that can be cloned. Every method is one step: it changes the state and notes in a Step what each
// channel is told. Where the specification leaves something open, the step asks: which consumer of several gets a message
// is read from what was seen, and what cannot be seen at once (whether a message expired at the very moment of a step,
// which of two that expired together came first) branches. Follow goes through the branches and keeps the states that
// explain what was seen; when none does, what was seen was not allowed.
package model
