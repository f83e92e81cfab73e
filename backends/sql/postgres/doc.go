// Package postgres is a store in a PostgreSQL database, with every capability: durable, shared by all processes that reach the
// server.
package postgres
