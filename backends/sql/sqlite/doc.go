// Package sqlite is a store in an SQLite file, with every capability: durable, without a server, shared by all processes of
// a machine that open it.
package sqlite
