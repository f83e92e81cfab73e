package sql

import (
	"context"
	"fmt"
)

// migrations make the tables, each from the version before it. What stands here is never changed, only added to: files with it exist.
var migrations = [][]string{{
	`CREATE TABLE dashi_vhost (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  name TEXT NOT NULL UNIQUE,
  revision INTEGER NOT NULL DEFAULT 0, -- of the registry
  forgot INTEGER NOT NULL DEFAULT 0,   -- the highest revision of a deleted record that was forgotten
  sooner INTEGER NOT NULL DEFAULT 0    -- how often the head of a queue came to expire sooner than before
)`,
	`CREATE TABLE dashi_queue (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  vhost INTEGER NOT NULL,
  name TEXT NOT NULL,
  incarnation TEXT NOT NULL,
  ready INTEGER NOT NULL DEFAULT 0,      -- how many messages
  bytes INTEGER NOT NULL DEFAULT 0,      -- of these
  last INTEGER NOT NULL DEFAULT 0,       -- number of the last message
  levels TEXT NOT NULL DEFAULT '[]',     -- [[priority, head, tail], ...]: what is behind head, up to tail, is fresh
  returned INTEGER NOT NULL DEFAULT 0,   -- exceptions that are ready
  exceptions INTEGER NOT NULL DEFAULT 0, -- all of them
  token INTEGER NOT NULL DEFAULT 0,      -- of the last lease without a holder
  fence INTEGER NOT NULL DEFAULT 0,      -- the highest seen
  ttls INTEGER NOT NULL DEFAULT 0,       -- 1: a message with a TTL was here
  due INTEGER,                           -- when to look for what becomes ready by itself
  expires INTEGER,                       -- when the head does
  remaining INTEGER,                     -- until when messages are left to consumers of higher priority
  waiting TEXT NOT NULL DEFAULT '[]',    -- who waits for messages
  UNIQUE (vhost, name, incarnation)
)`,
	`CREATE INDEX dashi_queue_due ON dashi_queue (vhost, due) WHERE due IS NOT NULL`,
	`CREATE INDEX dashi_queue_expires ON dashi_queue (vhost, expires) WHERE expires IS NOT NULL`,
	`CREATE TABLE dashi_deleted (
  vhost INTEGER NOT NULL,
  name TEXT NOT NULL,
  incarnation TEXT NOT NULL,
  at INTEGER NOT NULL,
  PRIMARY KEY (vhost, name, incarnation)
) WITHOUT ROWID`,
	`CREATE TABLE dashi_message (
  queue INTEGER NOT NULL,
  place INTEGER NOT NULL, -- the number of the message, less 2^45 for each priority
  id BLOB NOT NULL,
  put INTEGER NOT NULL,
  ttl INTEGER,            -- nanoseconds
  size INTEGER NOT NULL,  -- as limits count it
  payload BLOB,
  PRIMARY KEY (queue, place)
) WITHOUT ROWID`,
	`CREATE TABLE dashi_exception (
  queue INTEGER NOT NULL,
  place INTEGER NOT NULL,
  state TEXT NOT NULL,       -- ready, delayed, leased (by itself), held (by a holder)
  attempts INTEGER NOT NULL, -- how often it was handed out and came back
  due INTEGER,               -- delayed, leased: until when
  holder TEXT,               -- held: by whom
  take INTEGER,              -- held: the holder's Take; leased: the token
  PRIMARY KEY (queue, place)
) WITHOUT ROWID`,
	`CREATE INDEX dashi_exception_ready ON dashi_exception (queue, place) WHERE state = 'ready'`,
	`CREATE INDEX dashi_exception_due ON dashi_exception (queue, due) WHERE due IS NOT NULL`,
	`CREATE INDEX dashi_exception_held ON dashi_exception (queue, holder, take) WHERE holder IS NOT NULL`,
	`CREATE TABLE dashi_holder (
  queue INTEGER NOT NULL,
  holder TEXT NOT NULL,
  take INTEGER NOT NULL,   -- the last
  closed INTEGER NOT NULL, -- the last that was said again
  ends INTEGER,            -- the lease
  idle INTEGER NOT NULL,   -- 1: it had nothing when its lease ended, and is forgotten when it ends again
  lost INTEGER,            -- when
  PRIMARY KEY (queue, holder)
) WITHOUT ROWID`,
	`CREATE TABLE dashi_take (
  queue INTEGER NOT NULL,
  holder TEXT NOT NULL,
  take INTEGER NOT NULL,
  first INTEGER NOT NULL, -- place: the take has what is there from first to last and is no exception
  last INTEGER NOT NULL,
  held INTEGER NOT NULL,  -- how many that are
  PRIMARY KEY (queue, holder, take, first)
) WITHOUT ROWID`,
	`CREATE TABLE dashi_mark (
  vhost INTEGER NOT NULL,
  producer TEXT NOT NULL,
  sequence INTEGER NOT NULL,
  used INTEGER NOT NULL,
  outcome BLOB, -- JSON; NULL: all went well
  PRIMARY KEY (vhost, producer)
) WITHOUT ROWID`,
	`CREATE TABLE dashi_record (
  vhost INTEGER NOT NULL,
  key TEXT NOT NULL,
  rev INTEGER NOT NULL,
  session TEXT,
  value BLOB,
  deleted INTEGER, -- when
  PRIMARY KEY (vhost, key)
) WITHOUT ROWID`,
	`CREATE INDEX dashi_record_rev ON dashi_record (vhost, rev)`,
	`CREATE INDEX dashi_record_session ON dashi_record (vhost, session) WHERE session IS NOT NULL`,
	`CREATE INDEX dashi_record_deleted ON dashi_record (vhost, deleted) WHERE deleted IS NOT NULL`,
	`CREATE TABLE dashi_session (
  vhost INTEGER NOT NULL,
  session TEXT NOT NULL,
  ends INTEGER,  -- when, unless it is renewed
  ended INTEGER, -- when it did
  PRIMARY KEY (vhost, session)
) WITHOUT ROWID`,
	`CREATE INDEX dashi_session_ends ON dashi_session (vhost, ends) WHERE ends IS NOT NULL`,
	`CREATE TABLE dashi_wake (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  vhost INTEGER NOT NULL,
  waiter TEXT NOT NULL,
  name TEXT NOT NULL, -- of the queue
  incarnation TEXT NOT NULL,
  at INTEGER NOT NULL
)`,
	`CREATE INDEX dashi_wake_waiter ON dashi_wake (vhost, waiter, name)`,
	`CREATE INDEX dashi_wake_at ON dashi_wake (at)`,
}}

// version reads that of the tables.
func version(t Tx) (n int64, err error) {
	err = t.Query("SELECT version FROM dashi_schema", func(r Row) bool {
		n = r.Int(0)
		return true
	})
	return n, err
}

// migrate makes the tables as this version reads them, and the vhost.
func (s *Store) migrate(ctx context.Context, vhost string) error {
	return s.db.Update(ctx, func(t Tx, _ bool) (tell bool, err error) { return false, s.migrateIn(t, vhost) })
}

func (s *Store) migrateIn(t Tx, vhost string) error {
	if _, err := t.Exec("CREATE TABLE IF NOT EXISTS dashi_schema (version INTEGER NOT NULL)"); err != nil {
		return err
	}
	is, err := version(t)
	if err != nil {
		return err
	}
	if is > int64(len(migrations)) {
		return fmt.Errorf("its tables have version %d, this program reads up to %d: it is too old", is, len(migrations))
	}
	for _, m := range migrations[is:] {
		for _, statement := range m {
			if _, err := t.Exec(statement); err != nil {
				return err
			}
		}
	}
	if is < int64(len(migrations)) {
		if _, err := t.Exec("DELETE FROM dashi_schema"); err != nil {
			return err
		}
		if _, err := t.Exec("INSERT INTO dashi_schema (version) VALUES (?)", int64(len(migrations))); err != nil {
			return err
		}
	}
	if _, err := t.Exec("INSERT INTO dashi_vhost (name) VALUES (?) ON CONFLICT DO NOTHING", vhost); err != nil {
		return err
	}
	return t.Query("SELECT id FROM dashi_vhost WHERE name = ?", func(r Row) bool {
		s.vhost = r.Int(0)
		return true
	}, vhost)
}
