-- Names are compared byte by byte (COLLATE "C"): an index in a locale's order is broken when the system's locales are
-- updated.

-- +goose Up
CREATE TABLE identity (
    sole boolean PRIMARY KEY DEFAULT true CHECK (sole),
    id   uuid    NOT NULL
);

CREATE TABLE requests (
    id            uuid        PRIMARY KEY,
    instance      text        NOT NULL,
    host          text        COLLATE "C" NOT NULL,
    grp           text        COLLATE "C" NOT NULL,
    reason        text        NOT NULL,
    requested_by  text        NOT NULL,
    requested_at  timestamptz NOT NULL,
    not_after     timestamptz NOT NULL,
    campaign      text        NOT NULL,
    replay_of     text        NOT NULL,
    requeued_from text        NOT NULL,
    min_uptime    bigint      NOT NULL, -- nanoseconds
    raw           bytea,                -- as it was on the wire
    saved_at      timestamptz NOT NULL
);

-- The latest come first, and of one instant the greatest id: few have one instant, so that the id need not be indexed too.
CREATE INDEX requests_by_time ON requests (requested_at);
CREATE INDEX requests_by_host ON requests (host, requested_at);
CREATE INDEX requests_by_group ON requests (grp, requested_at);

-- An outcome does not refer to a request: it may come first, or belong to a message that nobody could read.
CREATE TABLE outcomes (
    id                   uuid        PRIMARY KEY,
    host                 text        NOT NULL,
    grp                  text        NOT NULL,
    kind                 text        COLLATE "C" NOT NULL,
    reason               text        NOT NULL,
    detail               text        NOT NULL,
    at                   timestamptz NOT NULL,
    requested_at         timestamptz NOT NULL, -- the request's where it was saved first; orders the history of a kind
    receipt_requested_at timestamptz,          -- null: not known
    requested_by         text        NOT NULL,
    worker               text        NOT NULL,
    attempt              bigint      NOT NULL,
    from_epoch           text        NOT NULL,
    to_epoch             text        NOT NULL,
    triggered_at         timestamptz,          -- null: never
    verified_at          timestamptz
);

CREATE INDEX outcomes_by_kind ON outcomes (kind, requested_at, id);

CREATE TABLE earlier_attempts (
    request_id uuid        NOT NULL,
    number     bigint      NOT NULL,
    worker     text        COLLATE "C" NOT NULL,
    started_at timestamptz, -- null: not known
    ended_at   timestamptz, -- null: the worker did not live to see it
    from_epoch text        NOT NULL,
    to_epoch   text        NOT NULL,
    error      text        NOT NULL,
    PRIMARY KEY (request_id, number, worker)
);

-- The attempt that led to an outcome is known from its receipt.
CREATE VIEW attempts AS
SELECT request_id, number, worker, started_at, ended_at, from_epoch, to_epoch, error, false AS is_last
FROM earlier_attempts
UNION ALL
SELECT id, attempt, worker, triggered_at, coalesce(verified_at, at), from_epoch, to_epoch,
    CASE kind WHEN 'restarted' THEN '' ELSE detail END, true
FROM outcomes
WHERE attempt > 0;
