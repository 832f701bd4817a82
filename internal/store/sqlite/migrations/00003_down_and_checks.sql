-- +goose Up
ALTER TABLE outcomes ADD COLUMN down INTEGER; -- microseconds; null: not known
ALTER TABLE outcomes ADD COLUMN checks TEXT; -- JSON; null: none
