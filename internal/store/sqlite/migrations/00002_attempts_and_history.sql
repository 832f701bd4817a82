-- +goose Up

-- The time of the request, so that those who ask for one kind of outcome find the latest by an index.
ALTER TABLE outcomes ADD COLUMN requested_at INTEGER NOT NULL DEFAULT 0;
UPDATE outcomes SET requested_at = coalesce((SELECT r.requested_at FROM requests r WHERE r.id = outcomes.id), at);
DROP INDEX outcomes_by_kind;
CREATE INDEX outcomes_by_kind ON outcomes (kind, requested_at, id);

-- The attempts that did not lead to their request's outcome. The one that did is in the outcome.
CREATE TABLE earlier_attempts (
    request_id TEXT    NOT NULL,
    number     INTEGER NOT NULL,
    worker     TEXT    NOT NULL,
    started_at INTEGER, -- null: not known
    ended_at   INTEGER, -- null: the worker did not live to see it
    from_epoch TEXT    NOT NULL,
    to_epoch   TEXT    NOT NULL,
    error      TEXT    NOT NULL,
    PRIMARY KEY (request_id, number, worker)
) STRICT, WITHOUT ROWID;

CREATE VIEW attempts (request_id, number, worker, started_at, ended_at, from_epoch, to_epoch, error, is_last) AS
    SELECT request_id, number, worker, started_at, ended_at, from_epoch, to_epoch, error, 0
    FROM earlier_attempts
    UNION ALL
    SELECT id, attempt, worker, triggered_at, coalesce(verified_at, at), from_epoch, to_epoch,
        CASE kind WHEN 'restarted' THEN '' ELSE detail END, 1
    FROM outcomes WHERE attempt > 0;
