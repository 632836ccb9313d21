-- Times are microseconds since the epoch, JSON is text as it was said.

-- One envelope. An update rewrites its whole row, so what never changes and may be large has a table of its own.
CREATE TABLE envelopes (
    n                  INTEGER PRIMARY KEY,
    id                 TEXT NOT NULL UNIQUE,
    parent_id          TEXT,
    tenant             TEXT,
    tool               TEXT,
    status             TEXT NOT NULL CHECK (status IN ('pending', 'running', 'succeeded', 'failed', 'unknown')),
    outcome            TEXT CHECK (outcome IN ('succeeded', 'failed', 'timed_out', 'cancelled')),
    attempt            INTEGER NOT NULL CHECK (attempt >= 1),
    -- An array of strings.
    actors             TEXT NOT NULL,
    route_current      INTEGER NOT NULL,
    error              TEXT,
    timeout_ms         INTEGER,
    deadline           INTEGER,
    progress_percent   REAL NOT NULL CHECK (progress_percent BETWEEN 0 AND 100),
    current_actor_idx  INTEGER NOT NULL,
    current_actor_name TEXT,
    phase              TEXT CHECK (phase IN ('received', 'processing', 'completed')),
    message            TEXT,
    actors_completed   INTEGER NOT NULL CHECK (actors_completed >= 0),
    stored_at          TEXT,
    -- Whose turn it is: the actor that was reported last, else the one that the route began with.
    turn               TEXT,
    created_at         INTEGER NOT NULL,
    updated_at         INTEGER NOT NULL,
    version            INTEGER NOT NULL DEFAULT 1,
    idempotency_key    TEXT,
    idempotency_hash   BLOB
) STRICT;

CREATE INDEX envelopes_newest ON envelopes (created_at DESC, id DESC);
CREATE INDEX envelopes_of_tenant ON envelopes (tenant, created_at DESC, id DESC) WHERE tenant IS NOT NULL;
CREATE INDEX envelopes_of_parent ON envelopes (parent_id, created_at DESC, id DESC) WHERE parent_id IS NOT NULL;
CREATE INDEX envelopes_open ON envelopes (created_at DESC, id DESC) WHERE status IN ('pending', 'running', 'unknown');
CREATE INDEX envelopes_due ON envelopes (deadline)
    WHERE deadline IS NOT NULL AND status IN ('pending', 'running', 'unknown');
CREATE INDEX envelopes_done ON envelopes (updated_at) WHERE status IN ('succeeded', 'failed');
CREATE UNIQUE INDEX envelopes_idempotency ON envelopes (coalesce(tenant, ''), idempotency_key)
    WHERE idempotency_key IS NOT NULL;

-- The rules of the state machine once more, so that no other writer of this file can break them.
CREATE TRIGGER envelopes_final BEFORE UPDATE OF status, outcome ON envelopes
WHEN OLD.status IN ('succeeded', 'failed') AND NEW.attempt <= OLD.attempt
    AND (NEW.status IS NOT OLD.status OR NEW.outcome IS NOT OLD.outcome)
BEGIN
    SELECT raise(ABORT, 'a final status stands within its attempt');
END;
CREATE TRIGGER envelopes_forward BEFORE UPDATE OF status ON envelopes
WHEN OLD.status = 'running' AND NEW.status IN ('pending', 'unknown') AND NEW.attempt <= OLD.attempt
BEGIN
    SELECT raise(ABORT, 'a status does not go back within its attempt');
END;
CREATE TRIGGER envelopes_progress BEFORE UPDATE OF progress_percent ON envelopes
WHEN NEW.progress_percent < OLD.progress_percent AND NEW.attempt <= OLD.attempt
BEGIN
    SELECT raise(ABORT, 'progress does not fall within an attempt');
END;
CREATE TRIGGER envelopes_attempt BEFORE UPDATE OF attempt ON envelopes
WHEN NEW.attempt < OLD.attempt
BEGIN
    SELECT raise(ABORT, 'attempts only rise');
END;
-- Whoever changes a row without raising its version.
CREATE TRIGGER envelopes_version AFTER UPDATE ON envelopes
WHEN NEW.version = OLD.version
BEGIN
    UPDATE envelopes SET version = OLD.version + 1 WHERE n = NEW.n;
END;

CREATE TABLE contents (
    envelope           INTEGER PRIMARY KEY REFERENCES envelopes (n) ON DELETE CASCADE,
    payload            TEXT,
    headers            TEXT,
    route_metadata     TEXT
) STRICT;

-- What came out; of each attempt, because its last update shows it too.
CREATE TABLE results (
    envelope           INTEGER NOT NULL REFERENCES envelopes (n) ON DELETE CASCADE,
    attempt            INTEGER NOT NULL,
    result             TEXT NOT NULL,
    PRIMARY KEY (envelope, attempt)
) STRICT;

-- Ids are in the order of the transactions, since one writes at a time, and are never used again.
CREATE TABLE updates (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope           INTEGER NOT NULL REFERENCES envelopes (n) ON DELETE CASCADE,
    kind               TEXT NOT NULL CHECK (kind IN ('sent', 'progress', 'retry', 'partial', 'final')),
    status             TEXT NOT NULL,
    outcome            TEXT,
    attempt            INTEGER NOT NULL,
    message            TEXT,
    -- Whether it shows the result of its attempt.
    has_result         INTEGER NOT NULL,
    error              TEXT,
    failure            TEXT,
    progress_percent   REAL,
    actor              TEXT,
    actors             TEXT,
    current_actor_idx  INTEGER,
    phase              TEXT,
    partial_actor_idx  INTEGER,
    partial_index      INTEGER,
    partial_value      TEXT,
    next_run_at        INTEGER,
    at                 INTEGER NOT NULL
) STRICT;
CREATE INDEX updates_of_envelope ON updates (envelope, id);

-- The history of all is complete after this id.
CREATE TABLE history (
    only               INTEGER PRIMARY KEY CHECK (only = 1),
    complete_after     INTEGER NOT NULL
) STRICT;
INSERT INTO history VALUES (1, 0);

CREATE TABLE outbox (
    id                 INTEGER PRIMARY KEY AUTOINCREMENT,
    envelope           INTEGER NOT NULL REFERENCES envelopes (n) ON DELETE CASCADE,
    attempt            INTEGER NOT NULL,
    actor              TEXT NOT NULL,
    message_id         TEXT NOT NULL,
    tries              INTEGER NOT NULL DEFAULT 0,
    error              TEXT,
    created_at         INTEGER NOT NULL,
    -- Nobody else may have it before this time.
    leased_until       INTEGER NOT NULL,
    body               BLOB NOT NULL,
    UNIQUE (envelope, attempt)
) STRICT;

CREATE TABLE cancellations (
    envelope_id        TEXT NOT NULL,
    attempt            INTEGER NOT NULL,
    keep_until         INTEGER NOT NULL,
    reason             TEXT NOT NULL,
    PRIMARY KEY (envelope_id, attempt)
) STRICT;
CREATE INDEX cancellations_kept ON cancellations (keep_until);

CREATE TABLE actors (
    cluster            TEXT NOT NULL,
    namespace          TEXT NOT NULL,
    name               TEXT NOT NULL,
    observed_at        INTEGER NOT NULL,
    body               BLOB NOT NULL,
    PRIMARY KEY (cluster, namespace, name)
) STRICT, WITHOUT ROWID;
