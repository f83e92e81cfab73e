// Package sql is the engine of stores in SQL databases: the statements, and the tables they work on. What differs between
// databases is a Database; package sqlite has one for SQLite.
//
// The tables are described in docs/sql.md, so that a person with the database's shell can read a queue.
//
// # Layout
//
// A message is a row that is written once and deleted once. Who takes messages from the head moves the head of their priority, in the
// queue's row, and leaves one row that says from where to where the taking goes. Only what is out of line costs a row
// for each message: what was requeued, is delayed, or is leased by itself. So a queue through which messages pass neither grows nor
// slows down.
//
// # Transactions
//
// Every call that changes something is done by one writer for each handle, in one transaction with all calls that have come in
// the meantime. Calls that only read have transactions of their own.
package sql
