-- Workers of the version before go on writing outcomes, without these.

-- +goose Up
ALTER TABLE outcomes
    ADD COLUMN down   bigint, -- microseconds; null: not known
    ADD COLUMN checks text;   -- JSON; null: none
