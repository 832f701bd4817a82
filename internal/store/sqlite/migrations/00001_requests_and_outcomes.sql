-- Times are microseconds since 1970, UTC. Unlike nanoseconds they reach every year that a request can name, and they
-- are what PostgreSQL keeps, so that both stores answer alike.

-- +goose Up
CREATE TABLE identity (
    only INTEGER PRIMARY KEY CHECK (only = 1),
    id   TEXT NOT NULL
) STRICT;

CREATE TABLE requests (
    seq           INTEGER PRIMARY KEY, -- tells requests of the same instant apart when they are read page by page
    id            TEXT    NOT NULL UNIQUE,
    instance      TEXT    NOT NULL,
    host          TEXT    NOT NULL,
    grp           TEXT    NOT NULL,
    reason        TEXT    NOT NULL,
    requested_by  TEXT    NOT NULL,
    requested_at  INTEGER NOT NULL,
    not_after     INTEGER NOT NULL,
    campaign      TEXT    NOT NULL,
    replay_of     TEXT    NOT NULL,
    requeued_from TEXT    NOT NULL,
    min_uptime    INTEGER NOT NULL, -- nanoseconds
    raw           BLOB,             -- as it was on the wire
    saved_at      INTEGER NOT NULL
) STRICT;

CREATE INDEX requests_by_time ON requests (requested_at);
CREATE INDEX requests_by_host ON requests (host, requested_at);
CREATE INDEX requests_by_group ON requests (grp, requested_at);

-- An outcome does not refer to a request: it may come first, or belong to a message that nobody could read.
CREATE TABLE outcomes (
    id           TEXT    NOT NULL PRIMARY KEY,
    host         TEXT    NOT NULL,
    grp          TEXT    NOT NULL,
    kind         TEXT    NOT NULL,
    reason       TEXT    NOT NULL,
    detail       TEXT    NOT NULL,
    at           INTEGER NOT NULL,
    requested_by TEXT    NOT NULL,
    worker       TEXT    NOT NULL,
    attempt      INTEGER NOT NULL,
    from_epoch   TEXT    NOT NULL,
    to_epoch     TEXT    NOT NULL,
    triggered_at INTEGER, -- null: never
    verified_at  INTEGER
) STRICT;

CREATE INDEX outcomes_by_kind ON outcomes (kind, at);
